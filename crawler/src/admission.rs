//! Whether a host that was announced by `requestCrawl` may become one (protocol.md section 9).

use std::time::Duration;

use protocol::fetch::{Answer, Fetch, FetchError, Get, Longer};
use protocol::host::{HostName, HostRules};

/// Why a host is not admitted: the XRPC errors of `requestCrawl`, all of them HTTP 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not the name of a host that could be crawled, or another relay.
    #[error("{0}")]
    InvalidRequest(String),
    /// Banned here.
    #[error("host is banned")]
    HostBanned,
    /// It does not answer as a PDS does.
    #[error("{0}")]
    HostNotFound(String),
}

/// A host that may become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Its name in its normal form.
    pub name: HostName,
    /// The DID by which it calls itself. Nothing proves it.
    pub service: String,
}

impl Refusal {
    /// The XRPC error's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "InvalidRequest",
            Self::HostBanned => "HostBanned",
            Self::HostNotFound(_) => "HostNotFound",
        }
    }
}

/// Checks, in this order: the name's syntax, the ban, then whether it answers `describeServer`,
/// at a public address (the guard is in `fetch`), and is not another relay. Nothing is stored.
pub async fn admit(
    name: &str,
    rules: HostRules,
    is_banned: impl Fn(&HostName) -> bool,
    fetch: &Fetch,
) -> Result<Admitted, Refusal> {
    let name = HostName::parse(name, rules)
        .map_err(|error| Refusal::InvalidRequest(format!("hostname: {error}")))?;
    if is_banned(&name) {
        return Err(Refusal::HostBanned);
    }
    let service = describe(&name, fetch).await?;
    Ok(Admitted { name, service })
}

/// Asks a host who it is: the DID by which it calls itself, if it answers as a PDS does.
pub async fn describe(host: &HostName, fetch: &Fetch) -> Result<String, Refusal> {
    let get = Get {
        url: format!("{}/xrpc/com.atproto.server.describeServer", host.origin()),
        timeout: DESCRIBE_TIMEOUT,
        body_bytes_max: DESCRIBE_BYTES_MAX,
        longer: Longer::Refused,
        redirects_max: DESCRIBE_REDIRECTS_MAX,
    };
    let answer = fetch.get(get).await.map_err(|error| unanswered(&error))?;
    // Its events would all be `wrong_host`: a relay speaks for no account.
    if answer.server.as_deref().is_some_and(is_relay) {
        return Err(Refusal::InvalidRequest("host is a relay".to_owned()));
    }
    service(&answer).ok_or_else(|| {
        Refusal::HostNotFound("host does not answer describeServer as a PDS does".to_owned())
    })
}

/// Whether a `Server` header names a relay.
pub(crate) fn is_relay(server: &str) -> bool {
    server.to_ascii_lowercase().contains("atproto-relay")
}

/// What the caller is told says nothing of addresses: it may be asking to learn about ours.
fn unanswered(error: &FetchError) -> Refusal {
    let why = match error {
        FetchError::Address(_) => return Refusal::InvalidRequest("hostname".to_owned()),
        FetchError::Forbidden(_) => "host has no public address",
        FetchError::NoSuchName(_) => "host has no address",
        FetchError::Connection(_) => "host cannot be reached",
        FetchError::Timeout => "host does not answer in time",
        FetchError::TooBig => "host's description is too long",
    };
    Refusal::HostNotFound(why.to_owned())
}

/// Lexicon `com.atproto.server.describeServer`: `did` is required, everything else may be absent.
fn service(answer: &Answer) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    body["did"].as_str().filter(|_| answer.status == 200).map(str::to_owned)
}

/// For one `describeServer`, redirects included: the caller of `requestCrawl` waits for it.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(10);

/// The reference PDS's answer has 200 bytes; some name many domains and contacts.
const DESCRIBE_BYTES_MAX: usize = 64 * 1024;

/// Some hosts redirect to their canonical name; each hop passes the guard again.
const DESCRIBE_REDIRECTS_MAX: u8 = 3;
