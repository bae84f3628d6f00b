//! Which formats of a data folder there are, and what a start does with each.

use std::collections::BTreeMap;
use std::path::Path;

use protocol::did::Did;
use protocol::ids::{HostId, Micros};
use rocksdb::{DB, ReadOptions, WriteBatch};

use super::{Family, KeyAndRow, Store, UNREADABLE, Wait, keys, options, records};
use crate::Error;
use crate::accounts::live_on;
use crate::hosts::Host;
use crate::members::Membership;

/// The format of keys, rows and files as a whole.
pub(crate) const FORMAT: u32 = 4;
/// Read as well, and turned into this version's own.
const OLDEST: u32 = 1;

/// Refuses a database that has the family of `meta`, and there a format that this version does not
/// know, before anything in it changes:
/// an ordinary opening would already make families and flush the WAL.
pub(super) fn check_before_opening(dir: &Path) -> Result<(), Error> {
    let meta = Family::Meta.name();
    let database = DB::open_cf_for_read_only(&options::glance(), dir, [meta], false)?;
    let family = database.cf_handle(meta).expect("it was opened by this name");
    let row = database.get_cf(family, keys::META_FORMAT)?;
    known(dir, row.as_deref()).map(drop)
}

/// Makes a folder that is new or of an older format one of this. Every row of the earlier ones is
/// read, and what the later ones added was never in them, but for one thing:
/// 2 added the family of decisions, and rows of accounts of version 2;
/// 3 added files of batches that are compressed, and the mark;
/// 4 added what reconciliation and limits need: the families `throttled` and `reconcile`, rows of
/// hosts and gaps of version 2, what `host_accounts` says, and the last number that was given to a
/// host. Which accounts are throttled for being over their host's limit was in their own rows only,
/// and hosts were never removed.
pub(super) fn adopt(store: &Store) -> Result<(), Error> {
    let row = store.get(Family::Meta, keys::META_FORMAT)?;
    let found = known(&store.dir, row.as_deref())?;
    if found == Some(FORMAT) {
        return Ok(());
    }
    let mut rows = WriteBatch::default();
    if found.is_some() {
        count_decided(store, &mut rows)?;
        note_last_host(store, &mut rows)?;
    }
    rows.put_cf(store.family(Family::Meta), keys::META_FORMAT, FORMAT.to_be_bytes());
    store.write(rows, Wait::Disk)
}

/// Writes down on their hosts which accounts something is decided about, and counts those that are
/// throttled for being over a limit. What the hosts' rows say then goes into `rows`, with the
/// format: a crash before that leaves rows that the next start writes again.
pub(super) fn count_decided(store: &Store, rows: &mut WriteBatch) -> Result<(), Error> {
    let mut throttled: BTreeMap<HostId, u64> = BTreeMap::new();
    let mut from = Vec::new();
    loop {
        let page = store.range(Family::Decisions, &from, None, PAGE)?;
        let Some(last) = page.last() else { break };
        from = keys::after(last.key.clone());
        let mut members = WriteBatch::default();
        for KeyAndRow { key, .. } in &page {
            // What is damaged is for whoever reads it to say.
            let Some(row) = store.get(Family::Accounts, key)? else { continue };
            let account = Did::from_key(key).zip(records::read_account(&row));
            let Some((did, account)) = account else { continue };
            let Some(host) = live_on(&account) else { continue };
            let membership = Membership::of(Micros(0), account.local);
            let (family, key) = (Family::HostAccounts, keys::host_account(host, &did));
            members.put_cf(store.family(family), key, records::membership(membership));
            if membership.throttled {
                let (family, key) = (Family::Throttled, keys::throttled(host, Micros(0), &did));
                members.put_cf(store.family(family), key, []);
                *throttled.entry(host).or_default() += 1;
            }
        }
        store.write(members, Wait::Os)?;
    }
    for (id, throttled) in throttled {
        let key = keys::host(id);
        let Some(row) = store.get(Family::Hosts, &key)? else { continue };
        let host = records::read_host(id, &row);
        let host = host.ok_or_else(|| Family::Hosts.corrupt_at(&key, UNREADABLE))?;
        let row = records::host(&Host { throttled, ..host });
        rows.put_cf(store.family(Family::Hosts), key, row);
    }
    Ok(())
}

/// Writes down the last number that was given to a host: as long as none was removed, the highest.
fn note_last_host(store: &Store, rows: &mut WriteBatch) -> Result<(), Error> {
    let mut hosts = store.iterate(Family::Hosts, ReadOptions::default());
    hosts.seek_to_last();
    // A key that is none is for the start to say, which reads all of them.
    if let Some(Ok(id)) = hosts.key().map(<[u8; 4]>::try_from) {
        let row = records::host_id(HostId(u32::from_be_bytes(id)));
        rows.put_cf(store.family(Family::Meta), keys::META_LAST_HOST, row);
    }
    Ok(hosts.status()?)
}

/// The format that a row says, if there is one and this version knows it.
fn known(dir: &Path, row: Option<&[u8]>) -> Result<Option<u32>, Error> {
    let Some(row) = row else { return Ok(None) };
    let row = row.try_into().map_err(|_| Family::Meta.corrupt("format"))?;
    let found = u32::from_be_bytes(row);
    if !(OLDEST..=FORMAT).contains(&found) {
        return Err(Error::Format { dir: dir.to_owned(), found, oldest: OLDEST, newest: FORMAT });
    }
    Ok(Some(found))
}

/// Decisions converted at once.
const PAGE: usize = 10_000;
