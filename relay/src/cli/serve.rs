//! `mainstem serve`: the relay, until a signal or a failed store ends it.

use anyhow::bail;

use crate::config::Serve;
use crate::metrics;
use crate::pipeline::Relay;
use crate::shutdown::Signals;

/// Runs it.
pub async fn run(config: &Serve) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
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
        "ready"
    );
    if !config.faults.is_empty() {
        tracing::warn!(faults = ?config.faults, "faults are provoked on purpose");
    }
    let failed = relay.storage.failed();
    tokio::select! {
        signal = signals.asked() => tracing::info!(signal, "stopping"),
        error = failed => bail!("the store failed, and nothing goes on without it: {error}"),
    }
    tokio::select! {
        stopped = relay.stop() => stopped?,
        signal = signals.asked() => bail!("{signal} again: stopped without waiting"),
    }
    tracing::info!("stopped");
    Ok(())
}
