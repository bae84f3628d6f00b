//! The log on standard error.

use std::io::IsTerminal as _;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Starts logging. `RUST_LOG` filters; without it, `info` and above.
pub fn start(format: LogFormat) {
    init(format, LevelFilter::INFO);
}

/// Starts logging for commands whose output is their own: `warn` and above.
pub fn start_quiet(format: LogFormat) {
    init(format, LevelFilter::WARN);
}

fn init(format: LogFormat, level: LevelFilter) {
    let filter = EnvFilter::builder().with_default_directive(level.into()).from_env_lossy();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
