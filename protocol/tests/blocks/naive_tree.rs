//! The Merkle search tree written down from its definition, with another CBOR implementation:
//! slow, and unlike the one under test.

use std::collections::BTreeMap;

use ipld_core::ipld::Ipld;
use protocol::cid::Cid;
use sha2::{Digest, Sha256};

pub(crate) type Records = BTreeMap<String, Cid>;

/// The root, and every node under it.
pub(crate) struct NaiveTree {
    pub(crate) root: Cid,
    pub(crate) blocks: BTreeMap<Cid, Vec<u8>>,
}

/// "count the number of leading binary zeros in the hash, and divide by two, rounding down"
/// (atproto.com/specs/repository).
pub(crate) fn depth(key: &str) -> usize {
    let bits =
        Sha256::digest(key).into_iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    bits.take_while(|bit| *bit == 0).count() / 2
}

impl NaiveTree {
    pub(crate) fn build(records: &Records) -> Self {
        let records: Vec<(&str, Cid)> =
            records.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        let top = records.iter().map(|(key, _)| depth(key)).max().unwrap_or(0);
        let mut tree = Self { root: Cid::cbor([0; 32]), blocks: BTreeMap::new() };
        tree.root = tree.node(&records, top);
        tree
    }

    fn node(&mut self, records: &[(&str, Cid)], layer: usize) -> Cid {
        let mut parts = records.split(|(key, _)| depth(key) == layer);
        let left = self.subtree(parts.next().unwrap(), layer);
        let mut previous = "";
        let mut entries = Vec::new();
        let here = records.iter().filter(|(key, _)| depth(key) == layer);
        for ((key, value), part) in here.zip(parts) {
            let prefix = (0..=previous.len())
                .rev()
                .find(|len| key.as_bytes().starts_with(&previous.as_bytes()[..*len]))
                .unwrap();
            entries.push(Ipld::Map(BTreeMap::from([
                ("p".to_owned(), Ipld::Integer(i128::try_from(prefix).unwrap())),
                ("k".to_owned(), Ipld::Bytes(key.as_bytes()[prefix..].to_vec())),
                ("v".to_owned(), link(*value)),
                ("t".to_owned(), self.subtree(part, layer)),
            ])));
            previous = key;
        }
        let node = BTreeMap::from([("l".to_owned(), left), ("e".to_owned(), Ipld::List(entries))]);
        let block = serde_ipld_dagcbor::to_vec(&Ipld::Map(node)).unwrap();
        let cid = Cid::cbor(Sha256::digest(&block).into());
        self.blocks.insert(cid, block);
        cid
    }

    fn subtree(&mut self, records: &[(&str, Cid)], layer_above: usize) -> Ipld {
        if records.is_empty() { Ipld::Null } else { link(self.node(records, layer_above - 1)) }
    }
}

fn link(cid: Cid) -> Ipld {
    Ipld::Link(ipld_core::cid::Cid::read_bytes(&cid.to_bytes()[..]).unwrap())
}
