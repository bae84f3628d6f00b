//! What the verifier counts. Handles are registered once; labels come from enums, never from what
//! hosts or accounts are called.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use protocol::account::Local;
use protocol::frame::Kind;
use protocol::reject::Reject;

use crate::check::Status;
use crate::finding;
use crate::identity::{Found, Resolution};
use crate::verdict::Accepted;

/// The handles of one shard.
#[derive(Clone)]
pub(crate) struct Metrics {
    received: Counter,
    /// In the order of [`KINDS`].
    passed: [Counter; 4],
    /// In the order of [`Reject::ALL`].
    dropped: Vec<Counter>,
    signatures: [Counter; 3],
    /// By commits and by syncs.
    chain_breaks: [Counter; 2],
    recoded: Counter,
    healed: Counter,
    throttled: Counter,
    decided: Counter,
    pushed: Counter,
    lifted: Counter,
    quota: Counter,
    /// Repaired, in step, refused.
    findings_judged: [Counter; 3],
    /// In the order of [`IN_FORCE`].
    in_force: [Gauge; 3],
    lifts: Level,
    orders: Gauge,
    findings: Gauge,
    /// In the order of [`OUTCOMES`].
    lookups: Vec<Counter>,
    queued: Gauge,
    parked_accounts: Level,
    parked_bytes: Gauge,
    accounts: Level,
    identities: Level,
    identities_bytes: Level,
    under_way: Level,
    over_budget: Counter,
}

/// One shard's part of a gauge that all shards share.
#[derive(Clone)]
struct Level {
    gauge: Gauge,
    last: usize,
}

impl Metrics {
    /// Registers all, so that what has not happened reads zero.
    pub(crate) fn register() -> Self {
        describe();
        let level = |gauge| Level { gauge, last: 0 };
        let signature =
            |outcome| counter!("mainstem_verifier_signatures_total", "outcome" => outcome);
        let command = |kind| counter!("mainstem_verifier_commands_total", "kind" => kind);
        Self {
            received: counter!("mainstem_verifier_received_total"),
            passed: KINDS
                .map(|(_, name)| counter!("mainstem_verifier_passed_total", "kind" => name)),
            dropped: Reject::ALL
                .iter()
                .map(|it| counter!("mainstem_verifier_dropped_total", "reason" => it.name()))
                .collect(),
            signatures: ["valid", "high_s", "invalid"].map(signature),
            chain_breaks: ["commit", "sync"]
                .map(|kind| counter!("mainstem_verifier_chain_breaks_total", "kind" => kind)),
            recoded: counter!("mainstem_verifier_envelope_recoded_total"),
            healed: counter!("mainstem_verifier_healed_total"),
            throttled: counter!("mainstem_verifier_throttled_total"),
            decided: command("decide"),
            pushed: command("learn"),
            lifted: command("lift"),
            quota: command("quota"),
            findings_judged: ["repaired", "in_step", "refused"]
                .map(|outcome| counter!("mainstem_verifier_findings_total", "outcome" => outcome)),
            in_force: IN_FORCE.map(|local| gauge!("mainstem_verifier_decisions", "local" => local)),
            lifts: level(gauge!("mainstem_verifier_throttles_to_lift")),
            orders: gauge!("mainstem_verifier_queued_commands"),
            findings: gauge!("mainstem_verifier_findings_under_way"),
            lookups: OUTCOMES
                .iter()
                .map(|(what, outcome)| {
                    counter!(
                        "mainstem_verifier_lookups_total", "what" => *what, "outcome" => *outcome
                    )
                })
                .collect(),
            queued: gauge!("mainstem_verifier_queued_events"),
            parked_accounts: level(gauge!("mainstem_verifier_parked_accounts")),
            parked_bytes: gauge!("mainstem_verifier_parked_bytes"),
            accounts: level(gauge!("mainstem_verifier_accounts_cached")),
            identities: level(gauge!("mainstem_verifier_identities_cached")),
            identities_bytes: level(gauge!("mainstem_verifier_identities_cached_bytes")),
            under_way: level(gauge!("mainstem_verifier_documents_under_way")),
            over_budget: counter!("mainstem_verifier_lookups_over_budget_total"),
        }
    }

    pub(crate) fn queued(&self) -> Gauge {
        self.queued.clone()
    }

    pub(crate) fn orders(&self) -> Gauge {
        self.orders.clone()
    }

    pub(crate) fn findings(&self) -> Gauge {
        self.findings.clone()
    }

    /// What has come of a finding; apart from events, which are what hosts send.
    pub(crate) fn found(&self, found: finding::Found) {
        let at = match found {
            finding::Found::Repaired => 0,
            finding::Found::InStep => 1,
            finding::Found::Refused(_) => 2,
        };
        self.findings_judged[at].increment(1);
    }

    /// A decision of ours about an account.
    pub(crate) fn decided(&self) {
        self.decided.increment(1);
    }

    /// A document that was read elsewhere.
    pub(crate) fn pushed(&self) {
        self.pushed.increment(1);
    }

    /// A throttle that ended by itself.
    pub(crate) fn lifted(&self) {
        self.lifted.increment(1);
    }

    /// An account is one too many for its host's limit, or is not any more.
    pub(crate) fn quota(&self) {
        self.quota.increment(1);
    }

    /// Decisions that a start finds, by [`IN_FORCE`].
    pub(crate) fn found_in_force(&self, counts: [u64; 3]) {
        for (gauge, count) in self.in_force.iter().zip(counts) {
            #[expect(clippy::cast_precision_loss, reason = "a gauge is for reading")]
            gauge.set(count as f64);
        }
    }

    /// Another decision about an account is in force.
    pub(crate) fn in_force(&self, before: Local, after: Local) {
        if let Some(at) = place(before) {
            self.in_force[at].decrement(1.0);
        }
        if let Some(at) = place(after) {
            self.in_force[at].increment(1.0);
        }
    }

    pub(crate) fn received(&self) {
        self.received.increment(1);
    }

    pub(crate) fn passed(&self, accepted: &Accepted) {
        // What is healed is announced before its event, what is throttled after it.
        let event = accepted.frames.get(usize::from(accepted.healed));
        let Some(frame) = event else { return };
        if let Some(at) = KINDS.iter().position(|(kind, _)| *kind == frame.kind()) {
            self.passed[at].increment(1);
        }
        if matches!(frame.kind(), Kind::Commit | Kind::Sync) {
            self.signatures[0].increment(1);
        }
        let [by_commits, by_syncs] = &self.chain_breaks;
        let breaks = if frame.kind() == Kind::Sync { by_syncs } else { by_commits };
        breaks.increment(u64::from(accepted.chain_break));
        self.throttled.increment(u64::from(accepted.throttled));
        self.recoded.increment(u64::from(frame.recoded()));
        self.healed.increment(u64::from(accepted.healed));
    }

    pub(crate) fn dropped(&self, reject: Reject) {
        if let Some(at) = Reject::ALL.iter().position(|it| *it == reject) {
            self.dropped[at].increment(1);
        }
        match reject {
            Reject::SignatureHighS => self.signatures[1].increment(1),
            Reject::SignatureInvalid => self.signatures[2].increment(1),
            _ => {}
        }
    }

    pub(crate) fn lookup(&self, found: &Found) {
        let outcome = match found {
            Found::Document(identity) if identity.tombstoned => ("document", "tombstoned"),
            Found::Document(_) => ("document", "found"),
            Found::Missing => ("document", "missing"),
            Found::Failed | Found::Later(_) => ("document", "failed"),
            Found::Unavailable => ("document", "unavailable"),
            Found::Status(_, Status::Of(upstream)) if upstream.active => ("status", "active"),
            Found::Status(_, Status::Of(_)) => ("status", "inactive"),
            Found::Status(_, Status::NotFound) => ("status", "missing"),
            Found::Status(_, Status::MethodMissing) => ("status", "method_missing"),
            Found::Status(_, Status::None) => ("status", "failed"),
            Found::Handle(_, Resolution::Did(_) | Resolution::Perhaps(_)) => ("handle", "found"),
            Found::Handle(_, Resolution::Nothing) => ("handle", "missing"),
            Found::Handle(_, Resolution::Unknown) => ("handle", "failed"),
        };
        if let Some(at) = OUTCOMES.iter().position(|it| *it == outcome) {
            self.lookups[at].increment(1);
        }
    }

    /// A document was not fetched, since the host's events have caused too many fetches.
    pub(crate) fn over_budget(&self) {
        self.over_budget.increment(1);
    }

    /// The fill of what is bounded.
    pub(crate) fn fill(&mut self, fill: &Fill) {
        self.accounts.set(fill.accounts);
        self.identities.set(fill.identities);
        self.identities_bytes.set(fill.identities_bytes);
        self.under_way.set(fill.under_way);
        self.parked_accounts.set(fill.parked_accounts);
        self.lifts.set(fill.lifts);
        #[expect(clippy::cast_precision_loss, reason = "a gauge is for reading")]
        self.parked_bytes.set(fill.parked_bytes as f64);
    }
}

/// How full a shard is.
pub(crate) struct Fill {
    pub(crate) accounts: usize,
    pub(crate) identities: usize,
    pub(crate) identities_bytes: usize,
    pub(crate) under_way: usize,
    pub(crate) parked_accounts: usize,
    pub(crate) lifts: usize,
    /// Over all shards.
    pub(crate) parked_bytes: u64,
}

impl Level {
    fn set(&mut self, count: usize) {
        let count32 = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        self.gauge.increment(count32(count) - count32(self.last));
        self.last = count;
    }
}

fn describe() {
    for (name, meaning) in COUNTERS {
        describe_counter!(*name, *meaning);
    }
    for (name, meaning) in GAUGES {
        describe_gauge!(*name, *meaning);
    }
}

const COUNTERS: &[(&str, &str)] = &[
    ("mainstem_verifier_received_total", "Events that came to the verifier."),
    ("mainstem_verifier_passed_total", "Events that go out, by kind."),
    ("mainstem_verifier_dropped_total", "Events dropped, by the name of the offence."),
    ("mainstem_verifier_signatures_total", "Signatures checked, by outcome."),
    (
        "mainstem_verifier_chain_breaks_total",
        "Commits that did not continue the repo that we held, and syncs that replaced it.",
    ),
    (
        "mainstem_verifier_envelope_recoded_total",
        "Frames that were not canonical and were encoded anew.",
    ),
    (
        "mainstem_verifier_healed_total",
        "Inactive accounts that went on sending and are active, as their host says.",
    ),
    (
        "mainstem_verifier_throttled_total",
        "Accounts throttled because their chain broke too often.",
    ),
    (
        "mainstem_verifier_commands_total",
        "Changes without an event: decisions, documents read elsewhere, ends of throttles, quotas.",
    ),
    (
        "mainstem_verifier_findings_total",
        "What reconciliation had judged, by outcome; not counted as received, passed or dropped.",
    ),
    ("mainstem_verifier_lookups_total", "Look-ups that ended, by what was asked and outcome."),
    (
        "mainstem_verifier_lookups_over_budget_total",
        "Documents not fetched since the host's events had caused too many fetches.",
    ),
];

const GAUGES: &[(&str, &str)] = &[
    ("mainstem_verifier_queued_events", "Events that wait for their shard."),
    (
        "mainstem_verifier_queued_commands",
        "Commands that wait for their shard; a full one holds 64 documents.",
    ),
    (
        "mainstem_verifier_findings_under_way",
        "What reconciliation found and waits for its turn, a look-up or its commit.",
    ),
    ("mainstem_verifier_parked_accounts", "Lines of events that wait for a look-up."),
    ("mainstem_verifier_parked_bytes", "Bytes of events that wait for a look-up."),
    ("mainstem_verifier_accounts_cached", "Accounts in memory, all shards."),
    ("mainstem_verifier_identities_cached", "DID documents in memory, all shards."),
    (
        "mainstem_verifier_identities_cached_bytes",
        "Bytes of the DID documents in memory, all shards; bounded by --identity-cache-bytes.",
    ),
    ("mainstem_verifier_documents_under_way", "DID documents that are being fetched."),
    ("mainstem_verifier_decisions", "Accounts that this relay has decided about."),
    (
        "mainstem_verifier_throttles_to_lift",
        "Accounts whose throttle ends by itself, as far as that is remembered.",
    ),
];

fn place(local: Local) -> Option<usize> {
    match local {
        Local::None => None,
        Local::Takendown => Some(0),
        Local::Suspended => Some(1),
        Local::Throttled(_) => Some(2),
    }
}

const IN_FORCE: [&str; 3] = ["takendown", "suspended", "throttled"];

const KINDS: [(Kind, &str); 4] = [
    (Kind::Commit, "commit"),
    (Kind::Sync, "sync"),
    (Kind::Identity, "identity"),
    (Kind::Account, "account"),
];

const OUTCOMES: [(&str, &str); 13] = [
    ("document", "found"),
    ("document", "tombstoned"),
    ("document", "missing"),
    ("document", "failed"),
    ("document", "unavailable"),
    ("status", "active"),
    ("status", "inactive"),
    ("status", "missing"),
    ("status", "method_missing"),
    ("status", "failed"),
    ("handle", "found"),
    ("handle", "missing"),
    ("handle", "failed"),
];
