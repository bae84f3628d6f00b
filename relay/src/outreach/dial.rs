//! The guarded dialer: resolve, check every address, connect, TLS.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crawler::Transport;
use hickory_resolver::TokioResolver;
use protocol::address;
use protocol::fetch::FetchError;
use protocol::host::{HostName, HostRules};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::dns;
use super::pace::Pace;

/// Where to connect to.
#[derive(Clone, Debug)]
pub struct Target {
    /// A DNS name, or an IP address as text.
    pub name: String,
    /// TCP port.
    pub port: u16,
    /// TLS, with `name` as the server's name.
    pub tls: bool,
    /// The operator named it: it may be private.
    pub trusted: bool,
}

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address, or none that may be dialled.
    #[error("{0}")]
    Forbidden(String),
    /// DNS says that the name does not exist or has no address.
    #[error("{0}")]
    NoSuchName(String),
    /// DNS, TCP or TLS failed.
    #[error("{0}")]
    Failed(String),
    /// Out of time, or asked too often.
    #[error("{0}")]
    Timeout(&'static str),
}

/// Dials hosts. Every resolved address is checked right before it is dialled, so a name that
/// turns to a private address after its check (DNS rebinding) is caught (SSRF).
pub struct Dialer {
    resolver: TokioResolver,
    tls: TlsConnector,
    rules: HostRules,
    /// Origins that the operator configured.
    trusted: HashSet<String>,
    /// Wildcard DNS makes names cheap; addresses are not.
    addresses: Pace<IpAddr>,
}

impl Dialer {
    pub(super) fn new(
        resolver: TokioResolver,
        tls: rustls::ClientConfig,
        rules: HostRules,
        trusted: HashSet<String>,
    ) -> Self {
        let addresses = Pace::new(ADDRESS_INTERVAL, ADDRESS_BURST);
        Self { resolver, tls: TlsConnector::from(Arc::new(tls)), rules, trusted, addresses }
    }

    /// What asks DNS.
    pub(super) fn resolver(&self) -> TokioResolver {
        self.resolver.clone()
    }

    /// Whether the operator configured this origin (`scheme://host[:port]`).
    pub(super) fn is_trusted(&self, origin: &str) -> bool {
        self.trusted.contains(origin)
    }

    /// Which hosts may be dialled.
    pub fn rules(&self) -> HostRules {
        self.rules
    }

    /// Opens a connection to a host.
    pub async fn dial_host(&self, host: &HostName) -> Result<Box<dyn Transport>, DialError> {
        let target = Target {
            name: host.name().to_owned(),
            port: host.port(),
            tls: host.is_tls(),
            trusted: false,
        };
        self.dial(&target).await
    }

    /// Opens a connection: every address that the name has and that may be dialled is tried in
    /// turn.
    pub async fn dial(&self, target: &Target) -> Result<Box<dyn Transport>, DialError> {
        let addresses = self.addresses(target).await?;
        let mut last = DialError::Failed("no address".into());
        for address in addresses.into_iter().take(ADDRESSES_TRIED_MAX) {
            match self.connect(target, address).await {
                Ok(transport) => return Ok(transport),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn addresses(&self, target: &Target) -> Result<Vec<IpAddr>, DialError> {
        let found: Vec<IpAddr> = match target.name.parse() {
            Ok(address) => vec![address],
            Err(_) => {
                let lookup = self.resolver.lookup_ip(target.name.as_str()).await;
                let lookup = lookup.map_err(|error| match dns::is_no_such_name(&error) {
                    true => DialError::NoSuchName(format!("DNS: {error}")),
                    false => DialError::Failed(format!("DNS: {error}")),
                });
                lookup?.iter().collect()
            }
        };
        let any_address = target.trusted || self.rules == HostRules::Insecure;
        let allowed: Vec<IpAddr> = found
            .iter()
            .copied()
            .filter(|address| any_address || address::is_public(*address))
            .collect();
        if allowed.is_empty() {
            let reason = format!("{} has no public address", target.name);
            return Err(DialError::Forbidden(reason));
        }
        Ok(allowed)
    }

    async fn connect(
        &self,
        target: &Target,
        address: IpAddr,
    ) -> Result<Box<dyn Transport>, DialError> {
        if !target.trusted {
            let wait = self.addresses.book(&address, Instant::now(), PATIENCE);
            let wait = wait.ok_or(DialError::Timeout("too many connections to its address"))?;
            tokio::time::sleep(wait).await;
        }
        let stream =
            timeout(CONNECT_TIMEOUT, TcpStream::connect(SocketAddr::new(address, target.port)))
                .await
                .map_err(|_| DialError::Timeout("TCP connect timed out"))?
                .map_err(|error| failed("TCP", &error))?;
        stream.set_nodelay(true).map_err(|error| failed("TCP", &error))?;
        if !target.tls {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(target.name.clone())
            .map_err(|_| DialError::Failed("TLS: not a server name".into()))?;
        let stream = timeout(TLS_TIMEOUT, self.tls.connect(name, stream))
            .await
            .map_err(|_| DialError::Timeout("TLS handshake timed out"))?
            .map_err(|error| failed("TLS", &error))?;
        Ok(Box::new(stream))
    }
}

fn failed(layer: &str, error: &io::Error) -> DialError {
    DialError::Failed(format!("{layer}: {error}"))
}

impl From<DialError> for crawler::DialError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Forbidden(reason) => Self::Forbidden(reason),
            DialError::NoSuchName(reason) | DialError::Failed(reason) => Self::Connection(reason),
            DialError::Timeout(reason) => Self::Connection(reason.into()),
        }
    }
}

impl From<DialError> for FetchError {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Forbidden(reason) => Self::Forbidden(reason),
            DialError::NoSuchName(reason) => Self::NoSuchName(reason),
            DialError::Failed(reason) => Self::Connection(reason),
            DialError::Timeout(_) => Self::Timeout,
        }
    }
}

/// A name with more addresses than this is served by the first ones.
const ADDRESSES_TRIED_MAX: usize = 4;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// Ten connections a second to one address, after a burst: a provider with hundreds of hosts
/// behind one address is dialled within a minute, and nobody can be flooded through us.
const ADDRESS_INTERVAL: Duration = Duration::from_millis(100);
const ADDRESS_BURST: u32 = 200;
const PATIENCE: Duration = Duration::from_secs(30);
