//! `com.atproto.sync.getRepo`: a relay keeps no repos; it says where the account's is.

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};

use super::params::Params;
use super::{Api, XrpcError};

/// Answers 302 to the account's PDS with the query as it came.
pub(super) async fn get_repo(
    State(api): State<Api>,
    params: Params,
    uri: Uri,
) -> Result<Response, XrpcError> {
    let did = params.did("did")?;
    let account = api.storage.account(&did)?.ok_or_else(XrpcError::repo_not_found)?;
    if let (false, status) = account.published() {
        return Err(XrpcError::repo_inactive(status));
    }
    // What the document says is where it lives; the host that spoke for it last is as good while
    // none is here.
    let named = api.storage.identity(&did)?.and_then(|identity| identity.pds);
    let spoke = || Some(api.storage.host(account.home()?)?.name);
    let pds = named.or_else(spoke).ok_or_else(XrpcError::repo_not_found)?;
    let query = uri.query().unwrap_or_default();
    let location = format!("{}/xrpc/com.atproto.sync.getRepo?{query}", pds.origin());
    let location = HeaderValue::try_from(location)
        .map_err(|_| XrpcError::invalid("the query cannot be passed on"))?;
    Ok((StatusCode::FOUND, [(LOCATION, location)]).into_response())
}
