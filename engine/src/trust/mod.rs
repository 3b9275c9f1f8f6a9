//! Who may talk to us and how nobody else can listen: device identity, the pairing ceremony, sealed
//! bodies. Pure, given randomness and a time; no socket, no file, no clock.
//!
//! The construction is HPKE (RFC 9180) in mode PSK with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and
//! ChaCha20-Poly1305, plus an Ed25519 signature (RFC 8032) of the client over every request.

pub mod agreement;
pub mod announcing;
pub mod envelope;
pub mod events;
pub mod identity;
pub mod pairing;
pub mod prekey;
pub mod sealed_token;
mod secret;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes as base64url without padding (RFC 4648 §5).
#[must_use]
pub fn to_base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads base64url without padding; `None` when it is not, or not `N` bytes.
#[must_use]
pub fn from_base64url<const N: usize>(text: &str) -> Option<[u8; N]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}
