//! The fuzz targets as plain functions: each takes bytes and panics when a promise is broken.
//! cargo-fuzz drives them (`fuzz_targets/`), `tests/replay.rs` replays the committed corpora
//! through them.

pub mod choices;
pub mod convergence;
pub mod convergence_sqlite;
pub mod desk;
pub mod hostile;
#[expect(dead_code, reason = "shared with the integration tests, which use all of it")]
#[path = "../../tests/it/support.rs"]
mod support;

use rand_core::UnwrapErr;
use storysync_crdt::{Change, Document, merge_prose};
use storysync_engine::trust::envelope::{self, PairSecret, Route};
use storysync_engine::trust::identity::{Identity, Secret};
use storysync_engine::trust::pairing::{Approval, Offer, PairingWindow};

use choices::Choices;

/// A target by its name.
pub type Target = fn(&[u8]);

/// All targets, by the name of their corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("change_set", change_set),
    ("qr_text", qr_text),
    ("sealed_body", sealed_body),
    ("register_body", register_body),
    ("convergence", convergence_of_bytes),
    ("convergence_sqlite", convergence_sqlite_of_bytes),
    ("desk", desk_of_bytes),
    ("prose_merge", prose_merge),
];

/// Any bytes as changes of a document: never a panic; what is taken reads back, and automerge
/// agrees.
pub fn change_set(data: &[u8]) {
    let mut document = Document::new();
    let mut rest = data;
    while let Some((length, after)) = rest.split_at_checked(2) {
        let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
        let (bytes, after) = after.split_at(length.min(after.len()));
        rest = after;
        let Ok(change) = Change::decode(bytes) else { continue };
        assert_eq!(change.bytes(), bytes, "what was decoded is kept as it came");
        if document.apply(change.clone()) == Ok(true) {
            assert_eq!(document.apply(change), Ok(false), "a change is applied once");
        }
    }
    let row = storysync_crdt::row(&document);
    let conflicts = storysync_crdt::conflicts(&document);
    assert!(row.fields.len() <= document.registers().count());
    assert!(conflicts.len() <= 2);
}

/// Any text as a pairing code: never a panic; what is taken says the same when it is written again.
pub fn qr_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(offer) = Offer::parse(text) {
        let again = Offer::parse(&offer.to_text()).expect("our own text");
        assert_eq!(again.token, offer.token);
        assert_eq!(again.identity_key, offer.identity_key);
        assert_eq!(again.expires_at, offer.expires_at);
    }
}

/// Any bytes as a sealed request: nobody without the keys gets in.
pub fn sealed_body(data: &[u8]) {
    let (client, server) =
        (Identity::from_secrets(&[1; 32], &[2; 32]), Identity::from_secrets(&[3; 32], &[4; 32]));
    let (client_key, server_key) = (client.public_key(), server.public_key());
    let pair = PairSecret { secret: Secret::from_bytes([9; 32]), epoch: 1 };
    let route = Route {
        method: "POST",
        target: "/api/sync/push",
        client: &client_key,
        server: &server_key,
    };
    let secret = x25519(&[5; 32]);
    assert!(
        envelope::open_request(route, &pair, &secret, data).is_err(),
        "a forged request was opened"
    );
}

fn x25519(bytes: &[u8; 32]) -> storysync_engine::trust::agreement::AgreementKey {
    storysync_engine::trust::agreement::AgreementKey::from_bytes(*bytes)
}

fn x25519_public(bytes: &[u8; 32]) -> [u8; 32] {
    x25519(bytes).public()
}

/// Any bytes as a registration: nobody who did not see the code is let in.
pub fn register_body(data: &[u8]) {
    let desktop = Identity::from_secrets(&[3; 32], &[4; 32]);
    let mut rng = UnwrapErr(getrandom::SysRng);
    let mut window = PairingWindow::open(&desktop, Vec::new(), Approval::None, 0, &mut rng);
    assert!(
        window.admit(data, &desktop, "desktop", |_| Some(0), &mut rng).is_err(),
        "a forged registration was admitted"
    );
    assert!(window.claim().is_none());
}

/// Any bytes as a script of merging: see [`convergence`].
pub fn convergence_of_bytes(data: &[u8]) {
    if let Err(finding) = convergence::play::<convergence::Real>(Choices::Bytes(data)) {
        panic!("{finding}");
    }
}

/// Any bytes as a day at several desks: see [`desk`].
pub fn desk_of_bytes(data: &[u8]) {
    if let Err(finding) = desk::play::<desk::Real>(Choices::Bytes(data)) {
        panic!("{finding}");
    }
}

/// Any three texts: the sides may change places, an untouched side yields to the other, and nothing
/// comes out that nobody wrote.
pub fn prose_merge(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut parts = text.splitn(3, '\u{1}');
    let (base, ours, theirs) =
        (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let merged = merge_prose(base, ours, theirs);
    assert_eq!(merged, merge_prose(base, theirs, ours), "the order of the sides decides nothing");
    assert_eq!(merge_prose(base, ours, ours).as_deref(), Some(ours));
    assert_eq!(merge_prose(base, base, theirs).as_deref(), Some(theirs));
    let Some(merged) = merged else { return };
    let count = |text: &str, wanted: char| text.chars().filter(|char| *char == wanted).count();
    for wanted in merged.chars().collect::<std::collections::BTreeSet<char>>() {
        assert!(
            count(&merged, wanted) <= count(ours, wanted) + count(theirs, wanted),
            "{wanted:?} came from nowhere"
        );
    }
}

/// Any bytes as a script on real SQLite files: see [`convergence_sqlite`].
pub fn convergence_sqlite_of_bytes(data: &[u8]) {
    if let Err(finding) = convergence_sqlite::play(Choices::Bytes(data)) {
        panic!("{finding}");
    }
}
