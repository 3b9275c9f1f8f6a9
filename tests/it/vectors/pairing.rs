//! `pairing.json`: one pairing from the QR text to the pair secret, and registrations that a window
//! refuses.

use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use storysync_engine::trust::envelope::{self, AwaitedResponse, Message, Route};
use storysync_engine::trust::identity::Secret;
use storysync_engine::trust::pairing::{
    Admission, Approval, Confirmation, Grant, Offer, PairingWindow, REGISTER_TARGET, Registration,
};
use storysync_engine::trust::to_base64url;
use x25519_dalek::{PublicKey, StaticSecret};

use super::{
    Device, Exported, HEADER_BYTES, Hex, REGISTER_LABEL, RESPONSE_LABEL, SENT_MS, altered,
    altered_anywhere, hold, look_inside, lp, stated, system_rng, transcript,
};
use crate::primitives::Stated;

const NO_CLIENT: [u8; 32] = [0; 32];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct PairingVector {
    about: Vec<String>,
    desktop: Device,
    phone: Device,
    one_time_secret: Hex,
    one_time_key: Hex,
    token: Hex,
    opened_ms: u64,
    valid_seconds: u64,
    qr_text: String,
    /// The first 8 bytes of SHA-256 of the one-time key, as a decimal number.
    kid: String,
    /// Answered 202: a person has yet to type the code.
    first: RegistrationVector,
    /// Four digits, fixed by the first registration.
    code: String,
    /// The same registration sealed anew, after the code was typed. Answered 200.
    second: RegistrationVector,
    earlier_pairings: u32,
    epoch: u32,
    pair_secret: Hex,
    pub(super) must_fail: Vec<RefusedRegistration>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct RegistrationVector {
    sent_ms: u64,
    body: String,
    ephemeral_ikm: Hex,
    reply_secret: Hex,
    info: Hex,
    transcript: Hex,
    signature: Hex,
    exported: Exported,
    envelope: Hex,
    status: u16,
    answer_ephemeral_ikm: Hex,
    answer_body: String,
    answer_exported: Exported,
    answer_envelope: Hex,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RefusedRegistration {
    altered: String,
    envelope: Hex,
}

/// Both sides of a ceremony with stated randomness.
pub(super) struct Ceremony {
    pub(super) desktop: Device,
    phone: Device,
    pub(super) window: PairingWindow,
    one_time: [u8; 32],
    token: [u8; 32],
}

const REGISTER_PSK_ID: &[u8] = b"storysync/1 pair";

impl Ceremony {
    pub(super) fn open() -> Self {
        let (desktop, phone) = (Device::named("desktop"), Device::named("phone"));
        let (one_time, token) = (stated("one-time secret"), stated("token of the QR code"));
        let addresses =
            vec![("192.168.1.20".parse().unwrap(), 8765), ("fd00::20".parse().unwrap(), 8765)];
        let mut rng = Stated::new(&[&one_time, &token]);
        let window =
            PairingWindow::open(&desktop.identity(), addresses, Approval::Code, SENT_MS, &mut rng);
        rng.assert_used();
        Self { desktop, phone, window, one_time, token }
    }

    fn one_time_key(&self) -> [u8; 32] {
        PublicKey::from(&StaticSecret::from(self.one_time)).to_bytes()
    }

    fn registration(&self) -> Registration {
        Registration {
            device_id: self.phone.device_id.clone(),
            device_name: "Ada's phone".to_owned(),
            identity_key: to_base64url(&self.phone.identity_key.0),
            static_key: to_base64url(&self.phone.static_key.0),
            platform: "android".to_owned(),
            auth_token: None,
            port: None,
            attempt: None,
            sealed_token: true,
        }
    }

    fn seal(
        &self,
        token: &[u8; 32],
        one_time_key: &[u8; 32],
        body: &str,
        signer: &Device,
        name: &str,
    ) -> (Vec<u8>, AwaitedResponse) {
        let server = self.desktop.identity_key.array();
        let route =
            Route { method: "POST", target: REGISTER_TARGET, client: &NO_CLIENT, server: &server };
        let mut rng = Stated::new(&[
            &stated(&format!("{name} ephemeral")),
            &stated(&format!("{name} reply secret")),
        ]);
        let sealed = envelope::seal_register(
            Message { route, body: body.as_bytes(), sent_ms: SENT_MS },
            &Secret::from_bytes(*token),
            one_time_key,
            &signer.identity(),
            &mut rng,
        )
        .unwrap();
        rng.assert_used();
        sealed
    }

    fn info(&self, envelope: &[u8]) -> Vec<u8> {
        let server = self.desktop.identity_key.0.clone();
        let parts = lp(&[
            b"POST",
            REGISTER_TARGET.as_bytes(),
            &NO_CLIENT,
            &server,
            &envelope[..HEADER_BYTES],
        ]);
        [REGISTER_LABEL, &Sha256::digest(parts)].concat()
    }

    /// Registers once and names everything that was said.
    fn register(&mut self, name: &str, epochs: u32) -> (RegistrationVector, Admission) {
        let body = serde_json::to_string(&self.registration()).unwrap();
        let (sealed, awaited) =
            self.seal(&self.token, &self.one_time_key(), &body, &self.phone, name);
        let info = self.info(&sealed);
        let inside = look_inside(&info, &self.token, REGISTER_PSK_ID, &self.one_time, &sealed);
        let (unsigned, signature) = inside.plaintext.split_at(inside.plaintext.len() - 64);
        let transcript = transcript(&info, &inside.enc, unsigned);
        let answer_ephemeral = stated(&format!("{name} answer ephemeral"));
        let mut rng = Stated::new(&[&stated("auth token"), &answer_ephemeral]);
        let admission = self
            .window
            .admit(&sealed, &self.desktop.identity(), "Ada's desktop", |_| Some(epochs), &mut rng)
            .unwrap();
        let (status, answer) = match &admission {
            Admission::Pending { responder } => {
                let mut rng = Stated::new(&[&answer_ephemeral]);
                (202, responder.clone().seal(202, br#"{"message":"waiting for the code to be typed on the other device"}"#, &mut rng).unwrap())
            }
            Admission::Granted { answer, .. } => {
                rng.assert_used();
                (200, answer.clone())
            }
            Admission::Leaked => panic!("nobody else asked"),
        };
        let answer_info = [RESPONSE_LABEL, &transcript, &u16::to_be_bytes(status)].concat();
        let reply_secret = stated(&format!("{name} reply secret"));
        let answer_inside = look_inside(
            &answer_info,
            &inside.exported.response_psk.0,
            b"storysync/1 rpsk",
            &reply_secret,
            &answer,
        );
        let opened = awaited.open(status, &answer).unwrap();
        assert_eq!(*opened.body, answer_inside.plaintext);
        assert_eq!(
            opened.response_exports.pairwise().expose(),
            answer_inside.exported.pairwise.0.as_slice()
        );
        let vector = RegistrationVector {
            sent_ms: SENT_MS,
            body,
            ephemeral_ikm: Hex::from(&stated(&format!("{name} ephemeral"))),
            reply_secret: Hex::from(&reply_secret),
            info: Hex(info),
            transcript: Hex(transcript),
            signature: Hex(signature.to_vec()),
            exported: inside.exported,
            envelope: Hex(sealed),
            status,
            answer_ephemeral_ikm: Hex::from(&answer_ephemeral),
            answer_body: String::from_utf8(answer_inside.plaintext).unwrap(),
            answer_exported: answer_inside.exported,
            answer_envelope: Hex(answer),
        };
        (vector, admission)
    }

    /// HKDF-SHA256 written out: what the two ends derive beside what travels.
    fn derive<const N: usize>(salt: Option<&[u8]>, material: &[u8], info: &[&[u8]]) -> [u8; N] {
        let mut out = [0; N];
        Hkdf::<Sha256>::new(salt, material).expand(&info.concat(), &mut out).unwrap();
        out
    }

    fn must_fail(&self) -> Vec<RefusedRegistration> {
        let right = self.registration();
        let text = |registration: &Registration| serde_json::to_string(registration).unwrap();
        let key = self.one_time_key();
        let stranger = Device::named("stranger");
        let other_key =
            PublicKey::from(&StaticSecret::from(stated("another one-time secret"))).to_bytes();
        let own = Registration {
            device_id: self.desktop.device_id.clone(),
            identity_key: to_base64url(&self.desktop.identity_key.0),
            ..right.clone()
        };
        let seal = |token: &[u8; 32], key: &[u8; 32], body: &str, signer: &Device| {
            self.seal(token, key, body, signer, "refused").0
        };
        let envelope = seal(&self.token, &key, &text(&right), &self.phone);
        let mut cases: Vec<(&str, Vec<u8>)> = altered_anywhere(&envelope);
        cases.extend([
            ("the kind is 1, a request", altered(&envelope, |bytes| bytes[4] = 1)),
            (
                "sealed under the token of another QR code",
                seal(&stated("another token"), &key, &text(&right), &self.phone),
            ),
            (
                "sealed to the one-time key of another QR code",
                seal(&self.token, &other_key, &text(&right), &self.phone),
            ),
            (
                "signed with another key than the one it names",
                seal(&self.token, &key, &text(&right), &stranger),
            ),
            (
                "the device id is that of another key",
                seal(
                    &self.token,
                    &key,
                    &text(&Registration { device_id: stranger.device_id.clone(), ..right.clone() }),
                    &self.phone,
                ),
            ),
            (
                "it names the desktop itself, signed by it",
                seal(&self.token, &key, &text(&own), &self.desktop),
            ),
            (
                "the static key is one byte short",
                seal(
                    &self.token,
                    &key,
                    &text(&Registration {
                        static_key: to_base64url(&self.phone.static_key.0[1..]),
                        ..right.clone()
                    }),
                    &self.phone,
                ),
            ),
            ("the body is no JSON", seal(&self.token, &key, "device_id=1", &self.phone)),
            ("the body is empty", seal(&self.token, &key, "", &self.phone)),
        ]);
        cases
            .into_iter()
            .map(|(why, bytes)| RefusedRegistration {
                altered: why.to_owned(),
                envelope: Hex(bytes),
            })
            .collect()
    }
}

pub(super) fn pairing() -> PairingVector {
    let earlier_pairings = 2;
    let mut ceremony = Ceremony::open();
    let (client, server) =
        (ceremony.phone.identity_key.clone(), ceremony.desktop.identity_key.clone());
    let (first, _) = ceremony.register("first registration", earlier_pairings);
    let digits: [u8; 8] = Ceremony::derive(None, &first.exported.check.0, &[&client.0, &server.0]);
    let code = format!("{:04}", u64::from_be_bytes(digits) % 10_000);
    assert_eq!(ceremony.window.confirm(&code), Confirmation::Approved);
    let (second, admission) = ceremony.register("second registration", earlier_pairings);
    let Admission::Granted { device, .. } = admission else { panic!("the code was typed") };
    let epoch = earlier_pairings + 1;
    let material =
        [second.exported.pairwise.0.as_slice(), &second.answer_exported.pairwise.0].concat();
    let pair_secret: [u8; 32] = Ceremony::derive(
        Some(&ceremony.token),
        &material,
        &[b"storysync/1 psk", &client.0, &server.0, &epoch.to_be_bytes()],
    );
    assert_eq!((device.pair.secret.expose(), device.pair.epoch), (&pair_secret, epoch));
    let grant: Grant = serde_json::from_str(&second.answer_body).unwrap();
    assert_eq!((grant.epoch, grant.auth_token), (epoch, to_base64url(&stated("auth token"))));
    let about = [
        "One pairing, from the QR text to the pair secret, as PROTOCOL.md describes it; \
            hexadecimal, randomness and secrets as in sealed-bodies.json.",
        "The pair secret comes from the exchange that was answered 200, the code from the first \
            that was answered at all.",
        "must_fail cases are registrations that a window with this QR code refuses.",
    ];
    PairingVector {
        about: about.map(str::to_owned).to_vec(),
        one_time_secret: Hex::from(&ceremony.one_time),
        one_time_key: Hex::from(&ceremony.one_time_key()),
        token: Hex::from(&ceremony.token),
        opened_ms: SENT_MS,
        valid_seconds: storysync_engine::trust::pairing::WINDOW_SECONDS,
        qr_text: ceremony.window.offer().to_text(),
        kid: envelope::register_kid(&ceremony.one_time_key()).to_string(),
        first,
        code,
        second,
        earlier_pairings,
        epoch,
        pair_secret: Hex::from(&pair_secret),
        must_fail: Ceremony::open().must_fail(),
        desktop: ceremony.desktop,
        phone: ceremony.phone,
    }
}

#[test]
fn a_pairing_goes_as_the_vectors_say() {
    let file = hold("pairing.json", &pairing());
    let offer = Offer::parse(&file.qr_text).unwrap();
    assert_eq!(
        (offer.token.expose(), offer.one_time_key),
        (&file.token.array(), file.one_time_key.array())
    );
    assert_eq!(offer.identity_key, file.desktop.identity_key.array());
    assert_eq!(offer.expires_at, file.opened_ms / 1000 + file.valid_seconds);
    for case in &file.must_fail {
        let mut ceremony = Ceremony::open();
        let refused = ceremony.window.admit(
            &case.envelope.0,
            &ceremony.desktop.identity(),
            "desktop",
            |_| Some(0),
            &mut system_rng(),
        );
        assert!(refused.is_err(), "admitted although {}", case.altered);
        assert_eq!(ceremony.window.claim(), None, "{}", case.altered);
    }
    println!("pairing: 2 registrations, refused {}", file.must_fail.len());
}
