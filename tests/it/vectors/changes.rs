//! `changes.json`: changes of entity documents as bytes, what a row shows after them, and chunks no
//! document takes.

use std::collections::BTreeMap;

use automerge::legacy::{Key as WireKey, ObjectId, Op as WireOp, OpType};
use automerge::transaction::Transactable as _;
use automerge::{ActorId, AutoCommit, ExpandedChange, ROOT, ScalarValue};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use storysync_crdt::{
    Actor, Change, Document, EditPurpose, EntityId, SyncUuid, TableName, Value, genesis, key, row,
};

use super::{Device, Hex, SENT_MS, altered, hold, stated};
use crate::primitives::hex;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ChangesVector {
    about: Vec<String>,
    device: Device,
    pub(super) changes: Vec<ChangeVector>,
    rows: Vec<RowVector>,
    must_fail: Vec<RefusedChange>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ChangeVector {
    name: String,
    about: String,
    entity_type: String,
    sync_uuid: String,
    actor: Hex,
    /// What the actor is the digest of, when it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    actor_preimage: Option<Hex>,
    seq: u64,
    start_op: u64,
    /// Seconds since 1970.
    time: i64,
    message: Option<String>,
    deps: Vec<Hex>,
    puts: Vec<PutVector>,
    hash: Hex,
    chunk: Hex,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct PutVector {
    key: String,
    value: serde_json::Value,
    /// The puts it replaces: counter, at sign, actor.
    replaces: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct RowVector {
    /// After these changes, in any order in which they can be applied.
    after: Vec<String>,
    fields: BTreeMap<String, serde_json::Value>,
    created_at: serde_json::Value,
    updated_at: serde_json::Value,
    version: i64,
    deleted: Option<String>,
    heads: Vec<Hex>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct RefusedChange {
    why: String,
    chunk: Hex,
}

fn vector_of(
    name: &str,
    about: &str,
    entity: &EntityId,
    change: &Change,
    actor_preimage: Option<Vec<u8>>,
) -> ChangeVector {
    let puts = change.ops().iter().map(|op| PutVector {
        key: (*op.key).to_owned(),
        value: storysync_engine::translate::to_json(&op.value),
        replaces: op
            .predecessors
            .iter()
            .map(|put| format!("{}@{}", put.counter, hex(put.actor.as_bytes())))
            .collect(),
    });
    let decoded = automerge::Change::try_from(change.bytes()).unwrap();
    ChangeVector {
        name: name.to_owned(),
        about: about.to_owned(),
        entity_type: entity.table.as_str().to_owned(),
        sync_uuid: entity.uuid.as_str().to_owned(),
        actor: Hex(change.actor().as_bytes().to_vec()),
        actor_preimage: actor_preimage.map(Hex),
        seq: change.seq(),
        start_op: change.start_op(),
        time: decoded.timestamp(),
        message: change.message().map(str::to_owned),
        deps: change.deps().iter().map(|dep| Hex::from(&dep.0)).collect(),
        puts: puts.collect(),
        hash: Hex::from(&change.hash().0),
        chunk: Hex(change.bytes().to_vec()),
    }
}

/// What a genesis actor is the digest of, written out.
fn genesis_preimage(entity: &EntityId, puts: &BTreeMap<String, Value>) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_be_bytes()[..], text.as_bytes()].concat();
    let mut preimage = [
        b"storysync/1 genesis\0".as_slice(),
        &text(entity.table.as_str()),
        &text(entity.uuid.as_str()),
    ]
    .concat();
    for (name, value) in puts {
        preimage.extend(text(name));
        match value {
            Value::Null => preimage.push(0),
            Value::Integer(number) => preimage.extend([&[1][..], &number.to_be_bytes()].concat()),
            Value::Real(number) => {
                preimage.extend([&[2][..], &number.to_bits().to_be_bytes()].concat())
            }
            Value::Text(words) => preimage.extend([&[3][..], &text(words)].concat()),
            Value::Blob(bytes) => {
                preimage.extend([&[4][..], &(bytes.len() as u64).to_be_bytes(), bytes].concat())
            }
        }
    }
    preimage
}

fn puts(pairs: &[(&str, Value)]) -> BTreeMap<String, Value> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

fn row_vector(document: &Document, after: &[&str]) -> RowVector {
    let row = row(document);
    RowVector {
        after: after.iter().map(|name| (*name).to_owned()).collect(),
        fields: row
            .fields
            .iter()
            .map(|(name, value)| (name.clone(), storysync_engine::translate::to_json(value)))
            .collect(),
        created_at: storysync_engine::translate::to_json(&row.created_at),
        updated_at: storysync_engine::translate::to_json(&row.updated_at),
        version: row.version,
        deleted: row.deletion.map(|deletion| deletion.kind.as_str().to_owned()),
        heads: document.heads().iter().map(|head| Hex::from(&head.0)).collect(),
    }
}

pub(super) fn changes() -> ChangesVector {
    let device = Device::named("client");
    let other = Device::named("phone");
    let run = |name: &str| <[u8; 8]>::try_from(&stated(name)[..8]).unwrap();
    let actor = Actor::of_device(&device.identity_key.array(), run("run"));
    let elsewhere = Actor::of_device(&other.identity_key.array(), run("run elsewhere"));
    let entity = EntityId {
        table: TableName::parse("actor").unwrap(),
        uuid: SyncUuid::parse("6e3f6a52-7a0b-4c8e-9d53-0d5f3c1b2a10").unwrap(),
    };
    let written = EntityId {
        table: TableName::parse("faction").unwrap(),
        uuid: SyncUuid::parse("0b8f4f2e-52fb-4d0a-8a3e-7d3a5b9c1e77").unwrap(),
    };
    let at = i64::try_from(SENT_MS).unwrap();
    let mut found = Vec::new();
    let mut rows = Vec::new();

    let first = puts(&[
        ("first_name", Value::from("Ada")),
        ("actor_age", Value::Integer(36)),
        ("height", Value::Real(1.75)),
        ("portrait", Value::Blob(vec![0x89, 0x50, 0x4e, 0x47])),
        ("setting_id", Value::from("4f3c8c1e-1d5f-4b58-9d2b-3c0f6f3f9a01")),
        ("home_id", Value::from("nowhere")),
        (key::CREATED_AT, Value::from("2025-01-02 10:00:00")),
        (key::UPDATED_AT, Value::from("2025-02-03 10:00:00.123456")),
        (key::DELETED_AT, Value::Null),
        (key::VERSION, Value::Integer(3)),
    ]);
    let preimage = genesis_preimage(&entity, &first);
    let existed = genesis(&entity, first);
    assert_eq!(existed.actor().as_bytes(), &Sha256::digest(&preimage)[..16]);
    let about = "A row that was there before storysync: the same table, uuid and values give these \
        bytes on every device. The actor is the first \
                 16 bytes of the SHA-256 of actor_preimage. setting_id refers to a row by its \
                 uuid, home_id to a row that exists nowhere.";
    found.push(vector_of("existed", about, &entity, &existed, Some(preimage)));
    let mut document = Document::new();
    document.apply(existed).unwrap();
    rows.push(row_vector(&document, &["existed"]));

    let edit =
        |document: &Document, actor: &Actor, purpose: EditPurpose, pairs: &[(&str, Value)]| {
            document.edit(puts(pairs), purpose, None, actor, at).unwrap()
        };
    let times = |text: &str, version: i64| {
        [(key::UPDATED_AT, Value::from(text)), (key::VERSION, Value::Integer(version))]
    };
    let [when, version] = times("2026-11-22 08:25:57.000000", 4);
    let edited = edit(
        &document,
        &actor,
        EditPurpose::Edit,
        &[("first_name", Value::from("Æsa 🦊")), when, version],
    );
    let [when, version] = times("2026-11-22 08:26:00.000000", 4);
    let meanwhile = edit(
        &document,
        &elsewhere,
        EditPurpose::Edit,
        &[("actor_age", Value::Integer(41)), when, version],
    );
    found.push(vector_of(
        "edited",
        "A device writes one field. Its actor is its Ed25519 key and eight random bytes.",
        &entity,
        &edited,
        None,
    ));
    found.push(vector_of(
        "edited elsewhere",
        "Another device writes another field of the same row, without knowing of the first edit.",
        &entity,
        &meanwhile,
        None,
    ));
    document.apply(edited).unwrap();
    document.apply(meanwhile).unwrap();
    rows.push(row_vector(&document, &["existed", "edited", "edited elsewhere"]));

    let [when, version] = times("2026-11-22 08:27:00.000000", 6);
    let marked = [
        (key::DELETED_AT, Value::from("2026-11-22 08:27:00.000000")),
        (key::DELETE_KIND, Value::from("soft")),
        when,
        version,
    ];
    let deleted = edit(&document, &actor, EditPurpose::Edit, &marked);
    found.push(vector_of(
        "marked as deleted",
        "The app set deleted_at. The delete builds on both edits.",
        &entity,
        &deleted,
        None,
    ));
    document.apply(deleted).unwrap();
    rows.push(row_vector(
        &document,
        &["existed", "edited", "edited elsewhere", "marked as deleted"],
    ));

    let [when, version] = times("2026-11-22 08:28:00.000000", 7);
    let restored = edit(
        &document,
        &actor,
        EditPurpose::Edit,
        &[(key::DELETED_AT, Value::Null), when, version],
    );
    found.push(vector_of(
        "brought back",
        "deleted_at is put back to null.",
        &entity,
        &restored,
        None,
    ));
    document.apply(restored).unwrap();
    let [when, version] = times("2026-11-22 08:29:00.000000", 8);
    let removal = [
        (key::DELETED_AT, Value::from("2026-11-22 08:29:00.000000")),
        (key::DELETE_KIND, Value::from("hard")),
        (key::LEFT_BEHIND, Value::from("faction/0b8f4f2e-52fb-4d0a-8a3e-7d3a5b9c1e77")),
        when,
        version,
    ];
    let removed = edit(&document, &actor, EditPurpose::Edit, &removal);
    found.push(vector_of(
        "removed",
        "The app removed the row; a row that still refers to it is named in $left.",
        &entity,
        &removed,
        None,
    ));
    document.apply(removed).unwrap();
    rows.push(row_vector(
        &document,
        &["existed", "edited", "edited elsewhere", "marked as deleted", "brought back", "removed"],
    ));

    let born = puts(&[
        ("name", Value::from("Harbour guild")),
        ("description", Value::from("They own the quays.\nNobody says so.")),
        (key::PROSE, Value::from("description")),
        (key::ROW, Value::from(written.uuid.as_str())),
        (key::CREATED_AT, Value::from("2026-11-22 08:25:57.000000")),
        (key::UPDATED_AT, Value::from("2026-11-22 08:25:57.000000")),
        (key::DELETED_AT, Value::Null),
        (key::VERSION, Value::Integer(1)),
    ]);
    let mut document = Document::new();
    let created = document.edit(born, EditPurpose::Edit, None, &actor, at).unwrap();
    found.push(vector_of(
        "created",
        "A row somebody wrote: a device's actor, no dependencies, and the row's uuid under $row.",
        &written,
        &created,
        None,
    ));
    document.apply(created).unwrap();
    let filled = edit(&document, &actor, EditPurpose::NewColumns, &[("motto", Value::from(""))]);
    found.push(vector_of(
        "filled",
        "The app gained a column and filled it: the message says so.",
        &written,
        &filled,
        None,
    ));
    document.apply(filled).unwrap();
    let rewritten =
        edit(&document, &actor, EditPurpose::Rewrite, &[(key::VERSION, Value::Integer(3))]);
    found.push(vector_of(
        "rewritten",
        "The app wrote the row once more and nobody saw the state between: only the version moves.",
        &written,
        &rewritten,
        None,
    ));
    document.apply(rewritten).unwrap();
    rows.push(row_vector(&document, &["created", "filled", "rewritten"]));

    let about = [
        "Changes of entity documents as automerge encodes them: hexadecimal chunks (type 1), with \
            what they say.",
        "Values are JSON; {\"$base64\"} stands for bytes. A put is named by its counter (start_op \
            and its place) and its actor.",
        "rows: what a row shows after the named changes. must_fail: chunks no entity document \
            takes.",
    ];
    ChangesVector {
        about: about.map(str::to_owned).to_vec(),
        device,
        changes: found,
        rows,
        must_fail: refused_changes(&actor),
    }
}

/// Chunks that automerge itself writes, or nearly, and that no entity document may hold.
fn refused_changes(actor: &Actor) -> Vec<RefusedChange> {
    let op = |action: OpType, key: &str| WireOp {
        action,
        obj: ObjectId::Root,
        key: WireKey::Map(key.into()),
        pred: [].into_iter().collect(),
        insert: false,
    };
    let change = |operations: Vec<WireOp>, extra_bytes: Vec<u8>| {
        automerge::Change::from(ExpandedChange {
            operations,
            actor_id: ActorId::from(actor.as_bytes()),
            hash: None,
            seq: 1,
            start_op: std::num::NonZeroU64::MIN,
            time: 0,
            message: None,
            deps: Vec::new(),
            extra_bytes,
            author: None,
        })
    };
    let put = |value: ScalarValue| op(OpType::Put(value), "name");
    let plain = change(vec![put("x".into())], Vec::new()).raw_bytes().to_vec();
    let mut compressed = change(vec![put("x".repeat(1_000).as_str().into())], Vec::new());
    let mut document = AutoCommit::new().with_actor(ActorId::from(actor.as_bytes()));
    document.put(ROOT, "name", "x").unwrap();
    let cases: [(&str, Vec<u8>); 14] = [
        ("a compressed change (chunk type 2)", compressed.bytes().into_owned()),
        ("a whole document (chunk type 0)", document.save()),
        ("the checksum is wrong", altered(&plain, |bytes| bytes[4] ^= 1)),
        ("the magic is wrong", altered(&plain, |bytes| bytes[0] ^= 1)),
        ("the last byte is missing", plain[..plain.len() - 1].to_vec()),
        ("a byte follows", altered(&plain, |bytes| bytes.push(0))),
        ("there is nothing", Vec::new()),
        ("a counter", change(vec![put(ScalarValue::counter(1))], Vec::new()).raw_bytes().to_vec()),
        (
            "a map below the root",
            change(vec![op(OpType::Make(automerge::ObjType::Map), "name")], Vec::new())
                .raw_bytes()
                .to_vec(),
        ),
        (
            "a key is deleted",
            change(vec![op(OpType::Delete, "name")], Vec::new()).raw_bytes().to_vec(),
        ),
        (
            "an unsigned number no column holds",
            change(vec![put(ScalarValue::Uint(u64::MAX))], Vec::new()).raw_bytes().to_vec(),
        ),
        (
            "a key of 257 bytes",
            change(vec![op(OpType::Put("x".into()), &"k".repeat(257))], Vec::new())
                .raw_bytes()
                .to_vec(),
        ),
        (
            "an empty key",
            change(vec![op(OpType::Put("x".into()), "")], Vec::new()).raw_bytes().to_vec(),
        ),
        (
            "extra bytes at the end of the change",
            change(vec![put("x".into())], vec![1, 2, 3]).raw_bytes().to_vec(),
        ),
    ];
    assert!(Change::decode(&plain).is_ok());
    cases
        .into_iter()
        .map(|(why, chunk)| RefusedChange { why: why.to_owned(), chunk: Hex(chunk) })
        .collect()
}

#[test]
fn changes_are_written_and_read_as_the_vectors_say() {
    let file = hold("changes.json", &changes());
    for vector in &file.changes {
        let change = Change::decode(&vector.chunk.0).unwrap();
        let entity = EntityId {
            table: TableName::parse(&vector.entity_type).unwrap(),
            uuid: SyncUuid::parse(&vector.sync_uuid).unwrap(),
        };
        let preimage = vector.actor_preimage.as_ref().map(|preimage| preimage.0.clone());
        assert_eq!(vector_of(&vector.name, &vector.about, &entity, &change, preimage), *vector);
        // The hash is SHA-256 over type, length and content, of which the checksum is the
        // beginning.
        assert_eq!(Sha256::digest(&vector.chunk.0[8..]).to_vec(), vector.hash.0);
        assert_eq!(vector.chunk.0[4..8], vector.hash.0[..4]);
    }
    for shown in &file.rows {
        let mut document = Document::new();
        for name in &shown.after {
            let vector = file.changes.iter().find(|vector| vector.name == *name).unwrap();
            assert!(document.apply(Change::decode(&vector.chunk.0).unwrap()).unwrap());
        }
        let after: Vec<&str> = shown.after.iter().map(String::as_str).collect();
        assert_eq!(row_vector(&document, &after), *shown);
    }
    for case in &file.must_fail {
        assert!(Change::decode(&case.chunk.0).is_err(), "taken although {}", case.why);
    }
    println!(
        "changes: read {}, {} rows, refused {}",
        file.changes.len(),
        file.rows.len(),
        file.must_fail.len()
    );
}
