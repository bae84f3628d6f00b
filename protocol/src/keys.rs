//! Keys and signatures: K-256 and P-256, low-S on both.
//!
//! libsecp256k1 verifies K-256 and AWS-LC verifies P-256, the fastest of what was measured; both
//! with the key parsed once. Neither rule about a signature's numbers is left to them: r and s
//! are looked at here, the same way on both curves, before any curve arithmetic.

use std::fmt;

use aws_lc_rs::digest::{Digest, SHA256};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use p256::ecdsa::signature::hazmat::PrehashSigner;

/// A parsed public key, ready to verify with.
#[derive(Clone)]
pub struct PublicKey(Point);

#[derive(Clone)]
enum Point {
    K256(secp256k1::PublicKey),
    P256 {
        parsed: ParsedPublicKey,
        /// The same point, for comparing and writing.
        compressed: [u8; COMPRESSED_BYTES],
    },
}

/// A secret key, for the simulated network and tests.
#[derive(Clone)]
pub struct SigningKey(Secret);

#[derive(Clone)]
enum Secret {
    K256(secp256k1::SecretKey),
    P256(Box<p256::ecdsa::SigningKey>),
}

/// The two curves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Curve {
    /// secp256k1.
    K256,
    /// NIST P-256.
    P256,
}

/// A text or bytes that are not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a public key")]
pub struct KeyError;

/// Why a signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Its S is in the upper half, n/2 < S < n ("low-S", atproto.com/specs/cryptography). Whether
    /// its low twin would verify is not looked at.
    #[error("the signature is not low-S")]
    HighS,
    /// It does not verify; or r or s is zero, or not below the curve's order n.
    #[error("the signature does not verify")]
    Invalid,
}

impl PublicKey {
    /// From a `Multikey`'s multibase text (`zQ3sh…`, `zDn…`).
    pub fn from_multikey(text: &str) -> Result<Self, KeyError> {
        let mut buffer = [0; DECODED_BYTES_MAX];
        match decode_multibase(text, &mut buffer)? {
            [K256_CODEC_0, K256_CODEC_1, point @ ..] => Self::from_compressed(Curve::K256, point),
            [P256_CODEC_0, P256_CODEC_1, point @ ..] => Self::from_compressed(Curve::P256, point),
            _ => Err(KeyError),
        }
    }

    /// From a verification method of a DID document: its `type` and `publicKeyMultibase`.
    /// Types: `Multikey`, `EcdsaSecp256k1VerificationKey2019`, `EcdsaSecp256r1VerificationKey2019`
    /// (the legacy two hold an uncompressed or compressed point without a multicodec prefix).
    pub fn from_method(method_type: &str, multibase: &str) -> Result<Self, KeyError> {
        let curve = match method_type {
            "Multikey" => return Self::from_multikey(multibase),
            "EcdsaSecp256k1VerificationKey2019" => Curve::K256,
            "EcdsaSecp256r1VerificationKey2019" => Curve::P256,
            _ => return Err(KeyError),
        };
        let mut buffer = [0; DECODED_BYTES_MAX];
        Self::from_point(curve, decode_multibase(multibase, &mut buffer)?)
    }

    /// From a `did:key`.
    pub fn from_did_key(text: &str) -> Result<Self, KeyError> {
        Self::from_multikey(text.strip_prefix("did:key:").ok_or(KeyError)?)
    }

    /// From its curve and compressed point (33 bytes).
    pub fn from_compressed(curve: Curve, point: &[u8]) -> Result<Self, KeyError> {
        if point.len() == COMPRESSED_BYTES { Self::from_point(curve, point) } else { Err(KeyError) }
    }

    /// Its curve and compressed point.
    pub fn to_compressed(&self) -> (Curve, [u8; COMPRESSED_BYTES]) {
        match &self.0 {
            Point::K256(key) => (Curve::K256, key.serialize()),
            Point::P256 { compressed, .. } => (Curve::P256, *compressed),
        }
    }

    /// Bytes that it holds outside of itself, about: a P-256 key is an object of the C library.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Point::K256(_) => 0,
            Point::P256 { .. } => P256_HEAP_BYTES,
        }
    }

    /// `did:key:z…`.
    pub fn to_did_key(&self) -> String {
        format!("did:key:{}", self.to_multikey())
    }

    /// `z…`, the Multikey text.
    pub fn to_multikey(&self) -> String {
        let (curve, point) = self.to_compressed();
        let codec = match curve {
            Curve::K256 => [K256_CODEC_0, K256_CODEC_1],
            Curve::P256 => [P256_CODEC_0, P256_CODEC_1],
        };
        let bytes = [codec.as_slice(), &point].concat();
        format!("z{}", bs58::encode(bytes).into_string())
    }

    /// Verifies an ECDSA signature (r, s) over a SHA-256 digest. High S is refused on both curves.
    pub fn verify(&self, digest: &[u8; 32], signature: &[u8; 64]) -> Result<(), SignatureError> {
        check_numbers(self.curve(), signature)?;
        let verifies = match &self.0 {
            Point::K256(key) => secp256k1::ecdsa::Signature::from_compact(signature)
                .and_then(|signature| {
                    signature.verify(secp256k1::Message::from_digest(*digest), key)
                })
                .is_ok(),
            Point::P256 { parsed, .. } => Digest::import_less_safe(digest, &SHA256)
                .and_then(|digest| parsed.verify_digest_sig(&digest, signature))
                .is_ok(),
        };
        if verifies { Ok(()) } else { Err(SignatureError::Invalid) }
    }

    fn curve(&self) -> Curve {
        match &self.0 {
            Point::K256(_) => Curve::K256,
            Point::P256 { .. } => Curve::P256,
        }
    }

    /// From a compressed or uncompressed point. The first byte is looked at here: libsecp256k1
    /// would also take hybrid points (6, 7).
    fn from_point(curve: Curve, point: &[u8]) -> Result<Self, KeyError> {
        let known_form = match point {
            [2 | 3, x @ ..] => x.len() == 32,
            [4, x_and_y @ ..] => x_and_y.len() == 64,
            _ => false,
        };
        if !known_form {
            return Err(KeyError);
        }
        match curve {
            Curve::K256 => secp256k1::PublicKey::from_slice(point)
                .map(|key| Self(Point::K256(key)))
                .map_err(|_| KeyError),
            Curve::P256 => {
                let parsed =
                    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| KeyError)?;
                Ok(Self(Point::P256 { parsed, compressed: compress(point) }))
            }
        }
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.to_compressed() == other.to_compressed()
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_did_key())
    }
}

impl SigningKey {
    /// From 32 secret bytes; the few values that are no key of the curve are an error.
    pub fn from_secret(curve: Curve, secret: &[u8; 32]) -> Result<Self, KeyError> {
        match curve {
            Curve::K256 => secp256k1::SecretKey::from_secret_bytes(*secret)
                .map(|key| Self(Secret::K256(key)))
                .map_err(|_| KeyError),
            Curve::P256 => p256::ecdsa::SigningKey::from_slice(secret)
                .map(|key| Self(Secret::P256(Box::new(key))))
                .map_err(|_| KeyError),
        }
    }

    /// Its public half.
    pub fn public_key(&self) -> PublicKey {
        match &self.0 {
            Secret::K256(key) => PublicKey(Point::K256(secp256k1::PublicKey::from_secret_key(key))),
            Secret::P256(key) => {
                let point = key.verifying_key().to_sec1_point(true);
                PublicKey::from_compressed(Curve::P256, point.as_bytes())
                    .expect("the point of a secret key is on its curve")
            }
        }
    }

    /// Signs a SHA-256 digest; deterministic (RFC 6979), low-S.
    pub fn sign(&self, digest: &[u8; 32]) -> [u8; 64] {
        match &self.0 {
            Secret::K256(key) => {
                secp256k1::ecdsa::sign(secp256k1::Message::from_digest(*digest), key)
                    .serialize_compact()
            }
            Secret::P256(key) => {
                let signature: p256::ecdsa::Signature =
                    key.sign_prehash(digest).expect("a digest of 32 bytes can be signed");
                signature.normalize_s().to_bytes().into()
            }
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.public_key())
    }
}

impl Curve {
    /// The order n of the curve's group, big-endian.
    fn order(self) -> &'static [u8; 32] {
        match self {
            Self::K256 => &K256_ORDER,
            Self::P256 => &P256_ORDER,
        }
    }

    /// n/2, rounded down: the largest low S.
    fn half_order(self) -> &'static [u8; 32] {
        match self {
            Self::K256 => &K256_HALF_ORDER,
            Self::P256 => &P256_HALF_ORDER,
        }
    }
}

/// The same signature with its S negated: high where it was low. For tests of the low-S rule.
pub fn flip_s(curve: Curve, signature: &[u8; 64]) -> [u8; 64] {
    let mut flipped = *signature;
    let mut borrow = 0u8;
    for (byte, order) in flipped[32..].iter_mut().zip(curve.order()).rev() {
        let (difference, under) = order.overflowing_sub(*byte);
        let (difference, under_again) = difference.overflowing_sub(borrow);
        *byte = difference;
        borrow = u8::from(under || under_again);
    }
    flipped
}

// "the 'low-S' signature variant is required" (atproto.com/specs/cryptography), for both curves.
// Neither AWS-LC nor p256 would refuse the other variant.
fn check_numbers(curve: Curve, signature: &[u8; 64]) -> Result<(), SignatureError> {
    let (r, s) = signature.split_at(32);
    let in_range =
        |number: &[u8]| number < curve.order().as_slice() && number.iter().any(|byte| *byte != 0);
    if !in_range(r) || !in_range(s) {
        return Err(SignatureError::Invalid);
    }
    if s > curve.half_order().as_slice() {
        return Err(SignatureError::HighS);
    }
    Ok(())
}

/// Fuzz target: a text that is a key, or a compressed point with a digest and a signature.
pub fn fuzz_keys(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        if let Ok(key) = PublicKey::from_multikey(text) {
            assert_eq!(key.to_multikey(), text, "a key has one text");
        }
        for method in ["EcdsaSecp256k1VerificationKey2019", "EcdsaSecp256r1VerificationKey2019"] {
            if let Ok(key) = PublicKey::from_method(method, text) {
                assert_eq!(PublicKey::from_did_key(&key.to_did_key()), Ok(key));
            }
        }
    }
    let Some((point, rest)) = data.split_first_chunk::<COMPRESSED_BYTES>() else { return };
    let Some((digest, rest)) = rest.split_first_chunk() else { return };
    let Some((signature, _)) = rest.split_first_chunk() else { return };
    for curve in [Curve::K256, Curve::P256] {
        let Ok(key) = PublicKey::from_compressed(curve, point) else { continue };
        assert_eq!(key.to_compressed(), (curve, *point), "a point is kept");
        if key.verify(digest, signature).is_ok() {
            let flipped = flip_s(curve, signature);
            assert_eq!(key.verify(digest, &flipped), Err(SignatureError::HighS));
        }
    }
}

/// The bytes of a base58btc multibase text. The buffer bounds what is decoded.
fn decode_multibase<'a>(
    text: &str,
    buffer: &'a mut [u8; DECODED_BYTES_MAX],
) -> Result<&'a [u8], KeyError> {
    let digits = text.strip_prefix('z').ok_or(KeyError)?;
    let len = bs58::decode(digits).onto(buffer.as_mut_slice()).map_err(|_| KeyError)?;
    Ok(&buffer[..len])
}

/// The compressed form of a point that was parsed (its first byte is 2, 3 or 4).
fn compress(point: &[u8]) -> [u8; COMPRESSED_BYTES] {
    let y_is_odd = point[point.len() - 1] & 1;
    let mut compressed = [0; COMPRESSED_BYTES];
    compressed.copy_from_slice(&point[..COMPRESSED_BYTES]);
    if point[0] == 4 {
        compressed[0] = 2 + y_is_odd;
    }
    compressed
}

const COMPRESSED_BYTES: usize = 33;
/// What the C library allocates for one parsed key: measured over 100,000 of them.
const P256_HEAP_BYTES: usize = 416;
/// An uncompressed point is the longest that a multibase text may hold.
const DECODED_BYTES_MAX: usize = 65;

/// Multicodec `secp256k1-pub` (0xe7) and `p256-pub` (0x1200) as varints.
const K256_CODEC_0: u8 = 0xe7;
const K256_CODEC_1: u8 = 0x01;
const P256_CODEC_0: u8 = 0x80;
const P256_CODEC_1: u8 = 0x24;

const K256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,
    0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
const K256_HALF_ORDER: [u8; 32] = halve(&K256_ORDER);
const P256_HALF_ORDER: [u8; 32] = halve(&P256_ORDER);

const fn halve(number: &[u8; 32]) -> [u8; 32] {
    let mut half = [0; 32];
    let mut at = 0;
    let mut carry = 0;
    while at < 32 {
        half[at] = carry << 7 | number[at] >> 1;
        carry = number[at] & 1;
        at += 1;
    }
    half
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::signature::hazmat::PrehashVerifier;
    use proptest::prelude::*;

    use super::*;

    const CURVES: [Curve; 2] = [Curve::K256, Curve::P256];
    const SECRET: [u8; 32] = [7; 32];
    const DIGEST: [u8; 32] = [0x5a; 32];

    /// The verdict of an independent library, with the low-S rule added where it has none.
    fn oracle(key: &PublicKey, digest: &[u8; 32], signature: &[u8; 64]) -> bool {
        let (curve, point) = key.to_compressed();
        match curve {
            Curve::K256 => {
                let key = k256::ecdsa::VerifyingKey::from_sec1_bytes(&point).unwrap();
                k256::ecdsa::Signature::from_slice(signature)
                    .is_ok_and(|signature| key.verify_prehash(digest, &signature).is_ok())
            }
            Curve::P256 => {
                let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).unwrap();
                p256::ecdsa::Signature::from_slice(signature).is_ok_and(|signature| {
                    signature == signature.normalize_s()
                        && key.verify_prehash(digest, &signature).is_ok()
                })
            }
        }
    }

    #[test]
    fn half_the_order_is_the_largest_low_s() {
        let key = |curve| SigningKey::from_secret(curve, &SECRET).unwrap().public_key();
        for curve in CURVES {
            let verdict = |s: &[u8; 32]| {
                let mut signature = [1; 64];
                signature[32..].copy_from_slice(s);
                key(curve).verify(&DIGEST, &signature)
            };
            let half = curve.half_order();
            assert_eq!(verdict(half), Err(SignatureError::Invalid));
            let mut above = *half;
            above[31] += 1;
            assert_eq!(verdict(&above), Err(SignatureError::HighS));
            let mut last = *curve.order();
            last[31] -= 1;
            assert_eq!(verdict(&last), Err(SignatureError::HighS));
            // Low and high meet in the middle: n = half + (half + 1).
            let mut signature = [0; 64];
            signature[32..].copy_from_slice(half);
            assert_eq!(flip_s(curve, &signature)[32..], above);
        }
    }

    #[test]
    fn r_and_s_are_from_one_to_the_order() {
        for curve in CURVES {
            let key = SigningKey::from_secret(curve, &SECRET).unwrap();
            let good = key.sign(&DIGEST);
            for number in [&[0; 32], curve.order(), &[0xff; 32]] {
                for half in [0..32, 32..64] {
                    let mut signature = good;
                    signature[half].copy_from_slice(number);
                    let verdict = key.public_key().verify(&DIGEST, &signature);
                    assert_eq!(verdict, Err(SignatureError::Invalid));
                }
            }
        }
    }

    #[test]
    fn signing_is_deterministic() {
        // RFC 6979, A.2.5, "sample": there s is high.
        let secret = "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721";
        let digest = "af2bdbe1aa9b6ec1e2ade1d694f41fc71a831d0268e9891562113d8a62add1bf";
        let r = "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716";
        let s = "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8";
        let hex = |text: &str| {
            data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap().try_into().unwrap()
        };
        let key = SigningKey::from_secret(Curve::P256, &hex(secret)).unwrap();
        let signature = key.sign(&hex(digest));
        let high: [u8; 32] = hex(s);
        assert_eq!(signature[..32], hex(r));
        assert_eq!(flip_s(Curve::P256, &signature)[32..], high);
    }

    #[test]
    fn a_point_has_one_of_three_forms() {
        for (curve, method) in [
            (Curve::K256, "EcdsaSecp256k1VerificationKey2019"),
            (Curve::P256, "EcdsaSecp256r1VerificationKey2019"),
        ] {
            let secret = SigningKey::from_secret(curve, &SECRET).unwrap();
            let key = secret.public_key();
            let uncompressed: [u8; 65] = match &secret.0 {
                Secret::K256(key) => {
                    secp256k1::PublicKey::from_secret_key(key).serialize_uncompressed()
                }
                Secret::P256(key) => {
                    key.verifying_key().to_sec1_point(false).as_bytes().try_into().unwrap()
                }
            };
            let check = |point: &[u8], expected: Result<PublicKey, KeyError>| {
                let text = format!("z{}", bs58::encode(point).into_string());
                assert_eq!(PublicKey::from_method(method, &text), expected, "{point:x?}");
            };
            let compressed = key.to_compressed().1;
            check(&compressed, Ok(key.clone()));
            check(&uncompressed, Ok(key.clone()));
            let mut hybrid = uncompressed;
            hybrid[0] = 6 + (uncompressed[64] & 1);
            check(&hybrid, Err(KeyError));
            check(&uncompressed[..64], Err(KeyError));
            check(&[uncompressed.as_slice(), &[0]].concat(), Err(KeyError));
            check(&compressed[1..], Err(KeyError));
            check(&[0], Err(KeyError));
            check(&[], Err(KeyError));
            let mut off_curve = uncompressed;
            off_curve[40] ^= 1;
            check(&off_curve, Err(KeyError));
            assert_eq!(PublicKey::from_method("Multikey", &key.to_multikey()), Ok(key.clone()));
            assert_eq!(PublicKey::from_method("Ed25519", &key.to_multikey()), Err(KeyError));
            assert_eq!(PublicKey::from_multikey(&key.to_multikey()[1..]), Err(KeyError));
        }
    }

    #[test]
    fn a_secret_is_from_one_to_the_order() {
        for curve in CURVES {
            assert!(SigningKey::from_secret(curve, &[0; 32]).is_err());
            assert!(SigningKey::from_secret(curve, curve.order()).is_err());
            let mut last = *curve.order();
            last[31] -= 1;
            assert!(SigningKey::from_secret(curve, &last).is_ok());
        }
    }

    proptest! {
        #[test]
        fn verdicts_are_those_of_independent_libraries(
            p256 in any::<bool>(),
            secret in any::<[u8; 32]>(),
            digest in any::<[u8; 32]>(),
            flips in prop::collection::vec(0usize..96 * 8, 0..3),
            negate_s in any::<bool>(),
        ) {
            let curve = if p256 { Curve::P256 } else { Curve::K256 };
            let Ok(key) = SigningKey::from_secret(curve, &secret) else { return Ok(()) };
            let public = key.public_key();
            let mut signature = key.sign(&digest);
            prop_assert!(oracle(&public, &digest, &signature));
            prop_assert_eq!(public.verify(&digest, &signature), Ok(()));

            let mut digest = digest;
            if negate_s {
                signature = flip_s(curve, &signature);
                prop_assert_eq!(
                    public.verify(&digest, &signature),
                    Err(SignatureError::HighS)
                );
            }
            for flip in flips {
                let (byte, bit) = (flip / 8, 1 << (flip % 8));
                match signature.get_mut(byte) {
                    Some(byte) => *byte ^= bit,
                    None => digest[byte - 64] ^= bit,
                }
            }
            let expected = oracle(&public, &digest, &signature);
            prop_assert_eq!(public.verify(&digest, &signature).is_ok(), expected);
        }

        #[test]
        fn a_key_survives_its_text(p256 in any::<bool>(), secret in any::<[u8; 32]>()) {
            let curve = if p256 { Curve::P256 } else { Curve::K256 };
            let Ok(key) = SigningKey::from_secret(curve, &secret) else { return Ok(()) };
            let key = key.public_key();
            let (_, point) = key.to_compressed();
            prop_assert_eq!(PublicKey::from_compressed(curve, &point), Ok(key.clone()));
            prop_assert_eq!(PublicKey::from_did_key(&key.to_did_key()), Ok(key));
        }
    }
}
