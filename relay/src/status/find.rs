//! From what people type into the search field to the page about it.

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use protocol::did::Did;
use protocol::host::{HostName, HostRules};
use serde_json::json;

use super::html::{Html, segment};
use super::page::{Page, search};
use super::visit::Visit;
use crate::api::{Api, Params};

/// Answers 303 to the page of the host or account that `q` names.
pub(super) async fn find(State(api): State<Api>, params: Params, visit: Visit) -> Response {
    let sought = params.text("q").unwrap_or_default().trim();
    let Some(path) = path(sought, api.rules) else {
        let sought: String = sought.chars().take(SHOWN_CHARS_MAX).collect();
        return visit.answer(
            StatusCode::BAD_REQUEST,
            || json!({ "error": "InvalidRequest", "message": MESSAGE }),
            || nothing(sought),
        );
    };
    let location = HeaderValue::try_from(path).expect("segments are plain text");
    (StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response()
}

fn nothing(sought: String) -> Page {
    let mut main = Html::new();
    main.tags("<h1>That is neither a host nor a DID</h1><p class=\"lede\">").text(MESSAGE);
    main.tags("</p>");
    search(&mut main, "find", &sought);
    Page { sought: None, ..Page::new("Not found", main) }
}

/// Where the page is.
fn path(sought: &str, rules: HostRules) -> Option<String> {
    // The address of a record begins with its account's.
    let bare = sought.strip_prefix("at://").and_then(|rest| rest.split('/').next());
    let bare = bare.unwrap_or(sought);
    if bare.starts_with("did:") {
        let did = Did::parse(bare).ok()?;
        return Some(format!("/status/account/{}", segment(&did.to_string())));
    }
    let name = HostName::parse(bare, rules).ok()?;
    Some(format!("/status/host/{}", segment(name.as_str())))
}

const MESSAGE: &str = "Write the name of a PDS, such as pds.example.com, or the DID of an account, \
    such as did:plc:ewvi7nxzyoun6zhxrhs64oiz. Handles are not known here: the account's app, or a \
    directory of handles, tells the DID that belongs to one.";
const SHOWN_CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_leads_to_a_page() {
        let check = |sought: &str, expected: Option<&str>| {
            assert_eq!(path(sought, HostRules::Public).as_deref(), expected, "{sought}");
        };
        let account = "/status/account/did:plc:ewvi7nxzyoun6zhxrhs64oiz";
        check("did:plc:ewvi7nxzyoun6zhxrhs64oiz", Some(account));
        check("at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3k", Some(account));
        check("did:web:example.com", Some("/status/account/did:web:example.com"));
        check("PDS.Example.com", Some("/status/host/pds.example.com"));
        check("https://pds.example.com/", Some("/status/host/pds.example.com"));
        for nothing in ["", "did:", "did:plc:short", "<script>", "pds", "a b", "//evil.com", "\0"] {
            check(nothing, None);
        }
    }
}
