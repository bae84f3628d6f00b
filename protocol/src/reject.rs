//! The named offences: one name each, the same in code, metric label, status page and docs.

macro_rules! rejects {
    ($($(#[$doc:meta])* $variant:ident $name:literal,)*) => {
        /// Why an event was dropped: the peer's fault, never ours.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reject { $($(#[$doc])* $variant,)* }

        impl Reject {
            /// Every one, in the order of the data's way.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in metrics, status pages and docs.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

rejects! {
    // 1. The frame (crawler).
    /// A WebSocket text message; closes the connection.
    FrameText "frame_text",
    /// A message over 5,000,000 bytes.
    FrameTooBig "frame_too_big",
    /// Not a header and a payload in CBOR, or CBOR that cannot be repaired.
    FrameMalformed "frame_malformed",
    /// No `seq`, or one outside 1..2^53.
    SeqMissing "seq_missing",
    /// A `seq` that does not rise within the connection.
    SeqStale "seq_stale",
    /// `#tombstone` that neither the directory nor the host confirms.
    TombstoneUnconfirmed "tombstone_unconfirmed",
    // 2. Who: DID, identity, host, account.
    /// Not a DID.
    DidSyntax "did_syntax",
    /// Neither plc nor web, or malformed as such.
    DidMethod "did_method",
    /// Seen before: a host seq at or below the account's last.
    AlreadyApplied "already_applied",
    /// No DID document in time.
    IdentityUnresolved "identity_unresolved",
    /// The document has no usable `#atproto` key.
    IdentityNoKey "identity_no_key",
    /// The document names no usable PDS.
    IdentityNoPds "identity_no_pds",
    /// The DID was tombstoned.
    IdentityTombstoned "identity_tombstoned",
    /// The DID document, fetched after the event came, names another host.
    WrongHost "wrong_host",
    /// Over a limit.
    AccountThrottled "account_throttled",
    /// Taken down by this relay.
    AccountTakendown "account_takendown",
    /// Inactive upstream, and the host confirms it.
    AccountInactive "account_inactive",
    // 3. #commit.
    /// A required field is missing.
    FieldMissing "field_missing",
    /// A field has the wrong type.
    FieldType "field_type",
    /// A CID that is not version 1, dag-cbor, sha-256 where only that is allowed.
    CidUnsupported "cid_unsupported",
    /// `blocks` over its limit.
    BlocksTooBig "blocks_too_big",
    /// Over 200 ops.
    OpsTooMany "ops_too_many",
    /// `rev` is not a TID.
    RevSyntax "rev_syntax",
    /// `rev` is more than five minutes ahead.
    RevInFuture "rev_in_future",
    /// `rev` is not greater than the stored one.
    RevNotNewer "rev_not_newer",
    /// `time` is not an RFC 3339 datetime.
    TimeSyntax "time_syntax",
    /// `blocks` is not CAR v1, or has no root.
    CarMalformed "car_malformed",
    /// A block's bytes do not hash to its CID.
    BlockCidMismatch "block_cid_mismatch",
    /// The first root is not the `commit` field.
    CommitCidMismatch "commit_cid_mismatch",
    /// The commit block is not in the CAR.
    CommitMissing "commit_missing",
    /// The commit block is not a commit.
    CommitMalformed "commit_malformed",
    /// The commit's `did` is not the event's `repo`.
    CommitDidMismatch "commit_did_mismatch",
    /// The commit's `rev` is not the event's.
    CommitRevMismatch "commit_rev_mismatch",
    /// An op without what its action needs.
    OpMalformed "op_malformed",
    /// An op's path is not NSID `/` record key.
    OpPath "op_path",
    /// Several ops on one path that do not follow from each other.
    OpDuplicate "op_duplicate",
    /// A created or updated record's block is not in the CAR.
    RecordMissing "record_missing",
    /// A record over 1,000,000 bytes.
    RecordTooBig "record_too_big",
    /// A record that is not one CBOR map.
    RecordMalformed "record_malformed",
    /// An MST node that breaks the tree's rules.
    MstMalformed "mst_malformed",
    /// An MST over its limits.
    MstTooLarge "mst_too_large",
    /// The tree does not hold what an op says.
    OpNotInTree "op_not_in_tree",
    /// A node needed to undo the ops is missing.
    InversionIncomplete "inversion_incomplete",
    /// Undoing the ops does not give `prevData`.
    InversionMismatch "inversion_mismatch",
    /// A host that speaks Sync 1.1 sent a commit without `prevData` or an op without `prev`.
    PrevDataMissing "prev_data_missing",
    /// The signature's S is in the upper half.
    SignatureHighS "signature_high_s",
    /// The signature does not verify.
    SignatureInvalid "signature_invalid",
    // 4. #sync.
    /// The same `#sync` again within a minute.
    SyncRepeated "sync_repeated",
    // 5. #identity.
    /// From another host than the account's, and nothing changed.
    IdentityUnchanged "identity_unchanged",
    // Ours.
    /// A check panicked: our bug, contained to the event.
    VerifierPanic "verifier_panic",
}

impl Reject {
    /// Whether dropping it means that we missed something real, so that reconciliation owes it
    /// (I13; protocol.md section 1).
    pub fn leaves_gap(self) -> bool {
        matches!(
            self,
            Self::FrameMalformed
                | Self::FrameTooBig
                | Self::InversionIncomplete
                | Self::PrevDataMissing
                | Self::OpDuplicate
                | Self::RecordMissing
                | Self::BlocksTooBig
                | Self::IdentityUnresolved
                | Self::AccountThrottled
                | Self::VerifierPanic
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names in protocol.md's tables, and `verifier_panic` of architecture.md.
    const DESIGNED: [&str; 50] = [
        "account_inactive",
        "account_takendown",
        "account_throttled",
        "already_applied",
        "block_cid_mismatch",
        "blocks_too_big",
        "car_malformed",
        "cid_unsupported",
        "commit_cid_mismatch",
        "commit_did_mismatch",
        "commit_malformed",
        "commit_missing",
        "commit_rev_mismatch",
        "did_method",
        "did_syntax",
        "field_missing",
        "field_type",
        "frame_malformed",
        "frame_text",
        "frame_too_big",
        "identity_no_key",
        "identity_no_pds",
        "identity_tombstoned",
        "identity_unchanged",
        "identity_unresolved",
        "inversion_incomplete",
        "inversion_mismatch",
        "mst_malformed",
        "mst_too_large",
        "op_duplicate",
        "op_malformed",
        "op_not_in_tree",
        "op_path",
        "ops_too_many",
        "prev_data_missing",
        "record_malformed",
        "record_missing",
        "record_too_big",
        "rev_in_future",
        "rev_not_newer",
        "rev_syntax",
        "seq_missing",
        "seq_stale",
        "signature_high_s",
        "signature_invalid",
        "sync_repeated",
        "time_syntax",
        "tombstone_unconfirmed",
        "verifier_panic",
        "wrong_host",
    ];

    #[test]
    fn every_designed_offence_has_its_name() {
        let names: BTreeSet<&str> = Reject::ALL.iter().map(|reject| reject.name()).collect();
        assert_eq!(names, DESIGNED.into());
        assert_eq!(names.len(), Reject::ALL.len(), "a name is used once");
    }

    #[test]
    fn a_name_is_its_variant_in_snake_case() {
        for reject in Reject::ALL {
            let joined = reject.name().replace('_', "");
            assert_eq!(joined, format!("{reject:?}").to_lowercase());
        }
    }

    #[test]
    fn what_was_real_and_was_missed_leaves_a_gap() {
        let check = |reject: Reject, expected| assert_eq!(reject.leaves_gap(), expected);
        check(Reject::FrameTooBig, true);
        check(Reject::IdentityUnresolved, true);
        check(Reject::InversionIncomplete, true);
        check(Reject::SignatureInvalid, false);
        check(Reject::AlreadyApplied, false);
        check(Reject::WrongHost, false);
    }
}
