//! The fake network as a process of its own, for peers that are not written in Rust.
//!
//! `cargo run --release -p loadtest --example network -- SEED HOSTS` prints a line of JSON with the
//! addresses. A number on standard input has so many events sent, and answered with a line that
//! counts all sent so far. It ends with its input.

#![allow(clippy::print_stdout, reason = "its output is its answer")]

use std::io::{BufRead as _, Write as _};

use anyhow::Context as _;
use loadtest::network::{Network, Options};
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = || -> anyhow::Result<u64> {
        let text = arguments.next().context("usage: network SEED HOSTS")?;
        text.parse().context("read a number")
    };
    let options = Options {
        seed: number()?,
        hosts: usize::try_from(number()?)?,
        accounts_per_host: ACCOUNTS_PER_HOST,
        records_per_account: RECORDS_PER_ACCOUNT,
        web_accounts: true,
        ..Options::default()
    };
    let mut network = Network::start(&options).await?;
    let hosts: Vec<&str> = network.hosts.iter().map(|host| host.name()).collect();
    say(&json!({"directory": network.plc.url(), "hosts": hosts}))?;
    let (tx, mut rx) = tokio::sync::mpsc::channel(1);
    // Reading standard input blocks.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if tx.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let mut sent = 0;
    while let Some(line) = rx.recv().await {
        let count: usize = line.trim().parse().context("read how many to send")?;
        network.send_next(count);
        sent += count;
        say(&json!({"sent": sent}))?;
    }
    Ok(())
}

fn say(line: &serde_json::Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("print")
}

const ACCOUNTS_PER_HOST: usize = 20;
const RECORDS_PER_ACCOUNT: usize = 100;
