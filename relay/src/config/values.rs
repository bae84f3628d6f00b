//! The values of flags that are more than a number or a text: sizes, durations, addresses.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes, written with or without a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: u64 =
            number.parse().map_err(|_| "not a size: write for example 64MiB".to_owned())?;
        let factor = match unit.trim() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            unit => return Err(format!("unknown unit '{unit}': use KiB, MiB or GiB")),
        };
        number.checked_mul(factor).map(Self).ok_or_else(|| "too large".to_owned())
    }
}

pub(super) fn parse_intake_bytes(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse()?;
    // Two hosts' shares: one that holds all of its own must not be able to stop the others.
    at_least(size, INTAKE_BYTES_MIN, "24MiB")
}

pub(super) fn parse_identity_cache_bytes(text: &str) -> Result<ByteSize, String> {
    at_least(text.parse()?, IDENTITY_CACHE_BYTES_MIN, "1MiB")
}

pub(super) fn parse_tail_bytes(text: &str) -> Result<ByteSize, String> {
    at_least(text.parse()?, TAIL_BYTES_MIN, "2MiB")
}

pub(super) fn parse_retention_bytes(text: &str) -> Result<ByteSize, String> {
    at_least(text.parse()?, RETENTION_BYTES_MIN, "4GiB")
}

fn at_least(size: ByteSize, min: u64, shown: &str) -> Result<ByteSize, String> {
    if size.0 < min { Err(format!("too small: at least {shown}")) } else { Ok(size) }
}

pub(super) fn parse_retention(text: &str) -> Result<Duration, String> {
    let retention = parse_duration(text)?;
    if retention < RETENTION_MIN {
        return Err("too short: at least 1m".to_owned());
    }
    Ok(retention)
}

pub(super) fn parse_commit_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval > COMMIT_INTERVAL_MAX {
        return Err("too long: at most 1s, or consumers wait for nothing".to_owned());
    }
    Ok(interval)
}

pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("not a duration, such as 72h or 3ms: {error}"))
}

pub(super) fn parse_http_url(text: &str) -> Result<String, String> {
    let url = url::Url::parse(text).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("not an http or https URL".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

pub(super) fn parse_export_url(text: &str) -> Result<String, String> {
    let text = parse_http_url(text)?;
    let url = url::Url::parse(&text).map_err(|error| error.to_string())?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a URL without a query: how to page is known".to_owned());
    }
    Ok(if url.path() == "/" { format!("{text}/export") } else { text })
}

pub(super) fn parse_dns_server(text: &str) -> Result<SocketAddr, String> {
    let on_usual_port = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
    let error = |_| "not an address, such as 10.0.0.53 or [fd00::53]:5353".to_owned();
    text.parse().or_else(|_| on_usual_port().map_err(error))
}

pub(super) fn parse_consumers(text: &str) -> Result<usize, String> {
    let count = text.parse().map_err(|_| "not a number".to_owned())?;
    if !(1..=CONSUMERS_MAX).contains(&count) {
        return Err(format!("not in 1..={CONSUMERS_MAX}"));
    }
    Ok(count)
}

pub(super) fn parse_contact(text: &str) -> Result<String, String> {
    let printable = text.chars().all(|c| c.is_ascii_graphic() && c != '(' && c != ')');
    if text.is_empty() || !printable {
        return Err("not a URL or mail address".to_owned());
    }
    Ok(text.to_owned())
}

const DNS_PORT: u16 = 53;
const INTAKE_BYTES_MIN: u64 = 24 << 20;
const IDENTITY_CACHE_BYTES_MIN: u64 = 1 << 20;
const TAIL_BYTES_MIN: u64 = 2 << 20;
/// What the store takes beside the limit at times (WAL, a file that is being written) is a tenth
/// of this at most.
const RETENTION_BYTES_MIN: u64 = 4 << 30;
const RETENTION_MIN: Duration = Duration::from_secs(60);
/// Each is a file descriptor, of which a process has a million at most unless somebody sees to it.
const CONSUMERS_MAX: usize = 500_000;
const COMMIT_INTERVAL_MAX: Duration = Duration::from_secs(1);
