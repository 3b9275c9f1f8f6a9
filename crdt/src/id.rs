//! Names of things: tables, rows, changes, devices and actors. Parsed once, then trusted.

use std::sync::Arc;

use std::fmt;

/// Bytes of randomness (or of a branch hash) at the end of a device's actor id.
pub const ACTOR_RUN_BYTES: usize = 8;

/// Longest table name or `sync_uuid` admitted, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// The name of a content table, as the app spells it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName(Arc<str>);

impl TableName {
    /// Takes a table name; `None` when it is empty, over 128 bytes, or holds a control character.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        is_plain_name(name).then(|| Self(name.into()))
    }

    /// The name as the app spells it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The `sync_uuid` of a row: usually a UUID in text, but any short text the app chose is kept as
/// is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyncUuid(Arc<str>);

impl SyncUuid {
    /// Takes a row's `sync_uuid`; `None` when it is empty, over 128 bytes, holds a control
    /// character, or is the word that marks a reference to nowhere.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        (is_plain_name(text) && text != crate::NOWHERE).then(|| Self(text.into()))
    }

    /// The text as stored in the app's column.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_plain_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control)
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SyncUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One row of one table, the same on every device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId {
    /// The content table.
    pub table: TableName,
    /// The row's name that travels.
    pub uuid: SyncUuid,
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.table, self.uuid)
    }
}

/// SHA-256 of a change's chunk, as automerge defines it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChangeHash(pub [u8; 32]);

impl ChangeHash {
    /// A hash from its 32 bytes; `None` for any other length.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Lower-case hexadecimal, as automerge prints heads.
    #[must_use]
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for ChangeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

/// The Ed25519 public key that names a device.
pub type DeviceKey = [u8; 32];

/// An automerge actor id.
///
/// A device's actor is its Ed25519 public key followed by [`ACTOR_RUN_BYTES`] that are fresh for
/// each run of the process, so that whoever holds a change can say which device wrote it. A genesis
/// actor is a hash of content and names nobody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Actor(Arc<[u8]>);

impl Actor {
    /// Takes any bytes automerge accepts as an actor.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(Arc::from(bytes))
    }

    /// The actor of one run of one device. `run` must be fresh: reusing an actor and sequence
    /// number for other content splits replicas for ever.
    #[must_use]
    pub fn of_device(device: &DeviceKey, run: [u8; ACTOR_RUN_BYTES]) -> Self {
        let mut bytes = device.to_vec();
        bytes.extend_from_slice(&run);
        Self(Arc::from(bytes))
    }

    /// The device that owns this actor, or `None` for genesis actors and foreign ones.
    #[must_use]
    pub fn device(&self) -> Option<DeviceKey> {
        if self.0.len() != 32 + ACTOR_RUN_BYTES {
            return None;
        }
        self.0.get(..32)?.try_into().ok()
    }

    /// The raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl SyncUuid {
    /// Whether this may be a name derived from a row's content (UUIDv5, RFC 9562 §5.5), and not one
    /// somebody chose.
    #[must_use]
    pub fn is_derived(&self) -> bool {
        uuid::Uuid::try_parse(&self.0)
            .is_ok_and(|uuid| uuid.get_version() == Some(uuid::Version::Sha1))
    }

    pub(crate) fn from_uuid(uuid: uuid::Uuid) -> Self {
        Self(uuid.hyphenated().to_string().into())
    }
}
