//! The entity document: a row's changes, and the registers they leave visible.
//!
//! A register is one key of a flat map. A put names the puts it replaces; a put is visible while no
//! other names it (the multi-value register of automerge, whose winner is the greatest [`OpId`]).
//! Owns causality: what may be applied, which change knew which, what an edit must build on.
//! Refuses to interpret keys: rows and conflicts are read off in `row` and `conflict`.

mod edit;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::{Actor, Change, ChangeHash, Op, OpId, Value};
pub use edit::{EditPurpose, EditedState};

/// The newest changes of a document: those no other change depends on.
pub type Heads = BTreeSet<ChangeHash>;

/// A visible put.
#[derive(Debug, Clone)]
pub struct Visible {
    /// The put's name; the greatest wins.
    pub op_id: OpId,
    /// Which change made it, as an index into [`Document::changes`].
    pub change: usize,
    written_in: Change,
    place: usize,
}

impl Visible {
    /// The value.
    #[must_use]
    pub fn value(&self) -> &Value {
        const NULL: &Value = &Value::Null;
        self.op().map_or(NULL, |op| &op.value)
    }

    /// The put itself.
    pub(crate) fn op(&self) -> Option<&Op> {
        self.written_in.ops().get(self.place)
    }
}

/// One key's visible puts, winner last.
#[derive(Debug, Clone, Default)]
pub struct Register {
    visible: SmallVec<[Visible; 1]>,
}

impl Register {
    /// The puts nobody has replaced, in ascending order: several when devices wrote concurrently.
    #[must_use]
    pub fn visible(&self) -> &[Visible] {
        &self.visible
    }

    /// What automerge shows.
    #[must_use]
    pub fn winner(&self) -> Option<&Visible> {
        self.visible.last()
    }
}

/// What an edit is made on top of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Base {
    /// The changes it builds on directly.
    pub heads: Heads,
    /// Changes among those it builds on whose values its author had not seen: it replaces none of
    /// them, so that they stand beside what it puts.
    pub unseen: HashSet<ChangeHash>,
}

impl From<Heads> for Base {
    fn from(heads: Heads) -> Self {
        Self { heads, unseen: HashSet::new() }
    }
}

/// Why a change can't join a document. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// It builds on changes that are not here (yet).
    #[error("it builds on {} changes that are not here", .0.len())]
    MissingDependencies(Vec<ChangeHash>),
    /// The same actor and sequence number with other content: a copied or lying device.
    #[error("its actor already wrote another change with that sequence number")]
    Equivocation,
    /// It is a change of another row: nobody honest sends it under this one's name.
    #[error("it belongs to another row")]
    OtherRow,
    /// The row has more changes side by side, or more keys, than it can be read and written with.
    #[error("too many changes of this row stand side by side already")]
    Crowded,
    /// Its counters don't follow from its dependencies.
    #[error("its counters do not follow from the changes it builds on")]
    Counters,
    /// It replaces a put that does not exist, or of another key.
    #[error("it replaces a value that was never there")]
    Predecessor,
}

/// Most changes of a row that may stand side by side: each is a device that wrote without knowing
/// the others.
const HEADS_MAX: usize = 512;
/// Most values of one key that may stand side by side.
const VISIBLE_PER_KEY_MAX: usize = 512;
/// Most values that may stand beside others, over all keys: an edit of them all still fits into one
/// change.
const VISIBLE_MAX: usize = 12_288;
/// Most keys of a row, those of columns it once had included.
const KEYS_MAX: usize = 4_096;

/// How far a change's first counter may lie above the highest counter it builds on, while counters
/// are low.
const COUNTER_GAP_MAX: u64 = 1 << 20;
/// Counters from here on must follow one by one: what automerge can count to is then used up by
/// gigabytes of puts only, never by gaps.
const COUNTER_HIGH: u64 = 1 << 30;

/// How far the first counter may lie above `highest`: a function of what a change builds on alone,
/// so that all devices agree.
fn gap_max(highest: u64) -> u64 {
    if highest < COUNTER_HIGH { COUNTER_GAP_MAX } else { 1 }
}

/// All changes of one row that are known here, and what they show.
#[derive(Debug, Clone, Default)]
pub struct Document {
    changes: Vec<Change>,
    index: HashMap<ChangeHash, usize>,
    by_actor: HashMap<Actor, Vec<usize>>,
    heads: Heads,
    registers: BTreeMap<Arc<str>, Register>,
}

impl Document {
    /// A document without changes: a row nobody has heard of.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a change. `Ok(false)` when it was here already.
    ///
    /// # Errors
    /// When the change can't follow what is here; see [`ApplyError`].
    pub fn apply(&mut self, change: Change) -> Result<bool, ApplyError> {
        if self.index.contains_key(&change.hash()) {
            return Ok(false);
        }
        self.check(&change)?;
        let position = self.changes.len();
        for (op_index, op) in change.ops().iter().enumerate() {
            let register = self.registers.entry(Arc::clone(&op.key)).or_default();
            let replaced: HashSet<&OpId> = op.predecessors.iter().collect();
            register.visible.retain(|visible| !replaced.contains(&visible.op_id));
            let op_id = change.op_id(op_index);
            let place = register.visible.partition_point(|visible| visible.op_id < op_id);
            register.visible.insert(
                place,
                Visible { op_id, change: position, written_in: change.clone(), place: op_index },
            );
        }
        for dep in change.deps() {
            self.heads.remove(dep);
        }
        self.heads.insert(change.hash());
        self.index.insert(change.hash(), position);
        self.by_actor.entry(change.actor().clone()).or_default().push(position);
        self.changes.push(change);
        Ok(true)
    }

    fn check(&self, change: &Change) -> Result<(), ApplyError> {
        let mut missing = Vec::new();
        let mut highest = 0;
        for dep in change.deps() {
            match self.change(dep) {
                Some(known) => highest = highest.max(known.end_op().saturating_sub(1)),
                None => missing.push(*dep),
            }
        }
        if !missing.is_empty() {
            return Err(ApplyError::MissingDependencies(missing));
        }
        let last = self
            .by_actor
            .get(change.actor())
            .and_then(|own| own.last())
            .and_then(|last| self.changes.get(*last));
        let last_seq = last.map_or(0, Change::seq);
        if change.seq() <= last_seq {
            return Err(ApplyError::Equivocation);
        }
        if change.seq() != last_seq + 1
            || change.start_op() <= highest
            || change.start_op() - highest > gap_max(highest)
        {
            return Err(ApplyError::Counters);
        }
        if let Some(last) = last
            && !change.deps().contains(&last.hash())
            && !self.builds_on(change.deps(), &last.hash())
        {
            return Err(ApplyError::Equivocation);
        }
        for op in change.ops() {
            for predecessor in &op.predecessors {
                if self.put(predecessor).is_none_or(|(_, put)| put.key != op.key) {
                    return Err(ApplyError::Predecessor);
                }
            }
        }
        self.check_room(change)
    }

    /// What is shown must stay readable, and writable: whoever edits next names every head, and
    /// every put it replaces.
    fn check_room(&self, change: &Change) -> Result<(), ApplyError> {
        let replaced_heads = change.deps().iter().filter(|dep| self.heads.contains(*dep)).count();
        if replaced_heads == 0 && self.heads.len() >= HEADS_MAX {
            return Err(ApplyError::Crowded);
        }
        let (mut new_keys, mut more, mut fewer) = (0, 0, 0);
        for op in change.ops() {
            let Some(register) = self.registers.get(&op.key) else {
                new_keys += 1;
                continue;
            };
            let replaced: HashSet<&OpId> = op.predecessors.iter().collect();
            let mut standing = register
                .visible
                .iter()
                .filter(|visible| !replaced.contains(&visible.op_id))
                .peekable();
            if standing.peek().is_none() {
                fewer += register.visible.len().saturating_sub(1);
                continue;
            }
            let mut count = 0;
            for visible in standing {
                if visible.op_id.actor == *change.actor() {
                    // Whoever writes a field again has seen what it wrote there itself.
                    return Err(ApplyError::Predecessor);
                }
                count += 1;
            }
            if count >= VISIBLE_PER_KEY_MAX {
                return Err(ApplyError::Crowded);
            }
            more += count + 1;
            fewer += register.visible.len();
        }
        let surplus: usize =
            self.registers.values().map(|register| register.visible.len().saturating_sub(1)).sum();
        let crowded = more > fewer && surplus + more - fewer > VISIBLE_MAX;
        if crowded || (new_keys > 0 && self.registers.len() + new_keys > KEYS_MAX) {
            return Err(ApplyError::Crowded);
        }
        Ok(())
    }

    /// Whether `deps`, or anything they build on, is `earlier`. Dependencies were admitted before
    /// what builds on them, so nothing admitted before `earlier` needs a look.
    fn builds_on(&self, deps: &[ChangeHash], earlier: &ChangeHash) -> bool {
        let Some(target) = self.index.get(earlier).copied() else { return false };
        let mut seen = HashSet::new();
        let mut waiting: Vec<usize> =
            deps.iter().filter_map(|dep| self.index.get(dep).copied()).collect();
        while let Some(position) = waiting.pop() {
            if position == target {
                return true;
            }
            if position > target
                && seen.insert(position)
                && let Some(change) = self.changes.get(position)
            {
                waiting.extend(change.deps().iter().filter_map(|dep| self.index.get(dep).copied()));
            }
        }
        false
    }

    /// The document as it was at `heads`; `None` when one of them is not known here.
    #[must_use]
    pub fn at(&self, heads: &Heads) -> Option<Self> {
        if heads.iter().any(|head| !self.index.contains_key(head)) {
            return None;
        }
        let heads: Vec<_> = heads.iter().copied().collect();
        let wanted = self.ancestors(&heads);
        let mut earlier = Self::new();
        for change in self.changes.iter().filter(|change| wanted.contains(&change.hash())) {
            earlier.apply(change.clone()).ok()?;
        }
        Some(earlier)
    }

    /// The heads after the first `count` changes of this device's log of the row.
    #[must_use]
    pub fn heads_after(&self, count: usize) -> Heads {
        let mut heads = Heads::new();
        for change in self.changes.iter().take(count) {
            for dep in change.deps() {
                heads.remove(dep);
            }
            heads.insert(change.hash());
        }
        heads
    }

    /// `of` and everything they build on.
    #[must_use]
    pub fn ancestors(&self, of: &[ChangeHash]) -> HashSet<ChangeHash> {
        let mut found = HashSet::new();
        let mut waiting = of.to_vec();
        while let Some(hash) = waiting.pop() {
            if found.insert(hash)
                && let Some(change) = self.change(&hash)
            {
                waiting.extend_from_slice(change.deps());
            }
        }
        found
    }

    /// What a column read as after the first `count` changes of this device's log of the row.
    #[must_use]
    pub fn field_after(&self, name: &str, count: usize) -> Value {
        let first = self.changes.get(..count).unwrap_or(&self.changes);
        let mut written: Vec<(OpId, &Value)> = Vec::new();
        let mut replaced: HashSet<&OpId> = HashSet::new();
        for change in first {
            for (place, op) in change.ops().iter().enumerate().filter(|(_, op)| *op.key == *name) {
                written.push((change.op_id(place), &op.value));
                replaced.extend(&op.predecessors);
            }
        }
        written.retain(|(op_id, _)| !replaced.contains(op_id));
        match written.as_slice() {
            [] => Value::Null,
            [(_, value)] => (*value).clone(),
            _ => self
                .at(&self.heads_after(count))
                .and_then(|state| crate::field(&state, name))
                .unwrap_or(Value::Null),
        }
    }

    /// The newest changes.
    #[must_use]
    pub fn heads(&self) -> &Heads {
        &self.heads
    }

    /// Every change, in the order this device admitted them; dependencies come first.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// A change by its hash.
    #[must_use]
    pub fn change(&self, hash: &ChangeHash) -> Option<&Change> {
        self.index.get(hash).and_then(|position| self.changes.get(*position))
    }

    /// The change of an actor with a sequence number.
    #[must_use]
    pub fn change_of(&self, actor: &Actor, seq: u64) -> Option<&Change> {
        self.by_actor
            .get(actor)?
            .iter()
            .filter_map(|position| self.changes.get(*position))
            .find(|change| change.seq() == seq)
    }

    /// The put of that name and the change that made it.
    #[must_use]
    pub fn put(&self, op_id: &OpId) -> Option<(&Change, &Op)> {
        let own = self.by_actor.get(&op_id.actor)?;
        let after = own.partition_point(|position| {
            self.changes.get(*position).is_some_and(|change| change.start_op() <= op_id.counter)
        });
        let change = self.changes.get(*own.get(after.checked_sub(1)?)?)?;
        let offset = usize::try_from(op_id.counter.checked_sub(change.start_op())?).ok()?;
        Some((change, change.ops().get(offset)?))
    }

    /// One key's register.
    #[must_use]
    pub fn register(&self, key: &str) -> Option<&Register> {
        self.registers.get(key)
    }

    /// All registers by key.
    pub fn registers(&self) -> impl Iterator<Item = (&str, &Register)> {
        self.registers.iter().map(|(key, register)| (&**key, register))
    }

    /// Whether nothing is known of this row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}
