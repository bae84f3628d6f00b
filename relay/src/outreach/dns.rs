//! The one resolver: addresses for the dialer, TXT records for handles.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use protocol::txt::{Txt, TxtError};

use super::dial::Dialer;

/// The system's resolver, or one that asks these servers only; on a machine without a
/// configuration, one that knows only its hosts file and so answers `localhost`.
pub(super) fn resolver(servers: &[SocketAddr]) -> anyhow::Result<TokioResolver> {
    let with_config =
        |config| TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio().unwrap_or_else(|_| with_config(ResolverConfig::default()))
    } else {
        let servers = servers.iter().map(|server| name_server(*server)).collect();
        with_config(ResolverConfig::from_name_servers(servers))
    };
    let options = builder.options_mut();
    options.cache_size = CACHED_MAX;
    options.positive_max_ttl = Some(TTL_MAX);
    options.negative_max_ttl = Some(NEGATIVE_TTL_MAX);
    options.timeout = TIMEOUT;
    options.attempts = 2;
    Ok(builder.build()?)
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// Asks the dialer's resolver for TXT records.
pub fn txt(dialer: &Dialer) -> Txt {
    let resolver = dialer.resolver();
    Txt::new(move |name| {
        let resolver = resolver.clone();
        async move { ask(&resolver, name).await }
    })
}

async fn ask(resolver: &TokioResolver, mut name: String) -> Result<Vec<Vec<u8>>, TxtError> {
    // With a dot at its end it is a whole name, and no search domain is tried.
    name.push('.');
    let lookup =
        resolver.txt_lookup(name).await.map_err(|error| match error.is_no_records_found() {
            true => TxtError::NotFound,
            false => TxtError::Failed(error.to_string()),
        })?;
    let records = lookup.answers().iter().filter_map(|record| match &record.data {
        RData::TXT(txt) => Some(txt.txt_data.concat()),
        _ => None,
    });
    Ok(records.take(RECORDS_MAX).collect())
}

/// What an answer without addresses means to who dials.
pub(super) fn is_no_such_name(error: &NetError) -> bool {
    error.is_no_records_found()
}

/// About 100 bytes each.
const CACHED_MAX: u64 = 8_192;
/// What changed is seen within minutes, whatever its zone says.
const TTL_MAX: Duration = Duration::from_secs(600);
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(3);
/// A UDP answer has room for fewer; a longer one comes by TCP.
const RECORDS_MAX: usize = 100;
