//! Who asks: the peer of the connection, or, where that is a reverse proxy of ours, whom it names.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};

use super::Api;

/// A network of addresses, such as `10.0.0.0/8` or `2001:db8::/32`; one address is one, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Invariant: not an IPv4 address in IPv6.
    base: IpAddr,
    prefix: u32,
}

/// The address of who asks, for limits and logs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client(pub(crate) IpAddr);

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let differ = base.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= self.prefix
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let differ = base.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= self.prefix
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || "not a network, such as 10.0.0.0/8, fd00::/8 or 127.0.0.1".to_owned();
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| error())?;
        if address != address.to_canonical() {
            return Err("write an IPv4 network as one".to_owned());
        }
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| error())?
            }
            Some(_) => return Err(error()),
            None => bits,
        };
        if prefix > bits {
            return Err(format!("a prefix of {prefix} bits: an address has {bits}"));
        }
        Ok(Self { base: address, prefix })
    }
}

impl FromRequestParts<Api> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Infallible> {
        let ConnectInfo(peer) = parts
            .extensions
            .get::<ConnectInfo<SocketAddr>>()
            .expect("the server tells the peer of every request");
        Ok(Self(client(peer.ip(), &parts.headers, &api.proxies)))
    }
}

/// The address that a request comes from. Each proxy adds the address of its own peer at the right
/// end of the list; everything left of what a trusted one wrote is anybody's word.
fn client(peer: IpAddr, headers: &HeaderMap, proxies: &[Network]) -> IpAddr {
    let peer = peer.to_canonical();
    let is_proxy = |address: IpAddr| proxies.iter().any(|network| network.contains(address));
    if !is_proxy(peer) {
        return peer;
    }
    let lists: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
    for list in lists.into_iter().rev() {
        let Ok(list) = list.to_str() else { return peer };
        for entry in list.rsplit(',') {
            match address(entry.trim()) {
                Some(address) if is_proxy(address) => {}
                Some(address) => return address,
                None => return peer,
            }
        }
    }
    peer
}

/// An entry of the list: an address, with a port or without.
fn address(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let with_port = || entry.parse().map(|address: SocketAddr| address.ip());
    let address = bare.parse().or_else(|_| with_port()).ok()?;
    Some(IpAddr::to_canonical(&address))
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn only_a_trusted_proxy_is_believed_and_only_what_it_wrote_itself() {
        let proxies = ["10.0.0.0/8", "127.0.0.1", "fd00::/8"].map(network);
        let check = |peer: &str, lists: &[&str], expected: &str| {
            let mut headers = HeaderMap::new();
            for list in lists {
                headers.append(FORWARDED_FOR, list.parse().unwrap());
            }
            let found = client(peer.parse().unwrap(), &headers, &proxies);
            assert_eq!(found.to_string(), expected, "{peer} {lists:?}");
        };
        // From anybody else the header is ignored.
        check("203.0.113.7", &["198.51.100.1"], "203.0.113.7");
        check("11.0.0.1", &["198.51.100.1"], "11.0.0.1");
        check("fe00::1", &["198.51.100.1"], "fe00::1");
        // One proxy, and what a client wrote there before it.
        check("10.1.2.3", &["198.51.100.1"], "198.51.100.1");
        check("10.1.2.3", &["6.6.6.6, 198.51.100.1"], "198.51.100.1");
        check("10.1.2.3", &["6.6.6.6", "198.51.100.1"], "198.51.100.1");
        check("10.1.2.3", &["10.9.9.9, 198.51.100.1"], "198.51.100.1");
        // A chain of them.
        check("127.0.0.1", &["6.6.6.6, 198.51.100.1, 10.0.0.5, fd00::9"], "198.51.100.1");
        check("127.0.0.1", &["198.51.100.1", "10.0.0.5"], "198.51.100.1");
        // IPv6, ports, IPv4 in IPv6.
        check("fd00::1", &["2001:db8::1"], "2001:db8::1");
        check("fd00::1", &["[2001:db8::1]:443"], "2001:db8::1");
        check("fd00::1", &["[2001:db8::1]"], "2001:db8::1");
        check("fd00::1", &["198.51.100.1:8080"], "198.51.100.1");
        check("::ffff:10.1.2.3", &["::ffff:198.51.100.1"], "198.51.100.1");
        check("::ffff:203.0.113.7", &["198.51.100.1"], "203.0.113.7");
        // Missing, malformed, or none but proxies: the proxy's own.
        check("10.1.2.3", &[], "10.1.2.3");
        check("10.1.2.3", &[""], "10.1.2.3");
        check("10.1.2.3", &["unknown"], "10.1.2.3");
        check("10.1.2.3", &["198.51.100.1, "], "10.1.2.3");
        check("10.1.2.3", &["198.51.100.1, x"], "10.1.2.3");
        check("10.1.2.3", &["for=198.51.100.1"], "10.1.2.3");
        check("10.1.2.3", &["10.0.0.5, 10.0.0.6"], "10.1.2.3");
        check("10.1.2.3", &["198.51.100.1, \u{e9}"], "10.1.2.3");
    }

    #[test]
    fn without_trusted_proxies_nobody_is_believed() {
        let mut headers = HeaderMap::new();
        headers.insert(FORWARDED_FOR, "198.51.100.1".parse().unwrap());
        let found = client("127.0.0.1".parse().unwrap(), &headers, &[]);
        assert_eq!(found.to_string(), "127.0.0.1");
    }

    #[test]
    fn networks_are_addresses_with_a_prefix_or_without() {
        let check = |text: &str, address: &str, expected: bool| {
            assert_eq!(network(text).contains(address.parse().unwrap()), expected, "{text}");
        };
        check("10.0.0.0/8", "10.255.1.1", true);
        check("10.0.0.0/8", "11.0.0.0", false);
        check("10.1.2.3", "10.1.2.3", true);
        check("10.1.2.3", "10.1.2.2", false);
        check("0.0.0.0/0", "255.255.255.255", true);
        check("0.0.0.0/0", "::1", false);
        check("2001:db8::/33", "2001:db8:7fff::1", true);
        check("2001:db8::/33", "2001:db8:8000::1", false);
        check("::/0", "2001:db8::1", true);
        for bad in
            ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8", "x/8", "::ffff:1.2.3.4"]
        {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
