//! Merging under any script, without files: two to five replicas write, delete, restore and
//! resolve; what they send is dropped, repeated, reordered and regrouped. When everyone has
//! everything, all show the same, and every value anybody typed is shown, reported, or was
//! overwritten by someone who had seen it.
//!
//! What was typed, and who knew of it, is remembered here on its own, not read back from documents.

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

    /// Something typed into a field, and the word that must never be lost.
    fn typing(&mut self, field: &str, standing: Option<&Value>) -> (Value, Value) {
        let word = format!("t{}", self.typed.len());
        match field {
            "age" => {
                let age = Value::Integer(i64::try_from(self.choices.roll(4)).unwrap_or(0));
                (age.clone(), age)
            }
            // Few names, so that they meet.
            "name" => {
                let name = Value::from(["Ada", "Bea", "Cid", "Dot", "Eve"][self.choices.roll(5)]);
                (name.clone(), name)
            }
            _ => {
                let text = standing.and_then(Value::as_text).unwrap_or(
                    "one two three four five six seven eight nine ten eleven twelve thirteen",
                );
                let words: Vec<&str> = text.split(' ').collect();
                let place = self.choices.roll(words.len() + 1);
                let (before, after) = words.split_at(place.min(words.len()));
                let dropped = self.choices.roll(3).min(after.len());
                let written: Vec<&str> = before
                    .iter()
                    .copied()
                    .chain([word.as_str()])
                    .chain(after[dropped..].iter().copied())
                    .collect();
                (Value::from(written.join(" ")), Value::from(word.as_str()))
            }
        }
    }

    /// Writes a change as this replica would, and remembers what its author knew.
    fn write(
        &mut self,
        who: usize,
        entity: &EntityId,
        mut puts: Puts,
        base: Option<&Heads>,
        tokens: &[(&'static str, Value)],
        purpose: EditPurpose,
    ) {
        let at = self.now();
        let replica = &mut self.replicas[who];
        let document = replica.documents.entry(entity.clone()).or_default();
        puts.insert(key::VERSION.to_owned(), Value::Integer(row(document).version + 1));
        puts.insert(key::UPDATED_AT.to_owned(), Value::from(at.to_table_text()));
        let mut knew = HashSet::new();
        match base {
            Some(heads) => heads.iter().for_each(|head| {
                knew.insert(*head);
                knew.extend(self.knew.get(head).into_iter().flatten().copied());
            }),
            None => knew.extend(document.changes().iter().map(Change::hash)),
        }
        let fields: Vec<String> = puts.keys().cloned().collect();
        let deletes = puts.get(key::DELETED_AT).is_some_and(|value| !value.is_null());
        let actor = replica.actor.clone();
        let change =
            document.edit(puts, purpose, base, &actor, at.unix_ms()).expect("something to write");
        let hash = change.hash();
        assert_eq!(document.apply(change.clone()), Ok(true), "an edit fits its own document");
        replica.log.push((entity.clone(), change));
        self.knew.insert(hash, knew);
        for field in fields.into_iter().filter(|field| !key::is_bookkeeping(field)) {
            self.wrote.push((entity.clone(), field, hash));
        }
        if deletes {
            self.wrote.push((entity.clone(), key::DELETED_AT.to_owned(), hash));
        }
        for (field, token) in tokens {
            self.typed.push(Typed {
                entity: entity.clone(),
                field,
                token: token.clone(),
                change: hash,
            });
        }
    }

    fn first_values(
        &mut self,
        who: usize,
        entity: &EntityId,
    ) -> (Puts, Vec<(&'static str, Value)>) {
        let mut puts = Puts::from([(key::PROSE.to_owned(), Value::from("note"))]);
        let mut tokens = Vec::new();
        let (_, fields) =
            FIELDS.iter().find(|(name, _)| *name == entity.table.as_str()).expect("a table");
        for field in *fields {
            let (value, token) = self.typing(field, None);
            puts.insert((*field).to_owned(), value);
            tokens.push((*field, token));
        }
        for reference in self.shape.get(&entity.table).expect("a table").references.clone() {
            let value = self.a_reference(who, reference.table.as_str());
            puts.insert(reference.column, value);
        }
        puts.insert(key::DELETED_AT.to_owned(), Value::Null);
        puts.insert(key::CREATED_AT.to_owned(), Value::from(self.now().to_table_text()));
        (puts, tokens)
    }

    fn create(&mut self, who: usize) {
        let name = ["place", "place", "person", "person", "visit"][self.choices.roll(5)];
        let entity = self.new_entity(name);
        let (mut puts, tokens) = self.first_values(who, &entity);
        puts.insert(key::ROW.to_owned(), Value::from(entity.uuid.as_str()));
        self.story.push(format!("{who} creates {entity}: {puts:?}"));
        self.write(who, &entity, puts, None, &tokens, EditPurpose::Edit);
    }

    /// Two replicas find the same row when storysync comes to them, perhaps with other values.
    fn both_had_it(&mut self, who: usize) {
        let entity = self.new_entity("place");
        for (replica, differs) in
            [(who, false), ((who + 1) % self.replicas.len(), self.choices.one_in(2))]
        {
            let note = if differs { "changed before" } else { "as it was" };
            let name = format!("old {entity}");
            let puts = Puts::from([
                ("name".to_owned(), Value::from(name.as_str())),
                ("note".to_owned(), Value::from(note)),
                (key::PROSE.to_owned(), Value::from("note")),
                (key::DELETED_AT.to_owned(), Value::Null),
                (
                    key::UPDATED_AT.to_owned(),
                    Value::from(if differs {
                        "2020-01-02 00:00:00"
                    } else {
                        "2020-01-01 00:00:00"
                    }),
                ),
            ]);
            let change = genesis(&entity, puts);
            let hash = change.hash();
            let holder = &mut self.replicas[replica];
            holder
                .documents
                .entry(entity.clone())
                .or_default()
                .apply(change.clone())
                .expect("a genesis fits");
            holder.log.push((entity.clone(), change));
            self.knew.entry(hash).or_default();
            for (field, token) in
                [("name", Value::from(name.as_str())), ("note", Value::from(note))]
            {
                self.typed.push(Typed { entity: entity.clone(), field, token, change: hash });
                self.wrote.push((entity.clone(), field.to_owned(), hash));
            }
        }
        self.story.push(format!("{who} and the next had {entity}"));
    }

    fn edit(&mut self, who: usize, stale: bool) {
        let Some((entity, mut seen)) = self.a_row(who) else { return };
        let document = &self.replicas[who].documents[&entity];
        let mut base = None;
        if stale {
            let back = i64::try_from(1 + self.choices.roll(STALE_VERSIONS_MAX)).unwrap_or(1);
            let heads = document.heads_at_version(seen.version - back);
            seen = row(&document.at(&heads).expect("heads of its own"));
            base = Some(heads);
        }
        let (_, fields) =
            FIELDS.iter().find(|(name, _)| *name == entity.table.as_str()).expect("a table");
        let mut puts = Puts::new();
        let mut tokens = Vec::new();
        for _ in 0..=self.choices.roll(2) {
            if self.choices.one_in(4) {
                let references = self.shape[&entity.table].references.clone();
                if let Some(reference) = self.choices.pick(&references).cloned() {
                    let value = self.a_reference(who, reference.table.as_str());
                    puts.insert(reference.column, value);
                }
            } else if let Some(field) = self.choices.pick(fields).copied() {
                let (value, token) = self.typing(field, seen.fields.get(field));
                puts.insert(field.to_owned(), value);
                tokens.retain(|(known, _)| *known != field);
                tokens.push((field, token));
            }
        }
        // What equals the value seen was not typed: a capture skips it.
        puts.retain(|name, value| seen.fields.get(name).unwrap_or(&Value::Null) != value);
        tokens.retain(|(name, _)| puts.contains_key(*name));
        if puts.is_empty() {
            return;
        }
        self.want(who, &entity, base.as_ref(), &mut puts);
        self.story.push(format!(
            "{who} edits {entity}{}: {puts:?}",
            if stale { " from an old form" } else { "" }
        ));
        self.write(who, &entity, puts, base.as_ref(), &tokens, EditPurpose::Edit);
    }

    /// A row that is shown though it was removed, because others require it: whoever writes into it
    /// wants it.
    fn want(&self, who: usize, entity: &EntityId, base: Option<&Heads>, puts: &mut Puts) {
        let document = &self.replicas[who].documents[entity];
        let seen = base
            .and_then(|heads| document.at(heads))
            .map_or_else(|| row(document), |earlier| row(&earlier));
        if !seen.stands() {
            puts.insert(key::DELETED_AT.to_owned(), Value::Null);
        }
    }

    fn delete(&mut self, who: usize) {
        let Some((entity, _)) = self.a_row(who) else { return };
        self.delete_row(who, &entity);
    }

    fn delete_row(&mut self, who: usize, entity: &EntityId) {
        let left: Vec<String> = self
            .standing(who)
            .iter()
            .filter(|(id, row)| {
                let mut references = self.shape[&id.table].references.iter();
                references.any(|reference| {
                    storysync_crdt::target(row, reference).as_ref() == Some(entity)
                })
            })
            .map(|(id, _)| id.to_string())
            .collect();
        let kind = if self.choices.one_in(5) { "soft" } else { "hard" };
        let mut puts = Puts::from([
            (key::DELETED_AT.to_owned(), Value::from(self.now().to_table_text())),
            (key::DELETE_KIND.to_owned(), Value::from(kind)),
        ]);
        if !left.is_empty() {
            puts.insert(key::LEFT_BEHIND.to_owned(), Value::from(left.join(",")));
        }
        self.story.push(format!("{who} deletes {entity} ({kind}), leaving {left:?}"));
        self.write(who, entity, puts, None, &[], EditPurpose::Edit);
    }

    fn undelete(&mut self, who: usize) {
        let deleted: Vec<EntityId> = self.replicas[who]
            .documents
            .iter()
            .filter(|(_, document)| row(document).deletion.is_some())
            .map(|(id, _)| id.clone())
            .collect();
        let Some(entity) = self.choices.pick(&deleted).cloned() else { return };
        self.story.push(format!("{who} brings {entity} back"));
        self.write(
            who,
            &entity,
            Puts::from([(key::DELETED_AT.to_owned(), Value::Null)]),
            None,
            &[],
            EditPurpose::Edit,
        );
    }

    /// `INSERT OR REPLACE`, or a reused id: one row goes, another of the same name comes.
    fn replace(&mut self, who: usize) {
        let Some((entity, old)) = self.a_row(who) else { return };
        self.delete_row(who, &entity);
        let newcomer = self.new_entity(entity.table.as_str());
        let (mut puts, mut tokens) = self.first_values(who, &newcomer);
        if let (true, Some(name)) = (puts.contains_key("name"), old.fields.get("name")) {
            puts.insert("name".to_owned(), name.clone());
            tokens.retain(|(field, _)| *field != "name");
            tokens.push(("name", name.clone()));
        }
        puts.insert(key::ROW.to_owned(), Value::from(newcomer.uuid.as_str()));
        self.story.push(format!("{who} replaces it by {newcomer}"));
        self.write(who, &newcomer, puts, None, &tokens, EditPurpose::Edit);
    }

    fn resolve(&mut self, who: usize) {
        let conflicts: Vec<(EntityId, Conflict)> = self
            .shown(who)
            .conflicts
            .into_iter()
            .flat_map(|(id, conflicts)| {
                conflicts.into_iter().map(move |conflict| (id.clone(), conflict))
            })
            .collect();
        let Some((entity, conflict)) = self.choices.pick(&conflicts).cloned() else { return };
        let mut puts = Puts::new();
        let mut tokens = Vec::new();
        match conflict.kind {
            ConflictKind::Field => {
                for field in &conflict.fields {
                    let value = self
                        .choices
                        .pick(&field.values)
                        .map(|value| value.value.clone())
                        .expect("a conflict has values");
                    puts.insert(field.name.clone(), value);
                }
            }
            ConflictKind::Ring => puts.extend(
                conflict.fields.iter().map(|field| (field.name.clone(), field.shown.clone())),
            ),
            ConflictKind::DeleteEdit | ConflictKind::Orphan => {
                if self.choices.one_in(2) {
                    return self.delete_row(who, &entity);
                }
                puts.insert(key::DELETED_AT.to_owned(), Value::Null);
            }
            ConflictKind::Unique => {
                if conflict.fields.iter().all(|field| field.name != "name") {
                    return self.delete_row(who, &entity);
                }
                let name = Value::from(format!("renamed {}", self.step));
                puts.insert("name".to_owned(), name.clone());
                tokens.push(("name", name));
            }
            ConflictKind::Schema => return,
        }
        self.want(who, &entity, None, &mut puts);
        self.story.push(format!("{who} resolves {:?} of {entity}: {puts:?}", conflict.kind));
        self.write(who, &entity, puts, None, &tokens, EditPurpose::Edit);
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

    /// Everyone gets everything, each in an order of its own.
    fn settle(&mut self) -> Result<(), String> {
        let everything: Vec<(EntityId, Change)> = self
            .replicas
            .iter()
            .flat_map(|replica| replica.log.iter().chain(&replica.pending).cloned())
            .collect();
        for (number, replica) in self.replicas.iter_mut().enumerate() {
            let mut order = everything.clone();
            match number % 3 {
                0 => {}
                1 => order.reverse(),
                _ => order.sort_by_key(|(_, change)| change.hash()),
            }
            for (id, change) in order {
                replica.receive(id, change);
            }
            // What it builds on may have gone with a restored backup, for everybody.
            let held: HashSet<ChangeHash> =
                replica.log.iter().map(|(_, change)| change.hash()).collect();
            let waits = |change: &Change| change.deps().iter().all(|dep| held.contains(dep));
            if let Some((id, change)) = replica.pending.iter().find(|(_, change)| waits(change)) {
                return Err(format!(
                    "replica {number} still waits with {} of {id}",
                    change.hash().to_hex()
                ));
            }
        }
        Ok(())
    }

    fn judge(&mut self) -> Result<(), String> {
        self.settle()?;
        let first = self.shown(0);
        for who in 1..self.replicas.len() {
            let other = self.shown(who);
            for (id, standing) in &first.rows {
                if other.rows.get(id) != Some(standing) {
                    return Err(format!(
                        "replicas 0 and {who} show {id} differently:\n{standing:?}\n{:?}",
                        other.rows.get(id)
                    ));
                }
            }
            if other != first {
                return Err(format!(
                    "replicas 0 and {who} differ in rows or conflicts:\n{:?}\n{:?}",
                    first.conflicts, other.conflicts
                ));
            }
        }
        let all = self.replicas[0].log.clone();
        for (id, change) in all.into_iter().rev() {
            if self.replicas[0].receive(id.clone(), change) {
                return Err(format!("a change of {id} counted twice"));
            }
        }
        if self.shown(0) != first {
            return Err("replaying everything changed what is shown".to_owned());
        }
        self.nothing_typed_is_lost(&first)
    }

    fn nothing_typed_is_lost(&self, shown: &Shown) -> Result<(), String> {
        let alive: HashSet<ChangeHash> =
            self.replicas[0].log.iter().map(|(_, change)| change.hash()).collect();
        for typed in self.typed.iter().filter(|typed| alive.contains(&typed.change)) {
            let overwritten = self.wrote.iter().any(|(entity, field, change)| {
                *entity == typed.entity
                    && (field == typed.field || field == key::DELETED_AT)
                    && alive.contains(change)
                    && self.knew.get(change).is_some_and(|knew| knew.contains(&typed.change))
            });
            if overwritten {
                continue;
            }
            let holds = |value: &Value| {
                *value == typed.token
                    || matches!((value.as_text(), typed.token.as_text()), (Some(text), Some(word)) if text.split(' ').any(|part| part == word))
            };
            let conflicts = shown.conflicts.get(&typed.entity).map_or(&[][..], Vec::as_slice);
            let reported = conflicts.iter().flat_map(|conflict| &conflict.fields).any(|field| {
                field.name == typed.field && field.values.iter().any(|value| holds(&value.value))
            });
            let visible = match shown.rows.get(&typed.entity) {
                Some(Standing::Stands(row)) => row.fields.get(typed.field).is_some_and(holds),
                // Not in the table, but told: its document says what it holds.
                Some(Standing::Behind(_)) => {
                    // Without a conflict it says the same as the row that stands.
                    (conflicts.iter().any(|conflict| conflict.kind == ConflictKind::Unique)
                        || self.says_what_stands(&typed.entity, shown))
                        && row(&self.replicas[0].documents[&typed.entity])
                            .fields
                            .get(typed.field)
                            .is_some_and(holds)
                }
                Some(Standing::WaitsForParent) => row(&self.replicas[0].documents[&typed.entity])
                    .fields
                    .get(typed.field)
                    .is_some_and(holds),
                Some(Standing::Gone) | None => false,
            };
            if !visible && !reported {
                return Err(format!(
                    "{:?}, typed into {} of {}, is lost: {:?}",
                    typed.token,
                    typed.field,
                    typed.entity,
                    shown.rows.get(&typed.entity)
                ));
            }
        }
        Ok(())
    }
}

impl<M: Merge> World<'_, M> {
    /// Whether the fields of a row that waits are those of the row in its place.
    fn says_what_stands(&self, entity: &EntityId, shown: &Shown) -> bool {
        let Some(Standing::Behind(winner)) = shown.rows.get(entity) else { return false };
        let fields = |entity: &EntityId| {
            self.replicas[0].documents.get(entity).map(|document| row(document).fields)
        };
        let own = FIELDS
            .iter()
            .find(|(name, _)| *name == entity.table.as_str())
            .map_or(&[][..], |(_, fields)| *fields);
        matches!((fields(entity), fields(winner)), (Some(one), Some(other)) if own.iter().all(|field| one.get(*field) == other.get(*field)))
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

/// Merges that are wrong on purpose: scripts that do not find them prove nothing.
pub mod broken {
    use super::*;

    /// Shows the value that came last here.
    #[derive(Debug)]
    pub struct ByArrival;

    impl Merge for ByArrival {
        fn shown(documents: &BTreeMap<EntityId, Document>, shape: &Shape) -> Shown {
            rewritten(documents, shape, |document, name| {
                let register = document.register(name)?;
                register
                    .visible()
                    .iter()
                    .max_by_key(|put| put.change)
                    .map(|put| put.value().clone())
            })
        }
    }

    /// Shows a winner and reports nothing.
    #[derive(Debug)]
    pub struct Silent;

    impl Merge for Silent {
        fn shown(documents: &BTreeMap<EntityId, Document>, shape: &Shape) -> Shown {
            let mut shown = storysync_crdt::shown(documents, shape);
            for conflicts in shown.conflicts.values_mut() {
                conflicts.retain(|conflict| conflict.kind != ConflictKind::Field);
            }
            shown
        }
    }

    /// Lets a deletion win over an edit that did not know of it.
    #[derive(Debug)]
    pub struct DeleteWins;

    impl Merge for DeleteWins {
        fn shown(documents: &BTreeMap<EntityId, Document>, shape: &Shape) -> Shown {
            let mut shown = storysync_crdt::shown(documents, shape);
            for (id, document) in documents {
                if document
                    .register(key::DELETED_AT)
                    .and_then(|register| register.winner())
                    .is_some_and(|put| !put.value().is_null())
                {
                    shown.rows.insert(id.clone(), Standing::Gone);
                    shown.conflicts.remove(id);
                }
            }
            shown
        }
    }

    fn rewritten(
        documents: &BTreeMap<EntityId, Document>,
        shape: &Shape,
        read: impl Fn(&Document, &str) -> Option<Value>,
    ) -> Shown {
        let mut shown = storysync_crdt::shown(documents, shape);
        for (id, standing) in &mut shown.rows {
            if let Standing::Stands(row) = standing {
                let names: BTreeSet<String> = row.fields.keys().cloned().collect();
                for name in names {
                    if let Some(value) = read(&documents[id], &name) {
                        row.fields.insert(name, value);
                    }
                }
            }
        }
        shown
    }
}
