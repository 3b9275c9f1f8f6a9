//! Which changes are meant by a device and a time: by when they came here and who brought them,
//! beside what their authors claim.
//!
//! Owns what counts as the time of a change. Refuses to know how receipts are kept.

use std::collections::HashSet;

use crate::row::written_at;
use crate::{Change, ChangeHash, DeviceKey, Document, Stamp};

/// How a change came to this device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// When.
    pub at: Stamp,
    /// Who brought it; `None` when it was written here.
    pub by: Option<DeviceKey>,
    /// What tells when it was written.
    pub dated: Dated,
}

/// What tells when a change was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dated {
    /// Its author, who is this device.
    Here,
    /// Its author, as far as it came by then: what a device had when the two first met, years of
    /// it.
    FirstContact,
    /// When it came. Whatever its author claims, it changed nothing here before.
    ByReceipt,
}

impl Receipt {
    /// When a change counts as written: never later than it came.
    fn dates(&self, change: &Change) -> Stamp {
        match self.dated {
            Dated::ByReceipt => self.at,
            Dated::Here | Dated::FirstContact => {
                written_at(change).map_or(self.at, |claimed| claimed.min(self.at))
            }
        }
    }
}

/// Whose changes are meant, and from when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since {
    /// The device.
    pub device: DeviceKey,
    /// From this time on.
    pub since: Stamp,
    /// What of it.
    pub whose: Whose,
    /// What becomes of a first contact that claims to be older.
    pub first_contact: FirstContactIs,
}

/// Which of the changes a device has to do with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Those that name it as their author, and all it brought, whomever they name.
    WrittenOrBrought,
    /// Those alone that name it.
    Written,
}

/// What counts of a first contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstContactIs {
    /// What claims to be as late.
    AsClaimed,
    /// All that came by then.
    AsReceived,
}

impl Since {
    /// Everything a device wrote or brought from a time on.
    #[must_use]
    pub fn of(device: DeviceKey, since: Stamp) -> Self {
        Self {
            device,
            since,
            whose: Whose::WrittenOrBrought,
            first_contact: FirstContactIs::AsClaimed,
        }
    }
}

/// Which changes are meant by a device and a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meant {
    /// Those.
    pub changes: HashSet<ChangeHash>,
    /// How many came at a first contact since, and claim to be older: they are not among them.
    pub left: usize,
}

/// The changes of a document that are meant; `receipts` tells of each of them, in their order, how
/// it came.
#[must_use]
pub fn meant(document: &Document, receipts: &[Receipt], which: &Since) -> Meant {
    let mut meant = Meant::default();
    for (change, receipt) in document.changes().iter().zip(receipts) {
        let author = change.actor().device();
        if change.is_genesis() && author.is_none() {
            continue;
        }
        let is_theirs = author == Some(which.device)
            || which.whose == Whose::WrittenOrBrought && receipt.by == Some(which.device);
        if !is_theirs || receipt.at < which.since {
            continue;
        }
        let is_received = which.first_contact == FirstContactIs::AsReceived
            && receipt.dated == Dated::FirstContact;
        if is_received || receipt.dates(change) >= which.since {
            meant.changes.insert(change.hash());
        } else if receipt.dated == Dated::FirstContact {
            meant.left += 1;
        }
    }
    meant
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{Actor, EditPurpose, Value, key};

    /// One row that device 2 wrote once, with such a claim; how it came, and whether it is meant
    /// when it is asked for from the second 1,000 on.
    fn is_meant(claim: &str, received_s: i64, dated: Dated, which: impl Fn(&mut Since)) -> bool {
        let mut document = Document::new();
        let mut write = |device: u8, name: &str, claim: &str| {
            let puts = BTreeMap::from([
                ("name".to_owned(), Value::from(name)),
                (key::UPDATED_AT.to_owned(), Value::from(claim)),
            ]);
            let actor = Actor::of_device(&[device; 32], [1; 8]);
            let change = document.edit(puts, EditPurpose::Edit, None, &actor, 0)?;
            document.apply(change.clone()).ok()?;
            Some(change.hash())
        };
        write(1, "Ada", "1970-01-01 00:00:00");
        let hash = write(2, "Bea", claim);
        let here = Receipt { at: Stamp::from_unix_ms(0), by: None, dated: Dated::Here };
        let at = Stamp::from_unix_ms(received_s * 1_000);
        let receipts = [here, Receipt { at, by: Some([3; 32]), dated }];
        let mut since = Since::of([2; 32], Stamp::from_unix_ms(1_000_000));
        which(&mut since);
        hash.is_some_and(|hash| meant(&document, &receipts, &since).changes.contains(&hash))
    }

    #[test]
    fn no_claim_escapes_the_time_a_change_came() {
        let by_receipt =
            |claim: &str, received_s| is_meant(claim, received_s, Dated::ByReceipt, |_| {});
        for claim in ["1970-01-01 00:00:01", "2100-01-01 00:00:00", "yesterday", ""] {
            assert!(by_receipt(claim, 1_000), "{claim:?} came then");
            assert!(!by_receipt(claim, 999), "{claim:?} came before");
        }
    }

    #[test]
    fn a_first_contact_goes_by_claims_that_reach_no_later_than_it_came() {
        let at_first =
            |claim: &str, received_s| is_meant(claim, received_s, Dated::FirstContact, |_| {});
        assert!(!at_first("1970-01-01 00:10:00", 2_000), "written before");
        assert!(at_first("1970-01-01 00:20:00", 2_000));
        assert!(at_first("no time at all", 2_000), "what claims nothing came then");
        assert!(!at_first("2100-01-01 00:00:00", 999), "it came before");
        let all = |since: &mut Since| since.first_contact = FirstContactIs::AsReceived;
        assert!(is_meant("1970-01-01 00:10:00", 2_000, Dated::FirstContact, all));
    }

    #[test]
    fn what_a_device_brought_is_meant_whomever_it_names() {
        let bringer = |whose| {
            move |since: &mut Since| {
                since.device = [3; 32];
                since.whose = whose;
            }
        };
        let by = |whose| is_meant("", 1_000, Dated::ByReceipt, bringer(whose));
        assert!(by(Whose::WrittenOrBrought) && !by(Whose::Written));
    }
}
