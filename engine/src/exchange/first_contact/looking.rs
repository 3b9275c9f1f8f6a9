//! Looks at rows of another file, and compares them with those that stand under the same id here.

use super::Contact;
use crate::app::profile::{row_name, table_of_entity_type};
use crate::app::schema::{Column, Schema, Table};
use crate::error::TransactionError;
use crate::exchange::wire::RowChange;
use crate::project::known_stamp;
use crate::store::rows::{self, RowId, RowRecord, TableId};
use crate::transaction::Transaction;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use storysync_crdt::{Change, Document, SyncUuid, Value, row, says_nothing};

/// Shorter texts stand in too many rows to tell them apart.
pub(super) const DISTINGUISHING_CHARS_MIN: usize = 3;

/// A row of ours and one of theirs under the same table and id, with different names.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) ours: RowId,
    pub(super) theirs: SyncUuid,
    /// What people call theirs.
    pub(super) their_name: Option<String>,
    pub(super) table: TableId,
    pub(super) local_id: i64,
    /// Columns that say the same in both, where at least one says something its table does not say
    /// by itself.
    pub(super) equal: usize,
    pub(super) compared: usize,
    /// Texts of both that are equal: names, descriptions.
    pub(super) texts_equal: usize,
    /// Whether either holds a text at all.
    pub(super) has_texts: bool,
    /// What the times of creation tell that the app wrote; nothing where one of them is unknown.
    pub(super) created_alike: Option<bool>,
    /// References by which ours and theirs lead to rows of different names: (table, our target,
    /// their target).
    pub(super) references: Vec<(String, String, String)>,
}

/// What is common to the two files.
pub(super) struct Common {
    /// Rows of ours that are rows of theirs under another name, should the files be copies.
    pub(super) matched: Vec<(RowId, SyncUuid)>,
    /// Rows under one table and id in both.
    pub(super) rows: usize,
    /// How many of those are the same, or mostly equal.
    pub(super) agreeing: usize,
}

impl Contact {
    pub(super) fn common(
        &self,
        connection: &rusqlite::Connection,
    ) -> Result<Common, TransactionError> {
        // Which rows under one id agree, by table and id.
        let mut agree: HashMap<TableId, BTreeMap<i64, bool>> = HashMap::new();
        for id in self.same.iter().chain(&self.same_name) {
            let record = rows::get(connection, *id)?;
            agree
                .entry(record.table)
                .or_default()
                .extend(record.local_id.map(|local_id| (local_id, true)));
        }
        let mut candidates = Vec::with_capacity(self.candidates.len());
        for candidate in &self.candidates {
            let (mut equal, mut compared) = (candidate.equal, candidate.compared);
            for (table, ours, theirs) in &candidate.references {
                compared += 1;
                equal += usize::from(self.leads_alike(connection, table, ours, theirs)?);
            }
            // Rows named at random by an old migration agree nowhere by name, but in every other
            // respect.
            let whole = equal == compared
                && (candidate.texts_equal > 0 || (!candidate.has_texts && compared > 1));
            let agrees =
                whole || (candidate.created_alike == Some(true) && candidate.texts_equal > 0);
            agree.entry(candidate.table).or_default().insert(candidate.local_id, agrees);
            candidates.push((candidate, equal, compared));
        }
        let shared: HashMap<TableId, i64> =
            agree.into_iter().map(|(table, ids)| (table, shared_up_to(&ids))).collect();
        let (mut matched, mut mostly_equal) = (Vec::new(), 0);
        for (candidate, equal, compared) in candidates {
            mostly_equal += usize::from(equal * 2 > compared || compared == 0);
            let is_shared =
                shared.get(&candidate.table).is_some_and(|last| candidate.local_id <= *last);
            let same = match candidate.created_alike {
                Some(false) => false,
                Some(true) => {
                    candidate.texts_equal > 0
                        || equal == compared
                        || (is_shared && compared - equal <= 1)
                }
                // Between copies, half of the columns will do, and all but one; a name or text of
                // both among them where there is any.
                None => {
                    is_shared
                        && (candidate.texts_equal > 0 && equal * 2 >= compared
                            || compared - equal <= 1)
                }
            };
            if same {
                matched.push((candidate.ours, candidate.theirs.clone()));
            }
        }
        let known = self.same.len() + self.same_name.len();
        Ok(Common { rows: known + self.candidates.len(), agreeing: known + mostly_equal, matched })
    }

    /// Whether two names stand under the same local id in the two files.
    fn leads_alike(
        &self,
        connection: &rusqlite::Connection,
        table: &str,
        ours: &str,
        theirs: &str,
    ) -> Result<bool, TransactionError> {
        let Some(their_id) = self.their_ids.get(&(table.to_owned(), theirs.to_owned())) else {
            return Ok(false);
        };
        let (Some(table), Some(ours)) =
            (rows::find_table(connection, table)?, SyncUuid::parse(ours))
        else {
            return Ok(false);
        };
        Ok(rows::find(connection, table, &ours)?
            .is_some_and(|record| record.local_id == Some(*their_id)))
    }
}

/// Up to which id two files handed out the same ids: the last that agrees with most before it
/// agreeing, too. Beyond, each went on by itself, and the next id is another row; one that agrees
/// there does so by chance.
pub(super) fn shared_up_to(ids: &BTreeMap<i64, bool>) -> i64 {
    let (mut last, mut agreeing) = (0, 0_usize);
    for (count, (id, agrees)) in (1..).zip(ids) {
        agreeing += usize::from(*agrees);
        if *agrees && agreeing * 2 > count {
            last = *id;
        }
    }
    last
}

impl Transaction<'_> {
    pub(super) fn look_at_stranger(
        &mut self,
        schema: &Schema,
        change: &RowChange,
        contact: &mut Contact,
    ) -> Result<(), TransactionError> {
        let name = table_of_entity_type(schema, &change.entity_type);
        let (Some(table), Some(theirs), Some(local_id)) =
            (schema.table(name), SyncUuid::parse(&change.sync_uuid), change.entity_id)
        else {
            return Ok(());
        };
        contact.their_ids.insert((name.to_owned(), theirs.as_str().to_owned()), local_id);
        let Some(table_id) = self.find_table(name)? else { return Ok(()) };
        if let Some(known) =
            rows::find(self.connection, table_id, &theirs)?.filter(|record| record.version > 0)
        {
            // Its name is known: whatever differs in it is merged.
            contact.same.remove(&known.id);
            contact.same_name.insert(known.id);
            return Ok(());
        }
        let standing = rows::at_local_id(self.connection, table_id, local_id)?;
        // A row that was deleted here is that row still, and stays deleted under its other name.
        let Some(ours) = standing.or(rows::formerly_at(self.connection, table_id, local_id)?.pop())
        else {
            return Ok(());
        };
        if contact.same.contains(&ours.id) || contact.same_name.contains(&ours.id) {
            return Ok(());
        }
        let mut document = Document::new();
        for text in &change.automerge {
            use base64::Engine as _;
            let decoded = base64::engine::general_purpose::STANDARD
                .decode(text)
                .ok()
                .and_then(|bytes| Change::decode_received(&bytes).ok());
            if decoded.is_none_or(|decoded| document.apply(decoded).is_err()) {
                return Ok(());
            }
        }
        // A row that a device wrote after its migration was never in a common file, however alike
        // it looks.
        let was_there_before = |document: &Document| {
            document.changes().first().is_some_and(|first| first.actor().device().is_none())
        };
        let their = row(&document);
        let their_name = {
            let mut fields = their.fields.clone();
            // References are uuids, which nobody calls anything.
            table.references().for_each(|(column, _)| drop(fields.remove(&column.name)));
            row_name(&fields)
        };
        if !was_there_before(&document) || !was_there_before(self.document(ours.id)?) {
            contact.strangers.push((ours.id, theirs, their_name));
            return Ok(());
        }
        let mine = row(self.document(ours.id)?);
        let mut candidate = compare(table, &ours, local_id, theirs, &mine.fields, &their.fields);
        candidate.their_name = their_name;
        candidate.created_alike = known_stamp(&mine.created_at)
            .zip(known_stamp(&their.created_at))
            .map(|(mine, their)| mine == their);
        contact.candidates.push(candidate);
        Ok(())
    }
}

/// How much of two rows is equal. References to rows of different names are left for when all names
/// are known; what a table fills in by itself, and what is empty in both, says nothing.
pub(super) fn compare(
    table: &Table,
    ours: &RowRecord,
    local_id: i64,
    theirs: SyncUuid,
    mine: &BTreeMap<String, Value>,
    their: &BTreeMap<String, Value>,
) -> Candidate {
    let mut candidate = Candidate {
        ours: ours.id,
        theirs,
        their_name: None,
        table: ours.table,
        local_id,
        equal: 0,
        compared: 0,
        texts_equal: 0,
        has_texts: false,
        created_alike: None,
        references: Vec::new(),
    };
    let references: HashMap<&str, &str> =
        table.references().map(|(column, target)| (column.name.as_str(), target)).collect();
    for name in mine.keys().chain(their.keys()).collect::<BTreeSet<_>>() {
        let (mine, their) =
            (mine.get(name).unwrap_or(&Value::Null), their.get(name).unwrap_or(&Value::Null));
        let default =
            table.column(name).and_then(Column::baked_default).map_or(Value::Null, Value::from);
        let says_nothing = |value: &Value| says_nothing(value) || *value == default;
        match (references.get(name.as_str()), mine.as_text(), their.as_text()) {
            _ if says_nothing(mine) && says_nothing(their) => {}
            (Some(target), Some(mine), Some(their)) if mine != their => {
                candidate.references.push(((*target).to_owned(), mine.to_owned(), their.to_owned()))
            }
            (reference, ..) => {
                candidate.compared += 1;
                candidate.has_texts |=
                    reference.is_none() && (mine.as_text().is_some() || their.as_text().is_some());
                if mine == their {
                    candidate.equal += 1;
                    candidate.texts_equal += usize::from(
                        reference.is_none() && mine.as_text().is_some_and(is_distinguishing),
                    );
                }
            }
        }
    }
    candidate
}

/// Whether a text tells rows apart: a word of a few letters may stand in many.
pub(super) fn is_distinguishing(text: &str) -> bool {
    text.chars().count() >= DISTINGUISHING_CHARS_MIN
}
