//! Which IP addresses may be dialled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is on the public internet (protocol.md section 10). Asked of every resolved
/// address at dial time, so that a name cannot lead us into our own network.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match embedded_v4(address) {
            Some(inner) => is_public_v4(inner),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let bits = address.to_bits();
    !CLOSED_V4
        .iter()
        .any(|(network, prefix)| bits >> (32 - prefix) == network.to_bits() >> (32 - prefix))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let bits = address.to_bits();
    let inside = |(network, prefix): &(Ipv6Addr, u32)| {
        bits >> (128 - prefix) == network.to_bits() >> (128 - prefix)
    };
    inside(&GLOBAL_V6) && !CLOSED_V6.iter().any(inside)
}

/// The IPv4 address that an IPv6 one stands for: IPv4-mapped (`::ffff:0:0/96`) or NAT64
/// (`64:ff9b::/96`).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [prefix @ .., a, b, c, d] = address.octets();
    (prefix == MAPPED || prefix == NAT64).then_some(Ipv4Addr::new(a, b, c, d))
}

/// What is not on the public internet: this network, private, shared, loopback, link-local,
/// protocol assignments, documentation, 6to4 relays, benchmarks, multicast, reserved.
const CLOSED_V4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Global unicast: nothing else of IPv6 is dialled.
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Teredo and 6to4 (tunnels that end at any IPv4 address), and documentation.
const CLOSED_V6: [(Ipv6Addr, u32); 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
];

const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
const NAT64: [u8; 12] = [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, expected: bool) {
        assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
    }

    /// The first and last address of a closed range, and its neighbours, which are open.
    fn check_range(before: &str, first: &str, last: &str, after: &str) {
        check(before, true);
        check(first, false);
        check(last, false);
        check(after, true);
    }

    #[test]
    fn closed_ipv4_ranges_end_where_they_end() {
        check("0.0.0.0", false);
        check("0.255.255.255", false);
        check("1.0.0.0", true);
        check_range("9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0");
        check_range("100.63.255.255", "100.64.0.0", "100.127.255.255", "100.128.0.0");
        check_range("126.255.255.255", "127.0.0.0", "127.255.255.255", "128.0.0.0");
        check_range("169.253.255.255", "169.254.0.0", "169.254.255.255", "169.255.0.0");
        check_range("172.15.255.255", "172.16.0.0", "172.31.255.255", "172.32.0.0");
        check_range("191.255.255.255", "192.0.0.0", "192.0.0.255", "192.0.1.0");
        check_range("192.0.1.255", "192.0.2.0", "192.0.2.255", "192.0.3.0");
        check_range("192.88.98.255", "192.88.99.0", "192.88.99.255", "192.88.100.0");
        check_range("192.167.255.255", "192.168.0.0", "192.168.255.255", "192.169.0.0");
        check_range("198.17.255.255", "198.18.0.0", "198.19.255.255", "198.20.0.0");
        check_range("198.51.99.255", "198.51.100.0", "198.51.100.255", "198.51.101.0");
        check_range("203.0.112.255", "203.0.113.0", "203.0.113.255", "203.0.114.0");
        check("223.255.255.255", true);
        check("224.0.0.0", false);
        check("240.0.0.0", false);
        check("255.255.255.255", false);
    }

    #[test]
    fn of_ipv6_only_global_unicast_is_dialled() {
        check("::", false);
        check("::1", false);
        check("1fff:ffff::1", false);
        check_range("2000::", "2001::", "2001:0:ffff:ffff::", "2001:1::");
        check_range("2001:db7:ffff::", "2001:db8::", "2001:db8:ffff::1", "2001:db9::");
        check_range("2001:ffff::", "2002::", "2002:ffff::", "2003::");
        check("3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true);
        check("4000::", false);
        check("fc00::1", false);
        check("fe80::1", false);
        check("ff02::1", false);
        check("64:ff9b:1::8.8.8.8", false);
    }

    #[test]
    fn an_embedded_ipv4_address_decides() {
        check("::ffff:8.8.8.8", true);
        check("::ffff:127.0.0.1", false);
        check("::ffff:169.254.169.254", false);
        check("64:ff9b::8.8.8.8", true);
        check("64:ff9b::10.0.0.1", false);
        check("::8.8.8.8", false);
    }
}
