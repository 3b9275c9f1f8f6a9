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

mod looking;
mod renaming;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;
use storysync_crdt::{ChangeHash, Stamp, SyncUuid};

use crate::app::profile::table_of_entity_type;
use crate::engine::Engine;
use crate::error::{EngineError, TransactionError};
use crate::exchange::wire::{Rename, RowChange};
use crate::naming::name_of;
use crate::store::log;
use crate::store::rows::{self, RowId};
use looking::{Candidate, Common};

/// What two files are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Relation {
    /// Copies of one file that went apart: rows under the same id are one row.
    Copies,
    /// Other worlds: every row stays a row of its own.
    Unrelated,
}

impl Relation {
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
    pub kind: Relation,
    /// Rows both files had under one table and id.
    pub common: usize,
    /// How many of those were the same, or mostly equal.
    pub agreeing: usize,
    /// Rows that took, or would take, another name: of this file, or of the other one where that
    /// one takes the names.
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
    pub kind: Relation,
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
        let looked = self.look(now, |transaction| {
            let schema = std::sync::Arc::clone(&transaction.schema);
            for change in changes {
                transaction.look_at_stranger(&schema, change, contact)?;
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
            let kind = if agreeing * 2 >= common { Relation::Copies } else { Relation::Unrelated };
            let renamed = match kind {
                Relation::Copies => matched.len(),
                Relation::Unrelated => colliding(connection, contact)?.len(),
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
             -> Result<RowPair, TransactionError> {
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
                Relation::Copies => {
                    contact.common(connection)?.matched.into_iter().map(|(ours, _)| ours).collect()
                }
                Relation::Unrelated => HashSet::new(),
            };
            let renamed: HashSet<RowId> = match verdict.kind {
                Relation::Copies => HashSet::new(),
                Relation::Unrelated => colliding(connection, contact)?.into_iter().collect(),
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
    /// log begins another epoch when there are any. Returns how many rows were renamed.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn settle_contact(
        &mut self,
        contact: &Contact,
        kind: Relation,
        now: Stamp,
    ) -> Result<usize, EngineError> {
        Ok(self
            .write(now, |transaction| {
                if has_told(transaction.connection)? {
                    // Somebody asked meanwhile: the names are known by now.
                    return Ok(0);
                }
                let renames = match kind {
                    Relation::Copies => contact.common(transaction.connection)?.matched,
                    Relation::Unrelated => {
                        let colliding = colliding(transaction.connection, contact)?;
                        colliding
                            .into_iter()
                            .map(|id| Ok((id, transaction.random_uuid()?)))
                            .collect::<Result<_, TransactionError>>()?
                    }
                };
                transaction.rename(&renames)
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
        kind: Relation,
    ) -> Result<Vec<Rename>, EngineError> {
        self.read(|connection, _| {
            let name = |id: RowId, from: Option<&SyncUuid>| -> Result<Rename, TransactionError> {
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
                Relation::Copies => contact
                    .common(connection)?
                    .matched
                    .iter()
                    .map(|(ours, theirs)| name(*ours, Some(theirs)))
                    .collect(),
                Relation::Unrelated => {
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
            .write(now, |transaction| {
                if has_told(transaction.connection)? {
                    return Ok(0);
                }
                let schema = std::sync::Arc::clone(&transaction.schema);
                let mut renames = Vec::new();
                for rename in names {
                    let (Some(table), Some(from)) = (
                        rows::find_table(
                            transaction.connection,
                            table_of_entity_type(&schema, &rename.entity_type),
                        )?,
                        SyncUuid::parse(&rename.from),
                    ) else {
                        continue;
                    };
                    let Some(record) = rows::find(transaction.connection, table, &from)? else {
                        continue;
                    };
                    let to = match &rename.to {
                        Some(to) => SyncUuid::parse(to),
                        None => Some(transaction.random_uuid()?),
                    };
                    renames.extend(to.map(|to| (record.id, to)));
                }
                transaction.rename(&renames)
            })?
            .0)
    }
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
fn has_told(connection: &rusqlite::Connection) -> Result<bool, TransactionError> {
    Ok(connection
        .prepare_cached("SELECT sent_at IS NOT NULL FROM sync_state")?
        .query_row([], |row| row.get(0))?)
}

/// Rows of ours that only look like rows of the other file: their names were derived from their
/// content.
fn colliding(
    connection: &rusqlite::Connection,
    contact: &Contact,
) -> Result<Vec<RowId>, TransactionError> {
    let mut found = Vec::new();
    for id in contact.same.iter().chain(&contact.same_name).copied().collect::<BTreeSet<_>>() {
        if rows::get(connection, id)?.uuid.is_derived() {
            found.push(id);
        }
    }
    Ok(found)
}
