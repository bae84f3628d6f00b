//! `com.atproto.sync.subscribeRepos`: the firehose (protocol.md section 8).

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::client::Client;
use super::params::Params;
use super::{Api, XrpcError};
use crate::fanout::{Cursor, Full, Seat};

/// Answers the handshake; the connection is then the fan-out's.
pub(super) async fn subscribe(
    State(api): State<Api>,
    Client(address): Client,
    params: Params,
    mut request: Request,
) -> Result<Response, Refusal> {
    if request.method() != Method::GET {
        return Err(Refusal::NotGet);
    }
    let accept = accept_key(request.headers())?;
    let cursor = Cursor::parse(params.text("cursor")).ok_or(Refusal::Cursor)?;
    let seat = api.fanout.seat(address).map_err(Refusal::NoSeat)?;
    let upgrade = request.extensions_mut().remove::<OnUpgrade>().ok_or(Refusal::NotWebSocket)?;
    tokio::spawn(upgraded(api, upgrade, seat, cursor));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

async fn upgraded(api: Api, upgrade: OnUpgrade, seat: Seat, cursor: Cursor) {
    // A client that hangs up between its request and our answer.
    let Ok(upgraded) = upgrade.await else { return };
    let parts = upgraded
        .downcast::<TokioIo<TcpStream>>()
        .expect("the server's connections are plain TCP streams");
    let read_ahead = parts.read_buf;
    let now = (api.clock)();
    api.fanout.serve(seat, parts.io.into_inner(), read_ahead, cursor, now).await;
}

/// The handshake's answer (RFC 6455 section 4.2.2), if the request is a handshake.
fn accept_key(headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
    let upgrades = has_token(headers, &CONNECTION, "upgrade")
        && has_token(headers, &UPGRADE, "websocket")
        && headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    match headers.get(SEC_WEBSOCKET_KEY) {
        Some(key) if upgrades => {
            let accept = derive_accept_key(key.as_bytes());
            Ok(HeaderValue::try_from(accept).expect("base64 is a header value"))
        }
        _ => Err(Refusal::NotWebSocket),
    }
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|found| found.trim().eq_ignore_ascii_case(token))
}

/// Why a request does not become a subscription.
pub(super) enum Refusal {
    /// Another HTTP method.
    NotGet,
    /// No WebSocket handshake.
    NotWebSocket,
    /// The cursor is not a non-negative integer.
    Cursor,
    /// All places are taken.
    NoSeat(Full),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, name, message) = match self {
            Self::NotGet => (StatusCode::METHOD_NOT_ALLOWED, "InvalidRequest", "use GET"),
            Self::NotWebSocket => (
                StatusCode::UPGRADE_REQUIRED,
                "InvalidRequest",
                "this is a WebSocket stream: subscribe with a WebSocket client, version 13",
            ),
            Self::Cursor => (
                StatusCode::BAD_REQUEST,
                "InvalidRequest",
                "parameter cursor: not a non-negative integer",
            ),
            Self::NoSeat(Full::Relay) => (
                StatusCode::TOO_MANY_REQUESTS,
                "RateLimitExceeded",
                "this relay has all the consumers that it can serve",
            ),
            Self::NoSeat(Full::Address) => (
                StatusCode::TOO_MANY_REQUESTS,
                "RateLimitExceeded",
                "too many consumers from your address",
            ),
        };
        let mut response = XrpcError::new(status, name, message).into_response();
        let headers = response.headers_mut();
        match self {
            Self::NotWebSocket => {
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            Self::NoSeat(_) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("30"));
            }
            Self::NotGet | Self::Cursor => {}
        }
        response
    }
}
