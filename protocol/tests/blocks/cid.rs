//! CIDs against the interop files.

use protocol::cid::{Cid, CidError, Link};

use crate::vectors;

#[test]
fn what_the_interop_file_calls_invalid_is_no_cid() {
    for text in vectors::lines("interop/syntax/cid_syntax_invalid.txt") {
        assert_eq!(text.parse::<Cid>(), Err(CidError), "{text}");
    }
}

/// The file of valid ones is about the looks of a text. Those that really are CIDs must be read
/// in their binary form; none is of the kind that we compute with.
#[test]
fn real_cids_of_the_interop_file_are_carried_opaquely() {
    let mut real = 0;
    for text in vectors::lines("interop/syntax/cid_syntax_valid.txt") {
        let binary = match text.split_at(1) {
            ("b", digits) => {
                data_encoding::BASE32_NOPAD.decode(digits.to_uppercase().as_bytes()).unwrap()
            }
            ("f", digits) => data_encoding::HEXLOWER.decode(digits.as_bytes()).unwrap(),
            ("z", digits) => bs58::decode(digits).into_vec().unwrap(),
            _ => continue,
        };
        // A version 2 and a text that only looks like one.
        let is_none = ["z7x3CtScH765HvShXT"].contains(&text.as_str());
        match Link::read(&binary) {
            Ok((link, len)) => {
                assert!(!is_none, "{text}");
                assert_eq!(len, binary.len(), "{text}");
                let ours = link.cid().map(|cid| cid.to_string());
                assert!(ours.is_none_or(|ours| ours != text || text.parse::<Cid>().is_ok()));
                real += 1;
            }
            Err(CidError) => assert!(is_none, "{text}"),
        }
    }
    assert_eq!(real, 5);
}
