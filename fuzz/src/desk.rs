//! A writer at her desks, without files: pages that are merged again and again as they were opened,
//! panels that set every field they hold, single edits; and what arrives from the other desks in
//! between. At one desk nothing she wrote is changed, and no word from elsewhere disappears untold.
//!
//! Who had read what is remembered here on its own, not read back from documents.

// Named by their paths: the tests include this file from another folder.
#[path = "desk/broken.rs"]
pub mod broken;
#[path = "desk/judging.rs"]
mod judging;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use storysync_crdt::{
    ACTOR_RUN_BYTES, Actor, Arrivals, Base, Change, ChangeHash, Document, EditPurpose, EditedState,
    Edits, EntityId, Form, Seen, Stamp, SyncUuid, TableName, Value, Written, conflicts, edits, key,
    row, says_the_same,
};

use crate::choices::Choices;

/// Most things that happen in one script.
const STEPS_MAX: usize = 50;
/// Forms open at a desk at one time.
const FORMS_MAX: usize = 3;
/// The columns: two of prose, a short one, one that is empty at first, a number.
const COLUMNS: [&str; 5] = ["note", "outline", "name", "motto", "age"];
/// How far back what arrived may be unread: longer than any script.
const SINCE: i64 = i64::MIN;

/// How what an app wrote is captured. The real one is [`Real`]; broken ones prove that scripts find
/// what is broken.
pub trait Capture {
    /// Sorts what was written by a form that had read `version`, or nobody knows what.
    fn edits(
        document: &Document,
        version: Option<i64>,
        admitted: &[i64],
        written: Vec<Written>,
        own: &dyn Fn(&Change) -> bool,
    ) -> Edits;
}

/// The rules that ship.
#[derive(Debug)]
pub struct Real;

impl Capture for Real {
    fn edits(
        document: &Document,
        version: Option<i64>,
        admitted: &[i64],
        written: Vec<Written>,
        own: &dyn Fn(&Change) -> bool,
    ) -> Edits {
        let seen = version.and_then(|version| Seen::at_version(document, version, own));
        let arrivals = Arrivals { admitted, since: SINCE };
        let form = match &seen {
            Some(seen) => Form::Earlier(seen, arrivals),
            None => Form::Unknown(arrivals),
        };
        edits(document, &form, written, own)
    }
}

type Fields = BTreeMap<&'static str, Value>;

/// A form of the app's: a page, or a panel.
#[derive(Clone)]
struct OpenForm {
    /// The version it writes back; `None` for a panel.
    version: Option<i64>,
    /// What it read, as it shows it.
    read: Fields,
    /// What it holds now.
    held: Fields,
    /// From when on what arrived is not in it.
    opened: usize,
}

struct Desk {
    device: u8,
    actor: Actor,
    document: Document,
    admitted: Vec<i64>,
    /// The row in the app's table.
    table: Fields,
    version: i64,
    forms: Vec<OpenForm>,
    /// What the triggers noted since the last capture.
    updates: i64,
    base_version: Option<i64>,
    /// The columns saved since, and whether something had come into them that the form had not
    /// read.
    saved: BTreeMap<&'static str, bool>,
    /// When something from elsewhere last changed a column.
    arrived: BTreeMap<&'static str, usize>,
    /// Words the desk's app wrote, by column.
    wrote: HashSet<(&'static str, String)>,
    /// Texts that gave way.
    notices: HashSet<(String, ChangeHash)>,
}

struct World<'a, C> {
    choices: Choices<'a>,
    desks: Vec<Desk>,
    step: usize,
    words: usize,
    /// Words somebody saved, by column.
    typed: Vec<(&'static str, String)>,
    /// Words somebody took out who had them before them.
    taken_out: HashSet<(&'static str, String)>,
    /// The desks that wrote a column, after its creation.
    writers: BTreeMap<&'static str, BTreeSet<u8>>,
    story: Vec<String>,
    capture: std::marker::PhantomData<C>,
}

/// Plays one script; what went wrong, in words.
///
/// # Errors
/// When a promise was broken.
pub fn play<C: Capture>(choices: Choices<'_>) -> Result<(), String> {
    let mut world = World::<C>::new(choices);
    let outcome = world.run().and_then(|()| world.judge());
    outcome.map_err(|finding| format!("{finding}\n  {}", world.story.join("\n  ")))
}

fn words_of(value: &Value) -> Vec<String> {
    value
        .as_text()
        .map(|text| {
            text.split(' ').filter(|word| word.starts_with('t')).map(str::to_owned).collect()
        })
        .unwrap_or_default()
}

fn shown(document: &Document) -> Fields {
    let row = row(document);
    COLUMNS
        .iter()
        .map(|column| (*column, row.fields.get(*column).cloned().unwrap_or(Value::Null)))
        .collect()
}

impl<'a, C: Capture> World<'a, C> {
    fn new(mut choices: Choices<'a>) -> Self {
        let count = 1 + choices.roll(3);
        let entity = EntityId {
            table: TableName::parse("chapter").expect("a name"),
            uuid: SyncUuid::parse("a-row").expect("a uuid"),
        };
        let prose = "one two three four five six seven eight nine ten eleven twelve";
        let first = BTreeMap::from([
            ("note".to_owned(), Value::from(prose)),
            ("outline".to_owned(), Value::from(prose)),
            ("name".to_owned(), Value::from("Ada")),
            ("age".to_owned(), Value::from(1)),
            (key::PROSE.to_owned(), Value::from("note,outline")),
            (key::ROW.to_owned(), Value::from(entity.uuid.as_str())),
            (key::UPDATED_AT.to_owned(), Value::from("2026-01-01 00:00:00")),
            (key::VERSION.to_owned(), Value::from(1)),
            (key::DELETED_AT.to_owned(), Value::Null),
        ]);
        let actor = |device: u8| Actor::of_device(&[device; 32], [device; ACTOR_RUN_BYTES]);
        let created = Document::new()
            .edit(first, EditPurpose::Edit, None, &actor(1), 0)
            .expect("something to write");
        let desks = (1..=count)
            .map(|number| {
                let device = u8::try_from(number).unwrap_or(u8::MAX);
                let mut document = Document::new();
                document.apply(created.clone()).expect("a first change fits");
                let (table, version) = (shown(&document), row(&document).version);
                Desk {
                    device,
                    actor: actor(device),
                    document,
                    admitted: vec![0],
                    table,
                    version,
                    forms: Vec::new(),
                    updates: 0,
                    base_version: None,
                    saved: BTreeMap::new(),
                    arrived: BTreeMap::new(),
                    wrote: HashSet::new(),
                    notices: HashSet::new(),
                }
            })
            .collect();
        Self {
            choices,
            desks,
            step: 0,
            words: 0,
            typed: Vec::new(),
            taken_out: HashSet::new(),
            writers: BTreeMap::new(),
            story: Vec::new(),
            capture: std::marker::PhantomData,
        }
    }

    fn run(&mut self) -> Result<(), String> {
        let steps = 8 + self.choices.roll(STEPS_MAX - 8);
        while self.step < steps && !self.choices.is_over() {
            self.step += 1;
            let who = self.choices.roll(self.desks.len());
            match self.choices.roll(12) {
                0 | 1 => {
                    // Of a row with unread arrivals, a form opened between a save and the look at
                    // it reads what no version names.
                    if !self.desks[who].arrived.is_empty() {
                        self.capture(who)?;
                    }
                    self.open(who);
                }
                2..=5 => self.type_and_save(who)?,
                6 => self.take_back(who)?,
                7 => self.edit(who)?,
                8 => {
                    let forms = &mut self.desks[who].forms;
                    if !forms.is_empty() {
                        forms.remove(0);
                    }
                }
                9 => self.capture(who)?,
                _ => {
                    let from = self.choices.roll(self.desks.len());
                    self.sync(from, who)?;
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, who: usize) {
        let desk = &mut self.desks[who];
        if desk.forms.len() >= FORMS_MAX {
            desk.forms.remove(0);
        }
        let is_page = self.choices.one_in(2);
        let mut read = desk.table.clone();
        if is_page {
            // A page shows the empty text where nothing is.
            read.values_mut()
                .filter(|value| value.is_null())
                .for_each(|value| *value = Value::from(""));
        }
        self.story.push(format!(
            "{who} opens a {} at version {}",
            if is_page { "page" } else { "panel" },
            desk.version
        ));
        // Before anybody looked, a form may read what another form of the desk put back unread.
        let opened = if desk.updates > 0 { 0 } else { self.step };
        desk.forms.push(OpenForm {
            version: is_page.then_some(desk.version),
            held: read.clone(),
            read,
            opened,
        });
    }

    /// Something typed over a value.
    fn typing(&mut self, column: &str, before: &Value) -> Value {
        self.words += 1;
        let word = format!("t{}", self.words);
        match column {
            "age" => Value::from(i64::try_from(self.choices.roll(4)).unwrap_or(0)),
            "name" | "motto" => Value::from(word),
            _ => {
                let mut words: Vec<&str> =
                    before.as_text().unwrap_or_default().split(' ').collect();
                let place = self.choices.roll(words.len() + 1);
                words.insert(place, &word);
                Value::from(words.join(" "))
            }
        }
    }

    fn type_and_save(&mut self, who: usize) -> Result<(), String> {
        let count = self.desks[who].forms.len();
        if count == 0 {
            return Ok(());
        }
        let place = self.choices.roll(count);
        let mut form = self.desks[who].forms[place].clone();
        for _ in 0..self.choices.roll(3) {
            let column = COLUMNS[self.choices.roll(COLUMNS.len())];
            let value = self.typing(column, &form.held[column]);
            form.held.insert(column, value);
        }
        self.desks[who].forms[place] = form.clone();
        self.save(who, &form)
    }

    /// Back to what the form showed when it was opened.
    fn take_back(&mut self, who: usize) -> Result<(), String> {
        let count = self.desks[who].forms.len();
        if count == 0 {
            return Ok(());
        }
        let place = self.choices.roll(count);
        let form = &mut self.desks[who].forms[place];
        form.held = form.read.clone();
        let form = form.clone();
        self.save(who, &form)
    }

    /// One column, read a moment ago.
    fn edit(&mut self, who: usize) -> Result<(), String> {
        let column = COLUMNS[self.choices.roll(COLUMNS.len())];
        let before = self.desks[who].table[column].clone();
        let value = self.typing(column, &before);
        let form = OpenForm {
            version: None,
            read: Fields::from([(column, before)]),
            held: Fields::from([(column, value)]),
            opened: self.step,
        };
        self.save(who, &form)
    }

    /// The app's UPDATE, and what our triggers do with it.
    fn save(&mut self, who: usize, form: &OpenForm) -> Result<(), String> {
        let desk = &mut self.desks[who];
        let changed: Vec<(&'static str, Value)> = form
            .held
            .iter()
            .filter(|(column, value)| desk.table[*column] != **value)
            .map(|(column, value)| (*column, value.clone()))
            .collect();
        let writes_version = form.version.filter(|version| *version != desk.version);
        if changed.is_empty() && writes_version.is_none() {
            return Ok(());
        }
        match writes_version {
            Some(version) => {
                if version < desk.version {
                    desk.base_version =
                        Some(desk.base_version.map_or(version, |known| known.min(version)));
                }
                desk.version = version;
            }
            None => desk.version += 1,
        }
        desk.updates += 1;
        self.story.push(format!("{who} saves version {:?}: {changed:?}", form.version));
        for (column, value) in &changed {
            let unread = desk.arrived.get(column).is_some_and(|at| *at >= form.opened);
            *desk.saved.entry(*column).or_default() |= unread;
            desk.table.insert(*column, value.clone());
        }
        for (column, value) in &changed {
            let now = words_of(value);
            let read = form.read.get(column).map(words_of).unwrap_or_default();
            for (typed_in, word) in &self.typed {
                let known = read.contains(word) || desk.wrote.contains(&(*column, word.clone()));
                if typed_in == column && known && !now.contains(word) {
                    self.taken_out.insert((*column, word.clone()));
                }
            }
            self.writers.entry(*column).or_default().insert(desk.device);
            for word in now {
                if !self.typed.contains(&(*column, word.clone())) {
                    self.typed.push((*column, word.clone()));
                }
                desk.wrote.insert((*column, word));
            }
        }
        if self.choices.one_in(4) { Ok(()) } else { self.capture(who) }
    }
}

impl Desk {
    fn put(
        &mut self,
        mut puts: BTreeMap<String, Value>,
        purpose: EditPurpose,
        base: Option<&Base>,
        saves: i64,
        at: i64,
    ) -> Result<(), String> {
        puts.insert(key::VERSION.to_owned(), Value::Integer(row(&self.document).version + saves));
        puts.insert(
            key::UPDATED_AT.to_owned(),
            Value::from(Stamp::from_unix_ms(1_700_000_000_000 + at * 1_000).to_table_text()),
        );
        if saves > 1 {
            puts.insert(key::SAVES.to_owned(), Value::Integer(saves));
        }
        let earlier = base.and_then(|base| self.document.at(&base.heads));
        let document = earlier.as_ref().unwrap_or(&self.document);
        let state = base.map_or_else(
            || EditedState::all(document),
            |base| EditedState::without(document, &base.unseen),
        );
        let change = self
            .document
            .edit_of(state, puts, purpose, &self.actor, at * 1_000)
            .ok_or("nothing to write")?;
        // As it would come over the wire.
        let change = Change::decode(change.bytes()).expect("our own bytes");
        self.document.apply(change).map_err(|error| {
            format!("an edit of {} does not fit its own document: {error}", self.device)
        })?;
        self.admitted.push(at * 10);
        Ok(())
    }

    /// Makes the table show what the document says.
    fn project(&mut self, step: usize, from_elsewhere: bool) {
        let now = shown(&self.document);
        for (column, value) in &now {
            // What was merged into an own edit came from elsewhere, too.
            if !says_the_same(value, &self.table[column]) {
                let arrived = if from_elsewhere { step } else { step + 1 };
                self.arrived.insert(*column, arrived);
            }
        }
        self.table = now;
        self.version = row(&self.document).version;
        self.updates = 0;
        self.base_version = None;
    }
}
