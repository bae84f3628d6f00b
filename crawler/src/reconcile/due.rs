//! Whether a pass over a host is due, and which. Pure.

use protocol::ids::Micros;

use super::guard::Stream;
use super::ledger::Known;
use super::pace::Timing;

/// A pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Over the whole listing, from its beginning.
    Whole {
        /// Why.
        reason: String,
    },
    /// The one that is under way.
    Resume,
    /// Over single accounts: those that are owed by themselves, and those that wait for a second
    /// look.
    Single,
}

/// What is due of a host, the most important first.
///
/// What was missed is looked after when the stream has got past it: what it brings by itself needs
/// no request.
pub(super) fn due(known: &Known, stream: &Stream, now: Micros, timing: &Timing) -> Option<Task> {
    if !known.is_followed {
        return None;
    }
    let is_past = |moment: Micros| stream.is_read_past(moment, now);
    let row = known.row.as_ref();
    if row.is_some_and(|row| row.is_under_way()) {
        return is_past(Micros(0)).then_some(Task::Resume);
    }
    let owed = known.owed.as_ref().filter(|owed| is_past(owed.newest));
    if let Some(owed) = owed.filter(|owed| owed.whole) {
        return Some(Task::Whole { reason: format!("gap: {}", owed.reason) });
    }
    let last = row.map_or(Micros(0), |row| row.full.at);
    if last == Micros(0) {
        return (stream.caught_up > Micros(0))
            .then(|| Task::Whole { reason: "new host".to_owned() });
    }
    if owed.is_some_and(|owed| owed.accounts > 0) {
        return Some(Task::Single);
    }
    if row.is_some_and(|row| row.second_look > Micros(0) && row.second_look <= now) {
        return Some(Task::Single);
    }
    let is_old = timing.every.is_some_and(|every| now.since(last) >= every);
    (is_old && is_past(Micros(0))).then(|| Task::Whole { reason: "background".to_owned() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::host::{HostName, HostRules};
    use protocol::host_state::HostState;
    use protocol::ids::{Epoch, HostId, HostSeq};

    use super::super::ledger::{Full, Owed, Row};
    use super::*;

    const NOW: Micros = Micros(1_795_219_200_000_000);
    const HOUR: Duration = Duration::from_hours(1);

    fn ago(duration: Duration) -> Micros {
        Micros(NOW.0 - u64::try_from(duration.as_micros()).unwrap())
    }

    fn known() -> Known {
        let full = Full { at: ago(HOUR), ..Full::default() };
        Known {
            id: HostId(1),
            name: HostName::parse("a.example.com", HostRules::Public).unwrap(),
            is_followed: true,
            accounts: 3,
            row: Some(Row { began: ago(HOUR), ended: ago(HOUR), full, ..Row::default() }),
            owed: None,
        }
    }

    fn owed(whole: bool, newest: Micros) -> Option<Owed> {
        let accounts = u32::from(!whole);
        Some(Owed { whole, accounts, newest, reason: "OutdatedCursor".to_owned() })
    }

    fn stream() -> Stream {
        Stream {
            state: HostState::Streaming,
            since: ago(HOUR),
            caught_up: ago(Duration::from_secs(1)),
            received: (Epoch(0), HostSeq::ZERO),
            settled: (Epoch(0), HostSeq::ZERO),
        }
    }

    #[track_caller]
    fn check(known: &Known, stream: &Stream, expected: Option<&str>) {
        let timing = Timing::default();
        let found = due(known, stream, NOW, &timing).map(|task| match task {
            Task::Whole { reason } => reason,
            Task::Resume => "resume".to_owned(),
            Task::Single => "single".to_owned(),
        });
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn a_pass_is_due_for_a_reason() {
        let host = known();
        let row = host.row.clone().unwrap();
        let with = |row: Row| Known { row: Some(row), ..host.clone() };
        check(&host, &stream(), None);
        check(&Known { row: None, ..host.clone() }, &stream(), Some("new host"));
        let second_look = ago(HOUR);
        check(&with(Row { second_look, ..Row::default() }), &stream(), Some("new host"));
        let missed = ago(Duration::from_secs(2));
        let gap = Known { owed: owed(true, missed), ..host.clone() };
        check(&gap, &stream(), Some("gap: OutdatedCursor"));
        check(&Known { owed: owed(false, missed), ..host.clone() }, &stream(), Some("single"));
        check(&with(Row { second_look, ..row.clone() }), &stream(), Some("single"));
        check(&with(Row { second_look: NOW.plus(HOUR), ..row.clone() }), &stream(), None);
        let full = Full { at: ago(169 * HOUR), ..row.full };
        check(&with(Row { full, ..row.clone() }), &stream(), Some("background"));
        let under_way = Row { ended: Micros(0), ..row };
        check(&Known { row: Some(under_way), ..gap.clone() }, &stream(), Some("resume"));
        check(&Known { is_followed: false, ..gap }, &stream(), None);
    }

    #[test]
    fn what_was_missed_waits_for_the_stream_to_get_past_it() {
        check(&Known { owed: owed(true, NOW), ..known() }, &stream(), None);
        let never = Stream { caught_up: Micros(0), ..stream() };
        check(&Known { row: None, ..known() }, &never, None);
        let under_way = Row { began: ago(HOUR), ..Row::default() };
        check(&Known { row: Some(under_way.clone()), ..known() }, &never, None);
        // A host that is away may still answer.
        let down = Stream { state: HostState::BackingOff, ..never };
        check(&Known { row: Some(under_way), ..known() }, &down, Some("resume"));
        check(&Known { owed: owed(true, NOW), ..known() }, &down, Some("gap: OutdatedCursor"));
        check(&Known { row: None, ..known() }, &down, None);
    }

    #[test]
    fn without_a_background_pass_only_what_is_owed_is_due() {
        let full = Full { at: ago(9_000 * HOUR), ..Full::default() };
        let row = Row { began: full.at, ended: full.at, full, ..Row::default() };
        let timing = Timing { every: None, ..Timing::default() };
        let host = Known { row: Some(row), ..known() };
        assert_eq!(due(&host, &stream(), NOW, &timing), None);
    }
}
