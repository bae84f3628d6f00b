//! Query parameters, parsed with errors that name the parameter.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use protocol::did::Did;

use super::error::XrpcError;

/// The query's parameters, in order.
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    /// A parameter's text, if it is there. Given twice, the first counts.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A required DID.
    pub(super) fn did(&self, name: &str) -> Result<Did, XrpcError> {
        let text = self
            .text(name)
            .ok_or_else(|| XrpcError::invalid(format!("parameter {name} is missing")))?;
        Did::parse(text).map_err(|error| XrpcError::invalid(format!("parameter {name}: {error}")))
    }

    /// A number within bounds, or its default.
    pub(super) fn number<T>(
        &self,
        name: &str,
        bounds: std::ops::RangeInclusive<T>,
        default: T,
    ) -> Result<T, XrpcError>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(text) = self.text(name) else { return Ok(default) };
        match text.parse() {
            Ok(number) if bounds.contains(&number) => Ok(number),
            _ => Err(XrpcError::invalid(format!(
                "parameter {name}: not an integer from {} to {}",
                bounds.start(),
                bounds.end()
            ))),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = XrpcError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, XrpcError> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}
