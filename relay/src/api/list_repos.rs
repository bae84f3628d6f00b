//! `com.atproto.sync.listRepos`: the accounts whose repos have passed, in a fixed order.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use protocol::account::Account;
use protocol::cid::Cid;
use protocol::did::Did;
use serde_json::{Value, json};

use super::client::Client;
use super::params::Params;
use super::reads::Reads;
use super::visitors::Visitors;
use super::{Api, XrpcError};

/// Who lists, and the reads for it. Cheap to clone.
#[derive(Clone)]
pub struct Lists {
    reads: Reads,
    visitors: Arc<Visitors>,
}

impl Lists {
    /// Nobody lists yet.
    pub fn new(storage: storage::Handle) -> Self {
        Self { reads: Reads::new(storage, "lists"), visitors: Arc::new(Visitors::new()) }
    }
}

/// Answers a page.
pub(super) async fn list_repos(
    State(api): State<Api>,
    Client(address): Client,
    params: Params,
) -> Result<Json<Value>, XrpcError> {
    let limit = params.number("limit", 1..=1000, 500_usize)?;
    let after = match params.text("cursor") {
        None | Some("") => None,
        Some(_) => Some(params.did("cursor")?),
    };
    api.lists.visitors.admit(address)?;
    let page = api.lists.reads.run(move |storage| storage.accounts(after.as_ref(), limit)).await?;
    let repos: Vec<Value> = page.iter().filter_map(entry).collect();
    let mut answer = json!({ "repos": repos });
    if let (true, Some((last, _))) = (page.len() == limit, page.last()) {
        answer["cursor"] = json!(last.to_string());
    }
    Ok(Json(answer))
}

/// `None`: "head" and "rev" are required (the lexicon), and no commit of it has passed.
fn entry((did, account): &(Did, Account)) -> Option<Value> {
    let repo = account.repo.as_ref()?;
    let (active, status) = account.published();
    let mut entry = json!({
        "did": did.to_string(),
        "head": Cid::cbor(repo.commit).to_string(),
        "rev": repo.rev.to_string(),
        "active": active,
    });
    if let Some(status) = status {
        entry["status"] = json!(status);
    }
    Some(entry)
}
