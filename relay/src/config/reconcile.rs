//! Settings of reconciliation: how often, how fast, and how patiently.

use std::time::Duration;

use clap::Args;

use super::values::parse_duration;

/// Settings of `mainstem serve` about reconciliation; what it does is in docs/reconciliation.md.
#[derive(Clone, Debug, Args)]
pub struct Reconcile {
    /// Time from one comparison with everything that a host lists to the next; 0s: only when
    /// something of it was missed.
    #[arg(
        long,
        env = "MAINSTEM_RECONCILE_EVERY",
        value_name = "DURATION",
        default_value = "7d",
        value_parser = parse_duration
    )]
    pub reconcile_every: Duration,

    /// Requests of reconciliation to one host, in a second.
    #[arg(
        long,
        env = "MAINSTEM_RECONCILE_HOST_RATE",
        value_name = "REQUESTS_PER_S",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=1_000)
    )]
    pub reconcile_host_rate: u32,

    /// Requests of reconciliation to all hosts together, in a second.
    #[arg(
        long,
        env = "MAINSTEM_RECONCILE_RATE",
        value_name = "REQUESTS_PER_S",
        default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=10_000)
    )]
    pub reconcile_rate: u32,

    /// Time after which an account that differs from what its host lists is looked at again, before
    /// anything is done about it: events that tell of it may be on their way.
    #[arg(
        long,
        env = "MAINSTEM_RECONCILE_RECHECK",
        value_name = "DURATION",
        default_value = "60s",
        value_parser = parse_duration
    )]
    pub reconcile_recheck: Duration,

    /// Time after which an account that its host does not know is asked about once more, and then
    /// is deleted.
    #[arg(
        long,
        env = "MAINSTEM_RECONCILE_ABSENCE",
        value_name = "DURATION",
        default_value = "24h",
        value_parser = parse_duration
    )]
    pub reconcile_absence: Duration,
}

impl Reconcile {
    /// As the reconciler takes them.
    pub fn timing(&self) -> crawler::reconcile::Timing {
        crawler::reconcile::Timing {
            host_interval: Duration::from_secs(1) / self.reconcile_host_rate,
            all_interval: Duration::from_secs(1) / self.reconcile_rate,
            recheck: self.reconcile_recheck,
            absence: self.reconcile_absence,
            every: Some(self.reconcile_every).filter(|every| !every.is_zero()),
            ..crawler::reconcile::Timing::default()
        }
    }
}
