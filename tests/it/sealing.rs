//! Sealed bodies: what is opened is exactly what was sealed, for exactly this request, once.

use getrandom::SysRng;
use rand_core::UnwrapErr;
use storysync_engine::trust::agreement::AgreementKey;
use storysync_engine::trust::envelope::{self, KeyUse, Message, PairSecret, Route};
use storysync_engine::trust::identity::{DeviceId, Identity, Secret};
use storysync_engine::trust::pairing::{
    Admission, Approval, Attempt, Confirmation, Introduction, Joined, Joining, Offer, PairingWindow,
};
use storysync_engine::trust::prekey::{PrekeyRefusal, Prekeys};
use storysync_engine::trust::sealed_token::{SEALED_TOKEN_BYTES, open_token, seal_token};

fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

struct Setting {
    client: Identity,
    server: Identity,
    pair: PairSecret,
    prekey: AgreementKey,
}

impl Setting {
    fn new() -> Self {
        let mut rng = rng();
        Self {
            client: Identity::generate(&mut rng),
            server: Identity::generate(&mut rng),
            pair: PairSecret { secret: Secret::random(&mut rng), epoch: 1 },
            prekey: AgreementKey::from_bytes([5; 32]),
        }
    }

    fn seal(
        &self,
        method: &str,
        target: &str,
        body: &[u8],
    ) -> (Vec<u8>, envelope::AwaitedResponse) {
        let (client, server) = (self.client.public_key(), self.server.public_key());
        let route = Route { method, target, client: &client, server: &server };
        let key = self.prekey.public();
        let message = Message { route, body, sent_ms: 1_000 };
        let key_use = KeyUse { kid: 7, seq: 1 };
        envelope::seal_request(message, &self.pair, &key, key_use, &self.client, &mut rng())
            .unwrap()
    }

    fn open(
        &self,
        method: &str,
        target: &str,
        sealed: &[u8],
    ) -> Result<envelope::OpenedRequest, envelope::OpenError> {
        let (client, server) = (self.client.public_key(), self.server.public_key());
        envelope::open_request(
            Route { method, target, client: &client, server: &server },
            &self.pair,
            &self.prekey,
            sealed,
        )
    }
}

fn introduced(name: &str, port: Option<u16>) -> Introduction<'_> {
    Introduction { name, port }
}

#[test]
fn bodies_of_every_length_arrive_and_are_answered() {
    let setting = Setting::new();
    for length in [0, 1, 65_431, 65_432, 65_433, 65_536, 200_000] {
        let body: Vec<u8> = (0..length).map(|n: usize| n.to_le_bytes()[0]).collect();
        let (sealed, awaited) = setting.seal("POST", "/api/sync/push?x=1", &body);
        let opened = setting.open("POST", "/api/sync/push?x=1", &sealed).unwrap();
        assert_eq!(*opened.body, body);
        let answer = opened.responder.seal(200, &body, &mut rng()).unwrap();
        assert_eq!(*awaited.open(200, &answer).unwrap().body, body);
    }
}

#[test]
fn a_request_opens_for_nothing_but_what_it_was_sealed_for() {
    let setting = Setting::new();
    let (sealed, _) = setting.seal("POST", "/api/sync/push", b"body");
    assert!(setting.open("POST", "/api/sync/push", &sealed).is_ok());
    assert!(setting.open("GET", "/api/sync/push", &sealed).is_err(), "method");
    assert!(setting.open("POST", "/api/sync/pull", &sealed).is_err(), "path");
    assert!(setting.open("POST", "/api/sync/push?", &sealed).is_err(), "query");
    let other = Setting::new();
    let (client, server, stranger) =
        (setting.client.public_key(), setting.server.public_key(), other.client.public_key());
    let route = |client, server| Route { method: "POST", target: "/api/sync/push", client, server };
    assert!(
        envelope::open_request(route(&stranger, &server), &setting.pair, &setting.prekey, &sealed)
            .is_err(),
        "client"
    );
    assert!(
        envelope::open_request(route(&client, &stranger), &setting.pair, &setting.prekey, &sealed)
            .is_err(),
        "server"
    );
    let later = PairSecret { epoch: 2, ..setting.pair.clone() };
    assert!(
        envelope::open_request(route(&client, &server), &later, &setting.prekey, &sealed).is_err(),
        "epoch"
    );
    assert!(
        envelope::open_request(route(&client, &server), &other.pair, &setting.prekey, &sealed)
            .is_err(),
        "pair secret"
    );
    assert!(
        envelope::open_request(
            route(&client, &server),
            &setting.pair,
            &AgreementKey::from_bytes([6; 32]),
            &sealed
        )
        .is_err(),
        "prekey"
    );
}

#[test]
fn every_flipped_bit_and_every_cut_is_refused() {
    let setting = Setting::new();
    let (sealed, awaited) = setting.seal("POST", "/p", b"a body");
    let answer = setting
        .open("POST", "/p", &sealed)
        .unwrap()
        .responder
        .seal(200, b"answer", &mut rng())
        .unwrap();
    for position in 0..sealed.len() * 8 {
        let mut flipped = sealed.clone();
        flipped[position / 8] ^= 1 << (position % 8);
        assert!(setting.open("POST", "/p", &flipped).is_err(), "bit {position} of the request");
    }
    for length in 0..sealed.len() {
        assert!(setting.open("POST", "/p", &sealed[..length]).is_err());
    }
    assert!(
        setting.open("POST", "/p", &[&sealed[..], &[0]].concat()).is_err(),
        "something appended"
    );
    let mut flipped = answer.clone();
    flipped[70] ^= 1;
    assert!(awaited.open(200, &flipped).is_err());
}

#[test]
fn an_answer_belongs_to_one_request_and_one_status() {
    let setting = Setting::new();
    let (first, _) = setting.seal("POST", "/p", b"same");
    let (_, awaited_second) = setting.seal("POST", "/p", b"same");
    let answer = setting
        .open("POST", "/p", &first)
        .unwrap()
        .responder
        .seal(200, b"answer", &mut rng())
        .unwrap();
    assert!(awaited_second.open(200, &answer).is_err(), "an answer to another request");
    let (request, awaited) = setting.seal("POST", "/p", b"same");
    let answer = setting
        .open("POST", "/p", &request)
        .unwrap()
        .responder
        .seal(200, b"answer", &mut rng())
        .unwrap();
    assert!(awaited.open(404, &answer).is_err(), "another status");
}

#[test]
fn a_prekey_serves_each_sequence_number_once_and_only_its_owner() {
    let mut prekeys = Prekeys::default();
    let (owner, stranger) = (DeviceId::of_key(&[1; 32]), DeviceId::of_key(&[2; 32]));
    let prekey = prekeys.issue(&owner, 0, &mut rng());
    assert_eq!(prekeys.secret(prekey.kid, 1, &owner, 0).unwrap().public(), prekey.key);
    assert_eq!(prekeys.secret(prekey.kid, 1, &stranger, 0).err(), Some(PrekeyRefusal::Unknown));
    assert_eq!(prekeys.secret(prekey.kid ^ 1, 1, &owner, 0).err(), Some(PrekeyRefusal::Unknown));
    assert_eq!(
        prekeys.secret(prekey.kid, 1, &owner, 15 * 60 * 1000).err(),
        Some(PrekeyRefusal::Unknown),
        "worn out by time"
    );
    for (seq, expected) in [
        (1, Ok(())),
        (1, Err(PrekeyRefusal::Replayed)),
        (3, Ok(())),
        (2, Ok(())),
        (2, Err(PrekeyRefusal::Replayed)),
        (200, Ok(())),
        (100, Err(PrekeyRefusal::Replayed)),
        (199, Ok(())),
        (0, Err(PrekeyRefusal::Replayed)),
    ] {
        assert_eq!(prekeys.mark(prekey.kid, seq, &owner, 0), expected, "{seq}");
    }
    assert_eq!(
        prekeys.secret(prekey.kid, 199, &owner, 0).err(),
        Some(PrekeyRefusal::Replayed),
        "known before anything is opened"
    );
    // A recorded request for a prekey, answered however often, pushes no other out: neither one in
    // use nor one that was just given.
    let fresh = prekeys.issue(&owner, 0, &mut rng());
    for _ in 0..5_000 {
        prekeys.issue(&owner, 0, &mut rng());
    }
    assert!(prekeys.secret(fresh.kid, 1, &owner, 0).is_ok());
    assert_eq!(prekeys.mark(prekey.kid, 200, &owner, 0), Err(PrekeyRefusal::Replayed));
    // And of the latest, each is answered once.
    assert_eq!(prekeys.mark_asked(&[1; 32]), Ok(()));
    assert_eq!(prekeys.mark_asked(&[1; 32]), Err(PrekeyRefusal::Replayed));
    assert_eq!(prekeys.mark_asked(&[2; 32]), Ok(()));
    // Sent away, nothing of before opens; paired anew, what is given then does.
    prekeys.forget(&owner);
    assert_eq!(prekeys.secret(fresh.kid, 1, &owner, 0).err(), Some(PrekeyRefusal::Unknown));
    let anew = prekeys.issue(&owner, 0, &mut rng());
    assert!(prekeys.secret(anew.kid, 1, &owner, 0).is_ok());
    // After a thousand requests it is worn out.
    for seq in 1..=1_000 {
        assert_eq!(prekeys.mark(anew.kid, seq, &owner, 0), Ok(()));
    }
    assert_eq!(prekeys.secret(anew.kid, 1_001, &owner, 0).err(), Some(PrekeyRefusal::Unknown));
}

#[test]
fn a_recorded_registration_is_not_answered_in_the_place_of_the_device_that_made_it() {
    let (desktop, phone) = (Identity::generate(&mut rng()), Identity::generate(&mut rng()));
    let mut window = PairingWindow::open(&desktop, Vec::new(), Approval::Code, 0, &mut rng());
    let offer = window.offer().clone();
    let attempt = Attempt::new(&mut rng());
    let (recorded, joining) =
        Joining::start(&offer, &phone, introduced("phone", None), &attempt, 0, &mut rng()).unwrap();
    let admit = |window: &mut PairingWindow, sealed: &[u8]| {
        window.admit(sealed, &desktop, "d", |_| Some(0), &mut rng())
    };
    assert!(matches!(admit(&mut window, &recorded), Ok(Admission::Pending { .. })));
    assert_eq!(window.confirm(&joining.code()), Confirmation::Approved);
    assert!(admit(&mut window, &recorded).is_err(), "a stranger would use up the approval");
    let (next, _) =
        Joining::start(&offer, &phone, introduced("phone", None), &attempt, 0, &mut rng()).unwrap();
    assert!(matches!(admit(&mut window, &next), Ok(Admission::Granted { .. })));
}

#[test]
fn both_sides_of_a_pairing_end_with_the_same_secret_and_tokens() {
    let (desktop, phone) = (Identity::generate(&mut rng()), Identity::generate(&mut rng()));
    let mut window = PairingWindow::open(
        &desktop,
        vec![("127.0.0.1".parse().unwrap(), 1)],
        Approval::Code,
        0,
        &mut rng(),
    );
    let offer = Offer::parse(&window.offer().to_text()).unwrap();
    let attempt = Attempt::new(&mut rng());
    let join = || {
        Joining::start(&offer, &phone, introduced("phone", Some(5)), &attempt, 0, &mut rng())
            .unwrap()
    };
    let (sealed, joining) = join();
    let Admission::Pending { responder } =
        window.admit(&sealed, &desktop, "desktop", |_| Some(0), &mut rng()).unwrap()
    else {
        panic!("a code is wanted")
    };
    let Joined::Pending { code } =
        joining.accept(202, &responder.seal(202, b"{}", &mut rng()).unwrap()).unwrap()
    else {
        panic!("pending")
    };
    assert_eq!(window.confirm("nope"), Confirmation::Wrong { tries_left: 2 });
    assert_eq!(window.confirm(&code), Confirmation::Approved);
    let (sealed, joining) = join();
    let Admission::Granted { device, answer } =
        window.admit(&sealed, &desktop, "desktop", |_| Some(4), &mut rng()).unwrap()
    else {
        panic!("approved")
    };
    let Joined::Paired(other) = joining.accept(200, &answer).unwrap() else { panic!("granted") };
    assert_eq!(
        (device.pair.secret.clone(), device.pair.epoch),
        (other.pair.secret.clone(), other.pair.epoch)
    );
    assert_eq!(device.pair.epoch, 5);
    assert_eq!(device.token_from_device, other.token_to_device);
    assert_eq!(device.token_to_device, other.token_from_device);
    assert_eq!(
        (device.identity_key, other.identity_key),
        (phone.public_key(), desktop.public_key())
    );
    assert_eq!(device.port, Some(5));
}

#[test]
fn whoever_starts_over_is_shown_another_code_and_that_one_counts() {
    let (desktop, phone) = (Identity::generate(&mut rng()), Identity::generate(&mut rng()));
    let mut window = PairingWindow::open(&desktop, Vec::new(), Approval::Code, 0, &mut rng());
    let offer = window.offer().clone();
    let mut ask = |attempt: &Attempt| {
        let (sealed, joining) =
            Joining::start(&offer, &phone, introduced("phone", None), attempt, 0, &mut rng())
                .unwrap();
        assert!(matches!(
            window.admit(&sealed, &desktop, "d", |_| Some(0), &mut rng()),
            Ok(Admission::Pending { .. })
        ));
        joining.code()
    };
    let (first, second) = (Attempt::new(&mut rng()), Attempt::new(&mut rng()));
    let lost = ask(&first);
    ask(&first);
    let shown = ask(&second);
    ask(&second);
    if lost != shown {
        assert_eq!(window.confirm(&lost), Confirmation::Wrong { tries_left: 2 });
    }
    assert_eq!(window.confirm(&shown), Confirmation::Approved);
}

#[test]
fn a_second_device_with_the_same_code_aborts_the_pairing() {
    let (desktop, phone, thief) = (
        Identity::generate(&mut rng()),
        Identity::generate(&mut rng()),
        Identity::generate(&mut rng()),
    );
    let mut window = PairingWindow::open(&desktop, Vec::new(), Approval::Code, 0, &mut rng());
    let offer = window.offer().clone();
    let (first, _) = Joining::start(
        &offer,
        &thief,
        introduced("thief", None),
        &Attempt::new(&mut rng()),
        0,
        &mut rng(),
    )
    .unwrap();
    let (second, _) = Joining::start(
        &offer,
        &phone,
        introduced("phone", None),
        &Attempt::new(&mut rng()),
        0,
        &mut rng(),
    )
    .unwrap();
    assert!(matches!(
        window.admit(&first, &desktop, "d", |_| Some(0), &mut rng()),
        Ok(Admission::Pending { .. })
    ));
    assert!(matches!(
        window.admit(&second, &desktop, "d", |_| Some(0), &mut rng()),
        Ok(Admission::Leaked)
    ));
}

#[test]
fn secrets_are_never_printed() {
    let identity = Identity::generate(&mut rng());
    let secret = Secret::from_bytes([0xab; 32]);
    let printed =
        format!("{secret:?} {identity:?} {:?}", PairSecret { secret: secret.clone(), epoch: 1 });
    assert!(
        !printed.contains("171")
            && !printed.contains("ab, ab")
            && !printed.to_lowercase().contains("abab"),
        "{printed}"
    );
    assert!(printed.contains("Secret(…)"));
}

#[test]
fn events_open_one_by_one_in_their_order_and_nothing_else_does() {
    let setting = Setting::new();
    let start = || {
        let (sealed, awaited) = setting.seal("GET", "/api/sync/events?cursor=x", b"");
        let responder =
            setting.open("GET", "/api/sync/events?cursor=x", &sealed).unwrap().responder;
        let (head, mut sealer) = responder.begin_events(&mut rng()).unwrap();
        let segments: Vec<Vec<u8>> = ["one", "two", "three"]
            .iter()
            .map(|event| sealer.seal(event.as_bytes()).unwrap())
            .collect();
        (awaited, head, segments, sealer)
    };
    // Byte by byte: each is handed out once it is whole, and not before.
    let (awaited, head, segments, mut sealer) = start();
    let mut opener = awaited.events();
    let mut got = Vec::new();
    for byte in head.iter().chain(segments.iter().flatten()) {
        opener.arrived(&[*byte]);
        got.extend(opener.next_event().unwrap());
    }
    assert_eq!(got, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
    assert!(sealer.seal(&[0; 1_025]).is_err());

    type Alter<'a> = &'a mut dyn FnMut(&[u8], &[Vec<u8>]) -> Vec<u8>;
    let altered = |bytes: Alter<'_>| {
        let (awaited, head, segments, _) = start();
        let mut opener = awaited.events();
        opener.arrived(&bytes(&head, &segments));
        let mut opened = Vec::new();
        loop {
            match opener.next_event() {
                Ok(Some(event)) => opened.push(event),
                Ok(None) => return (opened, false),
                Err(_) => return (opened, true),
            }
        }
    };
    assert_eq!(
        altered(&mut |head, segments| [head, &segments[1]].concat()),
        (Vec::new(), true),
        "dropped"
    );
    assert_eq!(
        altered(&mut |head, segments| [head, &segments[0], &segments[0]].concat()),
        (vec![b"one".to_vec()], true),
        "repeated"
    );
    assert_eq!(
        altered(&mut |head, segments| [head, &segments[0], &segments[2]].concat()),
        (vec![b"one".to_vec()], true),
        "in another order"
    );
    assert_eq!(
        altered(&mut |head, segments| [head, &segments[0][..9]].concat()),
        (Vec::new(), false),
        "not there yet"
    );
    let (_, other, segments, _) = start();
    assert_eq!(
        altered(&mut |_, _| [&other[..], &segments[0]].concat()),
        (Vec::new(), true),
        "of another request"
    );
    for position in 0..head.len() + segments[0].len() {
        let (opened, _) = altered(&mut |head, segments| {
            let mut bytes = [head, &segments[0]].concat();
            bytes[position] ^= 1;
            bytes
        });
        assert!(opened.is_empty(), "byte {position}");
    }
    // An answer is no stream, and a stream no answer.
    let (awaited, head, segments, _) = start();
    assert!(awaited.open(200, &[&head[..], &segments[0]].concat()).is_err());
    let (sealed, awaited) = setting.seal("GET", "/api/sync/events", b"");
    let answer = setting
        .open("GET", "/api/sync/events", &sealed)
        .unwrap()
        .responder
        .seal(200, b"one", &mut rng())
        .unwrap();
    let mut opener = awaited.events();
    opener.arrived(&answer);
    assert!(opener.next_event().is_err());
}

#[test]
fn two_devices_read_the_same_safety_number_and_a_third_another() {
    use storysync_engine::trust::identity::safety_number;
    let (one, other, between) = ([1; 32], [2; 32], [3; 32]);
    assert_eq!(safety_number(&one, &other), safety_number(&other, &one));
    assert_ne!(safety_number(&one, &other), safety_number(&one, &between));
    let number = safety_number(&one, &other);
    assert_eq!(number.len(), 35, "{number}");
    assert!(number.split(' ').all(|group| group.len() == 5 && group.parse::<u32>().is_ok()));
}

#[test]
fn a_token_is_read_by_the_device_it_was_sealed_to_and_by_nobody_else() {
    let mut rng = rng();
    let (desktop, other) = (Identity::generate(&mut rng), Identity::generate(&mut rng));
    let token = Secret::random(&mut rng);
    let mut seal = || -> [u8; SEALED_TOKEN_BYTES] {
        seal_token(&token, &desktop.public_key(), &desktop.static_key(), &mut rng)
            .unwrap()
            .try_into()
            .unwrap()
    };
    let (once, again) = (seal(), seal());
    assert_eq!(open_token(&once, &desktop).unwrap(), token);
    assert!(open_token(&once, &other).is_err());
    let shared = once.iter().zip(&again).filter(|(one, other)| one == other).count();
    assert!(shared < 10, "{shared} of {SEALED_TOKEN_BYTES} bytes are the same");
    for at in 0..SEALED_TOKEN_BYTES {
        let mut spoilt = once;
        spoilt[at] ^= 0x80;
        // The highest bit of an X25519 key is ignored (RFC 7748 §5), but not by HPKE's context.
        assert!(open_token(&spoilt, &desktop).is_err(), "byte {at}");
    }
}
