//! An account that moves to another host, as two reference PDSes tell it.

use protocol::did::Did;
use protocol::ids::Micros;
use protocol::tid::Tid;

use super::account::{Account, account_frame, datetime, draw_key};
use super::repo::{CLOCK_ID, Write};
use super::{World, record};
use crate::wire::{Block, Frame, Value, car};

/// What is said of an account that moves. Nothing of it is sent yet.
pub struct Migration {
    /// The index of the host that it leaves.
    pub from: usize,
    /// The document that names the new host and the new key.
    pub document: serde_json::Value,
    /// By the new host, in the order of the reference PDS: `#account`, `#identity`, a `#sync` that
    /// is not valid (the old host's commit under a revision of its own), and a `#commit`.
    pub new: [Frame; 4],
    /// By the old host, which nobody told: a `#commit`, then that its copy is deactivated.
    pub old: [Frame; 2],
    /// A later `#commit` of the new host.
    pub later: Frame,
}

impl World {
    /// Moves an account with a repo to another host.
    pub fn migrate(&mut self, did: &Did, host: usize, now: Micros) -> Migration {
        let index = self.accounts.iter().position(|account| account.did == *did);
        let index = index.expect("an account of this world");
        // What the old host holds stays with it.
        let moved = self.accounts[index].repo.clone();
        let mut stale = std::mem::replace(&mut self.accounts[index].repo, moved);
        let (stale_key, from) = (self.accounts[index].key.clone(), self.accounts[index].host);
        // Each has a path of its own, however often an account moves.
        let keys = [now; 3].map(|now| Tid::from_micros(self.tick(now), CLOCK_ID));
        let write = |key: Tid, rng: &mut _| {
            Write::Create(format!("app.bsky.feed.post/{key}"), record::profile(rng))
        };
        let stale_write = write(keys[0], &mut self.rng);

        let key = draw_key(&mut self.rng, self.accounts[index].curve);
        (self.accounts[index].key, self.accounts[index].host) = (key, host);
        let document = self.accounts[index].document(&self.hosts);
        let times = [now; 7].map(|now| self.tick(now));
        let first = write(keys[1], &mut self.rng);
        let later = write(keys[2], &mut self.rng);
        let Account { did, key, repo, .. } = &mut self.accounts[index];
        let sync = unsigned_sync(did, &repo.head().expect("it has committed").block, times[2]);
        let first = repo.commit(did, key, times[3], &[first]).draft().frame();
        // Later than what the new host says first: only who sends it is wrong with it.
        let stale = stale.commit(did, &stale_key, times[4], &[stale_write]).draft().frame();
        let later = repo.commit(did, key, times[6], &[later]).draft().frame();
        let account = &self.accounts[index];
        let new = [account.account_frame(times[0]), account.identity_frame(times[1]), sync, first];
        let gone = account_frame(&account.did, false, Some("deactivated"), times[5]);
        Migration { from, document, new, old: [stale, gone], later }
    }
}

/// A `#sync` whose revision is not the commit's: `importRepo` stores a fresh one without signing.
fn unsigned_sync(did: &Did, block: &[u8], time: Micros) -> Frame {
    let block = Block::of_cbor(block.to_vec());
    let payload = Value::Map(vec![
        ("did", Value::text(did)),
        ("rev", Value::text(Tid::from_micros(time, CLOCK_ID))),
        ("seq", Value::Seq),
        ("time", datetime(time)),
        (
            "blocks",
            Value::Bytes(car(std::slice::from_ref(&block.cid), std::slice::from_ref(&block))),
        ),
    ]);
    Frame::event("#sync", &payload)
}
