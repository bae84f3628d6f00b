//! `mainstem serve`: the relay, until a signal or a failed store ends it.

use anyhow::bail;

use crate::config::Serve;
use crate::pipeline::Relay;
use crate::shutdown::Signals;
use crate::{metrics, process};

/// Runs it.
pub async fn run(config: &Serve) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let files = process::raise_open_files();
    if files.is_some_and(|files| files < OPEN_FILES_MIN + config.consumers_max as u64) {
        tracing::warn!(files, "too few open files are allowed for all consumers: see LimitNOFILE");
    }
    let recorder = metrics::install()?;
    let relay = Relay::start(config, recorder).await?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        firehose = %format_args!(
            "ws://{}/xrpc/com.atproto.sync.subscribeRepos",
            relay.address
        ),
        metrics = %format_args!("http://{}/metrics", relay.metrics_address),
        admin = relay.admin_address.map(|address| format!("http://{address}/admin/hosts")),
        data = %config.data_dir.display(),
        hosts = relay.hosts_at_start,
        open_files_max = files,
        "ready"
    );
    if !config.faults.is_empty() {
        tracing::warn!(faults = ?config.faults, "faults are provoked on purpose");
    }
    let failed = relay.storage.failed();
    tokio::select! {
        signal = signals.asked() => tracing::info!(signal, "stopping"),
        error = failed => bail!(
            "the store in {} failed, and nothing goes on without it: {error}",
            config.data_dir.display()
        ),
    }
    tokio::select! {
        stopped = relay.stop() => stopped?,
        signal = signals.asked() => bail!("{signal} again: stopped without waiting"),
    }
    tracing::info!("stopped");
    Ok(())
}

/// Files of the store, some thousand hosts, and connections that are not consumers.
const OPEN_FILES_MIN: u64 = 8_192;
