//! What sealing and opening a body costs, by its length.
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first surprise")]

use divan::Bencher;
use divan::counter::BytesCount;
use storysync::net::node_state::system_rng;
use storysync_engine::trust::agreement::AgreementKey;
use storysync_engine::trust::envelope::{self, KeyUse, Message, PairSecret, Route};
use storysync_engine::trust::identity::{Identity, Secret};

fn main() {
    divan::main();
}

struct Pair {
    client: Identity,
    server: Identity,
    secret: PairSecret,
    prekey: AgreementKey,
    prekey_public: [u8; 32],
}

impl Pair {
    fn new() -> Self {
        let mut rng = system_rng();
        let prekey = Identity::generate(&mut rng);
        let (_, scalar) = prekey.to_secrets();
        Self {
            client: Identity::generate(&mut rng),
            server: Identity::generate(&mut rng),
            secret: PairSecret { secret: Secret::random(&mut rng), epoch: 1 },
            prekey: AgreementKey::from_bytes(*scalar.expose()),
            prekey_public: prekey.static_key(),
        }
    }

    fn seal(&self, body: &[u8]) -> (Vec<u8>, envelope::AwaitedResponse) {
        let (client, server) = (self.client.public_key(), self.server.public_key());
        let route =
            Route { method: "POST", target: "/api/sync/push", client: &client, server: &server };
        envelope::seal_request(
            Message { route, body, sent_ms: 1_000 },
            &self.secret,
            &self.prekey_public,
            KeyUse { kid: 7, seq: 1 },
            &self.client,
            &mut system_rng(),
        )
        .unwrap()
    }

    fn open(&self, sealed: &[u8]) -> envelope::OpenedRequest {
        let (client, server) = (self.client.public_key(), self.server.public_key());
        envelope::open_request(
            Route { method: "POST", target: "/api/sync/push", client: &client, server: &server },
            &self.secret,
            &self.prekey,
            sealed,
        )
        .unwrap()
    }
}

const LENGTHS: [usize; 2] = [1_024, 1_024 * 1_024];

#[divan::bench(args = LENGTHS)]
fn seal_a_request(bencher: Bencher<'_, '_>, length: usize) {
    let (pair, body) = (Pair::new(), vec![7; length]);
    bencher.counter(BytesCount::new(length)).bench(|| pair.seal(&body));
}

#[divan::bench(args = LENGTHS)]
fn open_a_request(bencher: Bencher<'_, '_>, length: usize) {
    let pair = Pair::new();
    let sealed = pair.seal(&vec![7; length]).0;
    bencher.counter(BytesCount::new(length)).bench(|| pair.open(&sealed));
}

#[divan::bench(args = LENGTHS)]
fn seal_an_answer(bencher: Bencher<'_, '_>, length: usize) {
    let (pair, body) = (Pair::new(), vec![7; length]);
    let responder = pair.open(&pair.seal(b"").0).responder;
    bencher
        .counter(BytesCount::new(length))
        .bench(|| responder.clone().seal(200, &body, &mut system_rng()).unwrap());
}
