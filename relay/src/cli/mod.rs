//! The command line: a contract that scripts outside rely on.

mod admin;
pub mod backup;
pub mod check;
pub mod check_frame;
pub mod demo;
mod host_lists;
pub mod hosts;
pub mod serve;
mod table;
pub mod tail;

use clap::{Parser, Subcommand};

/// A relay for the AT Protocol network: many hosts in, one verified, resumable firehose out.
#[derive(Debug, Parser)]
#[command(name = "mainstem", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the binary can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the relay.
    Serve(Box<crate::config::Serve>),
    /// Run a simulated network and a relay together, one status line a second.
    Demo(crate::config::Demo),
    /// Print a relay's or host's events as JSON lines; check their order and look for gaps.
    #[command(after_help = tail::EXIT_CODES)]
    Tail(crate::config::Tail),
    /// See and change the hosts of a running relay.
    #[command(after_help = hosts::EXIT_CODES)]
    Hosts(crate::config::Hosts),
    /// Copy a running relay's data to a folder from which another can start.
    Backup(crate::config::Backup),
    /// Verify a data folder, byte by byte, without changing it.
    #[command(after_help = check::EXIT_CODES)]
    Check(crate::config::Check),
    /// Say what the checks of the relay say of one frame, as far as they need no look-up.
    CheckFrame(crate::config::CheckFrame),
}
