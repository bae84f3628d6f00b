//! Lists of hosts: a file with a name a line, or what another relay lists.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use protocol::fetch::{Fetch, Get, Longer};
use protocol::host::HostRules;
use serde_json::Value;

use crate::outreach;

/// Reads a list: an http or https URL, `-`, or a file.
pub(super) async fn read(source: &str) -> anyhow::Result<Vec<String>> {
    let names = if source.starts_with("http://") || source.starts_with("https://") {
        read_relay(source).await.with_context(|| format!("read the hosts of {source}"))?
    } else if source == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("read standard input")?;
        lines(&text)
    } else {
        let text =
            std::fs::read_to_string(source).with_context(|| format!("read the list {source}"))?;
        lines(&text)
    };
    if names.is_empty() {
        bail!("there is no host in {source}");
    }
    Ok(names)
}

/// One name a line; empty lines and what follows a `#` do not count.
fn lines(text: &str) -> Vec<String> {
    let name = |line: &str| line.split('#').next().unwrap_or_default().trim().to_owned();
    text.lines().map(name).filter(|name| !name.is_empty()).collect()
}

/// Pages another relay's `listHosts`.
async fn read_relay(address: &str) -> anyhow::Result<Vec<String>> {
    let options = outreach::Options {
        rules: HostRules::Public,
        ca_file: None,
        dns_servers: &[],
        trusted_urls: &[address.to_owned()],
    };
    let fetch = outreach::fetcher(outreach::dialer(&options)?, USER_AGENT)?;
    let mut url = url::Url::parse(address)?;
    if url.path() == "/" {
        url.set_path("/xrpc/com.atproto.sync.listHosts");
    }
    let (mut names, mut cursors) = (Vec::new(), BTreeSet::new());
    let mut cursor: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let mut page = url.clone();
        page.query_pairs_mut().append_pair("limit", "1000");
        if let Some(cursor) = &cursor {
            page.query_pairs_mut().append_pair("cursor", cursor);
        }
        let answer = ask(&fetch, page.to_string()).await?;
        names.extend(listed(&answer)?);
        let Some(next) = answer["cursor"].as_str().filter(|next| !next.is_empty()) else {
            return Ok(names);
        };
        if !cursors.insert(next.to_owned()) {
            bail!("it comes back to the cursor {next}");
        }
        cursor = Some(next.to_owned());
    }
    bail!("it lists more than {PAGES_MAX} pages")
}

async fn ask(fetch: &Fetch, url: String) -> anyhow::Result<Value> {
    let get = Get {
        url,
        timeout: TIMEOUT,
        body_bytes_max: PAGE_BYTES_MAX,
        longer: Longer::Refused,
        redirects_max: 3,
    };
    let answer = fetch.get(get).await?;
    if answer.status != 200 {
        bail!("it answers {}", answer.status);
    }
    serde_json::from_slice(&answer.body).context("its answer is not JSON")
}

/// The hosts of a page, but for those that are banned there.
fn listed(page: &Value) -> anyhow::Result<Vec<String>> {
    let hosts = page["hosts"].as_array().context("its answer has no hosts: is it a relay?")?;
    let followed = hosts.iter().filter(|host| host["status"] != "banned");
    Ok(followed.filter_map(|host| Some(host["hostname"].as_str()?.to_owned())).collect())
}

const USER_AGENT: &str = concat!("mainstem/", env!("CARGO_PKG_VERSION"), " (hosts import)");
const TIMEOUT: Duration = Duration::from_secs(30);
/// A thousand of the longest names.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// A million hosts.
const PAGES_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_has_a_name_a_line() {
        let text = "pds1.example.com\r\n\n# ours\n  https://pds2.example.com/  # a note\n#\n";
        assert_eq!(lines(text), ["pds1.example.com", "https://pds2.example.com/"]);
    }

    #[test]
    fn what_another_relay_has_banned_is_not_taken() {
        let page = json!({ "hosts": [
            { "hostname": "a.com", "status": "active" },
            { "hostname": "b.com", "status": "banned" },
            { "hostname": "c.com" },
            { "status": "active" },
        ]});
        assert_eq!(listed(&page).unwrap(), ["a.com", "c.com"]);
        assert!(listed(&json!({ "error": "MethodNotImplemented" })).is_err());
    }
}
