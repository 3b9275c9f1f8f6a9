//! `sealed-bodies.json`: requests and their answers, sealed and opened; what must not open; and the
//! worked example of PROTOCOL.md, which is one of them.

use std::path::Path;

use ed25519_dalek::{Signer as _, SigningKey};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{
    Deserializable as _, Kem, OpModeS, PskBundle, Serializable as _, setup_sender_with_rng,
};
use serde::{Deserialize, Serialize};
use storysync_engine::trust::agreement::AgreementKey;
use storysync_engine::trust::envelope::{
    self, AwaitedResponse, KeyUse, Message, PairSecret, Route,
};
use storysync_engine::trust::identity::Secret;
use storysync_engine::trust::to_base64url;

use super::{
    Bytes, Craft, Device, Envelope, Exported, Hex, REGISTER_LABEL, REQUEST_LABEL, RESPONSE_LABEL,
    SEGMENT_BYTES, SENT_MS, SIGNATURE_LABEL, altered, altered_anywhere, altered_list, header_bytes,
    hold, look_inside, pair_psk_id, segments, stated, transcript, with_segments, write_segments,
};
use crate::primitives::{Stated, hex, unhex};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SealedRequest {
    pub(super) name: String,
    about: String,
    pair_secret: Hex,
    epoch: u32,
    recipient_secret: Hex,
    pub(super) recipient_key: Hex,
    /// Decimal: JSON numbers end at 2^53.
    kid: String,
    seq: String,
    pub(super) method: String,
    pub(super) target: String,
    sent_ms: u64,
    pub(super) body: Bytes,
    ephemeral_ikm: Hex,
    reply_secret: Hex,
    info: Hex,
    psk_id: Hex,
    enc: Hex,
    reply_key: Hex,
    transcript: Hex,
    signature: Hex,
    exported: Exported,
    envelope: Envelope,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header_value: Option<String>,
    response: SealedResponse,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SealedResponse {
    status: u16,
    body: Bytes,
    ephemeral_ikm: Hex,
    info: Hex,
    enc: Hex,
    exported: Exported,
    envelope: Envelope,
}

/// What differs from the named request when an envelope is opened.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct With {
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_identity_key: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_identity_key: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pair_secret: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient_secret: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
}

impl With {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct MustFail {
    /// What was altered, and why it must not open.
    altered: String,
    /// The request in whose place (or as whose answer) it is opened.
    request: String,
    #[serde(default, skip_serializing_if = "With::is_empty")]
    with: With,
    envelope: Hex,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct AlsoOpens {
    name: String,
    about: String,
    request: String,
    body: Hex,
    envelope: Hex,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SealedBodies {
    about: Vec<String>,
    client: Device,
    server: Device,
    pub(super) requests: Vec<SealedRequest>,
    pub(super) also_opens: Vec<AlsoOpens>,
    pub(super) must_fail_requests: Vec<MustFail>,
    pub(super) must_fail_responses: Vec<MustFail>,
}

/// What is sealed, made of info and enc.
type Plaintext<'a> = dyn Fn(&[u8], &[u8]) -> Vec<u8> + 'a;

/// The inputs of a request vector that differ from one to the other.
struct Wanted {
    name: &'static str,
    about: &'static str,
    kid: u64,
    seq: u64,
    method: &'static str,
    target: &'static str,
    body: Bytes,
    status: u16,
    answer: Bytes,
}

impl Wanted {
    /// Seals and answers with the product's code, and names what it keeps to itself.
    fn write(self, client: &Device, server: &Device) -> SealedRequest {
        let epoch = 3;
        let pair_secret = stated("pair secret");
        let pair = PairSecret { secret: Secret::from_bytes(pair_secret), epoch };
        let recipient_secret = if self.kid == 0 {
            server.static_secret.array()
        } else {
            stated(&format!("prekey {}", self.kid))
        };
        let recipient_key = AgreementKey::from_bytes(recipient_secret).public();
        let (client_key, server_key) = (client.identity_key.array(), server.identity_key.array());
        let route = Route {
            method: self.method,
            target: self.target,
            client: &client_key,
            server: &server_key,
        };
        let (ephemeral, reply_secret) = (
            stated(&format!("{} ephemeral", self.name)),
            stated(&format!("{} reply secret", self.name)),
        );
        let body = self.body.get();
        let mut rng = Stated::new(&[&ephemeral, &reply_secret]);
        let (sealed, awaited) = envelope::seal_request(
            Message { route, body: &body, sent_ms: SENT_MS },
            &pair,
            &recipient_key,
            KeyUse { kid: self.kid, seq: self.seq },
            &client.identity(),
            &mut rng,
        )
        .unwrap();
        rng.assert_used();

        let craft = Craft {
            label: REQUEST_LABEL,
            header: header_bytes(1, self.kid, self.seq),
            method: self.method,
            target: self.target,
            client: client_key,
            server: server_key,
            psk: None,
            recipient: recipient_key,
            ephemeral,
        };
        let (info, psk_id) = (craft.info(), pair_psk_id(epoch));
        let inside = look_inside(&info, &pair_secret, &psk_id, &recipient_secret, &sealed);
        let (unsigned, signature) = inside.plaintext.split_at(inside.plaintext.len() - 64);
        let transcript = transcript(&info, &inside.enc, unsigned);

        let opened = envelope::open_request(
            route,
            &pair,
            &AgreementKey::from_bytes(recipient_secret),
            &sealed,
        )
        .unwrap();
        assert_eq!(
            (&*opened.body, opened.sent_ms, opened.transcript.as_slice()),
            (&body, SENT_MS, transcript.as_slice())
        );
        assert_eq!(
            opened.responder.exports().pairwise().expose(),
            inside.exported.pairwise.0.as_slice()
        );
        assert_eq!(opened.responder.exports().check().expose(), inside.exported.check.0.as_slice());

        let answer_ephemeral = stated(&format!("{} answer ephemeral", self.name));
        let answer = self.answer.get();
        let mut rng = Stated::new(&[&answer_ephemeral]);
        let answered = opened.responder.seal(self.status, &answer, &mut rng).unwrap();
        rng.assert_used();
        assert_eq!(*awaited.open(self.status, &answered).unwrap().body, answer);
        let answer_info = [RESPONSE_LABEL, &transcript, &self.status.to_be_bytes()].concat();
        let answer_inside = look_inside(
            &answer_info,
            &inside.exported.response_psk.0,
            b"storysync/1 rpsk",
            &reply_secret,
            &answered,
        );
        assert_eq!(answer_inside.plaintext, answer);

        SealedRequest {
            name: self.name.to_owned(),
            about: self.about.to_owned(),
            pair_secret: Hex::from(&pair_secret),
            epoch,
            recipient_secret: Hex::from(&recipient_secret),
            recipient_key: Hex::from(&recipient_key),
            kid: self.kid.to_string(),
            seq: self.seq.to_string(),
            method: self.method.to_owned(),
            target: self.target.to_owned(),
            sent_ms: SENT_MS,
            body: self.body,
            ephemeral_ikm: Hex::from(&ephemeral),
            reply_secret: Hex::from(&reply_secret),
            info: Hex(info),
            psk_id: Hex(psk_id),
            enc: Hex(inside.enc),
            reply_key: Hex(unsigned[..32].to_vec()),
            transcript: Hex(transcript),
            signature: Hex(signature.to_vec()),
            exported: inside.exported,
            header_value: (self.method != "POST").then(|| to_base64url(&sealed)),
            envelope: Envelope::of(&sealed),
            response: SealedResponse {
                status: self.status,
                body: self.answer,
                ephemeral_ikm: Hex::from(&answer_ephemeral),
                info: Hex(answer_info),
                enc: Hex(answer_inside.enc),
                exported: answer_inside.exported,
                envelope: Envelope::of(&answered),
            },
        }
    }
}

const PUSH: &str = "push";
const OTHER: &str = "pull";

impl SealedRequest {
    fn plain_envelope(&self) -> Vec<u8> {
        match &self.envelope {
            Envelope::Plain(bytes) => bytes.0.clone(),
            Envelope::Digest { .. } => self.seal_again(&Parties::of_file()).0,
        }
    }

    fn plain_answer(&self) -> Vec<u8> {
        match &self.response.envelope {
            Envelope::Plain(bytes) => bytes.0.clone(),
            Envelope::Digest { .. } => panic!("too long to alter"),
        }
    }

    pub(super) fn numbers(&self) -> (u64, u64) {
        (self.kid.parse().unwrap(), self.seq.parse().unwrap())
    }

    pub(super) fn pair(&self) -> PairSecret {
        PairSecret { secret: Secret::from_bytes(self.pair_secret.array()), epoch: self.epoch }
    }

    /// With the randomness the vector states.
    fn seal_again(&self, parties: &Parties) -> (Vec<u8>, AwaitedResponse) {
        let (client, server) =
            (parties.client.identity_key.array(), parties.server.identity_key.array());
        let route =
            Route { method: &self.method, target: &self.target, client: &client, server: &server };
        let (kid, seq) = self.numbers();
        let mut rng = Stated::new(&[&self.ephemeral_ikm.0, &self.reply_secret.0]);
        let identity = parties.client.identity();
        let sealed = envelope::seal_request(
            Message { route, body: &self.body.get(), sent_ms: self.sent_ms },
            &self.pair(),
            &self.recipient_key.array(),
            KeyUse { kid, seq },
            &identity,
            &mut rng,
        )
        .unwrap();
        rng.assert_used();
        sealed
    }

    pub(super) fn open(
        &self,
        parties: &Parties,
        with: &With,
        sealed: &[u8],
    ) -> Result<envelope::OpenedRequest, envelope::OpenError> {
        let client =
            with.client_identity_key.as_ref().unwrap_or(&parties.client.identity_key).array();
        let server =
            with.server_identity_key.as_ref().unwrap_or(&parties.server.identity_key).array();
        let method = with.method.as_deref().unwrap_or(&self.method);
        let target = with.target.as_deref().unwrap_or(&self.target);
        let secret = with.pair_secret.as_ref().unwrap_or(&self.pair_secret).array();
        let pair = PairSecret {
            secret: Secret::from_bytes(secret),
            epoch: with.epoch.unwrap_or(self.epoch),
        };
        let recipient = AgreementKey::from_bytes(
            with.recipient_secret.as_ref().unwrap_or(&self.recipient_secret).array(),
        );
        envelope::open_request(
            Route { method, target, client: &client, server: &server },
            &pair,
            &recipient,
            sealed,
        )
    }

    fn craft<'a>(&'a self, parties: &Parties) -> Craft<'a> {
        let (kid, seq) = self.numbers();
        Craft {
            label: REQUEST_LABEL,
            header: header_bytes(1, kid, seq),
            method: &self.method,
            target: &self.target,
            client: parties.client.identity_key.array(),
            server: parties.server.identity_key.array(),
            psk: Some((self.pair_secret.0.clone(), pair_psk_id(self.epoch))),
            recipient: self.recipient_key.array(),
            ephemeral: stated("crafted ephemeral"),
        }
    }

    /// The plaintext of a request, signed as it should be.
    fn signed(&self, parties: &Parties, body: &[u8], info: &[u8], enc: &[u8]) -> Vec<u8> {
        let unsigned = self.unsigned(body);
        let key = SigningKey::from_bytes(&parties.client.identity_seed.array());
        let signature = key.sign(&[SIGNATURE_LABEL, &transcript(info, enc, &unsigned)].concat());
        [unsigned.as_slice(), &signature.to_bytes()].concat()
    }

    fn unsigned(&self, body: &[u8]) -> Vec<u8> {
        [self.reply_key.0.as_slice(), &self.sent_ms.to_be_bytes(), body].concat()
    }
}

/// Both devices of the file.
pub(super) struct Parties {
    pub(super) client: Device,
    pub(super) server: Device,
}

impl Parties {
    pub(super) fn of_file() -> Self {
        Self { client: Device::named("client"), server: Device::named("server") }
    }
}

fn must_fail_requests(requests: &[SealedRequest], parties: &Parties) -> Vec<MustFail> {
    let push = requests.iter().find(|request| request.name == PUSH).unwrap();
    let envelope = push.plain_envelope();
    let body = push.body.get();
    let mut cases: Vec<(&str, With, Vec<u8>)> = altered_anywhere(&envelope)
        .into_iter()
        .map(|(why, bytes)| (why, With::default(), bytes))
        .collect();
    cases.push((
        "the kind is 2, a response",
        With::default(),
        altered(&envelope, |bytes| bytes[4] = 2),
    ));
    cases.push((
        "the kind is 3, a registration",
        With::default(),
        altered(&envelope, |bytes| bytes[4] = 3),
    ));

    // Several segments: a sealer fills them, but short ones show what reordering does in few bytes.
    let many = push.craft(parties).seal(48, |info, enc| push.signed(parties, &body, info, enc));
    let parts = segments(&many);
    assert!(parts.len() >= 4);
    let swapped = altered_list(&parts, |parts| parts.swap(0, 1));
    let repeated = altered_list(&parts, |parts| parts.insert(1, parts[0].clone()));
    let early = altered_list(&parts, |parts| parts[0][0] |= 0x80);
    let appended = altered_list(&parts, |parts| parts.push(parts[parts.len() - 1].clone()));
    for (why, parts) in [
        ("the first two segments are swapped", swapped),
        ("the first segment is missing", parts[1..].to_vec()),
        (
            "the final segment is missing: truncated between segments",
            parts[..parts.len() - 1].to_vec(),
        ),
        ("the first segment is there twice", repeated),
        ("the first segment is marked as final, others follow", early.clone()),
        ("the first segment is marked as final, nothing follows", early[..1].to_vec()),
        ("the final segment is there twice", appended),
    ] {
        cases.push((why, With::default(), with_segments(&many, &parts)));
    }

    let opened_as = |with: With| (with, envelope.clone());
    let text = |text: &str| Some(text.to_owned());
    for (why, (with, bytes)) in [
        ("opened for another method", opened_as(With { method: text("PUT"), ..With::default() })),
        (
            "opened for the method in small letters",
            opened_as(With { method: text("post"), ..With::default() }),
        ),
        (
            "opened for another path",
            opened_as(With { target: text("/api/sync/pull"), ..With::default() }),
        ),
        (
            "opened for the path with an empty query",
            opened_as(With { target: text("/api/sync/push?"), ..With::default() }),
        ),
        (
            "opened with the border between method and path elsewhere",
            opened_as(With {
                method: text("POST/api"),
                target: text("/sync/push"),
                ..With::default()
            }),
        ),
        (
            "opened as another client's",
            opened_as(With {
                client_identity_key: Some(Device::named("stranger").identity_key),
                ..With::default()
            }),
        ),
        (
            "opened by another server",
            opened_as(With {
                server_identity_key: Some(Device::named("stranger").identity_key),
                ..With::default()
            }),
        ),
        (
            "opened with client and server exchanged: sent back to its sender",
            opened_as(With {
                client_identity_key: Some(parties.server.identity_key.clone()),
                server_identity_key: Some(parties.client.identity_key.clone()),
                ..With::default()
            }),
        ),
        (
            "opened with the pair secret of another pairing",
            opened_as(With {
                pair_secret: Some(Hex::from(&stated("another pair secret"))),
                ..With::default()
            }),
        ),
        (
            "opened in the next epoch",
            opened_as(With { epoch: Some(push.epoch + 1), ..With::default() }),
        ),
        (
            "opened with another prekey",
            opened_as(With {
                recipient_secret: Some(Hex::from(&stated("another prekey"))),
                ..With::default()
            }),
        ),
        (
            "opened with the static key",
            opened_as(With {
                recipient_secret: Some(parties.server.static_secret.clone()),
                ..With::default()
            }),
        ),
    ] {
        cases.push((why, with, bytes));
    }

    // Sealed by somebody who knows every secret but the client's identity key: whoever stole the
    // server's.
    let server_key = SigningKey::from_bytes(&parties.server.identity_seed.array());
    let client_key = SigningKey::from_bytes(&parties.client.identity_seed.array());
    let craft = push.craft(parties);
    let unsigned = push.unsigned(&body);
    let crafted = |plaintext: &Plaintext<'_>| craft.seal(SEGMENT_BYTES, plaintext);
    let sign = |key: &SigningKey, label: &[u8], transcript: &[u8]| {
        key.sign(&[label, transcript].concat()).to_bytes()
    };
    cases.extend([
        (
            "signed by the server instead of the client",
            With::default(),
            crafted(&|info, enc| {
                [
                    unsigned.as_slice(),
                    &sign(&server_key, SIGNATURE_LABEL, &transcript(info, enc, &unsigned)),
                ]
                .concat()
            }),
        ),
        ("another body under the signature of the first", With::default(), {
            crafted(&|info, enc| {
                let signature =
                    sign(&client_key, SIGNATURE_LABEL, &transcript(info, enc, &unsigned));
                [push.unsigned(b"{\"changes\":[]}").as_slice(), &signature].concat()
            })
        }),
        (
            "another reply key under the signature of the first: the answer would go to somebody \
                else",
            With::default(),
            crafted(&|info, enc| {
                let signature =
                    sign(&client_key, SIGNATURE_LABEL, &transcript(info, enc, &unsigned));
                [stated("another reply key").as_slice(), &unsigned[32..], &signature].concat()
            }),
        ),
        (
            "another sending time under the signature of the first",
            With::default(),
            crafted(&|info, enc| {
                let signature =
                    sign(&client_key, SIGNATURE_LABEL, &transcript(info, enc, &unsigned));
                [altered(&unsigned, |bytes| bytes[39] ^= 1).as_slice(), &signature].concat()
            }),
        ),
        (
            "the signature of the first envelope under another enc",
            With::default(),
            crafted(&|_, _| [unsigned.as_slice(), &push.signature.0].concat()),
        ),
        (
            "the signature lacks its label",
            With::default(),
            crafted(&|info, enc| {
                [unsigned.as_slice(), &sign(&client_key, b"", &transcript(info, enc, &unsigned))]
                    .concat()
            }),
        ),
        (
            "the signature's S is not reduced (S + L)",
            With::default(),
            crafted(&|info, enc| {
                [
                    unsigned.as_slice(),
                    &not_reduced(sign(
                        &client_key,
                        SIGNATURE_LABEL,
                        &transcript(info, enc, &unsigned),
                    )),
                ]
                .concat()
            }),
        ),
        (
            "the signature is all zero",
            With::default(),
            crafted(&|_, _| [unsigned.as_slice(), &[0; 64]].concat()),
        ),
        ("there is no signature", With::default(), crafted(&|_, _| unsigned[..40].to_vec())),
        ("there is nothing inside", With::default(), crafted(&|_, _| Vec::new())),
    ]);
    let recraft = |change: &dyn Fn(&mut Craft<'_>)| {
        let mut craft = push.craft(parties);
        change(&mut craft);
        craft.seal(SEGMENT_BYTES, |info, enc| push.signed(parties, &body, info, enc))
    };
    cases.extend([
        (
            "sealed without a pre-shared key (mode base)",
            With::default(),
            recraft(&|craft| craft.psk = None),
        ),
        (
            "the id of the pre-shared key lacks the epoch",
            With::default(),
            recraft(&|craft| {
                craft.psk = Some((push.pair_secret.0.clone(), b"storysync/1 psk\0".to_vec()))
            }),
        ),
        (
            "sealed under the label of registrations",
            With::default(),
            recraft(&|craft| craft.label = REGISTER_LABEL),
        ),
        (
            "the label lacks its last byte",
            With::default(),
            recraft(&|craft| craft.label = &REQUEST_LABEL[..19]),
        ),
        ("the header in the info is of another seq", With::default(), {
            let sealed = recraft(&|craft| {
                craft.header = header_bytes(1, push.numbers().0, push.numbers().1 + 1)
            });
            altered(&sealed, |bytes| bytes[16..24].copy_from_slice(&push.numbers().1.to_be_bytes()))
        }),
    ]);
    cases
        .into_iter()
        .map(|(why, with, bytes)| MustFail {
            altered: why.to_owned(),
            request: PUSH.to_owned(),
            with,
            envelope: Hex(bytes),
        })
        .collect()
}

/// The same signature with the group's order added to S, which lax verifiers take.
fn not_reduced(signature: [u8; 64]) -> [u8; 64] {
    let order = unhex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut sum = signature;
    let mut carry = 0;
    for (to, add) in sum[32..].iter_mut().zip(order) {
        carry += u16::from(*to) + u16::from(add);
        *to = carry.to_le_bytes()[0];
        carry >>= 8;
    }
    sum
}

fn must_fail_responses(requests: &[SealedRequest], parties: &Parties) -> Vec<MustFail> {
    let find = |name: &str| requests.iter().find(|request| request.name == name).unwrap();
    let (push, other) = (find(PUSH), find(OTHER));
    let answer = push.plain_answer();
    let body = push.response.body.get();
    let mut cases: Vec<(&str, With, Vec<u8>)> = altered_anywhere(&answer)
        .into_iter()
        .map(|(why, bytes)| (why, With::default(), bytes))
        .collect();
    let craft = |psk: Option<(Vec<u8>, Vec<u8>)>, recipient: &[u8], info: Vec<u8>| {
        let mode = psk
            .as_ref()
            .map_or(OpModeS::Base, |(psk, id)| OpModeS::Psk(PskBundle::new(psk, id).unwrap()));
        let recipient = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(recipient).unwrap();
        let mut rng = Stated::new(&[&stated("crafted answer ephemeral")]);
        let (enc, mut sender) =
            setup_sender_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
                &mode, &recipient, &info, &mut rng,
            )
            .unwrap();
        let mut sealed = [header_bytes(2, 0, 0).as_slice(), &enc.to_bytes()].concat();
        write_segments(&body, SEGMENT_BYTES, &mut sealed, |part, head| {
            sender.seal(part, head).unwrap()
        });
        sealed
    };
    let psk = (push.exported.response_psk.0.clone(), b"storysync/1 rpsk".to_vec());
    let info = push.response.info.0.clone();
    // The crafting itself is right, so what follows fails for the reason given.
    let plain = craft(Some(psk.clone()), &push.reply_key.0, info.clone());
    assert!(push.seal_again(parties).1.open(push.response.status, &plain).is_ok());
    cases.extend([
        ("the kind is 1, a request", With::default(), altered(&answer, |bytes| bytes[4] = 1)),
        (
            "opened with status 201 instead of 200",
            With { status: Some(201), ..With::default() },
            answer.clone(),
        ),
        (
            "opened with status 500 instead of 200",
            With { status: Some(500), ..With::default() },
            answer.clone(),
        ),
        ("the answer to another request", With::default(), other.plain_answer()),
        ("the request itself, sent back", With::default(), push.plain_envelope()),
        (
            "plain JSON",
            With::default(),
            b"{\"accepted\":1,\"rejected\":0,\"message\":\"taken in\"}".to_vec(),
        ),
        (
            "sealed without a pre-shared key: by somebody who could not open the request",
            With::default(),
            craft(None, &push.reply_key.0, info.clone()),
        ),
        (
            "sealed under the pair secret instead of the exported one",
            With::default(),
            craft(
                Some((push.pair_secret.0.clone(), b"storysync/1 rpsk".to_vec())),
                &push.reply_key.0,
                info.clone(),
            ),
        ),
        (
            "sealed under the id of the pair secret",
            With::default(),
            craft(Some((psk.0.clone(), pair_psk_id(push.epoch))), &push.reply_key.0, info.clone()),
        ),
        (
            "sealed to another reply key",
            With::default(),
            craft(Some(psk.clone()), &other.reply_key.0, info.clone()),
        ),
        (
            "the info lacks the status",
            With::default(),
            craft(Some(psk.clone()), &push.reply_key.0, info[..info.len() - 2].to_vec()),
        ),
        (
            "the info names the transcript of another request",
            With::default(),
            craft(
                Some(psk),
                &push.reply_key.0,
                [RESPONSE_LABEL, &other.transcript.0, &push.response.status.to_be_bytes()].concat(),
            ),
        ),
    ]);
    cases
        .into_iter()
        .map(|(why, with, bytes)| MustFail {
            altered: why.to_owned(),
            request: PUSH.to_owned(),
            with,
            envelope: Hex(bytes),
        })
        .collect()
}

pub(super) fn sealed_bodies() -> SealedBodies {
    let parties = Parties::of_file();
    let pattern = Hex((0..=250).collect());
    let wanted = [
        Wanted {
            name: "status",
            about: "The first call: sealed to the server's static key (kid 0), empty, carried in \
                the header X-Storysync-Sealed.",
            kid: 0,
            seq: 0,
            method: "GET",
            target: "/api/sync/status",
            body: Bytes::plain(b""),
            status: 200,
            answer: Bytes::plain(br#"{"device_id":"12D3KooWexample","device_name":"desktop","kid":"9223372036854775809","prekey":"","prekey_ttl_seconds":900}"#),
        },
        Wanted {
            name: OTHER,
            about: "A pull under a prekey. The kid is greater than any JSON number can say \
                exactly.",
            kid: 9_223_372_036_854_775_809,
            seq: 1,
            method: "POST",
            target: "/api/sync/pull",
            body: Bytes::plain(br#"{"limit":100,"data":true}"#),
            status: 200,
            answer: Bytes::plain(
                br#"{"changes":[],"sync_timestamp":"2026-11-22T08:25:57.000000Z","cursor":"AQ","has_more":false,"epoch":"00112233445566778899aabbccddeeff"}"#,
            ),
        },
        Wanted {
            name: PUSH,
            about: "A push of one row under the same prekey, with text outside ASCII.",
            kid: 9_223_372_036_854_775_809,
            seq: 2,
            method: "POST",
            target: "/api/sync/push",
            body: Bytes::plain(
                r#"{"changes":[{"entity_type":"actor","sync_uuid":"6e3f6a52-7a0b-4c8e-9d53-0d5f3c1b2a10","operation":"update","data":{"first_name":"Æsa 🦊"},"version":4}]}"#
                    .as_bytes(),
            ),
            status: 200,
            answer: Bytes::plain(br#"{"accepted":1,"accepted_states":[],"conflicts":[],"rejected":0,"message":"1 rows taken in","epoch":"00112233445566778899aabbccddeeff"}"#),
        },
        Wanted {
            name: "devices",
            about: "A GET under a prekey: empty, carried in the header.",
            kid: 7,
            seq: 18_446_744_073_709_551_615,
            method: "GET",
            target: "/api/devices",
            body: Bytes::plain(b""),
            status: 200,
            answer: Bytes::plain(br#"{"devices":[]}"#),
        },
        Wanted {
            name: "leave",
            about: "A device removes itself: a DELETE, carried in the header; refused with a \
                sealed 403 because it names another device.",
            kid: 7,
            seq: 3,
            method: "DELETE",
            target: "/api/devices/12D3KooWexample",
            body: Bytes::plain(b""),
            status: 403,
            answer: Bytes::plain(br#"{"detail":"a device may only remove itself"}"#),
        },
        Wanted {
            name: "query",
            about: "The target is path and query exactly as sent, percent signs included. The \
                answer is empty: one segment of nothing.",
            kid: 7,
            seq: 4,
            method: "GET",
            target: "/api/sync/conflicts?table=a%2Fb&x=",
            body: Bytes::plain(b""),
            status: 204,
            answer: Bytes::plain(b""),
        },
        Wanted {
            name: "one full segment",
            about: "With reply key (32), time (8) and signature (64) the body fills one segment of \
                65,536 bytes exactly; the answer, too.",
            kid: 7,
            seq: 5,
            method: "POST",
            target: "/api/sync/push",
            body: Bytes::Rule { repeat: pattern.clone(), length: SEGMENT_BYTES - 104 },
            status: 200,
            answer: Bytes::Rule { repeat: pattern.clone(), length: SEGMENT_BYTES },
        },
        Wanted {
            name: "one byte more",
            about: "One byte more than fills a segment: two segments, the last of one byte.",
            kid: 7,
            seq: 6,
            method: "POST",
            target: "/api/sync/push",
            body: Bytes::Rule { repeat: pattern.clone(), length: SEGMENT_BYTES - 103 },
            status: 200,
            answer: Bytes::Rule { repeat: pattern.clone(), length: SEGMENT_BYTES + 1 },
        },
        Wanted {
            name: "several segments",
            about: "Four segments there, three back.",
            kid: 7,
            seq: 7,
            method: "POST",
            target: "/api/sync/push",
            body: Bytes::Rule { repeat: pattern.clone(), length: 200_000 },
            status: 200,
            answer: Bytes::Rule { repeat: pattern, length: 150_000 },
        },
    ];
    let requests: Vec<SealedRequest> =
        wanted.into_iter().map(|wanted| wanted.write(&parties.client, &parties.server)).collect();
    let push = requests.iter().find(|request| request.name == PUSH).unwrap();
    let body = push.body.get();
    let short = push.craft(&parties).seal(48, |info, enc| push.signed(&parties, &body, info, enc));
    let also_opens = vec![AlsoOpens {
        name: "short segments".to_owned(),
        about: "Segments that are not full: no sealer should write them, every opener takes them."
            .to_owned(),
        request: PUSH.to_owned(),
        body: Hex(body),
        envelope: Hex(short),
    }];
    let about = [
        "Sealed bodies, version SSY1, as PROTOCOL.md describes them. Bytes are hexadecimal; kid \
            and seq are decimal text.",
        "All secrets here are public and made of their names (SHA-256 of 'storysync/1 vector: ' \
            and the name): never use them.",
        "ephemeral_ikm goes through HPKE's DeriveKeyPair (RFC 9180 section 7.1.3) and gives enc; \
            reply_secret is an X25519 secret as it is.",
        "A request's exported secrets come from its HPKE context, the response's from the \
            response's.",
        "Bodies given as {repeat, length} are that pattern over and over, cut at that length; of \
            long envelopes only length and SHA-256 are given.",
        "must_fail cases are opened as the named request (or as its answer), with the inputs under \
            'with' in place of its own.",
    ];
    SealedBodies {
        about: about.map(str::to_owned).to_vec(),
        must_fail_requests: must_fail_requests(&requests, &parties),
        must_fail_responses: must_fail_responses(&requests, &parties),
        client: parties.client,
        server: parties.server,
        requests,
        also_opens,
    }
}

#[test]
fn sealed_bodies_are_written_and_read_as_the_vectors_say() {
    let file = hold("sealed-bodies.json", &sealed_bodies());
    let parties = Parties { client: file.client.clone(), server: file.server.clone() };
    let find = |name: &str| file.requests.iter().find(|request| request.name == name).unwrap();
    let mut opened = 0;
    for request in &file.requests {
        let (sealed, awaited) = request.seal_again(&parties);
        assert_eq!(Envelope::of(&sealed), request.envelope, "{}", request.name);
        let received = request.open(&parties, &With::default(), &sealed).unwrap();
        assert_eq!(*received.body, request.body.get());
        let mut rng = Stated::new(&[&request.response.ephemeral_ikm.0]);
        let answer = received
            .responder
            .seal(request.response.status, &request.response.body.get(), &mut rng)
            .unwrap();
        assert_eq!(
            Envelope::of(&answer),
            request.response.envelope,
            "the answer to {}",
            request.name
        );
        assert_eq!(
            *awaited.open(request.response.status, &answer).unwrap().body,
            request.response.body.get()
        );
        opened += 2;
    }
    for also in &file.also_opens {
        assert_eq!(
            *find(&also.request).open(&parties, &With::default(), &also.envelope.0).unwrap().body,
            also.body.0
        );
        opened += 1;
    }
    for case in &file.must_fail_requests {
        assert!(
            find(&case.request).open(&parties, &case.with, &case.envelope.0).is_err(),
            "opened although {}",
            case.altered
        );
    }
    for case in &file.must_fail_responses {
        let request = find(&case.request);
        let awaited = request.seal_again(&parties).1;
        assert!(
            awaited
                .open(case.with.status.unwrap_or(request.response.status), &case.envelope.0)
                .is_err(),
            "opened although {}",
            case.altered
        );
    }
    println!(
        "sealed bodies: opened {opened}, refused {}",
        file.must_fail_requests.len() + file.must_fail_responses.len()
    );
}

#[test]
fn a_segment_larger_than_64_kib_is_refused() {
    let parties = Parties::of_file();
    let file = sealed_bodies();
    let push = file.requests.iter().find(|request| request.name == PUSH).unwrap();
    let seal = |segment: usize| {
        push.craft(&parties).seal(segment, |info, enc| {
            push.signed(&parties, &vec![1; 2 * SEGMENT_BYTES], info, enc)
        })
    };
    assert!(push.open(&parties, &With::default(), &seal(SEGMENT_BYTES)).is_ok());
    assert!(push.open(&parties, &With::default(), &seal(SEGMENT_BYTES + 1)).is_err());
}

#[test]
fn the_worked_example_of_the_protocol_is_the_vector() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("PROTOCOL.md")).unwrap();
    let file = sealed_bodies();
    let push = file.requests.iter().find(|request| request.name == PUSH).unwrap();
    let (envelope, body) = (push.plain_envelope(), push.body.get());
    let (plaintext, ciphertext) = (body.len() + 104, body.len() + 120);
    for said in [
        hex(&push.info.0[20..]),
        hex(&push.psk_id.0),
        hex(&push.enc.0),
        hex(&push.reply_key.0),
        hex(&push.sent_ms.to_be_bytes()),
        hex(&push.transcript.0),
        hex(&push.signature.0[..8]),
        hex(&envelope[56..60]),
        hex(&push.exported.response_psk.0),
        format!("{plaintext} bytes"),
        format!("24 + 32 + 4 + {ciphertext} = {} bytes", envelope.len()),
    ] {
        assert!(text.contains(&said), "PROTOCOL.md does not say {said}");
    }
}
