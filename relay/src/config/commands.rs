//! Settings of the commands beside `mainstem serve`.

use std::path::PathBuf;

use clap::Args;

/// Settings of `mainstem demo`.
#[derive(Clone, Debug, Args)]
pub struct Demo {
    /// Simulated hosts.
    #[arg(
        long,
        env = "MAINSTEM_HOSTS",
        value_name = "N",
        default_value_t = 5,
        value_parser = clap::value_parser!(u16).range(1..=500)
    )]
    pub hosts: u16,

    /// Events a second, all hosts together.
    #[arg(
        long,
        env = "MAINSTEM_RATE",
        value_name = "EVENTS_PER_S",
        default_value_t = 200,
        value_parser = clap::value_parser!(u32).range(1..=20_000)
    )]
    pub rate: u32,

    /// How long to run.
    #[arg(
        long,
        env = "MAINSTEM_SECONDS",
        value_name = "S",
        default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=86_400)
    )]
    pub seconds: u32,
}

/// Settings of `mainstem check-frame`.
#[derive(Clone, Debug, Args)]
pub struct CheckFrame {
    /// A frame as its host sent it, such as one of DATA_DIR/panics.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Settings of `mainstem tail`.
#[derive(Clone, Debug, Args)]
pub struct Tail {
    /// A relay or host: `ws://`, `wss://`, `http://`, `https://` or a bare name.
    #[arg(value_name = "URL")]
    pub url: String,

    /// Start after this seq; 0 is the oldest kept. Without it: live.
    #[arg(long, env = "MAINSTEM_CURSOR", value_name = "N")]
    pub cursor: Option<u64>,

    /// Stop after so many events.
    #[arg(
        long,
        env = "MAINSTEM_LIMIT",
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    pub limit: Option<u64>,
}
