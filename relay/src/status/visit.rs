//! Who looks at a page, and in which form it is wanted.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::header::{ACCEPT, HOST};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use super::page::Page;
use crate::api::{Api, Client, XrpcError};

/// A visit within the pace that its address has.
pub(super) struct Visit {
    /// What is wanted.
    pub(super) form: Form,
    /// What the visitor calls this relay.
    pub(super) authority: Option<String>,
}

/// A form in which the same is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// For people with a browser.
    Html,
    /// For programs that ask for it.
    Json,
    /// Whatever there is.
    Any,
}

impl Visit {
    /// The answer in the form that is wanted.
    pub(super) fn answer(
        &self,
        status: StatusCode,
        json: impl FnOnce() -> Value,
        page: impl FnOnce() -> Page,
    ) -> Response {
        match self.form {
            Form::Html => page().into_response(status),
            Form::Json | Form::Any => (status, Json(json())).into_response(),
        }
    }
}

impl Form {
    /// Markup goes to those who name it and like nothing else better: browsers do.
    fn wanted(headers: &HeaderMap) -> Self {
        let lists = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let (mut html, mut json) = (0.0, 0.0);
        for entry in lists.flat_map(|list| list.split(',')) {
            let mut parts = entry.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            let weight: f32 = weight.and_then(|weight| weight.parse().ok()).unwrap_or(1.0);
            match kind.as_str() {
                "text/html" | "application/xhtml+xml" => html = weight.max(html),
                "application/json" => json = weight.max(json),
                _ => {}
            }
        }
        if html > 0.0 && html >= json {
            Self::Html
        } else if json > 0.0 {
            Self::Json
        } else {
            Self::Any
        }
    }
}

impl FromRequestParts<Api> for Visit {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Response> {
        let Ok(Client(address)) = Client::from_request_parts(parts, api).await;
        api.status.visitors.admit(address).map_err(XrpcError::into_response)?;
        let authority = parts.headers.get(HOST);
        let authority = authority.and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Self { form: Form::wanted(&parts.headers), authority })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_markup_and_programs_do_not() {
        let check = |accept: &str, expected: Form| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(Form::wanted(&headers), expected, "{accept}");
        };
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        check(browser, Form::Html);
        check("Text/HTML;q=0.5", Form::Html);
        check("application/json, text/html;q=0.9", Form::Json);
        check("text/html, application/json;q=0.9", Form::Html);
        check("application/json", Form::Json);
        check("*/*", Form::Any);
        check("text/html;q=0", Form::Any);
        check("text/html;q=x, ,;", Form::Html);
        assert_eq!(Form::wanted(&HeaderMap::new()), Form::Any);
    }
}
