//! Two files meet for the first time. Is the one that joins a copy of the other that went on by
//! itself, or another world?
//!
//! Rows that one migration named from their content have other names once the content differs, and
//! an old migration of the app's own named them at random: in copies of one file that went apart,
//! the same row has two names. Until a file has told anyone of its rows, they may still take the
//! other's names: rows under the same local id of the same table are one where what tells rows
//! apart agrees (texts, times of creation the app wrote), as far as both files handed out the same
//! ids. What was made since is a row of its own on each side: rather two rows than a mixture. Where
//! under half of the ids both files have agree, they are no copies: nothing is matched, and rows
//! that only look alike get names of their own. Whoever calls compares; the file whose names nobody
//! knows yet takes the other's, called or calling.
//!
//! Owns the verdict and the renaming. Refuses to ask people: whoever calls may overrule the
//! verdict.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;
use storysync_crdt::{
    Change, ChangeHash, Document, EditPurpose, EntityId, Stamp, SyncUuid, Value, genesis, key, row,
    says_nothing,
};

use crate::app::profile::{row_name, table_of_entity_type};
use crate::app::schema::{Column, Schema, Table};
use crate::engine::Engine;
use crate::epoch::NewEpoch;
use crate::error::{EngineError, SessionError};
use crate::exchange::wire::{Rename, RowChange};
use crate::naming::name_of;
use crate::project::known_stamp;
use crate::store::log;
use crate::store::references;
use crate::store::rows::{self, RowId, RowRecord, TableId};
use crate::transaction::Session;

/// Shorter texts stand in too many rows to tell them apart.
const DISTINGUISHING_CHARS_MIN: usize = 3;

/// What two files are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kinship {
    /// Copies of one file that went apart: rows under the same id are one row.
    Copies,
    /// Other worlds: every row stays a row of its own.
    Unrelated,
}

impl Kinship {
    /// Reads the word; `None` for any other.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "copies" => Some(Self::Copies),
            "unrelated" => Some(Self::Unrelated),
            _ => None,
        }
    }
}

/// What meeting another file for the first time came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FirstContact {
    /// What the files were taken for.
    pub kind: Kinship,
    /// Rows both files had under one table and id.
    pub common: usize,
    /// How many of those were the same, or mostly equal.
    pub agreeing: usize,
    /// Rows of this file that took another name.
    pub renamed: usize,
}

/// A row of this file and one of the other, as people tell them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowPair {
    /// Their table.
    pub entity_type: String,
    /// What people call the one here; null when nothing in it names it.
    pub here: Option<String>,
    /// The one here.
    pub here_uuid: String,
    /// What people call the one there.
    pub there: Option<String>,
    /// The one there.
    pub there_uuid: String,
}

/// What a person is asked when two files meet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContactQuestion {
    /// What the files look like.
    pub kind: Kinship,
    /// Rows both have under one table and id.
    pub common: usize,
    /// How many of those are the same, or mostly equal.
    pub agreeing: usize,
    /// Rows that differ and would be taken for one, should it be so: examples.
    pub taken_for_one: Vec<RowPair>,
    /// Rows under one table and id that would stay two: examples.
    pub stay_apart: Vec<RowPair>,
}

/// Pairs of rows shown as examples of each kind.
const EXAMPLES_MAX: usize = 5;

/// A row of ours and one of theirs under the same table and id, with different names.
#[derive(Debug)]
struct Candidate {
    ours: RowId,
    theirs: SyncUuid,
    /// What people call theirs.
    their_name: Option<String>,
    table: TableId,
    local_id: i64,
    /// Columns that say the same in both, where at least one says something its table does not say
    /// by itself.
    equal: usize,
    compared: usize,
    /// Texts of both that are equal: names, descriptions.
    texts_equal: usize,
    /// Whether either holds a text at all.
    has_texts: bool,
    /// What the times of creation tell that the app wrote; nothing where one of them is unknown.
    created_alike: Option<bool>,
    /// References by which ours and theirs lead to rows of different names: (table, our target,
    /// their target).
    references: Vec<(String, String, String)>,
}

/// What is known of the other file so far.
#[derive(Debug, Default)]
pub struct Contact {
    candidates: Vec<Candidate>,
    /// Rows under one id that were made after the migration, here or there: two, whatever the files
    /// are.
    strangers: Vec<(RowId, SyncUuid, Option<String>)>,
    /// Local ids of the other file's rows, by table and name.
    their_ids: HashMap<(String, String), i64>,
    /// Rows of ours that the other file has under the same name, with other content.
    same_name: HashSet<RowId>,
    /// Rows of ours the other file has exactly so.
    same: HashSet<RowId>,
}

/// What is common to the two files.
struct Common {
    /// Rows of ours that are rows of theirs under another name, should the files be copies.
    matched: Vec<(RowId, SyncUuid)>,
    /// Rows under one table and id in both.
    rows: usize,
    /// How many of those are the same, or mostly equal.
    agreeing: usize,
}

impl Contact {
    fn common(&self, connection: &rusqlite::Connection) -> Result<Common, SessionError> {
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
    ) -> Result<bool, SessionError> {
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

impl Engine {
    /// Starts a first contact: `have` are the changes of ours that the other file lacks.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn begin_contact(&mut self, have: &[ChangeHash]) -> Result<Contact, EngineError> {
        self.read(|connection, schema| {
            let lacking = log::rows_of(connection, have)?;
            let mut same = HashSet::new();
            for table in schema.tables() {
                if let Some(id) = rows::find_table(connection, table.name())? {
                    same.extend(
                        rows::present_in(connection, id)?
                            .into_iter()
                            .map(|record| record.id)
                            .filter(|id| !lacking.contains(id)),
                    );
                }
            }
            Ok(Contact { same, ..Contact::default() })
        })
    }

    /// Looks at a page of rows of the other file that ours lacks, as they are there. Takes nothing
    /// in.
    ///
    /// # Errors
    /// See [`EngineError`]; the page can be looked at again then.
    pub fn look_at_contact(
        &mut self,
        changes: &[RowChange],
        contact: &mut Contact,
        now: Stamp,
    ) -> Result<(), EngineError> {
        let (candidates, strangers) = (contact.candidates.len(), contact.strangers.len());
        let looked = self.look(now, |session| {
            let schema = std::sync::Arc::clone(&session.schema);
            for change in changes {
                session.look_at_stranger(&schema, change, contact)?;
            }
            Ok(())
        });
        if looked.is_err() {
            contact.candidates.truncate(candidates);
            contact.strangers.truncate(strangers);
        }
        looked
    }

    /// What the two files are to each other by what was looked at.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn judge_contact(&mut self, contact: &Contact) -> Result<FirstContact, EngineError> {
        self.read(|connection, _| {
            let Common { matched, rows: common, agreeing } = contact.common(connection)?;
            let kind = if agreeing * 2 >= common { Kinship::Copies } else { Kinship::Unrelated };
            let renamed = match kind {
                Kinship::Copies => matched.len(),
                Kinship::Unrelated => colliding(connection, contact)?.len(),
            };
            Ok(FirstContact { kind, common, agreeing, renamed })
        })
    }

    /// What a person is asked about the two files: what they look like, and examples of what that
    /// would mean.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn contact_question(
        &mut self,
        contact: &Contact,
        verdict: &FirstContact,
    ) -> Result<ContactQuestion, EngineError> {
        self.read(|connection, schema| {
            let pair = |ours: RowId,
                        theirs: &SyncUuid,
                        there: Option<&String>|
             -> Result<RowPair, SessionError> {
                let entity = rows::entity(connection, &rows::get(connection, ours)?)?;
                Ok(RowPair {
                    entity_type: entity.table.as_str().to_owned(),
                    here: name_of(connection, schema, ours)?,
                    here_uuid: entity.uuid.as_str().to_owned(),
                    there: there.cloned(),
                    there_uuid: theirs.as_str().to_owned(),
                })
            };
            let matched: HashSet<RowId> = match verdict.kind {
                Kinship::Copies => {
                    contact.common(connection)?.matched.into_iter().map(|(ours, _)| ours).collect()
                }
                Kinship::Unrelated => HashSet::new(),
            };
            let renamed: HashSet<RowId> = match verdict.kind {
                Kinship::Copies => HashSet::new(),
                Kinship::Unrelated => colliding(connection, contact)?.into_iter().collect(),
            };
            let (mut one, mut apart) = (Vec::new(), Vec::new());
            for candidate in varied(&contact.candidates, |candidate| candidate.table) {
                let pairs = if matched.contains(&candidate.ours) { &mut one } else { &mut apart };
                if pairs.len() < EXAMPLES_MAX {
                    pairs.push(pair(
                        candidate.ours,
                        &candidate.theirs,
                        candidate.their_name.as_ref(),
                    )?);
                }
            }
            // Rows that bear one name in both files say the same there but for what differs since.
            for id in contact.same_name.iter().copied().collect::<BTreeSet<_>>() {
                let pairs = if renamed.contains(&id) { &mut apart } else { &mut one };
                if pairs.len() < EXAMPLES_MAX {
                    let (uuid, name) =
                        (rows::get(connection, id)?.uuid, name_of(connection, schema, id)?);
                    pairs.push(pair(id, &uuid, name.as_ref())?);
                }
            }
            for (ours, theirs, their_name) in
                contact.strangers.iter().take(EXAMPLES_MAX.saturating_sub(apart.len()))
            {
                apart.push(pair(*ours, theirs, their_name.as_ref())?);
            }
            let FirstContact { kind, common, agreeing, .. } = *verdict;
            Ok(ContactQuestion { kind, common, agreeing, taken_for_one: one, stay_apart: apart })
        })
    }

    /// Gives rows of this file the names that follow from what the two files are to each other. The
    /// log begins another life when there are any. Returns how many rows were renamed.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn settle_contact(
        &mut self,
        contact: &Contact,
        kind: Kinship,
        now: Stamp,
    ) -> Result<usize, EngineError> {
        Ok(self
            .write(now, |session| {
                if has_told(session.connection)? {
                    // Somebody asked meanwhile: the names are known by now.
                    return Ok(0);
                }
                let renames = match kind {
                    Kinship::Copies => contact.common(session.connection)?.matched,
                    Kinship::Unrelated => {
                        let colliding = colliding(session.connection, contact)?;
                        colliding
                            .into_iter()
                            .map(|id| Ok((id, session.random_uuid()?)))
                            .collect::<Result<_, SessionError>>()?
                    }
                };
                session.rename(&renames)
            })?
            .0)
    }
}

impl Engine {
    /// What rows of the other file are called here, should it be the one that takes other names.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn names_for_contact(
        &mut self,
        contact: &Contact,
        kind: Kinship,
    ) -> Result<Vec<Rename>, EngineError> {
        self.read(|connection, _| {
            let name = |id: RowId, from: Option<&SyncUuid>| -> Result<Rename, SessionError> {
                let entity = rows::entity(connection, &rows::get(connection, id)?)?;
                let (entity_type, own) =
                    (entity.table.as_str().to_owned(), entity.uuid.as_str().to_owned());
                Ok(match from {
                    Some(from) => {
                        Rename { entity_type, from: from.as_str().to_owned(), to: Some(own) }
                    }
                    None => Rename { entity_type, from: own, to: None },
                })
            };
            match kind {
                Kinship::Copies => contact
                    .common(connection)?
                    .matched
                    .iter()
                    .map(|(ours, theirs)| name(*ours, Some(theirs)))
                    .collect(),
                Kinship::Unrelated => {
                    colliding(connection, contact)?.into_iter().map(|id| name(id, None)).collect()
                }
            }
        })
    }

    /// Takes the names another file gives rows of this one at a first contact; none once anybody
    /// was told of them. Returns how many rows were renamed.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn take_names(&mut self, names: &[Rename], now: Stamp) -> Result<usize, EngineError> {
        Ok(self
            .write(now, |session| {
                if has_told(session.connection)? {
                    return Ok(0);
                }
                let schema = std::sync::Arc::clone(&session.schema);
                let mut renames = Vec::new();
                for rename in names {
                    let (Some(table), Some(from)) = (
                        rows::find_table(
                            session.connection,
                            table_of_entity_type(&schema, &rename.entity_type),
                        )?,
                        SyncUuid::parse(&rename.from),
                    ) else {
                        continue;
                    };
                    let Some(record) = rows::find(session.connection, table, &from)? else {
                        continue;
                    };
                    let to = match &rename.to {
                        Some(to) => SyncUuid::parse(to),
                        None => Some(session.random_uuid()?),
                    };
                    renames.extend(to.map(|to| (record.id, to)));
                }
                session.rename(&renames)
            })?
            .0)
    }
}

/// Up to which id two files handed out the same ids: the last that agrees with most before it
/// agreeing, too. Beyond, each went on by itself, and the next id is another row; one that agrees
/// there does so by chance.
fn shared_up_to(ids: &BTreeMap<i64, bool>) -> i64 {
    let (mut last, mut agreeing) = (0, 0_usize);
    for (count, (id, agrees)) in (1..).zip(ids) {
        agreeing += usize::from(*agrees);
        if *agrees && agreeing * 2 > count {
            last = *id;
        }
    }
    last
}

/// The same in another order: the first of each group, then the second of each, and so on. Five
/// rows of one table are no examples.
fn varied<T, K: Ord>(all: &[T], group: impl Fn(&T) -> K) -> Vec<&T> {
    let mut seen: BTreeMap<K, usize> = BTreeMap::new();
    let mut ranked: Vec<(usize, &T)> = all
        .iter()
        .map(|one| {
            let rank = seen.entry(group(one)).or_default();
            *rank += 1;
            (*rank, one)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, one)| one).collect()
}

/// Whether anybody was told of this file's rows.
fn has_told(connection: &rusqlite::Connection) -> Result<bool, SessionError> {
    Ok(connection
        .prepare_cached("SELECT sent_at IS NOT NULL FROM sync_state")?
        .query_row([], |row| row.get(0))?)
}

/// Rows of ours that only look like rows of the other file: their names were derived from their
/// content.
fn colliding(
    connection: &rusqlite::Connection,
    contact: &Contact,
) -> Result<Vec<RowId>, SessionError> {
    let mut found = Vec::new();
    for id in contact.same.iter().chain(&contact.same_name).copied().collect::<BTreeSet<_>>() {
        if rows::get(connection, id)?.uuid.is_derived() {
            found.push(id);
        }
    }
    Ok(found)
}

impl Session<'_> {
    fn look_at_stranger(
        &mut self,
        schema: &Schema,
        change: &RowChange,
        contact: &mut Contact,
    ) -> Result<(), SessionError> {
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

    /// Gives rows other names: in the app's table, in the log, and wherever other rows refer to
    /// them. Only right while nobody was told of any of these rows. Returns how many were renamed.
    fn rename(&mut self, renames: &[(RowId, SyncUuid)]) -> Result<usize, SessionError> {
        let schema = std::sync::Arc::clone(&self.schema);
        let mut names: HashMap<(String, String), SyncUuid> = HashMap::new();
        let mut rewritten: BTreeSet<RowId> = BTreeSet::new();
        for (id, uuid) in renames {
            let record = rows::get(self.connection, *id)?;
            if rows::find(self.connection, record.table, uuid)?.is_some() {
                continue;
            }
            let name = self.table_name(record.table)?;
            // Read before the names change: a document is found by its row, but says its name.
            if self.document(*id)?.is_empty() {
                continue;
            }
            if let (Some(table), Some(local_id)) =
                (schema.table(name.as_str()), record.local_id.filter(|_| record.present))
            {
                self.begin_own_writes()?;
                self.update_columns(
                    table,
                    local_id,
                    &BTreeMap::from([("sync_uuid".to_owned(), Value::from(uuid.as_str()))]),
                )?;
            }
            rows::rename(self.connection, *id, uuid)?;
            names.insert((name.as_str().to_owned(), record.uuid.as_str().to_owned()), uuid.clone());
            rewritten.insert(*id);
            rewritten.extend(references::referrers(self.connection, *id)?);
            // Deletions name the rows they left behind.
            for target in references::targets(self.connection, *id)? {
                if self.document(target)?.register(key::LEFT_BEHIND).is_some() {
                    rewritten.insert(target);
                }
            }
        }
        if names.is_empty() {
            return Ok(0);
        }
        for id in &rewritten {
            let record = rows::get(self.connection, *id)?;
            let name = self.table_name(record.table)?;
            let table = schema.table(name.as_str());
            self.rewrite(*id, &EntityId { table: name, uuid: record.uuid.clone() }, table, &names)?;
            self.note_document(*id, table)?;
        }
        self.new_epoch_cause = Some(NewEpoch::Renamed);
        self.settle(rewritten)?;
        Ok(names.len())
    }

    /// Writes a row's document anew under the names that count now: its first change, and one edit
    /// for all that followed.
    fn rewrite(
        &mut self,
        id: RowId,
        entity: &EntityId,
        table: Option<&Table>,
        names: &HashMap<(String, String), SyncUuid>,
    ) -> Result<(), SessionError> {
        let renamed = |column: &str, value: &Value| {
            if let (key::LEFT_BEHIND, Some(left)) = (column, value.as_text()) {
                let named = left.split(',').map(|name| {
                    let new = name.split_once('/').and_then(|(table, uuid)| {
                        Some((table, names.get(&(table.to_owned(), uuid.to_owned()))?))
                    });
                    new.map_or_else(|| name.to_owned(), |(table, uuid)| format!("{table}/{uuid}"))
                });
                return Value::from(named.collect::<Vec<_>>().join(","));
            }
            let target = table
                .and_then(|table| {
                    table.references().find(|(reference, _)| reference.name == column)
                })
                .map(|(_, target)| target);
            let name = target
                .zip(value.as_text())
                .and_then(|(target, text)| names.get(&(target.to_owned(), text.to_owned())));
            name.map_or_else(|| value.clone(), |name| Value::from(name.as_str()))
        };
        let old = self.document(id)?.clone();
        let Some(first) = old.changes().first() else { return Ok(()) };
        let mut puts: BTreeMap<String, Value> = first
            .ops()
            .iter()
            .map(|op| ((*op.key).to_owned(), renamed(&op.key, &op.value)))
            .collect();
        let actor = self.actor.clone();
        let seconds = |change: &Change| {
            i64::try_from(storysync_crdt::change_time(change.bytes()))
                .unwrap_or(0)
                .saturating_mul(1_000)
        };
        let first = if puts.contains_key(key::ROW) {
            puts.insert(key::ROW.to_owned(), Value::from(entity.uuid.as_str()));
            Document::new().edit(puts, EditPurpose::Edit, None, &actor, seconds(first))
        } else {
            Some(genesis(entity, puts))
        };
        log::forget_row(self.connection, id)?;
        self.forget_document(id);
        let Some(first) = first else { return Ok(()) };
        self.admit_own(id, first)?;
        let after: BTreeMap<String, Value> = old
            .registers()
            .filter_map(|(key, register)| {
                Some((key.to_owned(), renamed(key, register.winner()?.value())))
            })
            .filter(|(key, _)| key != key::ROW)
            .collect();
        let now: BTreeMap<String, Value> = self
            .document(id)?
            .registers()
            .filter_map(|(key, register)| {
                Some((key.to_owned(), register.winner()?.value().clone()))
            })
            .collect();
        let later: BTreeMap<String, Value> =
            after.into_iter().filter(|(key, value)| now.get(key) != Some(value)).collect();
        if let Some(last) = old.changes().last().filter(|_| !later.is_empty())
            && let Some(edit) =
                self.document(id)?.edit(later, EditPurpose::Edit, None, &actor, seconds(last))
        {
            self.admit_own(id, edit)?;
        }
        Ok(())
    }

    fn admit_own(&mut self, id: RowId, change: Change) -> Result<(), SessionError> {
        // A change made from the document itself always fits it.
        self.admit(id, change, None)?.map_err(log::LogError::Gap)?;
        Ok(())
    }
}

/// How much of two rows is equal. References to rows of different names are left for when all names
/// are known; what a table fills in by itself, and what is empty in both, says nothing.
fn compare(
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
fn is_distinguishing(text: &str) -> bool {
    text.chars().count() >= DISTINGUISHING_CHARS_MIN
}
