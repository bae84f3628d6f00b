//! Out, and the wiring: the log becomes a firehose, and all stages become one relay.
//!
//! In: the log; configuration; requests of consumers, hosts and operators.
//! Out: frames to consumers, XRPC answers, metrics; the binary `mainstem`.
//! Upholds: I2 and I8 (sends what the log gives, as it is), I10 (consumers pull), I13 (every
//! report and verdict reaches the store).
//! Knows nothing of: nothing. It alone sees all stages, reads the configuration and dials out.

pub mod admin;
pub mod api;
pub mod cli;
pub mod config;
pub mod domains;
pub mod fanout;
pub mod fault;
pub mod headroom;
pub mod metrics;
pub mod outreach;
pub mod panics;
pub mod pipeline;
pub mod plc_export;
pub mod process;
pub mod server;
pub mod shutdown;
pub mod status;
pub mod telemetry;
