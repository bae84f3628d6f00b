//! `mainstem backup`: asks a running relay, over its admin port, for a copy of its store.

use std::io::Write as _;
use std::time::Instant;

use anyhow::{Context as _, bail};
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::admin::Admin;
use crate::config;

/// Prints what was made, or fails with what the relay says.
pub async fn run(options: &config::Backup) -> anyhow::Result<()> {
    let admin = Admin::new(&options.admin_url, &options.admin_token_file)?;
    // The relay may have been started elsewhere.
    let dir = std::path::absolute(&options.dir).context("find the current folder")?;
    let body = json!({ "dir": dir.to_str().context("the folder's name is not UTF-8")? });
    let asked = admin.ask(Method::POST, "/admin/backup", Some(&body));
    let mut asked = std::pin::pin!(asked);
    let began = Instant::now();
    let mut waits = tokio::time::interval(SAY_EVERY);
    waits.tick().await;
    let (status, answer) = loop {
        tokio::select! {
            answer = &mut asked => break answer?,
            _ = waits.tick() => {
                let seconds = began.elapsed().as_secs();
                writeln!(std::io::stderr(), "the relay is making the backup: {seconds} s")?;
            }
        }
    };
    if status != StatusCode::OK {
        bail!("{} ({status})", answer["message"].as_str().unwrap_or("the relay refuses"));
    }
    let text = |field: &str| match &answer[field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // Standard output is this command's purpose.
    let mut out = std::io::stdout().lock();
    if options.json {
        return writeln!(out, "{answer}").context("print");
    }
    let seconds = answer["seconds"].as_f64().unwrap_or_default();
    writeln!(
        out,
        "backup in {}: up to seq {}, {} bytes, {seconds:.1} s",
        text("dir"),
        text("head"),
        text("bytes")
    )
    .context("print")
}

const SAY_EVERY: std::time::Duration = std::time::Duration::from_secs(5);
