//! How many hosts may come by themselves within a day: in all, of one domain, and by one asker.
//! Names below a domain cost nothing, so one alone could take all places.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::host::HostName;
use protocol::ids::Micros;

/// The hosts that came by themselves within the last day.
#[derive(Debug)]
pub(super) struct NewHosts {
    max: Option<usize>,
    /// What came, the oldest first. Invariant: at most `max`; empty if that is none.
    came: Mutex<VecDeque<Came>>,
}

/// Of which domain a host is that calls, and who asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    domain: String,
    /// None: not known any longer.
    network: Option<IpAddr>,
}

#[derive(Debug)]
struct Came {
    at: Micros,
    call: Call,
}

impl NewHosts {
    pub(super) fn new(max: Option<usize>) -> Self {
        Self { max, came: Mutex::default() }
    }

    /// Counts one that came before this start.
    pub(super) fn remember(&self, name: &HostName, added: Micros, now: Micros) {
        let Some(max) = self.max else { return };
        let mut came = self.came();
        if now.since(added) < DAY && came.len() < max {
            came.push_back(Came { at: added, call: Call::new(name, None) });
        }
    }

    /// Whether one may come now; or how long it must wait.
    pub(super) fn room(&self, call: &Call, now: Micros) -> Result<(), Duration> {
        let Some(max) = self.max else { return Ok(()) };
        let mut came = self.came();
        while came.front().is_some_and(|first| now.since(first.at) >= DAY) {
            came.pop_front();
        }
        let network = call.network;
        let of_network = |other: &Call| network.is_some() && other.network == network;
        let in_all = wait(&came, max, now, |_| true);
        let of_domain = wait(&came, ALIKE_MAX, now, |other| other.domain == call.domain);
        let by_asker = wait(&came, ALIKE_MAX, now, of_network);
        match in_all.max(of_domain).max(by_asker) {
            Some(wait) => Err(wait),
            None => Ok(()),
        }
    }

    /// Counts one that comes now; or says how long it must wait.
    pub(super) fn book(&self, call: Call, now: Micros) -> Result<(), Duration> {
        self.room(&call, now)?;
        if self.max.is_some() {
            self.came().push_back(Came { at: now, call });
        }
        Ok(())
    }

    fn came(&self) -> MutexGuard<'_, VecDeque<Came>> {
        self.came.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call {
    /// The domain is the last two labels: of what a registry sells as a third one, as much comes
    /// within a day as of one domain.
    pub(super) fn new(name: &HostName, network: Option<IpAddr>) -> Self {
        let name = name.name();
        let is_address = name.parse::<IpAddr>().is_ok();
        let mut dots = name.rmatch_indices('.').map(|(at, _)| at);
        let domain = match dots.nth(1) {
            Some(dot) if !is_address => &name[dot + 1..],
            _ => name,
        };
        Self { domain: domain.to_owned(), network }
    }
}

/// How long until there are fewer than `max` of these; `None`: there are.
fn wait(
    came: &VecDeque<Came>,
    max: usize,
    now: Micros,
    is_one: impl Fn(&Call) -> bool,
) -> Option<Duration> {
    let mut times = came.iter().filter(|came| is_one(&came.call)).map(|came| came.at);
    let over = times.clone().count().checked_sub(max)?;
    Some(times.nth(over).map_or(DAY, |at| at.plus(DAY).since(now)))
}

const DAY: Duration = Duration::from_hours(24);
/// Of one domain, and by one asker, within a day: a provider with more hosts asks the operator.
const ALIKE_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use protocol::host::HostRules;

    use super::*;

    const NOW: Micros = Micros(1_700_000_000_000_000);

    fn at(hours: u64) -> Micros {
        NOW.plus(Duration::from_hours(hours))
    }

    fn hours(hours: u64) -> Result<(), Duration> {
        Err(Duration::from_hours(hours))
    }

    fn name(text: &str) -> HostName {
        HostName::parse(text, HostRules::Insecure).unwrap()
    }

    /// A host of a domain of its own, asked for by somebody else than all others.
    fn call(number: u8) -> Call {
        Call::new(&name(&format!("pds.d{number}.test")), Some([10, 0, 0, number].into()))
    }

    #[test]
    fn so_many_hosts_come_within_any_24_hours() {
        let hosts = NewHosts::new(Some(2));
        assert_eq!(hosts.book(call(0), at(0)), Ok(()));
        assert_eq!(hosts.book(call(1), at(10)), Ok(()));
        assert_eq!(hosts.book(call(2), at(11)), hours(13));
        assert_eq!(hosts.book(call(2), at(24)), Ok(()));
        assert_eq!(hosts.book(call(3), at(24)), hours(10));
        assert_eq!(hosts.room(&call(3), at(24)), hours(10));
    }

    #[test]
    fn one_domain_or_one_asker_does_not_take_the_places_of_others() {
        let asker = |number: u8| Some(IpAddr::from([10, 0, 0, number]));
        let below = |number: u8| name(&format!("h{number}.evil.test"));
        let hosts = NewHosts::new(Some(200));
        for number in 0..10 {
            assert_eq!(hosts.book(Call::new(&below(number), asker(number)), at(0)), Ok(()));
        }
        assert_eq!(hosts.book(Call::new(&below(10), asker(10)), at(1)), hours(23));
        assert_eq!(hosts.book(Call::new(&name("evil.test:8080"), None), at(1)), hours(23));
        let hosts = NewHosts::new(Some(200));
        for number in 0..10 {
            let host = name(&format!("d{number}.test"));
            assert_eq!(hosts.book(Call::new(&host, asker(7)), at(0)), Ok(()));
        }
        assert_eq!(hosts.book(Call::new(&name("other.test"), asker(7)), at(1)), hours(23));
        assert_eq!(hosts.book(Call::new(&name("other.test"), asker(8)), at(1)), Ok(()));
        assert_eq!(hosts.book(Call::new(&name("other.test"), asker(7)), at(24)), Ok(()));
    }

    #[test]
    fn those_of_before_a_start_count_as_long_as_a_day() {
        let hosts = NewHosts::new(Some(2));
        hosts.remember(&name("a.test"), at(0), at(24));
        hosts.remember(&name("b.test"), at(23), at(24));
        assert_eq!(hosts.book(call(0), at(24)), Ok(()));
        assert_eq!(hosts.book(call(1), at(25)), hours(22));
    }

    #[test]
    fn without_a_limit_nothing_is_counted_and_with_none_at_all_nobody_comes() {
        let hosts = NewHosts::new(None);
        (0..100).for_each(|_| assert_eq!(hosts.book(call(0), NOW), Ok(())));
        assert!(hosts.came().is_empty());
        assert_eq!(NewHosts::new(Some(0)).book(call(0), NOW), Err(DAY));
    }

    #[test]
    fn a_domain_is_two_labels_and_an_address_is_its_own() {
        let check =
            |host: &str, domain: &str| assert_eq!(Call::new(&name(host), None).domain, domain);
        check("a.b.example.com", "example.com");
        check("example.com", "example.com");
        check("localhost:80", "localhost");
        check("127.0.0.1:80", "127.0.0.1");
    }
}
