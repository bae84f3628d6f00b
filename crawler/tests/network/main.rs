//! The crawler against hosts on localhost that an independent WebSocket library speaks for.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod fake_host;

mod stream;

mod faults;
mod hold;
mod idle;
mod lifecycle;
mod panics;
mod shares;
mod throttle;

mod admission;
