//! What to do about an error, in the words of this command line. The engine's errors say facts;
//! which command or option helps is known here alone.

use crate::printable;
use storysync_engine::EngineError;
use storysync_engine::app::backup::BackupError;
use storysync_engine::store::trust::TrustError;
use storysync_engine::trust::pairing::OfferError;

/// A failure as one sentence: what happened, each cause after the other, and what to do.
#[must_use]
pub fn sentence(error: &anyhow::Error) -> String {
    let facts = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let advice = error.chain().find_map(|cause| {
        if let Some(error) = cause.downcast_ref() {
            of_engine(error)
        } else if let Some(TrustError::LastOwner(_)) = cause.downcast_ref() {
            Some("make another one with `storysync devices owner NAME`, or this one with `this`")
        } else if let Some(TrustError::NoSuchDevice(_)) = cause.downcast_ref() {
            Some("`storysync devices` lists them")
        } else if let Some(OfferError::NotAnOffer) = cause.downcast_ref() {
            Some("show a new one with `storysync pair show` and copy all of it")
        } else {
            None
        }
    });
    printable(&with_advice(facts, advice)).into_owned()
}

/// The same for a failure of the engine that is no failure of the command.
pub(super) fn engine_sentence(error: &EngineError) -> String {
    with_advice(error.to_string(), of_engine(error))
}

fn with_advice(facts: String, advice: Option<&str>) -> String {
    match advice {
        Some(advice) => format!("{facts}; {advice}"),
        None => facts,
    }
}

fn of_engine(error: &EngineError) -> Option<&'static str> {
    Some(match error {
        EngineError::NoSuchFile(_) => {
            "give the right path with --db, or create one with `storysync init`"
        }
        EngineError::Exists(_) => {
            "`storysync init` only makes new files, `storysync migrate` prepares existing ones"
        }
        EngineError::NotADatabase(_) => "give the path of the app's database with --db",
        EngineError::Refused(_) => {
            "name them under excluded_tables in the configuration to leave them out"
        }
        EngineError::NoSuchConflict(_) => "`storysync conflicts` lists them",
        EngineError::NoSuchHold(_) => "`storysync status` lists those that do",
        EngineError::NoSuchChange(_) => "`storysync history` lists its changes",
        EngineError::CantRename(_) => "give one with --field, or take delete",
        EngineError::StillOpen => "give values with --field, or change the rows in the app",
        EngineError::NotInConflict(_) => "`storysync conflicts` shows what is",
        EngineError::NotMigrated(_) => "run `storysync migrate`",
        EngineError::Log(_) => "run `storysync verify`, and restore a backup if it says so",
        EngineError::Backup(BackupError::NoRoom { .. }) => {
            "make room there, or choose another place with --data-dir"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_of_the_engine_is_followed_by_what_to_do_here() {
        let error = anyhow::Error::from(EngineError::NoSuchFile("/nowhere.db".into()));
        let told = sentence(&error.context("it could not be opened"));
        assert_eq!(
            told,
            "it could not be opened: there is no database at /nowhere.db; give the right path with \
             --db, or create one with `storysync init`"
        );
        let refused = sentence(&EngineError::Refused(Vec::new()).into());
        assert!(refused.contains("excluded_tables"), "{refused}");
        let renamed = sentence(&EngineError::CantRename("name".to_owned()).into());
        assert!(renamed.contains("--field"), "{renamed}");
        assert_eq!(sentence(&anyhow::anyhow!("no \u{1b}[2J way")), "no <U+001B>[2J way");
    }
}
