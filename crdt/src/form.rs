//! What an app wrote into a row, sorted by what it can have read before.
//!
//! What the app of this very file wrote is never taken for old: the app knows it. Only what came
//! from elsewhere may be unread, and is then kept beside what the app wrote. Two things tell what
//! was read: the `version` a form writes back, and values that are exactly what a column showed
//! before something arrived.
//!
//! Owns that judgement, as a function of the row's document. Refuses to know tables and clocks.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::{
    Base, Change, ChangeHash, Document, Seen, Unread, Value, is_kept_by_app, is_prose,
    keeps_changes, key, says_nothing, says_the_same,
};

/// A column the app wrote, and what stands in it now.
#[derive(Debug, Clone)]
pub struct Written {
    /// The column.
    pub name: String,
    /// What the app wrote, as documents hold it.
    pub value: Value,
    /// What the document says there.
    pub document: Value,
    /// Whether it is content of the row itself, and no reference to another.
    pub is_field: bool,
    /// Whether the table held a value that could not travel: what came since was never shown.
    pub hid_arrivals: bool,
}

impl Written {
    /// Whether a text was written over a text, or emptied.
    fn is_text(&self) -> bool {
        self.is_field
            && (self.value.as_text().is_some() || says_nothing(&self.value))
            && self.document.as_text().is_some()
    }
}

/// How much of a row was read by the form that wrote it, as far as is known.
#[derive(Debug)]
pub enum Form<'a> {
    /// It had read everything, or replaces it knowingly.
    Everything,
    /// An earlier state, told by the version it wrote back.
    Earlier(&'a Seen, Arrivals<'a>),
    /// It wrote no version: only values can tell.
    Unknown(Arrivals<'a>),
}

/// When the document's changes were admitted here, no matter by which path.
#[derive(Debug, Clone, Copy)]
pub struct Arrivals<'a> {
    /// When each change of the document was admitted here, in the order of [`Document::changes`]
    /// (any unit, the same for all changes of one transaction).
    pub admitted: &'a [i64],
    /// Changes admitted before this, in the unit of [`Self::admitted`], count as read.
    pub since: i64,
}

/// How the columns an app wrote are captured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edits {
    /// Put on top of everything, or of [`Self::base`].
    pub puts: BTreeMap<String, Value>,
    /// What the form knows, where a deletion is not part of it.
    pub base: Option<Base>,
    /// Put beside [`Self::unread`]: both stand, and are merged or told as a conflict.
    pub beside: BTreeMap<String, Value>,
    /// Those of them that are back to what the column showed before: see [`key::TYPED`].
    pub put_back: BTreeSet<String>,
    /// What came from elsewhere and was not read.
    pub unread: HashSet<ChangeHash>,
    /// Texts from elsewhere that give way, by column: nobody can be shown to have read them.
    pub replaced: Vec<(String, ChangeHash)>,
}

impl Edits {
    fn plain(document: &Document, written: Vec<Written>) -> Self {
        let mut edits = Self::default();
        for column in written {
            edits.put(document, column);
        }
        edits
    }

    /// Puts a column on top of everything. Texts that stood beside the shown one, in a conflict,
    /// give way with it, and whoever saved the row had not seen them there.
    fn put(&mut self, document: &Document, column: Written) {
        let hidden =
            document.register(&column.name).into_iter().flat_map(|register| register.visible());
        let hidden = hidden
            .filter(|put| !says_the_same(put.value(), &column.document))
            .filter_map(|put| document.changes().get(put.change));
        let hidden: Vec<ChangeHash> = hidden.map(Change::hash).collect();
        self.note_replaced(document, &column, &hidden);
        self.puts.insert(column.name, column.value);
    }

    fn note_replaced<'a>(
        &mut self,
        document: &Document,
        column: &Written,
        changes: impl IntoIterator<Item = &'a ChangeHash>,
    ) {
        let gives_way = |change: &&ChangeHash| {
            let text = document.change(change).and_then(|change| change.value(&column.name));
            column.is_field
                && text.is_some_and(|text| {
                    text.as_text().is_some_and(|text| !text.is_empty())
                        && !says_the_same(text, &column.value)
                })
        };
        self.replaced.extend(
            changes.into_iter().filter(gives_way).map(|change| (column.name.clone(), *change)),
        );
    }

    fn put_beside(&mut self, column: Written, unread: &Unread) {
        self.unread.extend(&unread.changes);
        if unread.showed(&column.value) && !says_the_same(&column.value, &column.document) {
            self.put_back.insert(column.name.clone());
        }
        self.beside.insert(column.name, column.value);
    }

    /// Texts that stood beside the read ones in a conflict give way to what is put beside
    /// [`Self::unread`], and the form had not shown them. To be asked when all columns are sorted:
    /// what one of them leaves unread, no other replaces.
    fn note_hidden(&mut self, document: &Document, column: &Written, read: &[Value]) {
        let visible =
            document.register(&column.name).into_iter().flat_map(|register| register.visible());
        let hidden: Vec<ChangeHash> = visible
            .filter(|put| !read.iter().any(|read| says_the_same(put.value(), read)))
            .filter_map(|put| document.changes().get(put.change).map(Change::hash))
            .filter(|change| !self.unread.contains(change))
            .collect();
        self.note_replaced(document, column, &hidden);
    }

    /// Whether nothing was typed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.beside.is_empty()
    }
}

/// Sorts what an app wrote. `own` tells the changes the same file's app has written.
#[must_use]
pub fn edits(
    document: &Document,
    form: &Form<'_>,
    written: Vec<Written>,
    own: &dyn Fn(&Change) -> bool,
) -> Edits {
    match form {
        Form::Everything => Edits::plain(document, written),
        Form::Earlier(seen, arrivals) => of_form(document, seen, *arrivals, written, own),
        Form::Unknown(_) if document.changes().iter().all(own) => Edits::plain(document, written),
        Form::Unknown(arrivals) => of_panel(document, *arrivals, written, own),
    }
}

/// What a form merely still holds was not typed: where something came from elsewhere meanwhile,
/// that stays.
fn of_form(
    document: &Document,
    seen: &Seen,
    arrivals: Arrivals<'_>,
    written: Vec<Written>,
    own: &dyn Fn(&Change) -> bool,
) -> Edits {
    let typed = |column: &Written| {
        !says_the_same(&seen.value(&column.name), &column.value)
            || says_the_same(&column.document, &column.value)
    };
    let written: Vec<Written> = written.into_iter().filter(typed).collect();
    let deletes = |change: &Change| {
        seen.unseen().contains(&change.hash()) && change.value(key::DELETED_AT).is_some()
    };
    if document.changes().iter().any(deletes) {
        return Edits { base: Some(seen.base()), ..Edits::plain(document, written) };
    }
    let mut edits = Edits::default();
    let mut beside = Vec::new();
    for column in written {
        // Its version may be one the app gave the row before anybody looked, with an older text put
        // back by a panel.
        let put_back = Unread::of(document, &column.name, arrivals.admitted, arrivals.since, own)
            .filter(|unread| column.is_text() && unread.showed(&column.value));
        let lacks = seen.lacks(document, &column.name);
        if lacks {
            edits.unread.extend(seen.unseen());
        }
        let read = seen.value(&column.name);
        match put_back {
            Some(unread) => {
                beside.push((column.clone(), [vec![read], unread.showed.clone()].concat()));
                edits.put_beside(column, &unread);
            }
            None if lacks => {
                beside.push((column.clone(), vec![read]));
                edits.put_beside(column, &Unread::default());
            }
            None => edits.put(document, column),
        }
    }
    for (column, read) in beside {
        edits.note_hidden(document, &column, &read);
    }
    edits
}

fn of_panel(
    document: &Document,
    arrivals: Arrivals<'_>,
    written: Vec<Written>,
    own: &dyn Fn(&Change) -> bool,
) -> Edits {
    let since = arrivals.since;
    let unread = |name: &str, since: i64| Unread::of(document, name, arrivals.admitted, since, own);
    let found: Vec<(Written, Option<Unread>)> = written
        .into_iter()
        .map(|column| {
            let unread = unread(&column.name, if column.hid_arrivals { i64::MIN } else { since });
            (column, unread)
        })
        .collect();
    let restores = found.iter().any(|(column, unread)| {
        column.is_text() && unread.as_ref().is_some_and(|unread| unread.showed(&column.value))
    });
    let untouched = || {
        let names = document
            .registers()
            .map(|(name, _)| name)
            .filter(|name| !key::is_bookkeeping(name) && !is_kept_by_app(name));
        names
            .filter(|name| !found.iter().any(|(column, _)| column.name == *name))
            .any(|name| unread(name, since).is_some())
    };
    // Several fields back to what they showed before, or one of them and another written anew, and
    // nothing left that came since: a panel that was open all the while. Nobody types an old text
    // back to the letter in passing; a number may be the same by chance.
    let is_panel = restores && found.len() > 1 && !untouched();
    let mut edits = Edits::default();
    let mut beside = Vec::new();
    for (column, unread) in found {
        let Some(unread) = unread else {
            edits.put(document, column);
            continue;
        };
        let restored = unread.showed(&column.value);
        if restored && is_panel {
            continue;
        }
        let is_text = column.is_text();
        if says_the_same(&column.value, &column.document) {
            // Nothing is at stake, but what stands beside it in a conflict must go on standing.
            if document.register(&column.name).is_none_or(|register| register.visible().len() < 2) {
                edits.put(document, column);
            } else {
                edits.unread.extend(&unread.standing);
                edits.beside.insert(column.name, column.value);
            }
            continue;
        }
        // Prose tells by itself whether its author had read what stands there, a panel open or not.
        let unseen = match is_prose(document, &column.name) && !restored {
            true => !has_read(&column, &unread),
            false => is_panel || (is_text && restored),
        };
        if unseen || column.hid_arrivals {
            edits.put_beside(column.clone(), &unread);
            beside.push((column, unread.showed));
            continue;
        }
        edits.note_replaced(document, &column, &unread.standing);
        edits.put(document, column);
    }
    for (column, read) in beside {
        edits.note_hidden(document, &column, &read);
    }
    edits
}

/// Whether a text of prose shows that its author had read what stands there.
fn has_read(column: &Written, unread: &Unread) -> bool {
    let (Some(text), Some(standing)) = (column.value.as_text(), column.document.as_text()) else {
        return true;
    };
    unread
        .showed
        .iter()
        .all(|earlier| keeps_changes(earlier.as_text().unwrap_or_default(), standing, text))
}
