//! A device's identity: an Ed25519 key that signs and gives the device its name, and an X25519 key
//! that opens the first call.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey};
use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};
use storysync_crdt::DeviceKey;
use zeroize::Zeroize;

use super::agreement::AgreementKey;
pub use super::secret::Secret;

/// What stands before an Ed25519 public key in a libp2p PeerId: identity multihash of a protobuf
/// with key type 1 (libp2p peer-ids specification).
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/// A device's name for programs: the libp2p PeerId of its identity key, in base58.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId(String);

impl DeviceId {
    /// The name of the device with an identity key.
    #[must_use]
    pub fn of_key(key: &DeviceKey) -> Self {
        let mut bytes = PEER_ID_PREFIX.to_vec();
        bytes.extend_from_slice(key);
        Self(bs58::encode(bytes).into_string())
    }

    /// Reads a PeerId of an Ed25519 key; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = bs58::decode(text).into_vec().ok()?;
        let key: DeviceKey = bytes.strip_prefix(&PEER_ID_PREFIX)?.try_into().ok()?;
        Some(Self::of_key(&key))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The identity key it names.
    #[must_use]
    pub fn key(&self) -> Option<DeviceKey> {
        let bytes = bs58::decode(&self.0).into_vec().ok()?;
        bytes.strip_prefix(&PEER_ID_PREFIX)?.try_into().ok()
    }
}

/// Two devices' numbers in common, for two people to read to each other: thirty digits in six
/// groups. Whoever stood between them when they were paired has given each another key, and the
/// numbers differ. About 100 bits of SHA-256 over both identity keys, whoever asks.
#[must_use]
pub fn safety_number(one: &DeviceKey, other: &DeviceKey) -> String {
    let digest = Sha256::new()
        .chain_update(b"storysync/1 safety number\0")
        .chain_update(one.min(other))
        .chain_update(one.max(other))
        .finalize();
    let group = |bytes: &[u8]| bytes.iter().fold(0, |sum: u64, byte| (sum << 8) | u64::from(*byte));
    let groups: Vec<String> = digest
        .chunks_exact(SAFETY_GROUP_BYTES)
        .map(|bytes| format!("{:05}", group(bytes) % 100_000))
        .collect();
    groups.join(" ")
}

/// Bytes of the digest that make one group of five digits: enough for each to be as likely.
const SAFETY_GROUP_BYTES: usize = 5;

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The secret keys of this device.
#[derive(Clone)]
pub struct Identity {
    signing: SigningKey,
    agreement: AgreementKey,
}

impl Identity {
    /// A new device.
    #[must_use]
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self::from_secrets(Secret::random(rng).expose(), Secret::random(rng).expose())
    }

    /// From the two stored secrets: Ed25519 seed, X25519 scalar.
    #[must_use]
    pub fn from_secrets(seed: &[u8; 32], scalar: &[u8; 32]) -> Self {
        Self { signing: SigningKey::from_bytes(seed), agreement: AgreementKey::from_bytes(*scalar) }
    }

    /// The two secrets, for the key file only.
    #[must_use]
    pub fn to_secrets(&self) -> (Secret, Secret) {
        let mut seed = self.signing.to_bytes();
        let secrets = (Secret::from_bytes(seed), self.agreement.to_secret());
        seed.zeroize();
        secrets
    }

    /// The Ed25519 public key: who this device is.
    #[must_use]
    pub fn public_key(&self) -> DeviceKey {
        self.signing.verifying_key().to_bytes()
    }

    /// The device's name.
    #[must_use]
    pub fn device_id(&self) -> DeviceId {
        DeviceId::of_key(&self.public_key())
    }

    /// The X25519 public key others seal their first call to.
    #[must_use]
    pub fn static_key(&self) -> [u8; 32] {
        self.agreement.public()
    }

    /// The pair of [`Self::static_key`].
    #[must_use]
    pub fn agreement(&self) -> &AgreementKey {
        &self.agreement
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("device_id", &self.device_id()).finish_non_exhaustive()
    }
}
