//! `GET /status/account/DID`: what is known of an account, and why it is not seen if it is not.

use std::collections::BTreeSet;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use protocol::account::{Account, Local, Throttle};
use protocol::cid::Cid;
use protocol::datetime;
use protocol::did::Did;
use protocol::host::HostName;
use protocol::ids::{HostId, Micros};
use serde_json::{Value, json};
use storage::{AccountGap, Host, HostGap, IdentityRow, RejectRow};

use super::account_page;
use super::rejects;
use super::visit::Visit;
use crate::api::{Api, Params, XrpcError};

/// Answers with what there is; 404 if nothing is known of the account.
pub(super) async fn show(
    State(api): State<Api>,
    Path(did): Path<String>,
    params: Params,
    visit: Visit,
) -> Response {
    let did = match Did::parse(&did) {
        Ok(did) => did,
        Err(error) => return XrpcError::invalid(format!("the account: {error}")).into_response(),
    };
    // A host may have sent what is not its to send: then it is neither the account's nor named.
    let also = params.text("host").and_then(|name| HostName::parse(name, api.rules).ok());
    let asked = did.clone();
    let seen = match api.status.reads.run(move |storage| Seen::gather(storage, asked, also)).await {
        Ok(seen) => seen,
        Err(error) => return error.into_response(),
    };
    let now = (api.clock)();
    if !seen.is_anything() {
        return visit.answer(
            StatusCode::NOT_FOUND,
            || unknown(&did),
            || account_page::unknown(&did),
        );
    }
    visit.answer(StatusCode::OK, || seen.describe(), || account_page::page(&seen, now))
}

/// All that is known of one account, each part as of its own last change.
pub(super) struct Seen {
    pub(super) did: Did,
    pub(super) account: Option<Account>,
    pub(super) identity: Option<IdentityRow>,
    /// This relay knows the host that the document names.
    pub(super) is_pds_known: bool,
    /// The host that spoke for it last; or else the one that its document names.
    pub(super) host: Option<Host>,
    pub(super) host_gap: Option<HostGap>,
    pub(super) gap: Option<AccountGap>,
    /// Of what its hosts sent about it, newest first.
    pub(super) rejects: Vec<RejectRow>,
}

impl Seen {
    fn gather(
        storage: &storage::Handle,
        did: Did,
        also: Option<HostName>,
    ) -> Result<Self, storage::Error> {
        let account = storage.account(&did)?;
        let identity = storage.identity(&did)?;
        let home = account.as_ref().and_then(|account| storage.host(account.home()?));
        let named = identity.as_ref().and_then(|row| storage.host_by_name(row.pds.as_ref()?));
        // After a migration both may have said something that did not pass.
        let also = also.and_then(|name| storage.host_by_name(&name));
        let ids: BTreeSet<HostId> =
            home.iter().chain(&named).chain(&also).map(|host| host.id).collect();
        let mut rejects = Vec::new();
        for id in ids {
            let of_it = |row: &RejectRow| row.did.as_ref() == Some(&did);
            rejects.extend(storage.rejects(id)?.into_iter().filter(of_it));
        }
        let is_pds_known = named.is_some();
        rejects.sort_by_key(|row| std::cmp::Reverse(row.at));
        let host = home.or(named);
        let id = host.as_ref().map(|host| host.id);
        let host_gap = id.map(|id| storage.gap(id)).transpose()?.flatten();
        let gap = id.map(|id| storage.account_gap(id, &did)).transpose()?.flatten();
        Ok(Self { did, account, identity, is_pds_known, host, host_gap, gap, rejects })
    }

    fn is_anything(&self) -> bool {
        self.account.is_some() || self.identity.is_some() || !self.rejects.is_empty()
    }

    fn describe(&self) -> Value {
        let account = self.account.as_ref();
        let published = account.map(Account::published);
        let repo = account.and_then(|account| account.repo.as_ref());
        let identity = self.identity.as_ref();
        json!({
            "did": self.did.to_string(),
            "handle": self.handle(),
            "pds": identity.and_then(|row| Some(row.pds.as_ref()?.as_str().to_owned())),
            "pdsKnown": identity.map(|_| self.is_pds_known),
            "documentFetched": identity.map(|row| datetime::format(row.fetched)),
            "active": published.map(|(active, _)| active),
            "status": published.and_then(|(_, status)| status),
            "host": self.host.as_ref().map(|host| host.name.as_str()),
            "upstream": account.map(|account| json!({
                "active": account.upstream.active,
                "status": account.upstream.status.as_deref(),
            })),
            "decision": account.map(|account| decision(account.local)),
            "throttle": account.and_then(|account| throttle(account.local)),
            "throttledUntil": account.and_then(|account| until(account.local))
                .map(datetime::format),
            "repo": repo.map(|repo| json!({
                "rev": repo.rev.to_string(),
                "at": datetime::format(repo.rev.micros()),
                "commit": Cid::cbor(repo.commit).to_string(),
            })),
            "lastEvent": account.filter(|account| account.home().is_some()).map(|account| json!({
                "epoch": account.epoch.0,
                "seq": account.host_seq.get(),
            })),
            "breaks": account.map(|account| account.conduct.breaks),
            "owed": self.owed().map(|(since, reason)| json!({
                "since": datetime::format(since),
                "reason": reason,
            })),
            "rejects": rejects::describe(&self.rejects),
        })
    }

    /// What its document says first, believed by nobody who has not looked.
    pub(super) fn handle(&self) -> Option<&str> {
        self.identity.as_ref()?.handle.as_deref()
    }

    /// Since when something of it is known to be missing, and what.
    pub(super) fn owed(&self) -> Option<(Micros, &str)> {
        let whole = self.host_gap.as_ref().filter(|gap| gap.whole);
        let own = self.gap.as_ref().map(|gap| (gap.since, gap.reason.as_str()));
        own.or_else(|| whole.map(|gap| (gap.since, gap.reason.as_str())))
    }
}

fn unknown(did: &Did) -> Value {
    json!({
        "error": "AccountNotFound",
        "message": format!("nothing is known of {did}: no event of it has come to this relay"),
    })
}

/// What this relay decided, by name.
pub(super) fn decision(local: Local) -> &'static str {
    match local {
        Local::None => "none",
        Local::Takendown => "takendown",
        Local::Suspended => "suspended",
        Local::Throttled(_) => "throttled",
    }
}

/// Why an account is throttled, by name.
pub(super) fn throttle(local: Local) -> Option<&'static str> {
    let Local::Throttled(throttle) = local else { return None };
    Some(match throttle {
        Throttle::Operator => "operator",
        Throttle::Breaks { .. } => "breaks",
        Throttle::Quota => "quota",
    })
}

/// When its throttle ends by itself.
pub(super) fn until(local: Local) -> Option<Micros> {
    match local {
        Local::Throttled(Throttle::Breaks { until }) => Some(until),
        _ => None,
    }
}
