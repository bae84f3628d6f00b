//! From the store back to the verifier: what it has forgotten of accounts and identities.

use protocol::account::{Local, Throttle};
use verifier::{Identity, InForce, Recall};

/// Reads for the shards. A store that cannot be read ends the process (I6): answering "unknown"
/// instead would let old events pass again.
pub(super) fn recall(storage: &storage::Handle) -> Recall {
    let (accounts, identities) = (storage.clone(), storage.clone());
    Recall {
        account: Box::new(move |did| accounts.account(did).unwrap_or_else(|error| stop(&error))),
        identity: Box::new(move |did| {
            let row = identities.identity(did).unwrap_or_else(|error| stop(&error));
            row.map(|row| {
                identity(row).unwrap_or_else(|| stop(&storage::Error::damaged_identity(did)))
            })
        }),
        in_force: in_force(storage),
    }
}

/// Counts what was decided before this start, and finds what ends by itself.
fn in_force(storage: &storage::Handle) -> InForce {
    let mut found = InForce::default();
    let mut after = None;
    loop {
        let page = storage.decisions(after.as_ref(), PAGE).unwrap_or_else(|error| stop(&error));
        let Some((last, _)) = page.last() else { return found };
        after = Some(last.clone());
        for (did, local) in page {
            let [takendown, suspended, throttled] = &mut found.counts;
            match local {
                Local::None => {}
                Local::Takendown => *takendown += 1,
                Local::Suspended => *suspended += 1,
                Local::Throttled(throttle) => {
                    *throttled += 1;
                    if let Throttle::Breaks { until } = throttle
                        && found.throttled.len() < THROTTLED_MAX
                    {
                        found.throttled.push((did, until));
                    }
                }
            }
        }
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

/// `None`: its key was one when it was written.
fn identity(row: storage::IdentityRow) -> Option<Identity> {
    let parse = |(curve, point): (_, [u8; 33])| {
        protocol::keys::PublicKey::from_compressed(curve, &point).ok()
    };
    let key = match row.key {
        Some(key) => Some(parse(key)?),
        None => None,
    };
    Some(Identity {
        did: row.did,
        key,
        pds: row.pds,
        handle: row.handle,
        fetched: row.fetched,
        tombstoned: row.tombstoned,
    })
}

/// Decisions read at once.
const PAGE: usize = 10_000;
/// Throttles whose end a start remembers, 100 bytes each; the others end with the account's next
/// event.
const THROTTLED_MAX: usize = 1_000_000;
