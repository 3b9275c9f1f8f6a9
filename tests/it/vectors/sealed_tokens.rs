//! `sealed-tokens.json`: a token as only the device it is meant for reads it.

use serde::{Deserialize, Serialize};
use storysync_engine::trust::identity::Secret;
use storysync_engine::trust::sealed_token::{open_token, seal_token};
use storysync_engine::trust::to_base64url;

use super::{Device, Hex, altered, hold, stated};
use crate::primitives::Stated;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SealedTokenVector {
    about: String,
    server: Device,
    token: Hex,
    ephemeral_ikm: Hex,
    info: Hex,
    sealed: Hex,
    /// As it stands in a request.
    authorization: String,
    pub(super) must_fail: Vec<RefusedToken>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RefusedToken {
    altered: String,
    sealed: Hex,
}

/// The file, held against what the code writes.
pub(super) fn sealed_tokens() -> SealedTokenVector {
    let (server, other) = (Device::named("server"), Device::named("desktop"));
    let (token, ikm) = (stated("a token"), stated("ephemeral key of a sealed token"));
    let seal = |device: &Device, key: &Device| {
        let (identity, to) = (device.identity_key.array(), key.static_key.array());
        let token = Secret::from_bytes(token);
        seal_token(&token, &identity, &to, &mut Stated::new(&[&ikm])).unwrap()
    };
    let sealed = seal(&server, &server);
    let mut must_fail = vec![
        ("sealed to another device", seal(&other, &other)),
        ("sealed to the right key under another identity", seal(&other, &server)),
    ];
    for (why, at) in [("the encapsulated key", 0), ("the token", 32), ("the tag", 79)] {
        must_fail.push((why, altered(&sealed, |bytes| bytes[at] ^= 1)));
    }
    let must_fail: Vec<RefusedToken> = must_fail
        .into_iter()
        .map(|(why, sealed)| RefusedToken { altered: why.to_owned(), sealed: Hex::from(&sealed) })
        .collect();
    hold(
        "sealed-tokens.json",
        &SealedTokenVector {
            about: "HPKE in mode_base to the server's static key, nothing beside it (aad is \
                    empty): the encapsulated key, then the sealed token. ephemeral_ikm is what \
                    DeriveKeyPair makes the ephemeral key of."
                .to_owned(),
            info: Hex::from(
                &[b"storysync/1 caller \0".as_slice(), &server.identity_key.array()].concat(),
            ),
            server,
            token: Hex::from(&token),
            ephemeral_ikm: Hex::from(&ikm),
            authorization: format!("Sealed {}", to_base64url(&sealed)),
            sealed: Hex::from(&sealed),
            must_fail,
        },
    )
}

#[test]
fn tokens_are_sealed_as_the_vectors_say() {
    let file = sealed_tokens();
    let identity = file.server.identity();
    let open = |sealed: &Hex| open_token(sealed.0.as_slice().try_into().unwrap(), &identity);
    assert_eq!(*open(&file.sealed).unwrap().expose(), file.token.array());
    for case in &file.must_fail {
        assert!(open(&case.sealed).is_err(), "{}", case.altered);
    }
}
