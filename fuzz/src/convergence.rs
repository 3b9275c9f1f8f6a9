//! Merging under any script, without files: two to five replicas write, delete, restore and
//! resolve; what they send is dropped, repeated, reordered and regrouped. When everyone has
//! everything, all show the same, and every value anybody typed is shown, reported, or was
//! overwritten by someone who had seen it.
//!
//! What was typed, and who knew of it, is remembered here on its own, not read back from documents.

// Named by their paths: the tests include this file from another folder.
#[path = "convergence/acts.rs"]
mod acts;
#[path = "convergence/broken.rs"]
pub mod broken;
#[path = "convergence/judging.rs"]
mod judging;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use storysync_crdt::{
    ACTOR_RUN_BYTES, Actor, ApplyError, Change, ChangeHash, Conflict, ConflictKind, Document,
    EditPurpose, EntityId, Heads, NOWHERE, Reference, Row, Shape, Shown, Stamp, Standing, SyncUuid,
    TableName, TableShape, Value, genesis, key, row,
};

use crate::choices::Choices;

/// Most things that happen in one script.
const STEPS_MAX: usize = 60;
/// A form is at most so many versions old.
const STALE_VERSIONS_MAX: usize = 4;

/// How rows are read. The real one is [`Real`]; broken ones prove that scripts find what is broken.
pub trait Merge {
    /// What a replica with these documents shows.
    fn shown(documents: &BTreeMap<EntityId, Document>, shape: &Shape) -> Shown;
}

/// The merge that ships.
#[derive(Debug)]
pub struct Real;

impl Merge for Real {
    fn shown(documents: &BTreeMap<EntityId, Document>, shape: &Shape) -> Shown {
        storysync_crdt::shown(documents, shape)
    }
}

type Puts = BTreeMap<String, Value>;

/// A value somebody typed.
struct Typed {
    entity: EntityId,
    field: &'static str,
    /// What must be found in the value shown: the value itself, or a word of prose nobody else
    /// types.
    token: Value,
    change: ChangeHash,
}

struct Replica {
    device: u8,
    actor: Actor,
    documents: BTreeMap<EntityId, Document>,
    log: Vec<(EntityId, Change)>,
    /// Changes that came before those they build on.
    pending: Vec<(EntityId, Change)>,
    inbox: Vec<(EntityId, Change)>,
    /// Length of the log when a backup was made.
    backup: usize,
}

struct World<'a, M> {
    choices: Choices<'a>,
    shape: Shape,
    replicas: Vec<Replica>,
    typed: Vec<Typed>,
    /// What the author of each change had before them.
    knew: HashMap<ChangeHash, HashSet<ChangeHash>>,
    /// The changes that put a field, or deleted the row.
    wrote: Vec<(EntityId, String, ChangeHash)>,
    runs: u64,
    rows: u64,
    step: usize,
    story: Vec<String>,
    merge: std::marker::PhantomData<M>,
}

fn table(name: &str) -> TableName {
    TableName::parse(name).expect("a table name")
}

fn shape() -> Shape {
    let reference = |column: &str, to: &str, required: bool| Reference {
        column: column.to_owned(),
        table: table(to),
        required,
    };
    let unique =
        |columns: &[&str]| columns.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>();
    BTreeMap::from([
        (
            table("place"),
            TableShape {
                references: vec![reference("inside", "place", false)],
                uniques: vec![unique(&["name"])],
            },
        ),
        (
            table("person"),
            TableShape {
                references: vec![
                    reference("home", "place", true),
                    reference("friend", "person", false),
                ],
                uniques: Vec::new(),
            },
        ),
        (
            table("visit"),
            TableShape {
                references: vec![
                    reference("who", "person", true),
                    reference("where", "place", true),
                ],
                uniques: vec![unique(&["who", "where"])],
            },
        ),
    ])
}

const FIELDS: [(&str, &[&str]); 3] =
    [("place", &["name", "note"]), ("person", &["name", "note", "age"]), ("visit", &["note"])];

/// Plays one script; what went wrong, in words.
///
/// # Errors
/// When a promise was broken.
pub fn play<M: Merge>(choices: Choices<'_>) -> Result<(), String> {
    let mut world = World::<M>::new(choices);
    world.run();
    world.judge().map_err(|finding| format!("{finding}\n  {}", world.story.join("\n  ")))
}

impl<'a, M: Merge> World<'a, M> {
    fn new(mut choices: Choices<'a>) -> Self {
        let count = 2 + choices.roll(4);
        let mut world = Self {
            choices,
            shape: shape(),
            replicas: Vec::new(),
            typed: Vec::new(),
            knew: HashMap::new(),
            wrote: Vec::new(),
            runs: 0,
            rows: 0,
            step: 0,
            story: Vec::new(),
            merge: std::marker::PhantomData,
        };
        for number in 0..count {
            let device = u8::try_from(number + 1).unwrap_or(u8::MAX);
            let actor = world.fresh_actor(device);
            world.replicas.push(Replica {
                device,
                actor,
                documents: BTreeMap::new(),
                log: Vec::new(),
                pending: Vec::new(),
                inbox: Vec::new(),
                backup: 0,
            });
        }
        world
    }

    fn fresh_actor(&mut self, device: u8) -> Actor {
        self.runs += 1;
        let run: [u8; ACTOR_RUN_BYTES] = self.runs.to_be_bytes();
        Actor::of_device(&[device; 32], run)
    }

    fn run(&mut self) {
        let steps = 8 + self.choices.roll(STEPS_MAX - 8);
        while self.step < steps && !self.choices.is_over() {
            self.step += 1;
            let who = self.choices.roll(self.replicas.len());
            match self.choices.roll(16) {
                0 | 1 => self.create(who),
                2 => self.both_had_it(who),
                3..=5 => self.edit(who, false),
                6 => self.edit(who, true),
                7 => self.delete(who),
                8 => self.undelete(who),
                9 => self.replace(who),
                10 => self.resolve(who),
                11 => self.misfortune(who),
                12 | 13 => self.send(who),
                _ => self.take_in(who),
            }
        }
    }

    fn now(&self) -> Stamp {
        Stamp::from_unix_ms(1_700_000_000_000 + i64::try_from(self.step).unwrap_or(0) * 1_000)
    }

    /// A name whose place in the order of uuids says nothing of when it was given.
    fn new_entity(&mut self, name: &str) -> EntityId {
        self.rows += 1;
        let uuid = format!(
            "{:08x}-row-{}",
            (self.rows.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) & 0xffff_ffff,
            self.rows
        );
        EntityId { table: table(name), uuid: SyncUuid::parse(&uuid).expect("a uuid") }
    }

    fn shown(&self, who: usize) -> Shown {
        M::shown(&self.replicas[who].documents, &self.shape)
    }

    /// The rows a person at this replica sees.
    fn standing(&self, who: usize) -> Vec<(EntityId, Row)> {
        let rows = self.shown(who).rows.into_iter();
        rows.filter_map(
            |(id, standing)| {
                if let Standing::Stands(row) = standing { Some((id, row)) } else { None }
            },
        )
        .collect()
    }

    fn a_row(&mut self, who: usize) -> Option<(EntityId, Row)> {
        let rows = self.standing(who);
        self.choices.pick(&rows).cloned()
    }

    fn a_reference(&mut self, who: usize, to: &str) -> Value {
        let rows: Vec<EntityId> = self.replicas[who]
            .documents
            .keys()
            .filter(|id| id.table.as_str() == to)
            .cloned()
            .collect();
        match self.choices.roll(6) {
            0 => Value::Null,
            1 if self.choices.one_in(3) => Value::from(NOWHERE),
            _ => self.choices.pick(&rows).map_or(Value::Null, |id| Value::from(id.uuid.as_str())),
        }
    }

    fn misfortune(&mut self, who: usize) {
        let device = self.replicas[who].device;
        match self.choices.roll(4) {
            0 => {
                self.story.push(format!("{who} restarts"));
                self.replicas[who].actor = self.fresh_actor(device);
            }
            1 => {
                self.story.push(format!("{who} makes a backup"));
                self.replicas[who].backup = self.replicas[who].log.len();
            }
            2 => {
                self.story.push(format!("{who} restores its backup"));
                let actor = self.fresh_actor(device);
                let replica = &mut self.replicas[who];
                replica.actor = actor;
                replica.log.truncate(replica.backup);
                replica.pending.clear();
                replica.documents.clear();
                for (id, change) in &replica.log {
                    replica
                        .documents
                        .entry(id.clone())
                        .or_default()
                        .apply(change.clone())
                        .expect("a log is its own proof");
                }
            }
            // The app rewrites a row, or fills a column it gained.
            _ => {
                let Some((entity, _)) = self.a_row(who) else { return };
                if self.choices.one_in(2) {
                    self.write(who, &entity, Puts::new(), None, &[], EditPurpose::Rewrite);
                } else if self.replicas[who].documents[&entity].register("extra").is_none() {
                    let filled = Puts::from([("extra".to_owned(), Value::from("filled"))]);
                    self.write(who, &entity, filled, None, &[], EditPurpose::NewColumns);
                }
            }
        }
    }

    fn send(&mut self, who: usize) {
        let to = (who + 1 + self.choices.roll(self.replicas.len() - 1)) % self.replicas.len();
        let log = &self.replicas[who].log;
        let start = self.choices.roll(log.len() + 1);
        let lost = self.choices.roll(4);
        let sent: Vec<(EntityId, Change)> = log[start.min(log.len()) / 2..]
            .iter()
            .enumerate()
            .filter(|(place, _)| lost == 0 || place % 5 != lost)
            .map(|(_, sent)| sent.clone())
            .collect();
        self.story.push(format!("{who} sends {} changes to {to}", sent.len()));
        self.replicas[to].inbox.extend(sent);
    }

    fn take_in(&mut self, who: usize) {
        let waiting = self.replicas[who].inbox.len();
        let count = self.choices.roll(waiting + 1);
        let backwards = self.choices.one_in(3);
        let again = self.choices.one_in(3);
        let mut taken: Vec<(EntityId, Change)> = self.replicas[who].inbox.drain(..count).collect();
        if backwards {
            taken.reverse();
        }
        if again {
            self.replicas[who].inbox.extend(taken.iter().cloned());
        }
        self.story.push(format!("{who} takes {count} changes in"));
        for (id, change) in taken {
            self.replicas[who].receive(id, change);
        }
    }
}

impl Replica {
    /// Takes a change in, or puts it aside until what it builds on has come. Whether it was new.
    fn receive(&mut self, id: EntityId, change: Change) -> bool {
        // As it would come over the wire.
        let change = Change::decode(change.bytes()).expect("our own bytes");
        let new = self.admit(&id, change.clone());
        if new == Some(true) {
            loop {
                let waiting = std::mem::take(&mut self.pending);
                let before = waiting.len();
                for (id, change) in waiting {
                    if self.admit(&id, change.clone()).is_none() {
                        self.pending.push((id, change));
                    }
                }
                if self.pending.len() == before {
                    break;
                }
            }
        } else if new.is_none()
            && !self.pending.iter().any(|(_, known)| known.hash() == change.hash())
        {
            self.pending.push((id, change));
        }
        new == Some(true)
    }

    fn admit(&mut self, id: &EntityId, change: Change) -> Option<bool> {
        let document = self.documents.entry(id.clone()).or_default();
        let outcome = match document.apply(change.clone()) {
            Ok(new) => {
                if new {
                    self.log.push((id.clone(), change));
                }
                Some(new)
            }
            Err(ApplyError::MissingDependencies(_)) => None,
            Err(error) => panic!("an honest change of {id} was refused: {error}"),
        };
        if self.documents.get(id).is_some_and(Document::is_empty) {
            self.documents.remove(id);
        }
        outcome
    }
}
