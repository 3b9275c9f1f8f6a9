//! `identity.json`: how devices are named after their keys, and texts that name none.

use ed25519_dalek::SigningKey;
use serde::{Deserialize, Serialize};
use storysync_engine::trust::identity::DeviceId;

use super::{Device, hold};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct IdentityVector {
    about: String,
    devices: Vec<Device>,
    /// Texts that name no device.
    must_fail: Vec<NoDevice>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct NoDevice {
    why: String,
    device_id: String,
}

#[test]
fn devices_are_named_as_the_vectors_say() {
    let devices: Vec<Device> = ["client", "server", "desktop", "phone"].map(Device::named).to_vec();
    let key = devices[0].identity_key.0.clone();
    let text = |prefix: &[u8], key: &[u8]| bs58::encode([prefix, key].concat()).into_string();
    let must_fail = [
        ("an RSA key", text(&[0x00, 0x24, 0x08, 0x00, 0x12, 0x20], &key)),
        ("the key without what stands before it", text(&[], &key)),
        ("a key that is one byte short", text(&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20], &key[1..])),
        (
            "a key with a byte after it",
            text(&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20], &[key.as_slice(), &[0]].concat()),
        ),
        (
            "the hash of a key, as longer keys are named",
            "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N".to_owned(),
        ),
        ("a letter that base58 leaves out", devices[0].device_id.replacen("12D3", "12D0", 1)),
        ("nothing", String::new()),
    ];
    let must_fail: Vec<NoDevice> = must_fail
        .into_iter()
        .map(|(why, device_id)| NoDevice { why: why.to_owned(), device_id })
        .collect();
    let about = "A device id is the libp2p PeerId of the device's Ed25519 key: base58 (Bitcoin's \
        alphabet) of 00 24 08 01 12 20 and the key. \
                 identity_seed is the 32-byte seed of RFC 8032, static_secret an X25519 secret.";
    let file =
        hold("identity.json", &IdentityVector { about: about.to_owned(), devices, must_fail });
    for device in &file.devices {
        assert_eq!(
            DeviceId::parse(&device.device_id).unwrap().key(),
            Some(device.identity_key.array())
        );
        assert_eq!(
            SigningKey::from_bytes(&device.identity_seed.array())
                .verifying_key()
                .as_bytes()
                .as_slice(),
            device.identity_key.0
        );
    }
    for case in &file.must_fail {
        assert_eq!(DeviceId::parse(&case.device_id), None, "{}", case.why);
    }
    println!("identity: {} devices, refused {}", file.devices.len(), file.must_fail.len());
}
