//! Handles: the DNS names of accounts.

use crate::host::{HostRules, RESERVED};

/// What stands for a handle that does not resolve (atproto.com/specs/handle).
pub const INVALID: &str = "handle.invalid";

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

/// Whether a handle may be resolved at all. "Some TLDs … should be considered disallowed … .test:
/// intended for use in development" (atproto.com/specs/handle).
pub fn is_resolvable(handle: &str, rules: HostRules) -> bool {
    let last = handle.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let in_development = last == "test" && rules == HostRules::Insecure;
    is_handle(handle) && (in_development || !RESERVED.contains(&last.as_str()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_under_a_reserved_domain_is_not_resolved() {
        let check = |handle: &str, public, insecure| {
            assert_eq!(is_resolvable(handle, HostRules::Public), public, "{handle}");
            assert_eq!(is_resolvable(handle, HostRules::Insecure), insecure, "{handle}");
        };
        check("alice.example.com", true, true);
        check("alice.TEST", false, true);
        check("testing.com", true, true);
        for last in ["local", "arpa", "invalid", "localhost", "internal", "example", "onion"] {
            check(&format!("alice.{last}"), false, false);
        }
        check(INVALID, false, false);
        check("no", false, false);
        check("a..b", false, false);
    }
}
