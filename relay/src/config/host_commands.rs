//! Settings of `mainstem hosts`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::BoolishValueParser;
use clap::{Args, Subcommand, ValueEnum};

use super::values::parse_http_url;

/// Settings of `mainstem hosts`.
#[derive(Clone, Debug, Args)]
pub struct Hosts {
    /// Address of the relay's admin API.
    #[arg(
        long,
        alias = "admin",
        env = "MAINSTEM_ADMIN_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:2472",
        value_parser = parse_http_url,
        global = true
    )]
    pub admin_url: String,

    /// File that holds the admin API's bearer token.
    #[arg(long, env = "MAINSTEM_ADMIN_TOKEN_FILE", value_name = "FILE", global = true)]
    pub admin_token_file: Option<PathBuf>,

    /// Print the relay's answers as JSON, one a line.
    #[arg(long, env = "MAINSTEM_JSON", value_parser = BoolishValueParser::new(), global = true)]
    pub json: bool,

    /// What to do.
    #[command(subcommand)]
    pub verb: HostsVerb,
}

/// What can be done with hosts.
#[derive(Clone, Debug, Subcommand)]
pub enum HostsVerb {
    /// Print all hosts, or those of one status.
    List {
        /// Only those that are active, idle, offline, throttled or banned.
        #[arg(long, value_name = "STATUS")]
        status: Option<Status>,
    },
    /// Follow hosts.
    Add {
        /// Their names.
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        /// Where those that are new begin.
        #[arg(long, value_enum, default_value_t = Start::Oldest)]
        start: Start,
    },
    /// Forget hosts; their accounts stay as they are.
    Remove {
        /// Their names.
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Cut hosts off and follow them no more.
    Ban {
        /// Their names.
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Follow hosts again that were banned.
    Unban {
        /// Their names.
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Set the limits of a host: a number, or `rule` for what the rule gives it.
    Limits {
        /// Its name.
        #[arg(value_name = "NAME")]
        name: String,
        /// Live accounts.
        #[arg(long, value_name = "N|rule")]
        accounts: Option<Limit>,
        /// Events a second.
        #[arg(long, value_name = "N|rule")]
        events_per_second: Option<Limit>,
        /// Events an hour.
        #[arg(long, value_name = "N|rule")]
        events_per_hour: Option<Limit>,
        /// Events a day.
        #[arg(long, value_name = "N|rule")]
        events_per_day: Option<Limit>,
    },
    /// Forget how far a host was read, and read it anew.
    ResetCursor {
        /// Its name.
        #[arg(value_name = "NAME")]
        name: String,
        /// From where.
        #[arg(long, value_enum, default_value_t = Start::Oldest)]
        start: Start,
    },
    /// Compare all accounts of hosts with what they list, and repair what was missed.
    Reconcile {
        /// Their names.
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Follow all hosts of a list.
    Import {
        /// A file with a name a line (`-`: standard input), or another relay's address.
        #[arg(value_name = "FILE|URL")]
        source: String,
        /// Where those that are new begin.
        #[arg(long, value_enum, default_value_t = Start::Live)]
        start: Start,
    },
    /// Cut all hosts of a domain off, and follow none of it.
    BanDomain {
        /// `example.com`, or `*.example.com` for what is below it only.
        #[arg(value_name = "DOMAIN")]
        domain: String,
    },
    /// Follow the hosts of a domain again.
    UnbanDomain {
        /// As it was banned.
        #[arg(value_name = "DOMAIN")]
        domain: String,
    },
    /// Print the domains that are banned.
    DomainBans,
}

/// `--status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Status {
    /// Connected.
    Active,
    /// Quiet, or about to be dialled.
    Idle,
    /// Not reached, or refused.
    Offline,
    /// Read more slowly than it sends.
    Throttled,
    /// Refused by an operator.
    Banned,
}

/// `--start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Start {
    /// At the oldest event that the host still has.
    Oldest,
    /// At whatever comes next.
    Live,
}

/// A limit of its own, or that of the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub Option<u64>);

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "rule" => Ok(Self(None)),
            number => number
                .parse()
                .map(|number| Self(Some(number)))
                .map_err(|_| "neither a whole number nor `rule`".to_owned()),
        }
    }
}
