//! The hashes of all changes of a log, by which two logs are compared.

use negentropy::{Id, NegentropyStorageVector};
use rusqlite::Connection;

use crate::error::TransactionError;
use crate::store::log::{self, Position};

/// The names of all changes of a log as it once was, in the order in which they are compared.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) storage: NegentropyStorageVector,
    pub(crate) end: Position,
}

impl Names {
    pub(crate) fn read(connection: &Connection) -> Result<Self, TransactionError> {
        let names = log::names(connection)?;
        let mut storage = NegentropyStorageVector::with_capacity(names.len());
        for (time, hash) in names {
            // Only a sealed storage refuses more.
            drop(storage.insert(time, Id::from_byte_array(hash.0)));
        }
        drop(storage.seal());
        Ok(Self { storage, end: log::end(connection)? })
    }
}
