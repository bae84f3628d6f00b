//! Who speaks: the document's host, its key, and whether the account is active; the signature last.

use protocol::account::{Account, Local, Repo, Upstream};
use protocol::datetime;
use protocol::frame::Outgoing;
use protocol::keys::{PublicKey, SignatureError};
use protocol::reject::Reject;

use super::{Case, Known, Need, Status, Stop, decision, throttle};
use crate::verdict::{Accepted, Identity};

/// A repo's state that holds in itself; its signature is not checked yet.
#[derive(Debug)]
pub struct RepoClaim {
    /// What goes out.
    pub(super) outgoing: Outgoing,
    /// The repo after it.
    pub(super) repo: Repo,
    pub(super) signature: [u8; 64],
    pub(super) unsigned_digest: [u8; 32],
    pub(super) closes_ratchet: bool,
    /// The repo that we hold is not the one that this continues.
    pub(super) chain_break: bool,
}

impl RepoClaim {
    pub(super) fn settle(&self, case: &Case<'_>, known: &Known<'_>) -> Result<Accepted, Stop> {
        let (identity, key) = speaker(case, known)?;
        let heals = self.activity(case, known)?;
        // I12: no signature, no passage.
        key.verify(&self.unsigned_digest, &self.signature).map_err(|error| match error {
            SignatureError::HighS => Stop::Reject(Reject::SignatureHighS),
            SignatureError::Invalid if known.forged => Stop::Reject(Reject::SignatureInvalid),
            SignatureError::Invalid => convict(case, known, identity, Reject::SignatureInvalid),
        })?;

        if case.is_over_limit() || case.is_throttled_elsewhere() {
            return Err(Reject::AccountThrottled.into());
        }
        let mut account = Account { repo: Some(self.repo), ..case.account() };
        let mut frames = Vec::with_capacity(2);
        if heals {
            account.upstream = Upstream::ACTIVE;
            frames.push(Outgoing::account(case.did, true, None, &datetime::format(case.now)));
        }
        frames.push(self.outgoing.clone());
        let throttled = self.chain_break && throttle::broke(&mut account, case.now);
        if throttled {
            frames.extend(decision::told(case.did, None, &account, case.now));
        }
        Ok(Accepted {
            closes_ratchet: self.closes_ratchet,
            chain_break: self.chain_break,
            healed: heals,
            throttled,
            ..case.accepted(frames, account)
        })
    }

    /// Whether the account may have commits; `true` if this one makes an inactive account active.
    fn activity(&self, case: &Case<'_>, known: &Known<'_>) -> Result<bool, Stop> {
        let Some(prior) = case.prior else { return Ok(false) };
        match prior.local {
            Local::None => {}
            Local::Takendown | Local::Suspended => return Err(Reject::AccountTakendown.into()),
            // Who has moved is judged by the new host's limit, once its commit is known to be good.
            Local::Throttled(_) if case.is_throttled_elsewhere() => {}
            Local::Throttled(_) => return Err(Reject::AccountThrottled.into()),
        }
        if prior.upstream.active {
            return Ok(false);
        }
        // The `#account` that made it active may have been lost: the host knows.
        match known.status {
            None => Err(Stop::Wait(Need::Status)),
            Some(Status::Of(upstream)) if upstream.active => Ok(true),
            Some(Status::MethodMissing) if self.is_newer(prior) => Ok(true),
            Some(_) => Err(Reject::AccountInactive.into()),
        }
    }

    fn is_newer(&self, prior: &Account) -> bool {
        prior.repo.is_none_or(|held| self.repo.rev > held.rev)
    }
}

/// The document that lets the event's host speak for the account, and the key in it.
pub(super) fn speaker<'a>(
    case: &Case<'_>,
    known: &Known<'a>,
) -> Result<(&'a Identity, &'a PublicKey), Stop> {
    let identity = document(known)?;
    let fault = match (&identity.key, &identity.pds) {
        _ if identity.tombstoned => Reject::IdentityTombstoned,
        (None, _) => Reject::IdentityNoKey,
        (_, None) => Reject::IdentityNoPds,
        (Some(key), Some(pds)) if pds == case.name => return Ok((identity, key)),
        _ => Reject::WrongHost,
    };
    Err(convict(case, known, identity, fault))
}

/// Any usable document.
pub(super) fn document<'a>(known: &Known<'a>) -> Result<&'a Identity, Stop> {
    match known.identity {
        Some(identity) => Ok(identity),
        None if known.unresolved => Err(Reject::IdentityUnresolved.into()),
        None => Err(Stop::Wait(Need::Document)),
    }
}

/// A document may be older than what the event rests on, a migration or another key; it convicts
/// only if its fetch began after the event had arrived, and, just after an `#identity`, only if it
/// says the same when it is asked for again.
pub(super) fn convict(
    case: &Case<'_>,
    known: &Known<'_>,
    identity: &Identity,
    reject: Reject,
) -> Stop {
    if identity.fetched >= case.received && (known.unresolved || !known.lagging) {
        Stop::Reject(reject)
    } else if known.unresolved {
        Stop::Reject(Reject::IdentityUnresolved)
    } else {
        Stop::Wait(Need::DocumentSince(case.received))
    }
}
