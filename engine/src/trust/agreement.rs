//! X25519 key pairs, and the key encapsulation HPKE does with them: DHKEM(X25519, HKDF-SHA256), RFC
//! 9180 §4.1 and §7.1.
//!
//! The scheme is the RFC's to the byte, and the RFC's vectors are run over it. It stands here,
//! beside the one in the `hpke` crate, because a pair here keeps its public half: that crate
//! computes it anew wherever the scheme names it, which is a third of all X25519 multiplications of
//! a request and its answer.

use hpke::kdf::{HkdfSha256, Kdf as _};
use hpke::kem::{SharedSecret, X25519HkdfSha256};
use hpke::{Deserializable, HpkeError, Kem, Serializable};
use rand_core::CryptoRng;
use subtle::{Choice, ConstantTimeEq};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::secret::Secret;

/// What the scheme calls itself in its derivations: "KEM" and its number (RFC 9180 §4.1 and §7.1).
const SUITE_ID: [u8; 5] = [b'K', b'E', b'M', 0x00, 0x20];
const KEY_BYTES: usize = 32;

/// An X25519 key pair. The secret half is wiped when dropped and never printed.
#[derive(Clone)]
pub struct AgreementKey {
    secret: StaticSecret,
    public: PublicKey,
}

impl AgreementKey {
    /// The pair of a secret scalar.
    #[must_use]
    pub fn from_bytes(scalar: [u8; KEY_BYTES]) -> Self {
        let secret = StaticSecret::from(scalar);
        Self { public: PublicKey::from(&secret), secret }
    }

    /// A fresh pair.
    #[must_use]
    pub fn random(rng: &mut impl CryptoRng) -> Self {
        Self::from_bytes(*Secret::random(rng).expose())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> [u8; KEY_BYTES] {
        self.public.to_bytes()
    }

    /// The secret half, for the key file only.
    pub(super) fn to_secret(&self) -> Secret {
        Secret::from_bytes(*Zeroizing::new(self.secret.to_bytes()))
    }

    /// What both ends of an agreement come to; nothing when the other key is worth nothing (RFC
    /// 7748 §6.1).
    fn agree(&self, other: &PublicKey) -> Option<x25519_dalek::SharedSecret> {
        Some(self.secret.diffie_hellman(other)).filter(x25519_dalek::SharedSecret::was_contributory)
    }
}

impl std::fmt::Debug for AgreementKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AgreementKey(…)")
    }
}

impl ConstantTimeEq for AgreementKey {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.secret.as_bytes().ct_eq(other.secret.as_bytes())
    }
}

impl Serializable for AgreementKey {
    type OutputSize = <<X25519HkdfSha256 as Kem>::PrivateKey as Serializable>::OutputSize;

    fn write_exact(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(self.secret.as_bytes());
    }
}

impl Deserializable for AgreementKey {
    fn from_bytes(encoded: &[u8]) -> Result<Self, HpkeError> {
        Ok(Self::from_bytes(*Zeroizing::new(key_bytes(encoded)?)))
    }
}

/// The public half of an [`AgreementKey`]; the encapsulated key of the scheme is one, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgreementPublic(PublicKey);

impl Serializable for AgreementPublic {
    type OutputSize = <<X25519HkdfSha256 as Kem>::PublicKey as Serializable>::OutputSize;

    fn write_exact(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(self.0.as_bytes());
    }
}

impl Deserializable for AgreementPublic {
    fn from_bytes(encoded: &[u8]) -> Result<Self, HpkeError> {
        Ok(Self(PublicKey::from(key_bytes(encoded)?)))
    }
}

fn key_bytes(encoded: &[u8]) -> Result<[u8; KEY_BYTES], HpkeError> {
    encoded.try_into().map_err(|_| HpkeError::IncorrectInputLength(KEY_BYTES, encoded.len()))
}

/// DHKEM(X25519, HKDF-SHA256) over [`AgreementKey`]s, without the modes that authenticate a sender.
#[derive(Debug, Clone, Copy)]
pub struct AgreementKem;

/// `ExtractAndExpand(dh, enc ‖ pkR)` of RFC 9180 §4.1.
fn shared_secret(
    agreed: &x25519_dalek::SharedSecret,
    enc: &PublicKey,
    recipient: &PublicKey,
) -> Result<SharedSecret<AgreementKem>, HpkeError> {
    let context = [enc.as_bytes().as_slice(), recipient.as_bytes()].concat();
    let mut shared = SharedSecret::default();
    HkdfSha256::extract_and_expand(agreed.as_bytes(), &SUITE_ID, &context, &mut shared.0)?;
    Ok(shared)
}

impl Kem for AgreementKem {
    type PublicKey = AgreementPublic;
    type PrivateKey = AgreementKey;
    type EncappedKey = AgreementPublic;
    type NSecret = <X25519HkdfSha256 as Kem>::NSecret;

    const KEM_ID: u16 = X25519HkdfSha256::KEM_ID;

    fn sk_to_pk(pair: &AgreementKey) -> AgreementPublic {
        AgreementPublic(pair.public)
    }

    fn derive_keypair(ikm: &[u8]) -> (AgreementKey, AgreementPublic) {
        let pair = AgreementKey::from_bytes(HkdfSha256::derive_x25519_sk_eph_bytes(&SUITE_ID, ikm));
        let public = Self::sk_to_pk(&pair);
        (pair, public)
    }

    fn decap(
        recipient: &AgreementKey,
        sender: Option<&AgreementPublic>,
        enc: &AgreementPublic,
    ) -> Result<SharedSecret<Self>, HpkeError> {
        let agreed =
            recipient.agree(&enc.0).filter(|_| sender.is_none()).ok_or(HpkeError::DecapError)?;
        shared_secret(&agreed, &enc.0, &recipient.public)
    }

    fn encap_with_rng(
        recipient: &AgreementPublic,
        sender: Option<(&AgreementKey, &AgreementPublic)>,
        rng: &mut impl CryptoRng,
    ) -> Result<(SharedSecret<Self>, AgreementPublic), HpkeError> {
        let (ephemeral, enc) = Self::gen_keypair_with_rng(rng);
        let agreed = ephemeral
            .agree(&recipient.0)
            .filter(|_| sender.is_none())
            .ok_or(HpkeError::EncapError)?;
        Ok((shared_secret(&agreed, &enc.0, &recipient.0)?, enc))
    }
}

/// A shared secret, and what lets its recipient come to it. For one message: taking it apart uses
/// it up.
pub struct Encapsulation {
    enc: AgreementPublic,
    shared: SharedSecret<AgreementKem>,
}

impl Encapsulation {
    /// A fresh one.
    ///
    /// # Errors
    /// When `recipient` is no usable X25519 key.
    pub fn to(recipient: &[u8; KEY_BYTES], rng: &mut impl CryptoRng) -> Result<Self, HpkeError> {
        let (shared, enc) =
            AgreementKem::encap_with_rng(&AgreementPublic(PublicKey::from(*recipient)), None, rng)?;
        Ok(Self { enc, shared })
    }

    pub(super) fn into_parts(self) -> ([u8; KEY_BYTES], SharedSecret<AgreementKem>) {
        (self.enc.0.to_bytes(), self.shared)
    }
}

impl std::fmt::Debug for Encapsulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encapsulation(…)")
    }
}
