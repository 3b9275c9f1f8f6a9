//! The first change of a row, and the names rows get: functions of content alone, so that two
//! devices that start from the same row write the same bytes and have nothing to merge.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use uuid::Uuid;

use crate::draft::{Draft, genesis_actor};
use crate::value::write_length_prefixed;
use crate::{Change, EntityId, Op, SyncUuid, TableName, Value};

/// UUIDv5 namespace of the rows storysync names (RFC 9562 §5.5): v5 of the DNS namespace and
/// `storysync.row`.
const ROW_NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_2a54_9d1b_5c87_8f4e_31d0_b7a2_96e5);

/// The change that creates a row which existed before any device could have written it: the same
/// entity and values give the same bytes and hash everywhere, at any time.
///
/// The actor is a hash of the entity and its values: were it a function of the uuid alone, two
/// devices whose rows differ could never merge (automerge refuses a second change with the same
/// actor and sequence number).
#[must_use]
pub fn genesis(entity: &EntityId, puts: BTreeMap<String, Value>) -> Change {
    Draft {
        actor: genesis_actor(entity, puts.iter().map(|(key, value)| (key.as_str(), value))),
        seq: 1,
        start_op: NonZeroU64::MIN,
        unix_seconds: 0,
        message: None,
        deps: Vec::new(),
        ops: puts
            .into_iter()
            .map(|(key, value)| Op { key: key.into(), value, predecessors: Vec::new() })
            .collect(),
    }
    .encode()
}

/// The uuid of a row that has none: UUIDv5 over its table, local id and own columns as stored, so
/// that two copies of one file, migrated apart, name it alike. `columns` are in the table's order
/// and hold no sync columns; references are the local ids they hold.
#[must_use]
pub fn derived_uuid<'a>(
    table: &TableName,
    local_id: i64,
    columns: impl Iterator<Item = (&'a str, &'a Value)>,
) -> SyncUuid {
    let mut content = b"row\0".to_vec();
    write_length_prefixed(table.as_str().as_bytes(), &mut content);
    content.extend_from_slice(&local_id.to_be_bytes());
    write_columns(columns, &mut content);
    uuid_of(&content)
}

/// The uuid of a row whose primary key is no local integer but travels (text, several columns):
/// UUIDv5 over the table and the key as documents hold it, so that the same key is the same row on
/// every device.
#[must_use]
pub fn key_uuid<'a>(
    table: &TableName,
    key: impl Iterator<Item = (&'a str, &'a Value)>,
) -> SyncUuid {
    let mut content = b"key\0".to_vec();
    write_length_prefixed(table.as_str().as_bytes(), &mut content);
    write_columns(key, &mut content);
    uuid_of(&content)
}

fn write_columns<'a>(columns: impl Iterator<Item = (&'a str, &'a Value)>, content: &mut Vec<u8>) {
    for (name, value) in columns {
        write_length_prefixed(name.as_bytes(), content);
        value.write_canonical(content);
    }
}

fn uuid_of(content: &[u8]) -> SyncUuid {
    SyncUuid::from_uuid(Uuid::new_v5(&ROW_NAMESPACE, content))
}
