//! How often one address may ask for what costs a read of the store.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::XrpcError;
use crate::fanout::per_network;
use crate::outreach::Pace;

/// The addresses that ask, each at its own pace.
pub(crate) struct Visitors(Pace<IpAddr>);

impl Visitors {
    /// Nobody has asked.
    pub(crate) fn new() -> Self {
        Self(Pace::new(VISIT_INTERVAL, VISIT_BURST))
    }

    /// One more visit from there, if that is not too soon.
    pub(crate) fn admit(&self, address: IpAddr) -> Result<(), XrpcError> {
        let booked = self.0.book(&per_network(address), Instant::now(), Duration::ZERO);
        let busy = || XrpcError::busy("too many requests from your address: ask again later");
        booked.map(|_| ()).ok_or_else(busy)
    }
}

/// Ten visits a second and address, after a burst: a monitor of some hundred hosts, or a client
/// that pages through all accounts.
const VISIT_INTERVAL: Duration = Duration::from_millis(100);
const VISIT_BURST: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_pace_and_a_network_of_ipv6_is_one() {
        let visitors = Visitors::new();
        let admitted = |text: &str| visitors.admit(text.parse().unwrap()).is_ok();
        assert!((0..VISIT_BURST).all(|visit| admitted(&format!("2001:db8::{visit}"))));
        assert!((0..5).any(|_| !admitted("2001:db8::1")));
        assert!(admitted("2001:db8:0:1::1") && admitted("203.0.113.7"));
    }
}
