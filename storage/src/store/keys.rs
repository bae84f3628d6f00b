//! Every key of the store. Numbers are big-endian, so that keys sort as numbers do. They are on
//! disk: a changed golden test here is a new format (docs/storage-format.md).

use std::ops::Range;

use protocol::did::Did;
use protocol::ids::{HostId, Micros, Seq};

use super::Family;

/// The store's format: u32.
pub(crate) const META_FORMAT: &[u8] = b"format";
/// The newest seq, and the clock of its commit: two u64.
pub(crate) const META_HEAD: &[u8] = b"head";
/// The log's floor: u64.
pub(crate) const META_FLOOR: &[u8] = b"floor";
/// When the log began: nothing up to this cursor was ever in it.
pub(crate) const META_BEGIN: &[u8] = b"begin";

/// Numbers up to this may have been given out, whatever the head says: u64.
pub(crate) const META_MARK: &[u8] = b"mark";

/// The last number that was given to a host: u32.
pub(crate) const META_LAST_HOST: &[u8] = b"last_host";

/// Patterns of host names that an operator refuses, one a line.
pub(crate) const META_DOMAIN_BANS: &[u8] = b"domain_bans";

/// How far the PLC directory's export has been read.
pub(crate) const META_PLC_EXPORT: &[u8] = b"plc_export";

/// `batches`: by the seq of the first event.
pub(crate) fn batch(first: Seq) -> [u8; 8] {
    first.get().to_be_bytes()
}

/// Reads what [`batch`] wrote.
pub(crate) fn batch_first(key: &[u8]) -> Option<Seq> {
    Seq::new(u64::from_be_bytes(key.try_into().ok()?))
}

/// `hosts`.
pub(crate) fn host(id: HostId) -> [u8; 4] {
    id.0.to_be_bytes()
}

/// `accounts`, `identities`, `hidden`: the DID's own compact form.
pub(crate) fn account(did: &Did) -> Vec<u8> {
    let mut key = Vec::with_capacity(DID_KEY_BYTES);
    did.write_key(&mut key);
    key
}

/// `host_accounts`: host, then DID.
pub(crate) fn host_account(id: HostId, did: &Did) -> Vec<u8> {
    let mut key = Vec::with_capacity(4 + DID_KEY_BYTES);
    key.extend_from_slice(&host(id));
    did.write_key(&mut key);
    key
}

/// Reads what [`host_account`] wrote.
pub(crate) fn host_account_of(key: &[u8]) -> Option<(HostId, Did)> {
    Some((host_of(key.get(..4)?)?, Did::from_key(key.get(4..)?)?))
}

/// `throttled`: host, since when the account counts there, DID.
pub(crate) fn throttled(id: HostId, joined: Micros, did: &Did) -> Vec<u8> {
    let mut key = Vec::with_capacity(12 + DID_KEY_BYTES);
    key.extend_from_slice(&host(id));
    key.extend_from_slice(&joined.0.to_be_bytes());
    did.write_key(&mut key);
    key
}

/// Reads host and DID of what [`throttled`] wrote.
pub(crate) fn throttled_account(key: &[u8]) -> Option<(HostId, Did)> {
    Some((host_of(key.get(..4)?)?, Did::from_key(key.get(12..)?)?))
}

/// `host_accounts`, `throttled`, `rejects`: from and to (exclusive) of a host's rows.
pub(crate) fn of_host(id: HostId) -> (Vec<u8>, Vec<u8>) {
    let to = match id.0.checked_add(1) {
        Some(next) => next.to_be_bytes().to_vec(),
        None => LAST.to_vec(),
    };
    (host(id).to_vec(), to)
}

/// The next key that there could be.
pub(crate) fn after(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

/// `gaps`: what is owed of a host in all. These rows stand before all rows of accounts, so that a
/// start reads only them.
pub(crate) fn gap_host(id: HostId) -> [u8; 5] {
    tagged(GAP_HOST, id)
}

/// `gaps`: what is owed of one account of a host.
pub(crate) fn gap_account(id: HostId, did: &Did) -> Vec<u8> {
    let mut key = Vec::with_capacity(5 + DID_KEY_BYTES);
    key.extend_from_slice(&tagged(GAP_ACCOUNT, id));
    did.write_key(&mut key);
    key
}

/// `gaps`: from and to (exclusive) of a host's rows of accounts.
pub(crate) fn gap_accounts(id: HostId) -> ([u8; 5], [u8; 5]) {
    let to = match id.0.checked_add(1) {
        Some(next) => tagged(GAP_ACCOUNT, HostId(next)),
        None => tagged(GAP_ACCOUNT + 1, HostId(0)),
    };
    (tagged(GAP_ACCOUNT, id), to)
}

/// `gaps`: from and to (exclusive) of every host's row.
pub(crate) fn gap_hosts() -> ([u8; 5], [u8; 5]) {
    (tagged(GAP_HOST, HostId(0)), tagged(GAP_ACCOUNT, HostId(0)))
}

/// The DID at the end of a `gaps` row of an account.
pub(crate) fn gap_account_did(key: &[u8]) -> Option<Did> {
    Did::from_key(key.get(5..)?)
}

/// The host of a `gaps` row.
pub(crate) fn gap_host_id(key: &[u8]) -> Option<HostId> {
    Some(HostId(u32::from_be_bytes(key.get(1..5)?.try_into().ok()?)))
}

/// `reconcile`: how far a host's reconciliation is.
pub(crate) fn reconcile(id: HostId) -> [u8; 5] {
    tagged(RECONCILE_HOST, id)
}

/// `reconcile`: an account that needs no look.
pub(crate) fn excused(id: HostId, did: &Did) -> Vec<u8> {
    let mut key = Vec::with_capacity(5 + DID_KEY_BYTES);
    key.extend_from_slice(&tagged(RECONCILE_ACCOUNT, id));
    did.write_key(&mut key);
    key
}

/// `reconcile`: from and to (exclusive) of a host's rows of accounts.
pub(crate) fn excused_of(id: HostId) -> (Vec<u8>, Vec<u8>) {
    let to = match id.0.checked_add(1) {
        Some(next) => tagged(RECONCILE_ACCOUNT, HostId(next)),
        None => tagged(RECONCILE_ACCOUNT + 1, HostId(0)),
    };
    (tagged(RECONCILE_ACCOUNT, id).to_vec(), to.to_vec())
}

/// Reads what [`excused`] wrote.
pub(crate) fn excused_account(key: &[u8]) -> Option<(HostId, Did)> {
    let (&tag, key) = key.split_first()?;
    (tag == RECONCILE_ACCOUNT).then(|| host_account_of(key)).flatten()
}

/// `rejects`: a place in a host's ring.
pub(crate) fn reject(id: HostId, place: u8) -> [u8; 5] {
    let [a, b, c, d] = host(id);
    [a, b, c, d, place]
}

/// A key as people can use it: in hexadecimal, and what it stands for.
pub(crate) fn describe(family: Family, key: &[u8]) -> String {
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let number = |at: Range<usize>| Some(u32::from_be_bytes(key.get(at)?.try_into().ok()?));
    let of_host = |at: Range<usize>| number(at).map(|id| format!("host {id}"));
    let did = |from: usize| key.get(from..).and_then(Did::from_key).map(|did| did.to_string());
    let told = match family {
        Family::Batches => batch_first(key).map(|seq| format!("seq {seq}")),
        Family::Accounts | Family::Identities | Family::Hidden | Family::Decisions => did(0),
        Family::Hosts => of_host(0..4),
        Family::HostAccounts => {
            of_host(0..4).zip(did(4)).map(|(host, did)| format!("{host}, {did}"))
        }
        Family::Throttled => of_host(0..4).zip(did(12)).map(|(host, did)| format!("{host}, {did}")),
        Family::Gaps | Family::Reconcile => of_host(1..5).map(|host| match did(5) {
            Some(did) => format!("{host}, {did}"),
            None => host,
        }),
        Family::Rejects => of_host(0..4),
        Family::Meta => std::str::from_utf8(key).ok().map(str::to_owned),
    };
    told.map_or_else(|| format!("key {hex}"), |told| format!("key {hex} ({told})"))
}

fn host_of(bytes: &[u8]) -> Option<HostId> {
    Some(HostId(u32::from_be_bytes(bytes.try_into().ok()?)))
}

fn tagged(tag: u8, id: HostId) -> [u8; 5] {
    let [a, b, c, d] = host(id);
    [tag, a, b, c, d]
}

const GAP_HOST: u8 = 0;
const GAP_ACCOUNT: u8 = 1;
const RECONCILE_HOST: u8 = 0;
const RECONCILE_ACCOUNT: u8 = 1;
/// Behind every row of the last host that there could be.
const LAST: [u8; 16] = [0xff; 16];
/// A did:plc; a did:web may be longer.
const DID_KEY_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::hex;

    #[test]
    fn keys_never_change() {
        let check = |key: &[u8], golden: &str| assert_eq!(hex(key), golden);
        let plc = Did::parse("did:plc:32rstgho2rbvpp5wrwqp5fub").unwrap();
        let web = Did::parse("did:web:example.com").unwrap();
        let host_id = HostId(0x0102_0304);
        check(&batch(Seq::new(1_764_000_000_123_456).unwrap()), "0006445941642240");
        check(&host(host_id), "01020304");
        check(&account(&plc), "01dea32998eed44357bfb68da0fe9681");
        check(&account(&web), "026578616d706c652e636f6d");
        check(&host_account(host_id, &plc), "0102030401dea32998eed44357bfb68da0fe9681");
        check(
            &throttled(host_id, Micros(5), &plc),
            "01020304000000000000000501dea32998eed44357bfb68da0fe9681",
        );
        check(&gap_host(host_id), "0001020304");
        check(&gap_account(host_id, &web), "0101020304026578616d706c652e636f6d");
        check(&reconcile(host_id), "0001020304");
        check(&excused(host_id, &web), "0101020304026578616d706c652e636f6d");
        check(&reject(host_id, 63), "010203043f");
        check(META_FORMAT, "666f726d6174");
        check(META_HEAD, "68656164");
        check(META_FLOOR, "666c6f6f72");
        check(META_BEGIN, "626567696e");
        check(META_MARK, "6d61726b");
        check(META_PLC_EXPORT, "706c635f6578706f7274");
        check(META_LAST_HOST, "6c6173745f686f7374");
        check(META_DOMAIN_BANS, "646f6d61696e5f62616e73");
        assert_eq!(host_account_of(&host_account(host_id, &web)), Some((host_id, web.clone())));
        let row = throttled(host_id, Micros(5), &web);
        assert_eq!(throttled_account(&row), Some((host_id, web.clone())));
        assert_eq!(excused_account(&excused(host_id, &web)), Some((host_id, web)));
        assert_eq!(excused_account(&reconcile(host_id)), None);
    }

    #[test]
    fn a_hosts_rows_are_one_range() {
        let check = |id: u32, from: &str, to: &str| {
            let range = of_host(HostId(id));
            assert_eq!((hex(&range.0), hex(&range.1)), (from.to_owned(), to.to_owned()));
            let did = Did::parse("did:web:example.com").unwrap();
            let key = host_account(HostId(id), &did);
            assert!(range.0 < key && key < after(key.clone()) && after(key) < range.1);
        };
        check(7, "00000007", "00000008");
        check(255, "000000ff", "00000100");
        check(u32::MAX, "ffffffff", &"ff".repeat(16));
        let (from, to) = excused_of(HostId(7));
        assert_eq!((hex(&from), hex(&to)), ("0100000007".to_owned(), "0100000008".to_owned()));
    }

    #[test]
    fn a_hosts_account_gaps_are_one_range() {
        let check = |id: u32, from: &str, to: &str| {
            let range = gap_accounts(HostId(id));
            assert_eq!((hex(&range.0), hex(&range.1)), (from.to_owned(), to.to_owned()));
        };
        check(7, "0100000007", "0100000008");
        check(u32::MAX, "01ffffffff", "0200000000");
    }
}
