//! Opens a host's stream: dial, then the HTTP upgrade to a WebSocket (RFC 6455 section 4.1).

use std::borrow::Cow;
use std::future::poll_fn;

use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use protocol::host::HostName;
use sha1::{Digest, Sha1};

use crate::admission::is_relay;
use crate::dial::{Dial, DialError, Transport};
use crate::limits::RESPONSE_HEAD_BYTES_MAX;

/// An upgraded connection.
pub(crate) struct Opened {
    /// The transport, back from the HTTP library.
    pub(crate) transport: Box<dyn Transport>,
    /// What was read behind the response: the first frames, often.
    pub(crate) leftover: Bytes,
}

/// Why a stream could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Not reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No HTTP response, or none that makes sense.
    #[error("handshake failed: {0}")]
    Http(#[from] hyper::Error),
    /// A response, but no upgrade.
    #[error("handshake refused: HTTP {0}")]
    Status(StatusCode),
    /// It sends us somewhere else. Not followed: a name speaks for itself alone.
    #[error("handshake refused: HTTP {0}, a redirect to {1}")]
    Redirect(StatusCode, String),
    /// Out of time.
    #[error("dial or handshake timed out")]
    Timeout,
    /// An upgrade to something else.
    #[error("handshake failed: {0} header is wrong")]
    Header(HeaderName),
    /// The host is another relay.
    #[error("host is a relay")]
    Relay,
}

/// Dials the host and asks for its events after `cursor`, or for what comes next.
pub(crate) async fn open(
    dial: &Dial,
    host: &HostName,
    cursor: Option<u64>,
    user_agent: &HeaderValue,
) -> Result<Opened, OpenError> {
    let transport = dial.open(host.clone()).await?;
    let key = BASE64.encode(&rand::random::<[u8; 16]>());
    let request = request(host, cursor, user_agent, &key);
    let (mut sender, mut connection) = http1::Builder::new()
        .max_buf_size(RESPONSE_HEAD_BYTES_MAX)
        .handshake(TokioIo::new(transport))
        .await?;
    let response = {
        let response = sender.send_request(request);
        tokio::pin!(response);
        tokio::select! {
            biased;
            response = &mut response => response?,
            // The connection ends first when it hands the response over with its last breath.
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => {
                ended?;
                response.await?
            }
        }
    };
    check(&response, &key)?;
    // Upgraded: what is left of the connection ends at once, and gives its parts back.
    let parts = connection.without_shutdown().await?;
    Ok(Opened { transport: parts.io.into_inner(), leftover: parts.read_buf })
}

fn request(
    host: &HostName,
    cursor: Option<u64>,
    user_agent: &HeaderValue,
    key: &str,
) -> Request<Empty<Bytes>> {
    let query = cursor.map(|cursor| format!("?cursor={cursor}")).unwrap_or_default();
    Request::get(format!("{STREAM_PATH}{query}"))
        .header(header::HOST, host.as_str())
        .header(header::USER_AGENT, user_agent)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, key)
        .body(Empty::new())
        .expect("a path with a number, a host name and base64 are valid in a request")
}

fn check<B>(response: &Response<B>, key: &str) -> Result<(), OpenError> {
    let headers = response.headers();
    let server = headers.get(header::SERVER).and_then(|server| server.to_str().ok());
    // Its events would all be `wrong_host`: a relay speaks for no account.
    if server.is_some_and(is_relay) {
        return Err(OpenError::Relay);
    }
    if response.status().is_redirection() {
        let to = headers.get(header::LOCATION).map(|to| String::from_utf8_lossy(to.as_bytes()));
        let to = to.map_or_else(|| "nowhere".to_owned(), Cow::into_owned);
        return Err(OpenError::Redirect(response.status(), to));
    }
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(OpenError::Status(response.status()));
    }
    if !has_token(headers, &header::UPGRADE, "websocket") {
        return Err(OpenError::Header(header::UPGRADE));
    }
    if !has_token(headers, &header::CONNECTION, "upgrade") {
        return Err(OpenError::Header(header::CONNECTION));
    }
    let accept = headers.get(header::SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes);
    if accept != Some(accept_of(key).as_bytes()) {
        return Err(OpenError::Header(header::SEC_WEBSOCKET_ACCEPT));
    }
    // RFC 6455: "If the response includes a |Sec-WebSocket-Extensions| header field and this
    // header field indicates the use of an extension that was not present in the client's
    // handshake […], the client MUST _Fail the WebSocket Connection_." The same of subprotocols.
    for name in [header::SEC_WEBSOCKET_EXTENSIONS, header::SEC_WEBSOCKET_PROTOCOL] {
        if headers.contains_key(&name) {
            return Err(OpenError::Header(name));
        }
    }
    Ok(())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let texts = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// RFC 6455: "the base64-encoded SHA-1 of the concatenation of the |Sec-WebSocket-Key| […] with
/// the string "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"".
fn accept_of(key: &str) -> String {
    let digest = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64.encode(&digest.finalize())
}

const STREAM_PATH: &str = "/xrpc/com.atproto.sync.subscribeRepos";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_is_that_of_the_rfc() {
        assert_eq!(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
