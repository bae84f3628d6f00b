//! From the verifier to the sequencer: what a verdict changes in the store.

use bytes::Bytes;
use protocol::ids::{HostId, Micros};
use protocol::reject::Reject;
use storage::{AccountWrite, Entry, RejectNote};
use verifier::{Accepted, Decided, Outcome, Verdict};

/// The entry that settles a verdict.
pub(super) fn entry(verdict: Verdict, now: Micros) -> Entry {
    let mark = storage::Mark { shard: verdict.mark.shard, number: verdict.mark.number };
    let (ticket, done) = (verdict.ticket, verdict.done);
    let mut entry = Entry { ticket, mark: Some(mark), done, ..Entry::default() };
    match verdict.outcome {
        Outcome::Accept(accepted) => accept(&mut entry, *accepted),
        Outcome::Reject { reject, host, did, excerpt, gap } => {
            entry.gap = gap.map(|gap| match gap {
                verifier::Gap::Account(did) => storage::Gap { host, did: Some(did) },
                verifier::Gap::Host => storage::Gap { host, did: None },
            });
            entry.reject = Some(RejectNote { name: reject.name(), host, did, excerpt, at: now });
        }
        Outcome::Decided(decided) => decide(&mut entry, *decided),
        Outcome::Learnt(identity) => entry.identity = Some(super::recall::row(&identity)),
        Outcome::Silence => {}
    }
    entry
}

fn accept(entry: &mut Entry, accepted: Accepted) {
    let host = entry.ticket.as_ref().map(|ticket| ticket.host);
    entry.closes_ratchet = host.filter(|_| accepted.closes_ratchet);
    entry.did = Some(accepted.did);
    entry.frames = accepted.frames;
    entry.account = accepted.account.map(|account| {
        let (was, decided) = (accepted.was, accepted.decided);
        AccountWrite { account, was, decided }
    });
}

fn decide(entry: &mut Entry, decided: Decided) {
    let Decided { did, frame, account, was, owed } = decided;
    entry.gap = owed.map(|host| storage::Gap { host, did: Some(did.clone()) });
    entry.did = Some(did);
    entry.frames = frame.into_iter().collect();
    entry.account = Some(AccountWrite { account, was, decided: true });
}

/// The entry of a frame that was dropped before it had a ticket.
pub(super) fn frame_reject(host: HostId, reject: Reject, excerpt: Bytes, at: Micros) -> Entry {
    Entry {
        gap: reject.leaves_gap().then_some(storage::Gap { host, did: None }),
        reject: Some(RejectNote { name: reject.name(), host, did: None, excerpt, at }),
        ..Entry::default()
    }
}
