//! Settings of what hosts may: how many accounts, how many events, how many new ones a day.

use std::str::FromStr;

use anyhow::bail;
use clap::Args;
use crawler::allowance::Bounds;
use protocol::host::HostRules;
use protocol::host_state::Allowance;

use crate::domains::Domain;

/// Settings of `mainstem serve` about hosts' quotas; the rule is in docs/hosts.md, "Quotas".
#[derive(Clone, Debug, Args)]
pub struct Quotas {
    /// Live accounts that a new host may have; doubled as it grows, up to --accounts-per-host-max
    /// [default: 1000; with --allow-insecure-hosts: --accounts-per-host-max].
    #[arg(
        long,
        env = "MAINSTEM_ACCOUNTS_PER_HOST_BASE",
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub accounts_per_host_base: Option<u64>,

    /// Live accounts that one host may have at most; new ones beyond its limit are throttled.
    #[arg(
        long,
        env = "MAINSTEM_ACCOUNTS_PER_HOST_MAX",
        value_name = "N",
        default_value_t = 5_000_000,
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub accounts_per_host_max: u64,

    /// Events of a new host that are read in a second, an hour, a day; doubled as it grows, up to
    /// --host-events-max, which also stands for what is left out [default:
    /// 500/s,200000/h,1000000/d; with --allow-insecure-hosts: as --host-events-max].
    #[arg(long, env = "MAINSTEM_HOST_EVENTS_BASE", value_name = "N/s,N/h,N/d")]
    pub host_events_base: Option<EventRates>,

    /// Events of one host that are read at most; what is left out has no limit [default:
    /// 5000/s,5000000/h,50000000/d; with --allow-insecure-hosts: no limits].
    #[arg(long, env = "MAINSTEM_HOST_EVENTS_MAX", value_name = "N/s,N/h,N/d")]
    pub host_events_max: Option<EventRates>,

    /// Domain whose hosts are fully grown from the start: example.com with all below it, or
    /// *.example.com for those below it alone; none: no domain.
    #[arg(
        long = "trusted-domain",
        env = "MAINSTEM_TRUSTED_DOMAIN",
        value_name = "DOMAIN",
        value_delimiter = ',',
        default_value = "*.host.bsky.network"
    )]
    pub trusted_domains: Vec<Domain>,

    /// Hosts that may become known by requestCrawl within 24 hours, those of trusted domains not
    /// counted [default: 200; with --allow-insecure-hosts: no limit].
    #[arg(long, env = "MAINSTEM_NEW_HOSTS_PER_DAY", value_name = "N")]
    pub new_hosts_per_day: Option<usize>,
}

/// Events of one host in a second, an hour, a day: `500/s,200000/h`. What is left out is as large
/// as can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRates {
    /// In a second.
    pub per_second: u64,
    /// In an hour.
    pub per_hour: u64,
    /// In a day.
    pub per_day: u64,
}

impl Quotas {
    /// What hosts may at least and at most. A development network has no limits but those that were
    /// asked for.
    pub fn bounds(&self, rules: HostRules) -> anyhow::Result<Bounds> {
        let insecure = rules == HostRules::Insecure;
        let events_max = self.host_events_max.unwrap_or(match insecure {
            true => EventRates::UNLIMITED,
            false => EVENTS_MAX,
        });
        let events_base = match self.host_events_base {
            Some(rates) => rates.or(events_max),
            None if insecure => events_max,
            None => EVENTS_BASE.min(events_max),
        };
        let accounts_max = self.accounts_per_host_max;
        let accounts_base = match self.accounts_per_host_base {
            Some(accounts) => accounts,
            None if insecure => accounts_max,
            None => ACCOUNTS_BASE.min(accounts_max),
        };
        if accounts_base > accounts_max {
            bail!(
                "--accounts-per-host-base {accounts_base}: more than --accounts-per-host-max \
                 {accounts_max}"
            );
        }
        if events_base.min(events_max) != events_base {
            bail!("--host-events-base: more than --host-events-max");
        }
        Ok(Bounds {
            base: events_base.with_accounts(accounts_base),
            ceiling: events_max.with_accounts(accounts_max),
        })
    }

    /// How many hosts may become known by `requestCrawl` within a day; `None`: any number.
    pub fn new_hosts_max(&self, rules: HostRules) -> Option<usize> {
        match rules {
            HostRules::Public => self.new_hosts_per_day.or(Some(NEW_HOSTS_PER_DAY)),
            HostRules::Insecure => self.new_hosts_per_day,
        }
    }
}

impl EventRates {
    const UNLIMITED: Self = Self { per_second: u64::MAX, per_hour: u64::MAX, per_day: u64::MAX };

    /// With the other's rates where this has no limit.
    fn or(self, other: Self) -> Self {
        let or = |rate, other| if rate == u64::MAX { other } else { rate };
        Self {
            per_second: or(self.per_second, other.per_second),
            per_hour: or(self.per_hour, other.per_hour),
            per_day: or(self.per_day, other.per_day),
        }
    }

    fn min(self, other: Self) -> Self {
        Self {
            per_second: self.per_second.min(other.per_second),
            per_hour: self.per_hour.min(other.per_hour),
            per_day: self.per_day.min(other.per_day),
        }
    }

    fn with_accounts(self, accounts: u64) -> Allowance {
        let Self { per_second, per_hour, per_day } = self;
        Allowance { per_second, per_hour, per_day, accounts }
    }
}

impl FromStr for EventRates {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut rates = Self::UNLIMITED;
        let mut named = Vec::new();
        for part in text.split(',') {
            let (number, unit) = part
                .trim()
                .split_once('/')
                .ok_or_else(|| format!("'{part}' is not a rate, such as 500/s or 200000/h"))?;
            let rate = match unit {
                "s" => &mut rates.per_second,
                "h" => &mut rates.per_hour,
                "d" => &mut rates.per_day,
                unit => return Err(format!("unknown unit '{unit}': use s, h or d")),
            };
            if named.contains(&unit) {
                return Err(format!("two rates for '{unit}'"));
            }
            named.push(unit);
            *rate = match number.parse() {
                Ok(number) if number > 0 => number,
                _ => return Err(format!("'{number}' is not a number greater than 0")),
            };
        }
        Ok(rates)
    }
}

/// Most hosts have some dozens of accounts, nearly all fewer than this.
const ACCOUNTS_BASE: u64 = 1_000;
/// A thousand accounts that are all active send 30,000 events a day, and their backfill of three
/// days is read in minutes. A hundred hosts that send all they may cost a core a tenth of its time.
const EVENTS_BASE: EventRates =
    EventRates { per_second: 500, per_hour: 200_000, per_day: 1_000_000 };
/// The whole network sends 500 events a second, 43 million a day: no honest host is held back, not
/// even while it sends what this relay has missed for days.
const EVENTS_MAX: EventRates =
    EventRates { per_second: 5_000, per_hour: 5_000_000, per_day: 50_000_000 };
/// The network has some 3,000 hosts and gains some dozens a day.
const NEW_HOSTS_PER_DAY: usize = 200;
