//! Settings of the commands beside `mainstem serve`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::values::parse_http_url;

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

    /// Print a line a second instead of drawing on the terminal.
    #[arg(long, env = "MAINSTEM_PLAIN", value_parser = BoolishValueParser::new())]
    pub plain: bool,
}

/// Settings of `mainstem check-frame`.
#[derive(Clone, Debug, Args)]
pub struct CheckFrame {
    /// A frame as its host sent it, such as one of DATA_DIR/panics.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Settings of `mainstem check`.
#[derive(Clone, Debug, Args)]
pub struct Check {
    /// Folder with everything that a relay keeps; none may be running on it.
    #[arg(long, env = "MAINSTEM_DATA_DIR", value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,

    /// Print one JSON object.
    #[arg(long, env = "MAINSTEM_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
}

/// Settings of `mainstem backup`.
#[derive(Clone, Debug, Args)]
pub struct Backup {
    /// Folder that the relay makes and fills; it must not be there, or be empty.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,

    /// Address of the relay's admin API.
    #[arg(
        long,
        env = "MAINSTEM_ADMIN_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:2472",
        value_parser = parse_http_url
    )]
    pub admin_url: String,

    /// File that holds the admin API's bearer token.
    #[arg(long, env = "MAINSTEM_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: PathBuf,

    /// Print one JSON object.
    #[arg(long, env = "MAINSTEM_JSON", value_parser = BoolishValueParser::new())]
    pub json: bool,
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
