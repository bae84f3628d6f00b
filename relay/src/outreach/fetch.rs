//! The one HTTP client: GET with limits, every hop through the guarded dialer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use crawler::Transport;
use http::header::{ACCEPT, HOST, LOCATION, RETRY_AFTER, SERVER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Uri};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use protocol::fetch::{Answer, Fetch, FetchError, Get, Longer};
use protocol::host::{HostName, HostRules};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use url::Url;

use super::dial::{DialError, Dialer, Target};
use super::pace::Pace;

/// Builds the client over the dialer. `user_agent` says who asks and where to complain.
pub fn fetcher(dialer: Arc<Dialer>, user_agent: &str) -> anyhow::Result<Fetch> {
    let user_agent = HeaderValue::from_str(user_agent)?;
    let client = Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
        .http1_max_headers(HEADERS_MAX)
        .build(Connector { dialer: Arc::clone(&dialer) });
    let client = Arc::new(HttpClient {
        client,
        dialer,
        user_agent,
        places: Semaphore::new(IN_FLIGHT_MAX),
        trusted_places: Semaphore::new(TRUSTED_IN_FLIGHT_MAX),
        origins: Pace::new(ORIGIN_INTERVAL, ORIGIN_BURST),
    });
    Ok(Fetch::new(move |get| {
        let client = Arc::clone(&client);
        async move { client.get(get).await }
    }))
}

struct HttpClient {
    client: Client<Connector, Empty<Bytes>>,
    dialer: Arc<Dialer>,
    user_agent: HeaderValue,
    /// The bounded pool.
    places: Semaphore,
    /// That of the origins that the operator configured: strangers that never answer take no place
    /// from the directory.
    trusted_places: Semaphore,
    /// Requests to origins that the operator did not configure.
    origins: Pace<String>,
}

impl HttpClient {
    async fn get(&self, get: Get) -> Result<Answer, FetchError> {
        timeout(get.timeout, self.follow(&get)).await.unwrap_or(Err(FetchError::Timeout))
    }

    async fn follow(&self, get: &Get) -> Result<Answer, FetchError> {
        let mut url = Url::parse(&get.url).map_err(|error| address_error(&get.url, &error))?;
        // An operator's own address, private perhaps, is not to be reached by way of a redirect.
        let trusted = self.dialer.is_trusted(&url.origin().ascii_serialization());
        let places = if trusted { &self.trusted_places } else { &self.places };
        let _place = places.acquire().await.expect("the semaphore is never closed");
        for _ in 0..=get.redirects_max {
            let origin = url.origin().ascii_serialization();
            if !trusted && self.dialer.is_trusted(&origin) {
                return Err(FetchError::Forbidden(format!("redirected to {origin}")));
            }
            let response = self.hop(&url, get.timeout).await?;
            let Some(location) = redirect(response.status().as_u16(), response.headers()) else {
                return answer(response, get).await;
            };
            url = url.join(&location).map_err(|error| address_error(&location, &error))?;
        }
        Err(FetchError::TooBig)
    }

    async fn hop(
        &self,
        url: &Url,
        patience: Duration,
    ) -> Result<http::Response<Incoming>, FetchError> {
        let origin = url.origin().ascii_serialization();
        if !self.dialer.is_trusted(&origin) {
            // Whatever a redirect or a document says is held to the rules for hosts.
            HostName::parse(&origin, self.dialer.rules())
                .map_err(|error| FetchError::Forbidden(format!("{origin}: {error}")))?;
            let wait = self.origins.book(&origin, Instant::now(), patience);
            tokio::time::sleep(wait.ok_or(FetchError::Timeout)?).await;
        }
        let uri: Uri = url.as_str().parse().map_err(|error| address_error(url.as_str(), &error))?;
        let host = uri.authority().map(|authority| authority.as_str().to_owned());
        let mut request = Request::get(uri)
            .header(USER_AGENT, self.user_agent.clone())
            .header(ACCEPT, "application/json, */*;q=0.1");
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let request =
            request.body(Empty::new()).map_err(|error| address_error(url.as_str(), &error))?;
        self.client.request(request).await.map_err(|error| reason(&error))
    }
}

/// "a redirect: 301, 302, 303, 307, 308" with a place to go (RFC 9110 section 15.4).
fn redirect(status: u16, headers: &HeaderMap) -> Option<String> {
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    headers.get(LOCATION)?.to_str().ok().map(str::to_owned)
}

async fn answer(response: http::Response<Incoming>, get: &Get) -> Result<Answer, FetchError> {
    let (parts, body) = response.into_parts();
    let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let server = text(SERVER).map(str::to_owned);
    let retry_after = text(RETRY_AFTER).and_then(|text| retry_after(text, SystemTime::now()));
    let body = match get.longer {
        Longer::Refused => whole(body, get.body_bytes_max).await?,
        Longer::Cut => head(body, get.body_bytes_max).await?,
    };
    Ok(Answer { status: parts.status.as_u16(), server, retry_after, body })
}

async fn whole(body: Incoming, bytes_max: usize) -> Result<Bytes, FetchError> {
    let body = Limited::new(body, bytes_max).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            FetchError::TooBig
        } else {
            FetchError::Connection(error.to_string())
        }
    })?;
    Ok(body.to_bytes())
}

/// What comes behind the limit is never read: with the body its connection is given up.
async fn head(mut body: Incoming, bytes_max: usize) -> Result<Bytes, FetchError> {
    let mut head = BytesMut::new();
    while head.len() < bytes_max {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(|error| FetchError::Connection(error.to_string()))?;
        let Some(data) = frame.data_ref() else { continue };
        head.extend_from_slice(&data[..data.len().min(bytes_max - head.len())]);
    }
    Ok(head.freeze())
}

/// "Retry-After = HTTP-date / delay-seconds" (RFC 9110 section 10.2.3).
fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds are a very long time.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

fn address_error(url: &str, error: &dyn std::error::Error) -> FetchError {
    let shown: String = url.chars().take(URL_CHARS_SHOWN).collect();
    FetchError::Address(format!("{shown}: {error}"))
}

/// The dialer's own error stands at the end of the client's chain of sources.
fn reason(error: &ClientError) -> FetchError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut last = error.to_string();
    while let Some(inner) = source {
        if let Some(dial) = inner.downcast_ref::<DialError>() {
            return dial.clone().into();
        }
        last = inner.to_string();
        source = inner.source();
    }
    FetchError::Connection(last)
}

/// Connects for the pool.
#[derive(Clone)]
struct Connector {
    dialer: Arc<Dialer>,
}

impl tower::Service<Uri> for Connector {
    type Response = Pooled;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Pooled, DialError>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = Arc::clone(&self.dialer);
        Box::pin(async move {
            let target = target(&dialer, &uri)?;
            Ok(Pooled(TokioIo::new(dialer.dial(&target).await?)))
        })
    }
}

fn target(dialer: &Dialer, uri: &Uri) -> Result<Target, DialError> {
    let forbidden = || DialError::Forbidden(format!("{uri} cannot be asked"));
    let name = uri.host().ok_or_else(forbidden)?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(forbidden()),
    };
    let url = Url::parse(&uri.to_string()).map_err(|_| forbidden())?;
    let trusted = dialer.is_trusted(&url.origin().ascii_serialization());
    if !tls && !trusted && dialer.rules() == HostRules::Public {
        return Err(forbidden());
    }
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Target { name, port, tls, trusted })
}

/// A connection of the pool.
struct Pooled(TokioIo<Box<dyn Transport>>);

impl Connection for Pooled {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Pooled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for Pooled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// Requests under way at once, all together: a socket and at most one body limit each.
const IN_FLIGHT_MAX: usize = 256;
/// Beside it the resolver's own limit for each directory, `--plc-concurrency`.
const TRUSTED_IN_FLIGHT_MAX: usize = 2_048;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The PLC directory gains by kept connections; the rest is asked once in a while.
const IDLE_PER_HOST_MAX: usize = 16;
const HEADERS_MAX: usize = 64;
/// Ten requests a second to one origin, after a burst.
const ORIGIN_INTERVAL: Duration = Duration::from_millis(100);
const ORIGIN_BURST: u32 = 50;
const URL_CHARS_SHOWN: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Fri, 31 Dec 1999 23:59:00 GMT").unwrap();
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(retry_after(text, now), expected.map(Duration::from_secs), "{text}");
        };
        check("120", Some(120));
        check(" 0 ", Some(0));
        check("99999999999999999999999", Some(u64::MAX));
        check("Fri, 31 Dec 1999 23:59:59 GMT", Some(59));
        check("Friday, 31-Dec-99 23:59:59 GMT", Some(59));
        check("Fri, 31 Dec 1999 23:58:59 GMT", Some(0));
        for nothing in ["", "-1", "1.5", "soon", "Fri, 99 Dec 1999 23:59:59 GMT"] {
            check(nothing, None);
        }
    }
}
