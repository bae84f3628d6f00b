//! Account identifiers: `did:plc` and `did:web`, compact in memory and on disk.

use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip::SipHasher13;

/// An account's DID. Only the two blessed methods exist here; copying one is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Did(Repr);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Repr {
    /// The 120 bits behind the 24 base32 characters.
    Plc([u8; PLC_BYTES]),
    /// What follows `did:web:`, as written.
    Web(Arc<str>),
}

/// Why a text is not a [`Did`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DidError {
    /// Not a DID at all.
    #[error("not a DID")]
    Syntax,
    /// A DID, but not one that can be an account: another method, or a malformed plc or web one.
    #[error("not a DID of a supported method")]
    Method,
}

impl Did {
    /// Parses the generic syntax first, then the method's own.
    pub fn parse(text: &str) -> Result<Self, DidError> {
        if !is_did(text) {
            return Err(DidError::Syntax);
        }
        if let Some(id) = text.strip_prefix("did:plc:") {
            return plc_bytes(id).map(|bytes| Self(Repr::Plc(bytes))).ok_or(DidError::Method);
        }
        match text.strip_prefix("did:web:") {
            Some(host) if is_web_host(host) => Ok(Self(Repr::Web(host.into()))),
            _ => Err(DidError::Method),
        }
    }

    /// The host of a `did:web`, as written (a port stands behind `%3A`).
    pub fn web_host(&self) -> Option<&str> {
        match &self.0 {
            Repr::Plc(_) => None,
            Repr::Web(host) => Some(host),
        }
    }

    /// Appends the key under which the store files this account: a tag byte, then 15 bytes of a
    /// `did:plc` or the text of a `did:web`. Never changes: it is on disk.
    pub fn write_key(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Repr::Plc(bytes) => {
                out.push(KEY_TAG_PLC);
                out.extend_from_slice(bytes);
            }
            Repr::Web(host) => {
                out.push(KEY_TAG_WEB);
                out.extend_from_slice(host.as_bytes());
            }
        }
    }

    /// Reads what [`Did::write_key`] wrote.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        match key.split_first()? {
            (&KEY_TAG_PLC, bytes) => Some(Self(Repr::Plc(bytes.try_into().ok()?))),
            (&KEY_TAG_WEB, host) => {
                let host = std::str::from_utf8(host).ok()?;
                is_web_host(host).then(|| Self(Repr::Web(host.into())))
            }
            _ => None,
        }
    }

    /// A stable hash: it chooses the shard, and stands in the index of every stored batch.
    pub fn hash64(&self) -> u64 {
        let mut hasher = SipHasher13::new();
        match &self.0 {
            Repr::Plc(bytes) => hasher.write(bytes),
            Repr::Web(host) => hasher.write(host.as_bytes()),
        }
        hasher.finish()
    }
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Plc(bytes) => {
                f.write_str("did:plc:")?;
                let mut bits = bytes.iter().fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
                bits <<= 8;
                for _ in 0..PLC_CHARS {
                    let digit = usize::try_from(bits >> 123).expect("five bits");
                    f.write_str(&BASE32[digit..=digit])?;
                    bits <<= 5;
                }
                Ok(())
            }
            Repr::Web(host) => write!(f, "did:web:{host}"),
        }
    }
}

impl fmt::Debug for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// "^did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-]$", at most 2048 characters (atproto.com/specs/did).
fn is_did(text: &str) -> bool {
    let Some((method, id)) = text.strip_prefix("did:").and_then(|rest| rest.split_once(':')) else {
        return false;
    };
    let id_char = |byte: u8| byte.is_ascii_alphanumeric() || b"._:%-".contains(&byte);
    text.len() <= DID_CHARS_MAX
        && !method.is_empty()
        && method.bytes().all(|byte| byte.is_ascii_lowercase())
        && id.bytes().all(id_char)
        && id.bytes().last().is_some_and(|byte| !b":%".contains(&byte))
}

fn plc_bytes(id: &str) -> Option<[u8; PLC_BYTES]> {
    if id.len() != PLC_CHARS {
        return None;
    }
    let mut bits = 0u128;
    for byte in id.bytes() {
        let digit = match byte {
            b'a'..=b'z' => byte - b'a',
            b'2'..=b'7' => byte - b'2' + 26,
            _ => return None,
        };
        bits = bits << 5 | u128::from(digit);
    }
    let bytes = bits.to_be_bytes();
    bytes[bytes.len() - PLC_BYTES..].try_into().ok()
}

// "did:web: only hostname-level DIDs are supported" (atproto.com/specs/did): no path, which would
// follow a further colon. A port is written `%3A` and occurs on development networks only.
fn is_web_host(host: &str) -> bool {
    let (name, port) = match host.split_once("%3A").or_else(|| host.split_once("%3a")) {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let port_fine = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
    });
    let label_fine = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label_fine) && port_fine
}

const DID_CHARS_MAX: usize = 2048;
const PLC_CHARS: usize = 24;
const PLC_BYTES: usize = 15;
const KEY_TAG_PLC: u8 = 1;
const KEY_TAG_WEB: u8 = 2;
const BASE32: &str = "abcdefghijklmnopqrstuvwxyz234567";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_did_survives_text_and_key() {
        for text in [
            "did:plc:32rstgho2rbvpp5wrwqp5fub",
            "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa",
            "did:plc:777777777777777777777777",
            "did:web:example.com",
            "did:web:localhost%3A2583",
        ] {
            let did = Did::parse(text).unwrap();
            assert_eq!(did.to_string(), text);
            let mut key = Vec::new();
            did.write_key(&mut key);
            assert_eq!(Did::from_key(&key), Some(did));
        }
    }

    #[test]
    fn the_method_is_judged_after_the_syntax() {
        let check = |text: &str, error| assert_eq!(Did::parse(text), Err(error), "{text}");
        check("did:plc", DidError::Syntax);
        check("did:PLC:32rstgho2rbvpp5wrwqp5fub", DidError::Syntax);
        check("did:plc:32rstgho2rbvpp5wrwqp5fu:", DidError::Syntax);
        check("did:plc:32rstgho2rbvpp5wrwqp5fu", DidError::Method);
        check("did:plc:32rstgho2rbvpp5wrwqp5fu1", DidError::Method);
        check("did:key:zQ3shf3Kc3", DidError::Method);
        check("did:web:example.com:user", DidError::Method);
        check("did:web:example..com", DidError::Method);
    }

    #[test]
    fn the_hash_never_changes() {
        let did = Did::parse("did:plc:32rstgho2rbvpp5wrwqp5fub").unwrap();
        assert_eq!(did.hash64(), 17_475_073_227_433_746_450);
    }
}
