//! The protocol's own vectors of keys and signatures (tests/vectors/interop/crypto).

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

use data_encoding::{BASE64_NOPAD, HEXLOWER};
use protocol::keys::{Curve, PublicKey, SignatureError, SigningKey};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn cases(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/vectors/interop/crypto/{file}", env!("CARGO_MANIFEST_DIR"));
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(!cases.is_empty(), "{file} has cases");
    cases
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field].as_str().unwrap()
}

#[test]
fn signatures() {
    for case in cases("signature-fixtures.json") {
        let comment = text(&case, "comment");
        let key = PublicKey::from_did_key(text(&case, "publicKeyDid")).unwrap();
        let suite = text(&case, "didDocSuite");
        let legacy = PublicKey::from_method(suite, text(&case, "publicKeyMultibase"));
        assert_eq!(legacy.as_ref(), Ok(&key), "{comment}");
        assert_eq!(key.to_did_key(), text(&case, "publicKeyDid"), "{comment}");

        let message = BASE64_NOPAD.decode(text(&case, "messageBase64").as_bytes()).unwrap();
        let digest = Sha256::digest(&message).into();
        let signature = BASE64_NOPAD.decode(text(&case, "signatureBase64").as_bytes()).unwrap();
        let tags: Vec<&str> =
            case["tags"].as_array().unwrap().iter().map(|tag| tag.as_str().unwrap()).collect();
        let verdict = signature.as_array().map(|signature| key.verify(&digest, signature));
        match *tags {
            [] => assert_eq!(verdict, Some(Ok(())), "{comment}"),
            ["high-s"] => assert_eq!(verdict, Some(Err(SignatureError::HighS)), "{comment}"),
            // A signature is 64 bytes by its type, so DER cannot even be asked about.
            ["der-encoded"] => assert!(verdict.is_none(), "{comment}"),
            _ => panic!("{comment}: unknown tags {tags:?}"),
        }
        assert_eq!(case["validSignature"].as_bool(), Some(verdict == Some(Ok(()))), "{comment}");
    }
}

#[test]
fn secrets_to_did_keys() {
    let check = |curve, secret: Vec<u8>, did: &str| {
        let key = SigningKey::from_secret(curve, &secret.try_into().unwrap()).unwrap();
        assert_eq!(key.public_key().to_did_key(), did);
    };
    for case in cases("w3c_didkey_K256.json") {
        let secret = HEXLOWER.decode(text(&case, "privateKeyBytesHex").as_bytes()).unwrap();
        check(Curve::K256, secret, text(&case, "publicDidKey"));
    }
    for case in cases("w3c_didkey_P256.json") {
        let secret = bs58::decode(text(&case, "privateKeyBytesBase58")).into_vec().unwrap();
        check(Curve::P256, secret, text(&case, "publicDidKey"));
    }
}
