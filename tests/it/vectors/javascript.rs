//! A stranger's client (`tests/js`), written from PROTOCOL.md alone: it reads every vector, what it
//! seals opens here and what is sealed here opens there, and it takes part in a sync with a running
//! node.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use storysync_engine::trust::envelope::{self, KeyUse, Message, Route};
use storysync_engine::trust::pairing::Admission;

use super::changes::changes;
use super::pairing::{Ceremony, pairing};
use super::sealed_bodies::{Parties, With, sealed_bodies};
use super::sealed_tokens::sealed_tokens;
use super::{Hex, folder, system_rng};
use crate::nodes::TestNode;

/// The scripts of the stranger's client; `None` when its packages were never installed.
fn scripts() -> Option<PathBuf> {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/js");
    if scripts.join("node_modules").exists() {
        return Some(scripts);
    }
    println!("skipped: run `npm ci` in tests/js first (tests/run.sh does)");
    None
}

fn node(script: &Path, arguments: &[&str]) -> String {
    let output =
        Command::new("node").arg(script).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "{} {arguments:?}: {}",
        script.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

#[derive(Debug, Serialize, Deserialize)]
struct Awaited {
    reply_secret: Hex,
    transcript: Hex,
    response_psk: Hex,
}

#[derive(Debug, Deserialize)]
struct Produced {
    requests: Vec<ProducedRequest>,
    registration: ProducedRegistration,
}

#[derive(Debug, Deserialize)]
struct ProducedRequest {
    name: String,
    body: Hex,
    envelope: Hex,
    awaited: Awaited,
}

#[derive(Debug, Deserialize)]
struct ProducedRegistration {
    envelope: Hex,
    awaited: Awaited,
}

#[derive(Debug, Default, Serialize)]
struct Given {
    requests: Vec<GivenRequest>,
    answers: Vec<GivenAnswer>,
}

#[derive(Debug, Serialize)]
struct GivenRequest {
    name: String,
    body: Hex,
    envelope: Hex,
}

#[derive(Debug, Serialize)]
struct GivenAnswer {
    awaited: Awaited,
    status: u16,
    body: Hex,
    envelope: Hex,
}

#[test]
fn a_client_in_javascript_reads_and_writes_the_same_sealed_bodies() {
    let Some(scripts) = scripts() else { return };
    let script = scripts.join("sealed_bodies.mjs");
    let vectors = folder();
    let vectors = vectors.to_str().unwrap();
    let checked = node(&script, &["check", vectors]);
    print!("the vectors, in JavaScript: {checked}");
    let file = sealed_bodies();
    let refused = file.must_fail_requests.len()
        + file.must_fail_responses.len()
        + pairing().must_fail.len()
        + sealed_tokens().must_fail.len();
    let opened = 2 * file.requests.len() + file.also_opens.len() + 5 + changes().changes.len();
    let produced = 2 * file.requests.len() + 3;
    assert_eq!(checked.trim(), format!("opened {opened}, refused {refused}, produced {produced}"));

    let produced: Produced = serde_json::from_str(&node(&script, &["produce", vectors])).unwrap();
    let parties = Parties::of_file();
    let find = |name: &str| file.requests.iter().find(|request| request.name == name).unwrap();
    let mut given = Given::default();
    let mut sealed_there = 0;
    for fresh in produced.requests {
        let vector = find(&fresh.name);
        let opened = vector.open(&parties, &With::default(), &fresh.envelope.0).unwrap();
        assert_eq!(*opened.body, fresh.body.0, "{}", fresh.name);
        for (status, body) in
            [(200, fresh.body.0.as_slice()), (404, br#"{"detail":"there is no such row"}"#)]
        {
            let envelope = opened.responder.clone().seal(status, body, &mut system_rng()).unwrap();
            let awaited = Awaited {
                reply_secret: fresh.awaited.reply_secret.clone(),
                transcript: fresh.awaited.transcript.clone(),
                response_psk: fresh.awaited.response_psk.clone(),
            };
            given.answers.push(GivenAnswer {
                awaited,
                status,
                body: Hex::from(&body),
                envelope: Hex(envelope),
            });
        }
        sealed_there += 1;
    }
    let mut ceremony = Ceremony::open();
    let admission = ceremony.window.admit(
        &produced.registration.envelope.0,
        &ceremony.desktop.identity(),
        "desktop",
        |_| Some(0),
        &mut system_rng(),
    );
    let Ok(Admission::Pending { responder }) = admission else {
        panic!("a registration of JavaScript was not admitted")
    };
    let envelope = responder.seal(202, b"{}", &mut system_rng()).unwrap();
    given.answers.push(GivenAnswer {
        awaited: produced.registration.awaited,
        status: 202,
        body: Hex(b"{}".to_vec()),
        envelope: Hex(envelope),
    });
    sealed_there += 1;
    for vector in &file.requests {
        let (client, server) =
            (parties.client.identity_key.array(), parties.server.identity_key.array());
        let route = Route {
            method: &vector.method,
            target: &vector.target,
            client: &client,
            server: &server,
        };
        let (kid, seq) = vector.numbers();
        let (key, body, identity) =
            (vector.recipient_key.array(), vector.body.get(), parties.client.identity());
        let (envelope, _) = envelope::seal_request(
            Message { route, body: &body, sent_ms: 1 },
            &vector.pair(),
            &key,
            KeyUse { kid, seq },
            &identity,
            &mut system_rng(),
        )
        .unwrap();
        given.requests.push(GivenRequest {
            name: vector.name.clone(),
            body: Hex(body),
            envelope: Hex(envelope),
        });
    }
    let written = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(written.path(), serde_json::to_vec(&given).unwrap()).unwrap();
    let told = node(&script, &["open", vectors, written.path().to_str().unwrap()]);
    print!("opened here {sealed_there} sealed by JavaScript; sealed here, in JavaScript: {told}");
    let answers = given.answers.len();
    assert_eq!(
        told.trim(),
        format!("opened {}, refused {answers}", answers + given.requests.len())
    );
}

#[test]
fn a_client_in_javascript_joins_pulls_pushes_and_leaves() {
    let Some(scripts) = scripts() else { return };
    let mut desktop = TestNode::with_fixture(crate::fixtures::Dialect::Newer);
    desktop.serve();
    let told = node(&scripts.join("client.mjs"), &[&desktop.qr(), "actor"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    println!("a client in JavaScript: {told}");
    let uuid = told["sync_uuid"].as_str().unwrap();
    let name: String =
        desktop.value(&format!("SELECT first_name FROM actor WHERE sync_uuid = '{uuid}'"));
    assert_eq!(name, "Æsa 🦊 of JavaScript");
    assert_eq!((&told["pulled"], &told["accepted"]), (&10.into(), &1.into()));
    // The very same bytes again; and anything once it has left.
    assert_eq!((&told["replayed"], &told["after_leaving"]), (&401.into(), &401.into()));
    assert_eq!((&told["without_prekey"], &told["shown_before"]), (&409.into(), &true.into()));
    let devices = desktop.run_json(&["devices"]);
    assert!(
        devices["devices"].as_array().unwrap().iter().all(|device| device["is_active"] == false),
        "{devices}"
    );
}
