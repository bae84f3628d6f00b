//! From the store back to the verifier: what it has forgotten of accounts and identities.

use verifier::{Identity, Recall};

/// Reads for the shards. A store that cannot be read ends the process (I6): answering "unknown"
/// instead would let old events pass again.
pub(super) fn recall(storage: &storage::Handle) -> Recall {
    let (accounts, identities) = (storage.clone(), storage.clone());
    Recall {
        account: Box::new(move |did| accounts.account(did).unwrap_or_else(|error| stop(&error))),
        identity: Box::new(move |did| {
            identities.identity(did).unwrap_or_else(|error| stop(&error)).map(identity)
        }),
    }
}

fn stop(error: &storage::Error) -> ! {
    tracing::error!(%error, "cannot read the store: stopping");
    std::process::abort()
}

/// The record of an identity.
pub(super) fn row(identity: &Identity) -> storage::IdentityRow {
    storage::IdentityRow {
        did: identity.did.clone(),
        key: identity.key.as_ref().map(protocol::keys::PublicKey::to_compressed),
        pds: identity.pds.clone(),
        handle: identity.handle.clone(),
        fetched: identity.fetched,
        tombstoned: identity.tombstoned,
    }
}

fn identity(row: storage::IdentityRow) -> Identity {
    let key = row.key.map(|(curve, point)| {
        protocol::keys::PublicKey::from_compressed(curve, &point)
            .expect("the store holds keys that were parsed before")
    });
    Identity {
        did: row.did,
        key,
        pds: row.pds,
        handle: row.handle,
        fetched: row.fetched,
        tombstoned: row.tombstoned,
    }
}
