//! The vocabulary of the AT Protocol's sync streams: bytes in, types that cannot be wrong out.
//!
//! In: bytes from the network or the disk, numbers, names.
//! Out: DID, TID, CID, CAR, MST, commit, keys, frames, and the words that the stages share.
//! Upholds: I8 (splice and frame once), I9 (pure: no clock, no socket, no disk).
//! Knows nothing of: sockets, disks, clocks, tokio.

pub mod datetime;
pub mod did;
pub mod handle;
pub mod nsid;
pub mod rkey;
pub mod tid;

pub mod car;
pub mod cbor;
pub mod cid;
pub mod commit;
pub mod frame;
pub mod keys;
pub mod mst;
pub mod sha256;
pub mod ws;

pub mod account;
pub mod address;
pub mod fetch;
pub mod host;
pub mod host_state;
pub mod ids;
pub mod recycle;
pub mod reject;
pub mod ticket;
pub mod tripwire;
pub mod txt;

/// Fuzz target: every word's one form is its own form.
pub fn fuzz_words(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(did) = did::Did::parse(text) {
        assert_eq!(did.to_string(), text);
        let mut key = Vec::new();
        did.write_key(&mut key);
        assert_eq!(did::Did::from_key(&key), Some(did));
    }
    if let Ok(tid) = tid::Tid::parse(text) {
        assert_eq!(tid.to_string(), text);
    }
    if let Ok(time) = datetime::parse(text) {
        let whole = ids::Micros(time.0 / 1000 * 1000);
        assert!(datetime::parse(&datetime::format(time)).is_ok_and(|again| again == whole));
    }
    assert!(
        !rkey::is_path(text) || text.split_once('/').is_some_and(|(nsid, _)| nsid::is_nsid(nsid))
    );
    assert!(
        !handle::is_handle(text) || host::HostName::parse(text, host::HostRules::Insecure).is_ok()
    );
    for rules in [host::HostRules::Public, host::HostRules::Insecure] {
        if let Ok(name) = host::HostName::parse(text, rules) {
            assert_eq!(host::HostName::parse(name.as_str(), rules), Ok(name.clone()));
            assert_eq!(host::HostName::from_endpoint(&name.origin(), rules), Ok(name));
        }
        if let Some(url) = host::did_web_url(text, rules) {
            assert!(url.starts_with("http"));
        }
    }
}
