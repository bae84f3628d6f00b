//! Namespaced identifiers: collections and lexicons.

use crate::handle::is_label;

/// Whether the text is an NSID (atproto.com/specs/nsid): a domain name, reversed, and a name.
pub fn is_nsid(text: &str) -> bool {
    let Some((authority, name)) = text.rsplit_once('.') else {
        return false;
    };
    text.len() <= NSID_CHARS_MAX
        && authority.contains('.')
        && authority.split('.').all(is_label)
        && !authority.starts_with(|first: char| first.is_ascii_digit())
        && is_name(name)
}

// "The name segment … must be 1 to 63 characters, ASCII letters and digits only, and not start
// with a digit" (atproto.com/specs/nsid).
fn is_name(name: &str) -> bool {
    name.len() <= NAME_SEGMENT_CHARS_MAX
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// "maximum … of 317 characters" (atproto.com/specs/nsid): of the whole, which lets a domain name
/// that is longer than DNS allows pass, as the reference does.
const NSID_CHARS_MAX: usize = 317;
const NAME_SEGMENT_CHARS_MAX: usize = 63;
