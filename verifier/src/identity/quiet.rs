//! Hosts that asked to be left alone for a while when they were asked about an account.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use protocol::ids::{HostId, Micros};

/// Until when which hosts are not asked. Shared by all look-ups; locked for lines.
#[derive(Debug, Default)]
pub(super) struct Quiet(Mutex<HashMap<HostId, Micros>>);

impl Quiet {
    /// A host asks to be left alone for so long; for a moment if it does not say.
    pub(super) fn note(&self, host: HostId, wait: Option<Duration>, now: Micros) {
        let until = now.plus(wait.unwrap_or_default().clamp(WAIT_MIN, WAIT_MAX));
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= HOSTS_MAX {
            hosts.retain(|_, until| *until > now);
        }
        let is_room = hosts.len() < HOSTS_MAX || hosts.contains_key(&host);
        if is_room {
            let held = hosts.entry(host).or_insert(until);
            *held = until.max(*held);
        }
    }

    /// Whether it is to be left alone.
    pub(super) fn holds(&self, host: HostId, now: Micros) -> bool {
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = hosts.get(&host).copied();
        if until.is_some_and(|until| until <= now) {
            hosts.remove(&host);
        }
        until.is_some_and(|until| until > now)
    }
}

/// What says "too many requests" and not how many is asked again a little later.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// A host must not silence questions about its accounts for a day: what it sends of an inactive
/// one is missed meanwhile.
const WAIT_MAX: Duration = Duration::from_secs(5 * 60);
/// 300 kB. Beyond it a host is asked again too early.
const HOSTS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Micros {
        Micros(seconds * 1_000_000)
    }

    #[test]
    fn a_host_is_left_alone_for_as_long_as_it_asks_within_limits() {
        let check = |wait: Option<u64>, expected: u64| {
            let quiet = Quiet::default();
            quiet.note(HostId(1), wait.map(Duration::from_secs), at(100));
            assert!(quiet.holds(HostId(1), Micros(at(100 + expected).0 - 1)), "{wait:?}");
            assert!(!quiet.holds(HostId(1), at(100 + expected)), "{wait:?}");
            assert!(!quiet.holds(HostId(2), at(100)));
        };
        check(None, 1);
        check(Some(0), 1);
        check(Some(40), 40);
        check(Some(100_000), 300);
    }

    #[test]
    fn the_later_of_two_times_holds() {
        let quiet = Quiet::default();
        for seconds in [90, 10] {
            quiet.note(HostId(1), Some(Duration::from_secs(seconds)), at(0));
        }
        assert!(quiet.holds(HostId(1), at(89)));
    }

    #[test]
    fn so_many_hosts_are_remembered_and_those_that_are_over_make_room() {
        let quiet = Quiet::default();
        let minute = Some(Duration::from_secs(60));
        let many = u32::try_from(HOSTS_MAX).unwrap();
        (1..=many).for_each(|host| quiet.note(HostId(host), minute, at(0)));
        quiet.note(HostId(many + 1), minute, at(1));
        assert!(!quiet.holds(HostId(many + 1), at(1)), "there is no room");
        quiet.note(HostId(1), minute, at(2));
        assert!(quiet.holds(HostId(1), at(61)), "one that is there has its own");
        quiet.note(HostId(many + 1), minute, at(61));
        assert!(quiet.holds(HostId(many + 1), at(62)));
        assert_eq!(quiet.0.lock().unwrap().len(), 2);
    }
}
