//! Domains that an operator names: whose hosts are banned, and whose are trusted.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use protocol::host::HostName;

/// `example.com`: this name and all names below it. `*.example.com`: those below it alone. In
/// lower case, without a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(String);

/// Domains, to be asked about hosts: a look-up for each label of a host's name, however many
/// domains there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Domains(HashSet<String>);

impl Domain {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Domains {
    /// Whether a host's name is in one of them.
    pub fn cover(&self, host: &HostName) -> bool {
        let name = host.name();
        if self.0.is_empty() {
            return false;
        }
        let above = name.match_indices('.').map(|(at, _)| &name[at + 1..]);
        self.0.contains(name)
            || above
                .into_iter()
                .any(|above| self.0.contains(above) || self.0.contains(&format!("*.{above}")))
    }
}

impl FromIterator<Domain> for Domains {
    fn from_iter<I: IntoIterator<Item = Domain>>(domains: I) -> Self {
        Self(domains.into_iter().map(|domain| domain.0).collect())
    }
}

impl FromStr for Domain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim().to_ascii_lowercase();
        let name = text.strip_prefix("*.").unwrap_or(&text);
        let is_label = |label: &str| {
            let of_a_label = |c: char| c.is_ascii_alphanumeric() || c == '-';
            !label.is_empty() && label.len() <= LABEL_CHARS_MAX && label.chars().all(of_a_label)
        };
        if name.len() > NAME_CHARS_MAX || !name.split('.').all(is_label) {
            return Err("not a domain, such as example.com or *.example.com".to_owned());
        }
        Ok(Self(text))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The limits of DNS.
const NAME_CHARS_MAX: usize = 253;
const LABEL_CHARS_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use protocol::host::HostRules;

    use super::*;

    #[test]
    fn a_domain_covers_what_is_below_it_and_itself_unless_it_begins_with_a_star() {
        let check = |domains: &[&str], host: &str, expected: bool| {
            let domains: Domains = domains.iter().map(|text| text.parse().unwrap()).collect();
            let host = HostName::parse(host, HostRules::Insecure).unwrap();
            assert_eq!(domains.cover(&host), expected, "{host}");
        };
        check(&["example.com"], "example.com", true);
        check(&["example.com"], "pds.example.com", true);
        check(&["example.com"], "a.b.example.com", true);
        check(&["example.com"], "badexample.com", false);
        check(&["example.com"], "com", false);
        check(&["*.example.com"], "example.com", false);
        check(&["*.example.com"], "pds.example.com", true);
        check(&["*.example.com"], "a.b.example.com", true);
        check(&["x.test", "*.Example.COM"], "pds.example.com", true);
        check(&["localhost"], "localhost:4100", true);
        check(&["example.com"], "example.com:8080", true);
        check(&[], "example.com", false);
    }

    #[test]
    fn a_domain_is_a_name_with_perhaps_a_star_before_it() {
        let check = |text: &str, expected: Option<&str>| {
            let domain: Result<Domain, _> = text.parse();
            assert_eq!(domain.as_ref().map(Domain::as_str).ok(), expected, "{text}");
        };
        check(" Example.com ", Some("example.com"));
        check("*.example.com", Some("*.example.com"));
        check("zip", Some("zip"));
        for text in ["", "*", "*.", "*.*.com", "a.*.com", ".com", "com.", "a b.com", "*com"] {
            check(text, None);
        }
        for text in ["https://example.com", "example.com:443", "exa\nmple.com", "b\u{fc}cher.com"] {
            check(text, None);
        }
        check(&"a".repeat(64), None);
        check(&"a.".repeat(127).replace("a.", "aa."), None);
    }
}
