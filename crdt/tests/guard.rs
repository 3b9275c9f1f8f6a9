//! Changes nobody honest writes, built byte by byte: each is refused before it costs anything, and
//! the document it was meant for stays as it was, and writable.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::io::Write as _;

use sha2::{Digest as _, Sha256};
use storysync_crdt::{
    ACTOR_BYTES_MAX, Actor, ApplyError, CHANGE_BYTES_MAX, Change, DecodeError, Document,
    EditPurpose, EntityId, FIRST_VERSION_MAX, PREDECESSORS_PER_CHANGE_MAX, PUTS_PER_CHANGE_MAX,
    SyncUuid, TableName, VERSION_MAX, Value, genesis, key, row, save,
};

const CHANGE: u8 = 1;
const DEFLATED_CHANGE: u8 = 2;
const BUNDLE: u8 = 3;

/// Columns of a change's operations, by their specification.
mod column {
    pub(super) const KEY_STRING: u64 = 0x15;
    pub(super) const INSERT: u64 = 0x34;
    pub(super) const ACTION: u64 = 0x42;
    pub(super) const VALUE_METADATA: u64 = 0x56;
    pub(super) const PREDECESSOR_COUNT: u64 = 0x70;
    pub(super) const PREDECESSOR_ACTOR: u64 = 0x71;
    pub(super) const PREDECESSOR_COUNTER: u64 = 0x73;
}

fn unsigned(value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    leb128::write::unsigned(&mut bytes, value).unwrap();
    bytes
}

fn signed(value: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    leb128::write::signed(&mut bytes, value).unwrap();
    bytes
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    [unsigned(bytes.len() as u64), bytes.to_vec()].concat()
}

/// A chunk with a right checksum: SHA-256 over its type, length and body, the first four bytes.
fn chunk(kind: u8, body: &[u8]) -> Vec<u8> {
    let hashed = [vec![kind], prefixed(body)].concat();
    let digest = Sha256::digest(&hashed);
    [&[0x85, 0x6f, 0x4a, 0x83], digest.get(..4).unwrap(), &hashed].concat()
}

/// A change without dependencies.
struct Forged {
    actor: Vec<u8>,
    start_op: u64,
    message: Vec<u8>,
    columns: Vec<(u64, Vec<u8>)>,
}

impl Forged {
    fn new(columns: Vec<(u64, Vec<u8>)>) -> Self {
        Self { actor: vec![7; 16], start_op: 1, message: Vec::new(), columns }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut body = unsigned(0);
        body.extend(prefixed(&self.actor));
        body.extend([unsigned(1), unsigned(self.start_op), signed(0)].concat());
        body.extend(prefixed(&self.message));
        body.extend(unsigned(0));
        body.extend(unsigned(self.columns.len() as u64));
        for (specification, data) in &self.columns {
            body.extend([unsigned(*specification), unsigned(data.len() as u64)].concat());
        }
        for (_, data) in &self.columns {
            body.extend(data);
        }
        chunk(CHANGE, &body)
    }
}

/// `count` puts of null under one key each claims to be: a few bytes whatever the count.
fn claiming(count: i64, predecessors: u64) -> Vec<(u64, Vec<u8>)> {
    // One value alone is a literal in the canonical encoding, no run.
    let run = |value: &[u8]| [signed(if count == 1 { -1 } else { count }), value.to_vec()].concat();
    vec![
        (column::KEY_STRING, run(&prefixed(b"title"))),
        (column::INSERT, unsigned(count.unsigned_abs())),
        (column::ACTION, run(&unsigned(1))),
        (column::VALUE_METADATA, run(&unsigned(0))),
        (column::PREDECESSOR_COUNT, run(&unsigned(predecessors))),
    ]
}

fn live() -> Document {
    let entity = EntityId {
        table: TableName::parse("actor").unwrap(),
        uuid: SyncUuid::parse("0f3b").unwrap(),
    };
    let mut document = Document::new();
    document.apply(genesis(&entity, puts("title", "Captain"))).unwrap();
    document
}

fn puts(name: &str, text: &str) -> BTreeMap<String, Value> {
    BTreeMap::from([(name.to_owned(), Value::from(text))])
}

fn me() -> Actor {
    Actor::of_device(&[1; 32], [2; 8])
}

/// The document shows what it showed, and the person at this device can go on writing.
fn assert_alive(document: &mut Document) {
    assert_eq!(row(document).fields.get("title"), Some(&Value::from("Captain")));
    let edit = document.edit(puts("title", "Admiral"), EditPurpose::Edit, None, &me(), 0).unwrap();
    assert!(Change::decode_received(edit.bytes()).is_ok(), "others take what is written on top");
    document.apply(edit).unwrap();
    assert!(save(document).is_ok(), "and automerge opens it");
}

#[test]
fn an_op_bomb_is_refused_by_what_it_claims() {
    for count in
        [i64::try_from(PUTS_PER_CHANGE_MAX).unwrap() + 1, 10_000_000, 100_000_000, i64::MAX]
    {
        let bomb = Forged::new(claiming(count, 0)).bytes();
        assert!(bomb.len() < 128, "{} bytes", bomb.len());
        assert!(
            matches!(Change::decode(&bomb), Err(DecodeError::Shape("it has too many operations"))),
            "{count}"
        );
    }
    // The same claimed by nulls, by literals that are not there, or by one column alone.
    let nulls = vec![(column::ACTION, [signed(0), unsigned(u64::MAX)].concat())];
    assert!(matches!(Change::decode(&Forged::new(nulls).bytes()), Err(DecodeError::Shape(_))));
    let literals = vec![(column::ACTION, signed(i64::MIN))];
    assert!(matches!(Change::decode(&Forged::new(literals).bytes()), Err(DecodeError::Shape(_))));
    let booleans = vec![(column::INSERT, unsigned(u64::MAX))];
    assert!(matches!(Change::decode(&Forged::new(booleans).bytes()), Err(DecodeError::Shape(_))));
    // A harmless one built the same way is read: it is the claim that is refused.
    assert!(Change::decode(&Forged::new(claiming(1, 0)).bytes()).is_ok());
}

#[test]
fn a_bomb_of_predecessors_is_refused_by_what_it_claims() {
    let most = PREDECESSORS_PER_CHANGE_MAX as u64;
    for predecessors in [most + 1, 100_000_000, u64::MAX] {
        let bomb = Forged::new(claiming(1, predecessors)).bytes();
        assert!(
            matches!(Change::decode(&bomb), Err(DecodeError::Shape("it replaces too many values"))),
            "{predecessors}"
        );
    }
    // Honest ones cost a byte each: a few bytes can't name thousands.
    for (puts, predecessors) in [(1, 200), (2_000, 8), (1, most)] {
        let bomb = Forged::new(claiming(puts, predecessors)).bytes();
        assert!(
            matches!(Change::decode(&bomb), Err(DecodeError::Shape("it replaces too many values"))),
            "{puts} {predecessors}"
        );
    }
    let mut columns = claiming(1, 1);
    columns.push((column::PREDECESSOR_ACTOR, [signed(100_000_000), unsigned(0)].concat()));
    columns.push((column::PREDECESSOR_COUNTER, [signed(100_000_000), signed(0)].concat()));
    assert!(matches!(Change::decode(&Forged::new(columns).bytes()), Err(DecodeError::Shape(_))));
}

#[test]
fn a_deflate_bomb_and_a_bundle_are_refused_by_their_kind() {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..64 {
        encoder.write_all(&vec![0; 1024 * 1024]).unwrap();
    }
    let bomb = chunk(DEFLATED_CHANGE, &encoder.finish().unwrap());
    assert!(bomb.len() < 128 * 1024);
    assert!(matches!(Change::decode(&bomb), Err(DecodeError::NotAChange)));
    for kind in [0, BUNDLE, 4, 255] {
        assert!(
            matches!(Change::decode(&chunk(kind, &[1; 300])), Err(DecodeError::NotAChange)),
            "{kind}"
        );
    }
    // A deflated column inside a plain change.
    let deflated = Forged::new(vec![(column::ACTION | 0x08, vec![1, 2, 3])]).bytes();
    assert!(matches!(Change::decode(&deflated), Err(DecodeError::Shape(_))));
}

#[test]
fn a_start_op_that_would_poison_the_document_is_refused() {
    let mut document = live();
    let forged = |start_op| Forged { start_op, ..Forged::new(claiming(1, 0)) }.bytes();
    for start_op in [u64::from(u32::MAX) - 1, 1 << 31, 1 << 21] {
        // Well formed, but it does not follow from what it builds on: from nothing.
        let change = Change::decode_received(&forged(start_op)).unwrap();
        assert_eq!(document.apply(change), Err(ApplyError::Counters), "{start_op}");
    }
    for start_op in [0, u64::from(u32::MAX), u64::from(u32::MAX) + 1, u64::MAX] {
        assert!(Change::decode_received(&forged(start_op)).is_err(), "{start_op}");
    }
    assert_alive(&mut document);
}

#[test]
fn counters_can_not_be_driven_to_their_end_by_leaps() {
    // Each leap builds on the last one, as far as it may. What is allowed shrinks long before
    // automerge's 32 bits end.
    let mut document = live();
    let mut leaps = 0;
    let mut highest = 1_u64;
    while leaps < 5_000 {
        let gap = if highest < 1 << 30 { 1 << 20 } else { 1 };
        let edit = document.edit(puts("note", "x"), EditPurpose::Edit, None, &me(), 0).unwrap();
        assert_eq!(
            document.apply(leap(&edit, highest + gap + 1).unwrap()),
            Err(ApplyError::Counters)
        );
        document.apply(leap(&edit, highest + gap).unwrap()).unwrap();
        highest += gap;
        leaps += 1;
    }
    assert!(
        highest < (1 << 30) + (1 << 20) + 5_000,
        "five thousand changes can not use up half of it: {highest}"
    );
    assert_alive(&mut document);
}

/// The same change with another first counter.
fn leap(change: &Change, start_op: u64) -> Result<Change, DecodeError> {
    let mut expanded = automerge::Change::try_from(change.bytes()).unwrap().decode();
    expanded.start_op = std::num::NonZeroU64::new(start_op).unwrap();
    Change::decode_received(automerge::Change::from(expanded).raw_bytes())
}

#[test]
fn two_changes_under_one_name_do_not_both_get_in() {
    let mut document = live();
    let one = document.edit(puts("note", "one"), EditPurpose::Edit, None, &me(), 0).unwrap();
    let other = document.edit(puts("note", "other"), EditPurpose::Edit, None, &me(), 0).unwrap();
    document.apply(one.clone()).unwrap();
    assert_eq!(document.apply(other), Err(ApplyError::Equivocation));
    assert_eq!(document.apply(one), Ok(false));
    let mut document = live();
    assert_alive(&mut document);
}

#[test]
fn what_no_row_can_hold_is_refused_by_name() {
    let refused = |change: Forged, words: &str| match Change::decode_received(&change.bytes()) {
        Err(DecodeError::Shape(reason)) => assert!(reason.contains(words), "{reason}"),
        other => panic!("{words}: {other:?}"),
    };
    let put = || claiming(1, 0);
    refused(Forged { actor: vec![1; ACTOR_BYTES_MAX + 1], ..Forged::new(put()) }, "actor");
    refused(Forged { message: vec![b'x'; 2_000], ..Forged::new(put()) }, "message");
    refused(Forged::new(claiming(2, 0)), "one key twice");
    let mut long_key = put();
    long_key[0].1 = [signed(1), prefixed(&[b'k'; 300])].concat();
    refused(Forged::new(long_key), "key");
    let mut deletion = put();
    deletion[2].1 = [signed(1), unsigned(3)].concat();
    refused(Forged::new(deletion), "something other than putting");
    let mut list = put();
    list.insert(0, (0x02, [signed(1), unsigned(1)].concat()));
    refused(Forged::new(list), "below the root");
    assert!(matches!(
        Change::decode(&vec![0; CHANGE_BYTES_MAX + 1]),
        Err(DecodeError::TooLarge(_))
    ));
}

#[test]
fn a_version_beyond_all_counting_is_not_taken_from_others() {
    let put = |version: i64| BTreeMap::from([(key::VERSION.to_owned(), Value::from(version))]);
    let entity = EntityId {
        table: TableName::parse("actor").unwrap(),
        uuid: SyncUuid::parse("0f3b").unwrap(),
    };
    for (version, taken) in
        [(0, true), (VERSION_MAX, true), (VERSION_MAX + 1, false), (i64::MAX, false), (-1, false)]
    {
        let edit = live().edit(put(version), EditPurpose::Edit, None, &me(), 0).unwrap();
        assert_eq!(Change::decode_received(edit.bytes()).is_ok(), taken, "{version}");
    }
    // A first change sets where counting starts: what is written after it must still fit.
    for (version, taken) in [(FIRST_VERSION_MAX, true), (FIRST_VERSION_MAX + 1, false)] {
        assert_eq!(
            Change::decode_received(genesis(&entity, put(version)).bytes()).is_ok(),
            taken,
            "{version}"
        );
    }
}

/// A change automerge 0.12 panics on while reading; found by `fuzz`'s `hostile`.
const BREAKING: &str = "856f4a8347f7703a01d701025cbca16c061eb0ab38f8fa495c57430d58e65b7389255fc71779e396aa232bc07a8e528c7dd6b44d51ea874eff286540ec67d1b000d13db3d1a4def0\
    a1cc5dad2802020202020202020202020202020202020202020202020202020202020202020202020202020202020d020001280101010101010101010101010101010101010101010101010101\
    010101010101010101010101010108151434014202560457067004710473057d036167650a66697273745f6e616d65036e65770303017d1456007e47726163657f0202017f7f03007e0a000201";

#[test]
fn a_change_that_breaks_automerge_is_refused_and_harms_nobody() {
    let digits: Vec<u8> = BREAKING.bytes().filter(u8::is_ascii_hexdigit).collect();
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    assert!(matches!(Change::decode_received(&bytes), Err(DecodeError::Breaks)));
    assert_alive(&mut live());
}

/// Changes by many actors that know nothing of each other.
fn side_by_side(document: &mut Document, count: u64) -> u64 {
    let base = document.clone();
    let mut taken = 0;
    for n in 0..count {
        let actor = Actor::of_device(&[9; 32], n.to_be_bytes());
        let edit =
            base.edit(puts("title", &n.to_string()), EditPurpose::Edit, None, &actor, 0).unwrap();
        taken += u64::from(document.apply(edit) == Ok(true));
    }
    taken
}

#[test]
fn a_crowded_row_can_still_be_written_by_whoever_comes_next() {
    let mut document = live();
    assert_eq!(side_by_side(&mut document, 4_100), 512, "what stands side by side is bounded");
    let edit = document.edit(puts("title", "mine"), EditPurpose::Edit, None, &me(), 0).unwrap();
    assert!(Change::decode_received(edit.bytes()).is_ok(), "others take it");
    document.apply(edit).unwrap();
    assert_eq!(
        (document.heads().len(), row(&document).fields.get("title")),
        (1, Some(&Value::from("mine")))
    );
    assert!(save(&document).is_ok());
}

#[test]
fn whoever_writes_a_field_again_must_replace_what_it_wrote_there() {
    let mut document = live();
    let first = document.edit(puts("note", "one"), EditPurpose::Edit, None, &me(), 0).unwrap();
    document.apply(first).unwrap();
    let again = document.edit(puts("note", "two"), EditPurpose::Edit, None, &me(), 0).unwrap();
    let mut expanded = automerge::Change::try_from(again.bytes()).unwrap().decode();
    expanded.operations[0].pred = Vec::new().into();
    let forged = Change::decode_received(automerge::Change::from(expanded).raw_bytes()).unwrap();
    assert_eq!(
        document.apply(forged),
        Err(ApplyError::Predecessor),
        "a thousand of these would never go away"
    );
    assert_eq!(document.apply(again), Ok(true));
}

#[test]
fn a_first_change_belongs_to_one_row() {
    let entity = |uuid: &str| EntityId {
        table: TableName::parse("actor").unwrap(),
        uuid: SyncUuid::parse(uuid).unwrap(),
    };
    let old = genesis(&entity("a"), puts("title", "Captain"));
    assert!(
        old.starts(&entity("a")) && !old.starts(&entity("b")),
        "it follows from the row's name"
    );
    let named = BTreeMap::from([
        (key::ROW.to_owned(), Value::from("a")),
        ("title".to_owned(), Value::from("Captain")),
    ]);
    let new = Document::new().edit(named, EditPurpose::Edit, None, &me(), 0).unwrap();
    assert!(new.starts(&entity("a")) && !new.starts(&entity("b")), "it names the row");
    let nameless =
        Document::new().edit(puts("title", "Captain"), EditPurpose::Edit, None, &me(), 0).unwrap();
    assert!(!nameless.starts(&entity("a")));
}
