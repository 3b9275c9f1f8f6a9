//! A client made by hand: seals what it is told to, with whatever keys it is given, and sends any
//! bytes. What an attacker has, and what no honest client would do.

use base64::Engine as _;
use serde_json::Value;
use storysync::net::node_state::system_rng;
use storysync::net::sealed::SEALED_HEADER;
use storysync_engine::store::key_file;
use storysync_engine::store::trust::{TrustStore, TrustedDevice};
use storysync_engine::trust::envelope::{
    self, AwaitedResponse, KeyUse, MEDIA_TYPE, Message, Route,
};
use storysync_engine::trust::identity::Identity;
use storysync_engine::trust::{from_base64url, to_base64url};

use crate::nodes::{TestNode, exchange};

/// A device's keys in somebody's hands.
pub struct Handmade {
    pub identity: Identity,
    /// The node it talks to.
    pub device: TrustedDevice,
    pub address: String,
}

/// A sealed request as bytes of HTTP, and what opens the answer.
pub struct Request {
    pub bytes: Vec<u8>,
    pub awaited: AwaitedResponse,
}

/// A prekey the node gave.
#[derive(Clone, Copy)]
pub struct Prekey {
    pub kid: u64,
    pub key: [u8; 32],
}

impl Handmade {
    /// With the keys of a paired device.
    pub fn of(node: &TestNode, serving: &TestNode) -> Self {
        let identity = key_file::load_or_create(&node.data_dir(), &mut system_rng()).unwrap();
        let device = TrustStore::open(&node.data_dir()).unwrap().devices().unwrap().remove(0);
        Self { identity, device, address: format!("127.0.0.1:{}", serving.port) }
    }

    pub fn seal(
        &self,
        method: &str,
        target: &str,
        body: &[u8],
        kid: u64,
        seq: u64,
        key: &[u8; 32],
    ) -> (Vec<u8>, AwaitedResponse) {
        let client = self.identity.public_key();
        let route = Route { method, target, client: &client, server: &self.device.identity_key };
        envelope::seal_request(
            Message { route, body, sent_ms: 0 },
            self.device.pair.as_ref().unwrap(),
            key,
            KeyUse { kid, seq },
            &self.identity,
            &mut system_rng(),
        )
        .unwrap()
    }

    /// Wraps an envelope, or anything, in HTTP.
    pub fn http(&self, method: &str, target: &str, envelope: &[u8]) -> Vec<u8> {
        let token = to_base64url(self.device.token.as_ref().unwrap().expose());
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer \
                {token}\r\nconnection: close\r\n",
            self.address
        );
        if method == "POST" {
            [
                format!(
                    "{head}content-type: {MEDIA_TYPE}\r\ncontent-length: {}\r\n\r\n",
                    envelope.len()
                )
                .as_bytes(),
                envelope,
            ]
            .concat()
        } else {
            let sealed = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(envelope);
            format!("{head}{SEALED_HEADER}: {sealed}\r\n\r\n").into_bytes()
        }
    }

    pub fn request(
        &self,
        method: &str,
        target: &str,
        body: &[u8],
        seq: u64,
        prekey: Prekey,
    ) -> Request {
        let (envelope, awaited) = self.seal(method, target, body, prekey.kid, seq, &prekey.key);
        Request { bytes: self.http(method, target, &envelope), awaited }
    }

    pub fn send(&self, bytes: &[u8]) -> (u16, Vec<u8>) {
        exchange(&self.address, bytes)
    }

    /// Sends and opens the answer; `None` when it does not open.
    pub fn ask(&self, request: Request) -> (u16, Option<Value>) {
        let (status, body) = self.send(&request.bytes);
        let opened = request.awaited.open(status, &body).ok();
        (status, opened.map(|opened| serde_json::from_slice(&opened.body).unwrap()))
    }

    pub fn status(&self) -> Value {
        let (envelope, awaited) =
            self.seal("GET", "/api/sync/status", &[], 0, 0, &self.device.static_key);
        let bytes = self.http("GET", "/api/sync/status", &envelope);
        let (status, answer) = self.ask(Request { bytes, awaited });
        assert_eq!(status, 200);
        answer.unwrap()
    }

    pub fn prekey(&self) -> Prekey {
        let status = self.status();
        Prekey {
            kid: status["kid"].as_str().unwrap().parse().unwrap(),
            key: from_base64url(status["prekey"].as_str().unwrap()).unwrap(),
        }
    }

    /// One plain row pushed; the answer.
    pub fn push_actor(&self, first_name: &str, seq: u64, prekey: Prekey) -> (u16, Option<Value>) {
        self.ask(self.request("POST", "/api/sync/push", &push_of(first_name), seq, prekey))
    }
}

/// The body of a push of one new actor.
pub fn push_of(first_name: &str) -> Vec<u8> {
    let row = serde_json::json!({
        "entity_type": "actor", "sync_uuid": format!("pushed-{first_name}"), "operation": "create", "version": 1,
        "data": { "first_name": first_name, "user_id": 1, "setting_id": 1 },
    });
    serde_json::json!({ "changes": [row] }).to_string().into_bytes()
}
