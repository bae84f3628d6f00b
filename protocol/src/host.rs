//! Names of hosts: what may be dialled, and how a DID document's endpoint compares with it.

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::handle::{NAME_CHARS_MAX, is_label};

/// Which names are hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostRules {
    /// Public DNS names only, over TLS on port 443 (protocol.md section 10).
    Public,
    /// Also http, ports, localhost, IP addresses and reserved names: development networks.
    Insecure,
}

/// A host's name in its one normal form: lower case, and `name:port` if and only if it speaks
/// plain http (allowed by [`HostRules::Insecure`] alone). Otherwise it speaks TLS on 443.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Arc<str>);

/// Why a text is not a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostNameError {
    /// Not a host name or a URL of one.
    #[error("not a host name")]
    Syntax,
    /// One label, a reserved top-level domain, an IP address, a port or plain http.
    #[error("not a public host name")]
    NotPublic,
}

impl HostName {
    /// From a name, `name:port`, or a URL with at most `/` as its path (schemes http, https, ws,
    /// wss). Under [`HostRules::Public`] only `https`/`wss` and port 443.
    ///
    /// Under [`HostRules::Insecure`], a port other than 443 means plain http, as does an http
    /// URL (on port 80 if it names none). TLS on another port and plain http on 443 have no
    /// normal form and are refused, as are IPv6 addresses.
    pub fn parse(text: &str, rules: HostRules) -> Result<Self, HostNameError> {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let plain = match scheme {
            None => None,
            Some(scheme) if is_one_of(scheme, ["https", "wss"]) => Some(false),
            Some(scheme) if is_one_of(scheme, ["http", "ws"]) => Some(true),
            Some(_) => return Err(HostNameError::Syntax),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (name, port) = match authority.split_once(':') {
            Some((name, port)) => (name, Some(read_port(port)?)),
            None => (authority, None),
        };
        let name = read_name(name)?;
        if rules == HostRules::Public {
            let reachable = plain != Some(true) && matches!(port, None | Some(TLS_PORT));
            if !reachable || !is_public_name(&name) {
                return Err(HostNameError::NotPublic);
            }
        }
        match (plain, port) {
            (None | Some(false), None | Some(TLS_PORT)) => Ok(Self(name.into())),
            (Some(true), Some(TLS_PORT)) | (Some(false), Some(_)) => Err(HostNameError::Syntax),
            (Some(true), None) => Ok(Self(format!("{name}:{HTTP_PORT}").into())),
            (None | Some(true), Some(port)) => Ok(Self(format!("{name}:{port}").into())),
        }
    }

    /// From the `serviceEndpoint` of a DID document: an https URL with at most `/` as its path;
    /// under [`HostRules::Insecure`] also an http one.
    pub fn from_endpoint(url: &str, rules: HostRules) -> Result<Self, HostNameError> {
        match url.split_once("://") {
            Some((scheme, _)) if is_one_of(scheme, ["https", "http"]) => Self::parse(url, rules),
            _ => Err(HostNameError::Syntax),
        }
    }

    /// The normal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it speaks TLS (on port 443).
    pub fn is_tls(&self) -> bool {
        !self.0.contains(':')
    }

    /// The name without the port, for DNS and TLS.
    pub fn name(&self) -> &str {
        self.0.split_once(':').map_or(&*self.0, |(name, _)| name)
    }

    /// The port to dial.
    pub fn port(&self) -> u16 {
        self.0.split_once(':').map_or(TLS_PORT, |(_, port)| {
            port.parse().expect("the normal form holds a port behind the colon")
        })
    }

    /// `https://name` or `http://name:port`, no slash at the end.
    pub fn origin(&self) -> String {
        let scheme = if self.is_tls() { "https" } else { "http" };
        format!("{scheme}://{self}")
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the document of a `did:web` is ([`crate::did::Did::web_host`]); `None`: it may not be
/// asked under these rules. A port stands behind `%3A` and means plain http.
pub fn did_web_url(host: &str, rules: HostRules) -> Option<String> {
    let authority = host.replacen("%3A", ":", 1).replacen("%3a", ":", 1);
    let host = HostName::parse(&authority, rules).ok()?;
    Some(format!("{}/.well-known/did.json", host.origin()))
}

fn is_one_of(scheme: &str, schemes: [&str; 2]) -> bool {
    schemes.iter().any(|known| scheme.eq_ignore_ascii_case(known))
}

fn read_port(text: &str) -> Result<u16, HostNameError> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ => Err(HostNameError::Syntax),
    }
}

/// A DNS name, or an IPv4 address in its one usual form, in lower case.
fn read_name(text: &str) -> Result<String, HostNameError> {
    let is_name = text.len() <= NAME_CHARS_MAX && text.split('.').all(is_label);
    // What ends in a number is an address to every resolver, in forms like `127.1` and `0x7f.1`
    // too: taken only as four plain decimals.
    let ends_in_number = text
        .rsplit('.')
        .next()
        .is_some_and(|last| last.starts_with(|first: char| first.is_ascii_digit()));
    if !is_name || (ends_in_number && text.parse::<Ipv4Addr>().is_err()) {
        return Err(HostNameError::Syntax);
    }
    Ok(text.to_ascii_lowercase())
}

fn is_public_name(name: &str) -> bool {
    let Some((_, last)) = name.rsplit_once('.') else {
        return false;
    };
    name.parse::<Ipv4Addr>().is_err() && !RESERVED.contains(&last)
}

/// Top-level domains that no public host has.
pub(crate) const RESERVED: [&str; 9] =
    ["alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion", "test"];
const TLS_PORT: u16 = 443;
const HTTP_PORT: u16 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, rules: HostRules, expected: Result<&str, HostNameError>) {
        let name = HostName::parse(text, rules);
        let read = name.as_ref().map(HostName::as_str).map_err(|error| *error);
        assert_eq!(read, expected, "{text}");
        // The normal form is its own normal form.
        if let Ok(name) = name {
            assert_eq!(HostName::parse(name.as_str(), rules), Ok(name.clone()), "{text}");
            assert_eq!(HostName::parse(&name.origin(), rules), Ok(name), "{text}");
        }
    }

    #[test]
    fn a_public_host_is_a_name_with_tls_on_443() {
        let check = |text, expected| check(text, HostRules::Public, expected);
        check("pds.example.com", Ok("pds.example.com"));
        check("https://PDS.Example.com/", Ok("pds.example.com"));
        check("wss://pds.example.com:443", Ok("pds.example.com"));
        check("pds.example.com:443", Ok("pds.example.com"));
        check("xn--bcher-kva.tld", Ok("xn--bcher-kva.tld"));
        check("pds.example.com:2583", Err(HostNameError::NotPublic));
        check("http://pds.example.com", Err(HostNameError::NotPublic));
        check("ws://pds.example.com:443", Err(HostNameError::NotPublic));
        check("https://pds.example.com:8443", Err(HostNameError::NotPublic));
        check("pds", Err(HostNameError::NotPublic));
        check("127.0.0.1", Err(HostNameError::NotPublic));
        check("8.8.8.8", Err(HostNameError::NotPublic));
    }

    #[test]
    fn reserved_domains_are_not_public() {
        for last in RESERVED {
            check(&format!("pds.{last}"), HostRules::Public, Err(HostNameError::NotPublic));
            let name = format!("pds.{last}.com");
            check(&name, HostRules::Public, Ok(&name));
        }
    }

    #[test]
    fn a_development_host_with_a_port_speaks_plain_http() {
        let check = |text, expected| check(text, HostRules::Insecure, expected);
        check("localhost:2583", Ok("localhost:2583"));
        check("http://LOCALHOST:2583/", Ok("localhost:2583"));
        check("ws://localhost:2583", Ok("localhost:2583"));
        check("127.0.0.1:4100", Ok("127.0.0.1:4100"));
        check("http://127.0.0.1:4100", Ok("127.0.0.1:4100"));
        check("http://pds.example.com", Ok("pds.example.com:80"));
        check("localhost", Ok("localhost"));
        check("pds1.test", Ok("pds1.test"));
        check("https://pds1.test:443/", Ok("pds1.test"));
        check("https://pds1.test:8443", Err(HostNameError::Syntax));
        check("http://pds1.test:443", Err(HostNameError::Syntax));
    }

    #[test]
    fn what_is_no_name_is_no_host() {
        for rules in [HostRules::Public, HostRules::Insecure] {
            let check = |text| check(text, rules, Err(HostNameError::Syntax));
            check("");
            check("https://");
            check("ftp://pds.example.com");
            check("pds.example.com/xrpc");
            check("https://pds.example.com//");
            check("https://pds.example.com/?a");
            check("https://user@pds.example.com");
            check("pds.example.com.");
            check("pds..example.com");
            check("-pds.example.com");
            check("p_ds.example.com");
            check("b\u{fc}cher.example.com");
            check("pds.example.com:");
            check("pds.example.com:0");
            check("pds.example.com:+443");
            check("pds.example.com:65536");
            check("pds.example.com:443:443");
            check("127.1");
            check("0x7f.0.0.1x");
            check("127.0.0.01");
            check("2130706433");
            check("[::1]:2583");
            check("::1");
            check(&"a.".repeat(127).replace("a.", "aa."));
        }
    }

    #[test]
    fn a_host_says_where_to_dial() {
        let check = |text, tls, name, port, origin| {
            let host = HostName::parse(text, HostRules::Insecure).unwrap();
            assert_eq!((host.is_tls(), host.name(), host.port()), (tls, name, port));
            assert_eq!(host.origin(), origin);
        };
        check("pds1.test", true, "pds1.test", 443, "https://pds1.test");
        check("localhost:2583", false, "localhost", 2583, "http://localhost:2583");
    }

    #[test]
    fn an_endpoint_is_an_http_url() {
        let check = |url, rules, expected: Option<&str>| {
            let host = HostName::from_endpoint(url, rules).ok();
            assert_eq!(host.as_ref().map(HostName::as_str), expected, "{url}");
        };
        check("https://PDS.example.com:443/", HostRules::Public, Some("pds.example.com"));
        check("https://pds.example.com/x", HostRules::Public, None);
        check("http://pds.example.com", HostRules::Public, None);
        check("wss://pds.example.com", HostRules::Public, None);
        check("pds.example.com", HostRules::Public, None);
        check("http://localhost:2594", HostRules::Insecure, Some("localhost:2594"));
    }

    #[test]
    fn a_did_web_with_a_port_is_fetched_over_http_on_development_networks() {
        let check = |host, rules, expected: Option<&str>| {
            assert_eq!(did_web_url(host, rules).as_deref(), expected, "{host}");
        };
        let local = Some("http://localhost:2583/.well-known/did.json");
        check("localhost%3A2583", HostRules::Insecure, local);
        check("localhost%3a2583", HostRules::Insecure, local);
        check("localhost%3A2583", HostRules::Public, None);
        check("localhost", HostRules::Public, None);
        check("Example.com", HostRules::Public, Some("https://example.com/.well-known/did.json"));
    }
}
