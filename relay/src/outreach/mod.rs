//! Everything that dials out goes through here: one resolver, one guarded dialer, one HTTP client
//! (protocol.md section 10). The stages are handed closures and know no socket.

mod dial;
mod dns;
mod fetch;
mod pace;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use protocol::host::HostRules;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

pub use self::dial::{DialError, Dialer, Target};
pub use self::dns::txt;
pub use self::fetch::fetcher;
pub use self::pace::Pace;

/// What the guard is told once.
pub struct Options<'a> {
    /// Which hosts may be dialled.
    pub rules: HostRules,
    /// More certificate authorities, PEM.
    pub ca_file: Option<&'a Path>,
    /// The name servers to ask instead of the system's.
    pub dns_servers: &'a [SocketAddr],
    /// URLs that the operator configured: their origins may be http and private.
    pub trusted_urls: &'a [String],
}

/// Builds the one dialer.
pub fn dialer(options: &Options<'_>) -> anyhow::Result<Arc<Dialer>> {
    let resolver = dns::resolver(options.dns_servers).context("configure DNS")?;
    let tls = tls_config(options.ca_file)?;
    let mut trusted = HashSet::new();
    for text in options.trusted_urls {
        let url = url::Url::parse(text).with_context(|| format!("parse the URL {text}"))?;
        trusted.insert(url.origin().ascii_serialization());
    }
    Ok(Arc::new(Dialer::new(resolver, tls, options.rules, trusted)))
}

fn tls_config(ca_file: Option<&Path>) -> anyhow::Result<rustls::ClientConfig> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "cannot read a system certificate");
    }
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = ca_file {
        let context = || format!("read certificates from {}", path.display());
        let mut count = 0;
        for certificate in CertificateDer::pem_file_iter(path).with_context(context)? {
            roots.add(certificate.with_context(context)?).with_context(context)?;
            count += 1;
        }
        anyhow::ensure!(count > 0, "there is no certificate in {}", path.display());
    }
    if roots.is_empty() {
        tracing::warn!("no certificate authorities: install ca-certificates or give --ca-file");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("configure TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
