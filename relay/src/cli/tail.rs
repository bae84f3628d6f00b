//! `mainstem tail`: a stream's events as JSON lines, with its order and continuity checked.

use std::collections::HashMap;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use futures_util::StreamExt as _;
use protocol::car;
use protocol::commit::Commit;
use protocol::frame::{
    self, AccountFrame, CommitFrame, HostKind, IdentityFrame, Kind, Peek, SyncFrame,
};
use protocol::host::HostRules;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use url::Url;

use crate::config;
use crate::outreach::{self, Target};

/// Shown below `mainstem tail --help`.
pub const EXIT_CODES: &str = "Exit codes: 0 the limit was reached, 1 the connection failed or \
was lost, 2 the order was wrong or something was missing.";

/// Runs it.
pub async fn run(options: &config::Tail) -> ExitCode {
    match follow(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            let code = if error.is::<Fault>() { FAULT } else { CONNECTION };
            ExitCode::from(code)
        }
    }
}

/// The stream breaks its own rules.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("seq {seq} comes after {last}")]
    Order { last: u64, seq: u64 },
    #[error("seq {seq}: rev {rev} of {did} comes after {last}")]
    RevOrder { seq: u64, did: String, rev: String, last: String },
    #[error("seq {seq}: a commit of {did} before {rev} is missing")]
    Gap { seq: u64, did: String, rev: String },
    #[error("seq {seq}: {what}")]
    Malformed { seq: u64, what: String },
}

async fn follow(options: &config::Tail) -> anyhow::Result<()> {
    let url = stream_url(&options.url, options.cursor)?;
    let tls = url.scheme() == "wss";
    let name = url.host_str().context("the URL has no host")?;
    let target = Target {
        name: name.trim_matches(['[', ']']).to_owned(),
        port: url.port_or_known_default().context("the URL has no port")?,
        tls,
        trusted: true,
    };
    let outreach = outreach::Options {
        rules: HostRules::Insecure,
        ca_file: None,
        dns_servers: &[],
        trusted_urls: &[],
    };
    let transport = outreach::dialer(&outreach)?.dial(&target).await.context("connect")?;
    let mut request = url.as_str().into_client_request().context("build the request")?;
    let agent = concat!("mainstem-tail/", env!("CARGO_PKG_VERSION"));
    request.headers_mut().insert(http::header::USER_AGENT, agent.parse()?);
    let (mut socket, _) =
        tokio_tungstenite::client_async(request, transport).await.context("subscribe")?;
    let mut check = Check::default();
    let mut printed = 0;
    while options.limit.is_none_or(|limit| printed < limit) {
        let message = socket.next().await.context("the connection was lost")?;
        match message.context("the connection was lost")? {
            Message::Binary(frame) => {
                let line = check.frame(&frame)?;
                // Standard output is this command's purpose; a closed pipe ends it.
                writeln!(std::io::stdout().lock(), "{line}").context("print")?;
                printed += u64::from(line.get("seq").is_some());
                if line["kind"] == "error" {
                    bail!("the relay ended the stream: {}", line["error"]);
                }
            }
            Message::Close(reason) => bail!("the relay closed the connection: {reason:?}"),
            Message::Text(_) => {
                return Err(
                    Fault::Malformed { seq: check.last, what: "a text message".into() }.into()
                );
            }
            _ => {}
        }
    }
    drop(socket.close(None).await);
    Ok(())
}

/// `host`, `host:port`, `http(s)://…` and `ws(s)://…` all name a relay; a path other than `/` is
/// kept as the stream's own.
fn stream_url(text: &str, cursor: Option<u64>) -> anyhow::Result<Url> {
    let text = if text.contains("://") { text.to_owned() } else { format!("wss://{text}") };
    let text = match text.split_once("://") {
        Some(("http", rest)) => format!("ws://{rest}"),
        Some(("https", rest)) => format!("wss://{rest}"),
        _ => text,
    };
    let mut url = Url::parse(&text).with_context(|| format!("parse {text}"))?;
    if !matches!(url.scheme(), "ws" | "wss") {
        bail!("{text}: use ws, wss, http or https");
    }
    if matches!(url.path(), "" | "/") {
        url.set_path("/xrpc/com.atproto.sync.subscribeRepos");
    }
    if let Some(cursor) = cursor {
        url.query_pairs_mut().append_pair("cursor", &cursor.to_string());
    }
    Ok(url)
}

/// What was seen so far, for the checks of order and continuity.
#[derive(Default)]
struct Check {
    /// The newest seq.
    last: u64,
    /// Newest rev and MST root of each account, the most recent [`ACCOUNTS_MAX`] of them.
    accounts: HashMap<String, Seen>,
}

struct Seen {
    rev: String,
    data: Option<[u8; 32]>,
}

impl Check {
    /// Checks a frame and renders it.
    fn frame(&mut self, bytes: &[u8]) -> Result<Value, Fault> {
        let last = self.last;
        let malformed = |what: &dyn std::fmt::Display| Fault::Malformed {
            seq: last,
            what: format!("the frame after it: {what}"),
        };
        match frame::peek(bytes).map_err(|error| malformed(&error))? {
            Peek::Info { name, message } => {
                Ok(json!({ "kind": "info", "name": name, "message": message }))
            }
            Peek::Error { error, message } => {
                Ok(json!({ "kind": "error", "error": error, "message": message }))
            }
            Peek::Unknown { seq } => Ok(json!({ "kind": "unknown", "seq": seq })),
            Peek::Event { kind, seq, .. } => {
                let seq = seq.ok_or_else(|| malformed(&"it has no seq"))?;
                if seq <= self.last {
                    return Err(Fault::Order { last: self.last, seq });
                }
                self.last = seq;
                self.event(kind, seq, bytes)
            }
        }
    }

    fn event(&mut self, kind: HostKind, seq: u64, bytes: &[u8]) -> Result<Value, Fault> {
        let malformed =
            |error: frame::FieldError| Fault::Malformed { seq, what: error.to_string() };
        Ok(match kind {
            HostKind::Event(Kind::Commit) => {
                self.commit(seq, &CommitFrame::decode(bytes).map_err(malformed)?)?
            }
            HostKind::Event(Kind::Sync) => {
                self.sync(seq, &SyncFrame::decode(bytes).map_err(malformed)?)
            }
            HostKind::Event(Kind::Account) => {
                let account = AccountFrame::decode(bytes).map_err(malformed)?;
                json!({
                    "kind": "account", "seq": seq, "did": account.did, "time": account.time,
                    "active": account.active, "status": account.status,
                })
            }
            HostKind::Event(Kind::Identity)
            | HostKind::LegacyHandle
            | HostKind::LegacyMigrate
            | HostKind::LegacyTombstone => {
                let identity = IdentityFrame::decode(bytes).map_err(malformed)?;
                json!({
                    "kind": "identity", "seq": seq, "did": identity.did, "time": identity.time,
                    "handle": identity.handle,
                })
            }
        })
    }

    fn commit(&mut self, seq: u64, commit: &CommitFrame<'_>) -> Result<Value, Fault> {
        let data = data_of(commit.blocks);
        let (did, rev) = (commit.repo.to_owned(), commit.rev.to_owned());
        if let Some(seen) = self.accounts.get(commit.repo) {
            if seen.rev.as_str() >= commit.rev {
                return Err(Fault::RevOrder { seq, did, rev, last: seen.rev.clone() });
            }
            // Sync 1.1 chains by `prevData`; `since` is all that an older host sends.
            let continues = match (commit.prev_data, seen.data) {
                (Some(prev), Some(data)) => prev.digest == data,
                _ => commit.since.is_none_or(|since| since == seen.rev),
            };
            if !continues {
                return Err(Fault::Gap { seq, did, rev });
            }
        }
        self.see(did, rev, data);
        let op = |op: &frame::Op<'_>| {
            json!({
                "action": op.action, "path": op.path,
                "cid": op.cid.map(|cid| cid.to_string()),
                "prev": op.prev.map(|cid| cid.to_string()),
            })
        };
        Ok(json!({
            "kind": "commit", "seq": seq, "repo": commit.repo, "rev": commit.rev,
            "since": commit.since, "time": commit.time, "commit": commit.commit.to_string(),
            "prevData": commit.prev_data.map(|cid| cid.to_string()),
            "blocksBytes": commit.blocks.len(),
            "ops": commit.ops.iter().map(op).collect::<Vec<_>>(),
        }))
    }

    fn sync(&mut self, seq: u64, sync: &SyncFrame<'_>) -> Value {
        // A `#sync` is how a stream says that it skipped something: what follows continues it.
        self.see(sync.did.to_owned(), sync.rev.to_owned(), data_of(sync.blocks));
        json!({
            "kind": "sync", "seq": seq, "did": sync.did, "rev": sync.rev, "time": sync.time,
            "blocksBytes": sync.blocks.len(),
        })
    }

    fn see(&mut self, did: String, rev: String, data: Option<[u8; 32]>) {
        if self.accounts.len() >= ACCOUNTS_MAX && !self.accounts.contains_key(&did) {
            // Starting over forgets what could be checked, and never reports a fault that is none.
            self.accounts.clear();
        }
        self.accounts.insert(did, Seen { rev, data });
    }
}

/// The MST root that the commit in these blocks names.
fn data_of(blocks: &[u8]) -> Option<[u8; 32]> {
    let (root, blocks) = car::read(blocks).ok()?;
    Some(Commit::parse(blocks.get_link(&root)?).ok()?.data.digest)
}

/// About 200 bytes each.
const ACCOUNTS_MAX: usize = 1_000_000;
const CONNECTION: u8 = 1;
const FAULT: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_way_to_name_a_relay_will_do() {
        let check = |text, cursor, expected: &str| {
            assert_eq!(stream_url(text, cursor).unwrap().as_str(), expected);
        };
        let path = "/xrpc/com.atproto.sync.subscribeRepos";
        check("relay.example.com", None, &format!("wss://relay.example.com{path}"));
        check("http://localhost:2470", Some(0), &format!("ws://localhost:2470{path}?cursor=0"));
        check("https://relay.example.com/", None, &format!("wss://relay.example.com{path}"));
        check("ws://localhost:1/other", Some(7), "ws://localhost:1/other?cursor=7");
        assert!(stream_url("ftp://relay.example.com", None).is_err());
    }
}
