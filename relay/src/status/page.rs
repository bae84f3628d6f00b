//! The frame that all pages share: head, search, stylesheet, and what a browser may do with them.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

use super::html::Html;

/// A page's own part.
pub(super) struct Page {
    /// For the window and the history.
    pub(super) title: String,
    /// What the search field above holds; `None`: the page has one of its own.
    pub(super) sought: Option<String>,
    /// Where the same is for programs.
    pub(super) json: Option<String>,
    /// Between the heading of the site and its foot.
    pub(super) main: Html,
}

impl Page {
    /// One that is not about anything.
    pub(super) fn new(title: impl Into<String>, main: Html) -> Self {
        Self { title: title.into(), sought: Some(String::new()), json: None, main }
    }

    /// The answer that shows it.
    pub(super) fn into_response(self, status: StatusCode) -> Response {
        let policy = HeaderValue::try_from(policy()).expect("hashes and names are text");
        let headers: [(HeaderName, HeaderValue); 6] = [
            (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (CONTENT_SECURITY_POLICY, policy),
            (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
            (CACHE_CONTROL, HeaderValue::from_static("max-age=5")),
            (VARY, HeaderValue::from_static("accept")),
        ];
        (status, headers, self.render()).into_response()
    }

    fn render(self) -> String {
        let mut html = Html::new();
        html.tags("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>");
        html.text(&self.title).tags("</title>\n").tags(HEAD).tags("<style>").tags(STYLE);
        html.tags("</style>\n</head>\n<body>\n").tags(HEADER);
        if let Some(sought) = &self.sought {
            search(&mut html, "find-above", sought);
        }
        html.tags("</div></header>\n<main id=\"main\" class=\"wrap\">\n").add(&self.main);
        html.tags("</main>\n<footer class=\"wrap\"><p>Mainstem ").text(env!("CARGO_PKG_VERSION"));
        html.tags(", a relay of the AT Protocol network.");
        if let Some(path) = &self.json {
            html.tags(" As JSON, for programs: <code>GET ").text(path).tags("</code>.");
        }
        html.tags("</p></footer>\n</body>\n</html>\n");
        html.into_string()
    }
}

/// The field where a host or account is looked up; `id` is the field's own in the page.
pub(super) fn search(html: &mut Html, id: &'static str, sought: &str) {
    html.tags(
        "<form action=\"/status\" method=\"get\" role=\"search\"><label class=\"hidden\" for=\"",
    );
    html.tags(id).tags("\">Host name or DID</label><input type=\"search\" name=\"q\" id=\"");
    html.tags(id).tags("\" placeholder=\"Host name or DID\" required maxlength=\"300\" ");
    html.tags("autocapitalize=\"none\" autocomplete=\"off\" spellcheck=\"false\" value=\"");
    html.text(sought).tags("\"><button>Look up</button></form>");
}

/// No script, no image but the icon, no frame; one stylesheet, known by its hash; forms go here.
fn policy() -> String {
    let digest = base64(&Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{digest}'; img-src data:; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'"
    )
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

const STYLE: &str = include_str!("style.css");
const HEAD: &str = "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
    <link rel=\"icon\" href=\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' \
    viewBox='0 0 24 24' fill='none' stroke='%230a8a90' stroke-width='2.4'%3E%3Cpath \
    d='M3 4c4 0 9 3 9 9v8M21 4c-4 0-9 3-9 9M12 2v11'/%3E%3C/svg%3E\">\n";
const HEADER: &str = "<a class=\"skip\" href=\"#main\">Skip to the content</a>\n<header>\
    <div class=\"wrap\"><a class=\"brand\" href=\"/\"><svg viewBox=\"0 0 24 24\" \
    aria-hidden=\"true\"><path d=\"M3 4c4 0 9 3 9 9v8M21 4c-4 0-9 3-9 9M12 2v11\"/></svg>\
    Mainstem</a>";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let check = |bytes: &str, expected: &str| assert_eq!(base64(bytes.as_bytes()), expected);
        check("", "");
        check("f", "Zg==");
        check("fo", "Zm8=");
        check("foo", "Zm9v");
        check("foobar", "Zm9vYmFy");
    }

    #[test]
    fn a_page_holds_nothing_that_its_policy_forbids() {
        let mut main = Html::new();
        main.text("<script>");
        let page = Page {
            title: "</title><script>".into(),
            sought: Some("\"><script>".into()),
            json: Some("<script>".into()),
            main,
        };
        let text = page.render();
        for forbidden in ["<script", " style=", " on", "javascript:"] {
            let body = text.replace(STYLE, "");
            assert!(!body.contains(&format!("{forbidden}click")), "{forbidden}");
            assert!(forbidden == " on" || !body.contains(forbidden), "{forbidden}: {body}");
        }
        assert!(text.contains(STYLE), "the hash is that of the stylesheet as it is sent");
        assert!(!STYLE.contains('<'));
    }
}
