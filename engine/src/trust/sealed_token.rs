//! How a caller says who it is, so that only the device it means can read it: its token, sealed to
//! that device's static key (RFC 9180, mode_base, with the suite of every envelope).
//!
//! The request beside it opens only for who has that key and the pair secret, so the first answer
//! that opens proves who answers; until then nothing was said that names either side. It proves
//! nothing about the caller: the envelope does.

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::{HkdfSha256, Kdf as _};
use hpke::{Deserializable as _, OpModeR, OpModeS, setup_receiver};
use rand_core::CryptoRng;
use storysync_crdt::DeviceKey;
use zeroize::Zeroizing;

use super::agreement::{AgreementKem, AgreementPublic, Encapsulation};
use super::envelope::{ENC_BYTES, OpenError, SealError, Sender, TAG_BYTES};
use super::identity::{Identity, Secret};

const LABEL: &[u8] = b"storysync/1 caller \0";
/// Bytes of a sealed token: an encapsulated key, and 32 bytes with their tag.
pub const SEALED_TOKEN_BYTES: usize = ENC_BYTES + 32 + TAG_BYTES;

fn info(server: &DeviceKey) -> Vec<u8> {
    [LABEL, server].concat()
}

/// Seals a token to the static key of the device `server`. Each time to other bytes.
///
/// # Errors
/// When `static_key` is no usable X25519 key.
pub fn seal_token(
    token: &Secret,
    server: &DeviceKey,
    static_key: &[u8; 32],
    rng: &mut impl CryptoRng,
) -> Result<Vec<u8>, SealError> {
    let (enc, shared) = Encapsulation::to(static_key, rng).map_err(|_| SealError)?.into_parts();
    let mut sender: Sender =
        HkdfSha256::combine_secrets(&OpModeS::Base, shared, &info(server)).into();
    let sealed = sender.seal(token.expose(), &[]).map_err(|_| SealError)?;
    Ok([enc.as_slice(), &sealed].concat())
}

/// Opens a token that was sealed to this device.
///
/// # Errors
/// When it was not, or is not whole.
pub fn open_token(
    sealed: &[u8; SEALED_TOKEN_BYTES],
    identity: &Identity,
) -> Result<Secret, OpenError> {
    let (enc, sealed) = sealed.split_at_checked(ENC_BYTES).ok_or(OpenError)?;
    let enc = AgreementPublic::from_bytes(enc).map_err(|_| OpenError)?;
    let mut receiver = setup_receiver::<ChaCha20Poly1305, HkdfSha256, AgreementKem>(
        &OpModeR::Base,
        identity.agreement(),
        &enc,
        &info(&identity.public_key()),
    )
    .map_err(|_| OpenError)?;
    let token = Zeroizing::new(receiver.open(sealed, &[]).map_err(|_| OpenError)?);
    Ok(Secret::from_bytes(token.as_slice().try_into().map_err(|_| OpenError)?))
}
