//! Handles: the DNS names of accounts.

/// Whether the text is a syntactically valid handle (atproto.com/specs/handle). That its
/// top-level domain may be registered at all is another question.
pub fn is_handle(text: &str) -> bool {
    // "The last segment (the 'top level domain') can not start with a numeric digit"
    // (atproto.com/specs/handle). That keeps IP addresses out, too.
    let Some((_, last)) = text.rsplit_once('.') else {
        return false;
    };
    text.len() <= NAME_CHARS_MAX
        && text.split('.').all(is_label)
        && !last.starts_with(|first: char| first.is_ascii_digit())
}

/// Whether the text is one label of a DNS host name: 1 to 63 letters, digits and inner hyphens.
pub(crate) fn is_label(label: &str) -> bool {
    (1..=LABEL_CHARS_MAX).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// The longest DNS name, dots included.
pub(crate) const NAME_CHARS_MAX: usize = 253;

const LABEL_CHARS_MAX: usize = 63;
