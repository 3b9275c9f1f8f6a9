//! Rules that are wrong on purpose: scripts that do not find them prove nothing.

use super::*;

/// Takes what the same desk wrote for something from elsewhere.
#[derive(Debug)]
pub struct OwnIsForeign;

impl Capture for OwnIsForeign {
    fn edits(
        document: &Document,
        version: Option<i64>,
        admitted: &[i64],
        written: Vec<Written>,
        _: &dyn Fn(&Change) -> bool,
    ) -> Edits {
        Real::edits(document, version, admitted, written, &|_| false)
    }
}

/// Takes a value that is back to what the form read for none.
#[derive(Debug)]
pub struct TakingBackIsNoEdit;

impl Capture for TakingBackIsNoEdit {
    fn edits(
        document: &Document,
        version: Option<i64>,
        admitted: &[i64],
        mut written: Vec<Written>,
        own: &dyn Fn(&Change) -> bool,
    ) -> Edits {
        if let Some(earlier) =
            version.and_then(|version| document.at(&document.heads_at_version(version)))
        {
            let read = row(&earlier).fields;
            written
                .retain(|column| read.get(&column.name).unwrap_or(&Value::Null) != &column.value);
        }
        Real::edits(document, version, admitted, written, own)
    }
}

/// Takes every form for one that had read everything.
#[derive(Debug)]
pub struct EveryFormIsNew;

impl Capture for EveryFormIsNew {
    fn edits(
        document: &Document,
        _: Option<i64>,
        _: &[i64],
        written: Vec<Written>,
        own: &dyn Fn(&Change) -> bool,
    ) -> Edits {
        edits(document, &Form::Everything, written, own)
    }
}

/// Takes what a panel writes for what a person typed.
#[derive(Debug)]
pub struct PanelsAreRead;

impl Capture for PanelsAreRead {
    fn edits(
        document: &Document,
        version: Option<i64>,
        admitted: &[i64],
        written: Vec<Written>,
        own: &dyn Fn(&Change) -> bool,
    ) -> Edits {
        if version.is_none() {
            return edits(document, &Form::Everything, written, own);
        }
        Real::edits(document, version, admitted, written, own)
    }
}

/// Lets texts give way and tells nobody.
#[derive(Debug)]
pub struct Untold;

impl Capture for Untold {
    fn edits(
        document: &Document,
        version: Option<i64>,
        admitted: &[i64],
        written: Vec<Written>,
        own: &dyn Fn(&Change) -> bool,
    ) -> Edits {
        Edits { replaced: Vec::new(), ..Real::edits(document, version, admitted, written, own) }
    }
}
