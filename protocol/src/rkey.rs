//! Record keys and repo paths.

use crate::nsid::is_nsid;

/// Whether the text is a record key (atproto.com/specs/record-key).
pub fn is_rkey(text: &str) -> bool {
    // "alphanumeric (A-Za-z0-9), period, dash, underscore, colon, or tilde", 1 to 512 of them;
    // "the specific record key values . and .. are not allowed" (atproto.com/specs/record-key).
    (1..=RKEY_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:~".contains(&byte))
        && text != "."
        && text != ".."
}

/// Whether the text is a repo path: NSID `/` record key, at most 1024 bytes.
pub fn is_path(text: &str) -> bool {
    let Some((collection, rkey)) = text.split_once('/') else {
        return false;
    };
    text.len() <= PATH_BYTES_MAX && is_nsid(collection) && is_rkey(rkey)
}

const RKEY_CHARS_MAX: usize = 512;
const PATH_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_collection_and_one_key() {
        let check = |text: &str, expected| assert_eq!(is_path(text), expected, "{text}");
        check("app.bsky.feed.post/3n2s2zaiqn222", true);
        check("app.bsky.actor.profile/self", true);
        check("app.bsky.feed.post", false);
        check("app.bsky.feed.post/", false);
        check("/self", false);
        check("/app.bsky.feed.post/self", false);
        check("app.bsky.feed.post/a/b", false);
        check("app.bsky.feed.post/..", false);
        check("bsky.post/self", false);
        check("app.bsky.feed.post/caf\u{e9}", false);
        check("", false);
    }
}
