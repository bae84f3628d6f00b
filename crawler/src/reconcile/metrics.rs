//! What reconciliation counts.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

/// Handles that all passes share.
pub(super) struct Metrics {
    /// Requests to hosts.
    pub(super) requests: Counter,
    /// Answers that asked to wait.
    pub(super) waits: Counter,
    /// Passes under way.
    pub(super) under_way: Gauge,
    /// Passes that came to their end.
    pub(super) done: Counter,
    /// Passes that go on later.
    pub(super) broken_off: Counter,
    /// In the order of [`Fate::ALL`].
    fates: [Counter; Fate::ALL.len()],
    /// Hosts and accounts that something is owed of.
    pub(super) hosts_owed: Gauge,
    pub(super) accounts_owed: Gauge,
    /// Of the last whole passes of all hosts.
    pub(super) listed: Gauge,
    pub(super) known: Gauge,
    pub(super) in_step: Gauge,
    /// How old the oldest of them is.
    pub(super) oldest: Gauge,
}

/// What became of an account that a pass came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was the same, or older than what we hold.
    InStep,
    /// It was looked at before, and nothing has changed since.
    Excused,
    /// Another host speaks for it.
    Elsewhere,
    /// It is one too many for its host, and is known as such.
    NoRoom,
    /// The stream, or the commit itself, showed that it is in step.
    CaughtUp,
    /// A `#sync`, an `#account` or both went out.
    Repaired,
    /// Its commit does not verify.
    Unverifiable,
    /// What was found does not pass, for another reason.
    Refused,
    /// The host does not know it; asked again later.
    Missing,
    /// Nothing could be learnt.
    Failed,
}

impl Metrics {
    /// Registers all with the recorder of the process.
    pub(super) fn register() -> Self {
        describe_counter!("mainstem_reconcile_requests_total", "requests to hosts");
        describe_counter!("mainstem_reconcile_waits_total", "answers that asked to wait");
        describe_gauge!("mainstem_reconcile_under_way", "passes under way");
        describe_counter!("mainstem_reconcile_passes_total", "passes, by how they ended");
        describe_counter!("mainstem_reconcile_accounts_total", "accounts looked at, by result");
        describe_gauge!("mainstem_reconcile_owed_hosts", "hosts that a whole pass is owed of");
        describe_gauge!("mainstem_reconcile_owed_accounts", "accounts owed by themselves");
        describe_gauge!("mainstem_reconcile_listed_accounts", "accounts that hosts listed last");
        describe_gauge!("mainstem_reconcile_known_accounts", "accounts held of the hosts listed");
        describe_gauge!("mainstem_reconcile_in_step_accounts", "listed accounts found in step");
        describe_gauge!(
            "mainstem_reconcile_oldest_pass_seconds",
            "age of the oldest of the hosts' last whole passes"
        );
        let passes = |end: &'static str| counter!("mainstem_reconcile_passes_total", "end" => end);
        Self {
            requests: counter!("mainstem_reconcile_requests_total"),
            waits: counter!("mainstem_reconcile_waits_total"),
            under_way: gauge!("mainstem_reconcile_under_way"),
            done: passes("done"),
            broken_off: passes("broken_off"),
            fates: Fate::ALL
                .map(|fate| counter!("mainstem_reconcile_accounts_total", "result" => fate.name())),
            hosts_owed: gauge!("mainstem_reconcile_owed_hosts"),
            accounts_owed: gauge!("mainstem_reconcile_owed_accounts"),
            listed: gauge!("mainstem_reconcile_listed_accounts"),
            known: gauge!("mainstem_reconcile_known_accounts"),
            in_step: gauge!("mainstem_reconcile_in_step_accounts"),
            oldest: gauge!("mainstem_reconcile_oldest_pass_seconds"),
        }
    }

    /// Counts an account.
    pub(super) fn account(&self, fate: Fate) {
        let index = Fate::ALL.iter().position(|other| *other == fate);
        self.fates[index.expect("every fate is listed")].increment(1);
    }
}

impl Fate {
    /// Every one.
    pub(super) const ALL: [Self; 10] = [
        Self::InStep,
        Self::Excused,
        Self::Elsewhere,
        Self::NoRoom,
        Self::CaughtUp,
        Self::Repaired,
        Self::Unverifiable,
        Self::Refused,
        Self::Missing,
        Self::Failed,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::InStep => "in_step",
            Self::Excused => "excused",
            Self::Elsewhere => "elsewhere",
            Self::NoRoom => "no_room",
            Self::CaughtUp => "caught_up",
            Self::Repaired => "repaired",
            Self::Unverifiable => "unverifiable",
            Self::Refused => "refused",
            Self::Missing => "missing",
            Self::Failed => "failed",
        }
    }
}
