//! What strangers and hostile devices send: sealed bodies that were tampered with, and changes
//! mutated with their checksum put right. Counts what was tried and what got through; one seed
//! gives the same run again.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rand_core::UnwrapErr;
use storysync_crdt::{
    Actor, ApplyError, Change, ChangeHash, Document, EditPurpose, EntityId, SyncUuid, TableName,
    Value, conflicts, genesis, key, row, save,
};
use storysync_engine::trust::envelope::{
    self, AwaitedResponse, KeyUse, Message, PairSecret, Route,
};
use storysync_engine::trust::identity::{Identity, Secret};
use storysync_engine::trust::pairing::{Approval, Attempt, Introduction, Joining, PairingWindow};

/// Repeatable randomness: SplitMix64 (Steele, Lea and Flood 2014).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// The dice of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % (limit.max(1) as u64)).expect("below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Alters bytes in one of the ways a forger or a broken disk would; `others` are there to splice
/// from.
fn mutate(bytes: &mut Vec<u8>, others: &[Vec<u8>], dice: &mut Dice) {
    let place = dice.below(bytes.len());
    match dice.below(9) {
        0 => bytes[place] ^= 1 << dice.below(8),
        1 => bytes[place] = dice.byte(),
        2 => bytes[place] = *dice.pick(&[0, 1, 0x7f, 0x80, 0xff, 0x40]),
        3 => bytes.truncate(place),
        4 => bytes.insert(place, dice.byte()),
        5 => drop(bytes.drain(place..(place + 1 + dice.below(8)).min(bytes.len()))),
        6 => {
            let other = dice.pick(others);
            let from = dice.below(other.len());
            bytes.truncate(place);
            bytes.extend_from_slice(&other[from..]);
        }
        7 => {
            let extreme: &[u8] = dice.pick::<&[u8]>(&[
                &[0xff, 0xff, 0xff, 0xff, 0x0f],
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
                &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x7f],
                &[0xc0, 0x84, 0x3d],
            ]);
            bytes.splice(place..place, extreme.iter().copied());
        }
        _ => {
            let again: Vec<u8> =
                bytes[place..(place + 1 + dice.below(40)).min(bytes.len())].to_vec();
            bytes.splice(place..place, again);
        }
    }
    if bytes.is_empty() {
        bytes.push(dice.byte());
    }
}

/// What came of sealed bodies that were tampered with.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tampered {
    /// Envelopes tried.
    pub tried: u64,
    /// Opened all the same.
    pub accepted: u64,
    /// Panics.
    pub panics: u64,
}

struct Correspondence {
    client: Identity,
    server: Identity,
    pair: PairSecret,
    window: PairingWindow,
    requests: Vec<Vec<u8>>,
    registrations: Vec<Vec<u8>>,
}

const TARGET: &str = "/api/sync/push";
const PREKEY: [u8; 32] = [5; 32];
const SEALED_UNTIL_MS: u64 = 1_000;

impl Correspondence {
    fn new() -> Self {
        let (client, server) = (
            Identity::from_secrets(&[1; 32], &[2; 32]),
            Identity::from_secrets(&[3; 32], &[4; 32]),
        );
        let pair = PairSecret { secret: Secret::from_bytes([9; 32]), epoch: 1 };
        let mut rng = UnwrapErr(getrandom::SysRng);
        let window = PairingWindow::open(&server, Vec::new(), Approval::None, 0, &mut rng);
        let offer = window.offer().clone();
        let registrations = (0..4)
            .map(|_| {
                Joining::start(
                    &offer,
                    &client,
                    Introduction { name: "phone", port: None },
                    &Attempt::new(&mut UnwrapErr(getrandom::SysRng)),
                    SEALED_UNTIL_MS,
                    &mut rng,
                )
                .expect("our own offer")
                .0
            })
            .collect();
        let mut correspondence =
            Self { client, server, pair, window, requests: Vec::new(), registrations };
        for length in [0, 1, 40, 300, 1_000, 4_000, 65_400, 70_000] {
            let body = vec![b'x'; length];
            let envelope = correspondence.seal(&body).0;
            correspondence.requests.push(envelope);
        }
        correspondence
    }

    fn seal(&self, body: &[u8]) -> (Vec<u8>, AwaitedResponse) {
        let (client, server) = (self.client.public_key(), self.server.public_key());
        let route = Route { method: "POST", target: TARGET, client: &client, server: &server };
        let recipient = crate::x25519_public(&PREKEY);
        envelope::seal_request(
            Message { route, body, sent_ms: SEALED_UNTIL_MS },
            &self.pair,
            &recipient,
            KeyUse { kid: 7, seq: 1 },
            &self.client,
            &mut UnwrapErr(getrandom::SysRng),
        )
        .expect("our own keys")
    }

    fn opens_request(&self, bytes: &[u8], method: &str, target: &str) -> bool {
        let (client, server) = (self.client.public_key(), self.server.public_key());
        envelope::open_request(
            Route { method, target, client: &client, server: &server },
            &self.pair,
            &crate::x25519(&PREKEY),
            bytes,
        )
        .is_ok()
    }

    /// One envelope that must not open; `None` when the dice changed nothing.
    fn forge(&mut self, dice: &mut Dice) -> Option<bool> {
        match dice.below(20) {
            0..=9 => {
                let original = dice.pick(&self.requests).clone();
                let mut bytes = original.clone();
                for _ in 0..=dice.below(3) {
                    mutate(&mut bytes, &self.requests, dice);
                }
                (!self.requests.contains(&bytes))
                    .then(|| self.opens_request(&bytes, "POST", TARGET))
            }
            10 => {
                // The right bytes for another request.
                let (method, target) = *dice.pick(&[
                    ("GET", TARGET),
                    ("POST", "/api/sync/pull"),
                    ("POST", "/api/sync/push?"),
                    ("DELETE", TARGET),
                    ("POST", ""),
                ]);
                Some(self.opens_request(&dice.pick(&self.requests).clone(), method, target))
            }
            11..=13 => {
                let length = dice.below(400);
                let garbage: Vec<u8> = (0..length).map(|_| dice.byte()).collect();
                let framed = [b"SSY1\x01\x01\0\0".as_slice(), &garbage].concat();
                Some(self.opens_request(
                    if dice.below(2) == 0 { &garbage } else { &framed },
                    "POST",
                    TARGET,
                ))
            }
            14..=16 => {
                let mut bytes = dice.pick(&self.registrations).clone();
                mutate(&mut bytes, &self.registrations, dice);
                if self.registrations.contains(&bytes) {
                    return None;
                }
                let mut rng = UnwrapErr(getrandom::SysRng);
                Some(
                    self.window
                        .admit(&bytes, &self.server, "desktop", |_| Some(0), &mut rng)
                        .is_ok(),
                )
            }
            _ => {
                let (envelope, awaited) = self.seal(b"ask");
                let (client, server) = (self.client.public_key(), self.server.public_key());
                let route =
                    Route { method: "POST", target: TARGET, client: &client, server: &server };
                let opened =
                    envelope::open_request(route, &self.pair, &crate::x25519(&PREKEY), &envelope)
                        .expect("untouched");
                let original = opened
                    .responder
                    .seal(200, b"an answer of some length", &mut UnwrapErr(getrandom::SysRng))
                    .expect("our own keys");
                let mut bytes = original.clone();
                let status = if dice.below(4) == 0 {
                    *dice.pick(&[201, 401, 409, 500])
                } else {
                    mutate(&mut bytes, &self.requests, dice);
                    200
                };
                (bytes != original || status != 200).then(|| awaited.open(status, &bytes).is_ok())
            }
        }
    }
}

/// Tries `count` sealed bodies that were tampered with.
#[must_use]
pub fn tampered_envelopes(count: u64, seed: u64) -> Tampered {
    let mut dice = Dice::new(seed);
    let mut correspondence = Correspondence::new();
    let mut outcome = Tampered::default();
    while outcome.tried < count {
        match catch_unwind(AssertUnwindSafe(|| correspondence.forge(&mut dice))) {
            Ok(None) => {}
            Ok(Some(opened)) => {
                outcome.tried += 1;
                outcome.accepted += u64::from(opened);
            }
            Err(_) => {
                outcome.tried += 1;
                outcome.panics += 1;
            }
        }
    }
    outcome
}

/// What came of changes that were mutated.
#[derive(Debug, Default, Clone)]
pub struct Mutated {
    /// Changes tried.
    pub tried: u64,
    /// Refused, the document as it was.
    pub refused: u64,
    /// Of those, changes automerge panicked on while reading, inside the guard.
    pub broke_automerge: u64,
    /// One of those, to look at.
    pub breaking: Option<Vec<u8>>,
    /// Taken: the mutation made another right change. The document could be written on and opened
    /// by automerge.
    pub admitted: u64,
    /// Panics that got out of the guard.
    pub escaped: u64,
    /// What must not be: a document that changed although the change was refused, or one that
    /// automerge can't open or that can't be written on after a change was admitted.
    pub findings: Vec<String>,
}

fn puts(pairs: &[(&str, Value)]) -> BTreeMap<String, Value> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

/// A document several devices wrote, and all its changes.
fn pristine() -> (Document, Vec<Vec<u8>>) {
    let entity = EntityId {
        table: TableName::parse("actor").expect("a name"),
        uuid: SyncUuid::parse("0f3b").expect("a uuid"),
    };
    let mut document = Document::new();
    let first = puts(&[
        ("first_name", Value::from("Ada 🦊")),
        ("age", Value::from(36)),
        ("height", Value::Real(1.5)),
        ("portrait", Value::Blob(vec![0, 255, 3])),
        ("notes", Value::from("Afraid of the sea. ".repeat(20).as_str())),
        (key::VERSION, Value::from(1)),
        (key::DELETED_AT, Value::Null),
    ]);
    document.apply(genesis(&entity, first)).expect("a genesis");
    let actors: Vec<Actor> =
        (1..=4).map(|device| Actor::of_device(&[device; 32], [device; 8])).collect();
    for round in 0..6_i64 {
        let base = document.clone();
        for (index, actor) in
            actors.iter().enumerate().take(1 + usize::try_from(round % 4).expect("small"))
        {
            let edit = match index {
                0 => puts(&[("age", Value::from(round)), (key::VERSION, Value::from(round + 2))]),
                1 => puts(&[
                    ("first_name", Value::from("Grace")),
                    ("age", Value::from(-round)),
                    ("new", Value::Null),
                ]),
                2 => puts(&[
                    (key::DELETED_AT, Value::from("2026-01-01 00:00:00")),
                    (key::DELETE_KIND, Value::from("hard")),
                ]),
                _ => puts(&[("notes", Value::from("Never says so. ".repeat(4).as_str()))]),
            };
            let change = base
                .edit(edit, EditPurpose::Edit, None, actor, round * 1_000)
                .expect("something to put");
            document.apply(change).expect("made from the document");
        }
    }
    let bytes = document.changes().iter().map(|change| change.bytes().to_vec()).collect();
    (document, bytes)
}

/// Length and checksum as they should be for what the chunk holds now.
fn repair(bytes: &mut Vec<u8>) {
    let Some(after) = bytes.get(9..) else { return };
    let mut rest = after;
    if leb128::read::unsigned(&mut rest).is_err() {
        return;
    }
    let mut hashed = vec![bytes[8]];
    leb128::write::unsigned(&mut hashed, rest.len() as u64).expect("memory");
    hashed.extend_from_slice(rest);
    let digest = sha256(&hashed);
    *bytes = [&[0x85, 0x6f, 0x4a, 0x83], &digest[..4], &hashed].concat();
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).into()
}

/// Tries `count` mutated changes on a live document.
#[must_use]
pub fn mutated_changes(count: u64, seed: u64) -> Mutated {
    let mut dice = Dice::new(seed);
    let (pristine, originals) = pristine();
    let known: HashSet<ChangeHash> = pristine.changes().iter().map(Change::hash).collect();
    let shown = row(&pristine);
    let saved = save(&pristine).expect("automerge opens what we write");
    let mut live = pristine.clone();
    let mut outcome = Mutated::default();
    while outcome.tried < count {
        let mut bytes = dice.pick(&originals).clone();
        for _ in 0..=dice.below(4) {
            mutate(&mut bytes, &originals, &mut dice);
        }
        if dice.below(10) > 0 {
            repair(&mut bytes);
        }
        outcome.tried += 1;
        let tried = catch_unwind(AssertUnwindSafe(|| match Change::decode_received(&bytes) {
            Err(storysync_crdt::DecodeError::Breaks) => Tried::Broke,
            Err(_) => Tried::Refused,
            Ok(change) if known.contains(&change.hash()) => Tried::Refused,
            Ok(change) => match live.apply(change) {
                Err(ApplyError::MissingDependencies(_)) | Err(_) | Ok(false) => Tried::Refused,
                Ok(true) => Tried::Admitted,
            },
        }));
        match tried {
            Ok(Tried::Refused) => outcome.refused += 1,
            Ok(Tried::Broke) => {
                outcome.refused += 1;
                outcome.broke_automerge += 1;
                outcome.breaking.get_or_insert_with(|| bytes.clone());
            }
            Ok(Tried::Admitted) => {
                outcome.admitted += 1;
                if let Err(finding) = still_usable(&live) {
                    outcome.findings.push(format!("{finding}: {}", hex(&bytes)));
                }
                live = pristine.clone();
            }
            Err(_) => {
                outcome.escaped += 1;
                outcome.findings.push(format!("a panic got out of the guard: {}", hex(&bytes)));
                live = pristine.clone();
            }
        }
        if live.heads() != pristine.heads() || live.changes().len() != pristine.changes().len() {
            outcome.findings.push(format!("a refused change was kept: {}", hex(&bytes)));
            live = pristine.clone();
        }
    }
    if row(&live) != shown || save(&live).ok() != Some(saved) {
        outcome.findings.push("the live document is not what it was".to_owned());
    }
    outcome
}

enum Tried {
    Refused,
    Broke,
    Admitted,
}

/// After a change was admitted: everything can be read, somebody goes on writing, and automerge
/// opens it all.
fn still_usable(document: &Document) -> Result<(), &'static str> {
    let _ = (row(document), conflicts(document));
    save(document).map_err(|_| "automerge does not open what was admitted")?;
    let mut written = document.clone();
    let me = Actor::of_device(&[77; 32], [7; 8]);
    let edit = written
        .edit(puts(&[("notes", Value::from("mine"))]), EditPurpose::Edit, None, &me, 0)
        .ok_or("it can't be written on")?;
    written.apply(edit).map_err(|_| "what is written on it does not fit")?;
    save(&written).map_err(|_| "automerge does not open what was written on it")?;
    Ok(())
}

/// Bytes as people pass them on.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
