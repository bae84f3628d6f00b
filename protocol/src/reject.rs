//! The named offences: one name each, the same in code, metric label, status page and docs.

macro_rules! rejects {
    ($($(#[$doc:meta])* $variant:ident $name:literal $remedy:literal,)*) => {
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

            /// The offence of this name.
            pub fn named(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }

            /// What to do about it, for those who run the host: one sentence, or two.
            pub fn explain(self) -> &'static str {
                match self { $(Self::$variant => $remedy,)* }
            }
        }
    };
}

rejects! {
    // 1. The frame (crawler).
    /// A WebSocket text message; closes the connection.
    FrameText "frame_text"
        "Send every event as a binary WebSocket message; a text message ends the connection.",
    /// A message over 5,000,000 bytes.
    FrameTooBig "frame_too_big"
        "Keep each message of the stream below 5,000,000 bytes: split a large change into \
         several commits.",
    /// Not a header and a payload in CBOR, or CBOR that cannot be repaired.
    FrameMalformed "frame_malformed"
        "Send each message as two CBOR objects, a header and a payload, with nothing before, \
         between or behind them.",
    /// No `seq`, or one outside 1..2^53.
    SeqMissing "seq_missing"
        "Give every message a `seq`: an integer from 1 to 2^53 - 1.",
    /// A `seq` that does not rise within the connection.
    SeqStale "seq_stale"
        "Let `seq` rise with every message; one that is not greater than the one before it is \
         passed over.",
    /// `#tombstone` that neither the directory nor the host confirms.
    TombstoneUnconfirmed "tombstone_unconfirmed"
        "Announce a deleted account with `#account` and the status `deleted`; an old \
         `#tombstone` counts only if the directory or getRepoStatus confirms it.",
    // 2. Who: DID, identity, host, account.
    /// Not a DID.
    DidSyntax "did_syntax"
        "Put a valid DID into the message: what is there is none.",
    /// Neither plc nor web, or malformed as such.
    DidMethod "did_method"
        "Use did:plc or did:web; this DID is of another method or malformed for its own.",
    /// Seen before: a host seq at or below the account's last.
    AlreadyApplied "already_applied"
        "Nothing to fix: this event, or a later one of its account, was already taken in, and \
         came again after a reconnect.",
    /// No DID document in time.
    IdentityUnresolved "identity_unresolved"
        "Make the account's DID document available: the PLC directory, or the web site of a \
         did:web, gave none in time. What was missed is fetched later.",
    /// The document has no usable `#atproto` key.
    IdentityNoKey "identity_no_key"
        "Publish the account's signing key in its DID document: a verification method \
         `#atproto` with a K-256 or P-256 key.",
    /// The document names no usable PDS.
    IdentityNoPds "identity_no_pds"
        "Name the account's PDS in its DID document: a service `#atproto_pds` of the type \
         AtprotoPersonalDataServer with an https URL.",
    /// The DID was tombstoned.
    IdentityTombstoned "identity_tombstoned"
        "This DID was given up in the directory, and only its deletion is still taken; restore \
         the DID if that was a mistake.",
    /// The DID document, fetched after the event came, names another host.
    WrongHost "wrong_host"
        "The account's DID document names another PDS than this host: finish the migration, or \
         correct the endpoint of `#atproto_pds` in the document.",
    /// Over a limit.
    AccountThrottled "account_throttled"
        "The account is held back by this relay, for a limit of its host or for too many breaks \
         of its history; it goes on, and is caught up with, when its throttle is lifted.",
    /// Taken down by this relay.
    AccountTakendown "account_takendown"
        "The operators of this relay have taken the account down; only they can lift that.",
    /// Inactive upstream, and the host confirms it.
    AccountInactive "account_inactive"
        "The host says that the account is not active: announce it with `#account` and `active: \
         true` before its next commit.",
    // 3. #commit.
    /// A required field is missing.
    FieldMissing "field_missing"
        "Send all fields that the lexicon requires for this kind of event.",
    /// A field has the wrong type.
    FieldType "field_type"
        "Send each field with the type that the lexicon gives it.",
    /// A CID that is not version 1, dag-cbor, sha-256 where only that is allowed.
    CidUnsupported "cid_unsupported"
        "Use CIDs of version 1 with dag-cbor and sha-256 for commits and trees.",
    /// `blocks` over its limit.
    BlocksTooBig "blocks_too_big"
        "Keep `blocks` within its limit (2,000,000 bytes for a #commit, 10,000 for a #sync): \
         split the change into several commits.",
    /// Over 200 ops.
    OpsTooMany "ops_too_many"
        "Put at most 200 operations into one commit.",
    /// `rev` is not a TID.
    RevSyntax "rev_syntax"
        "Write `rev` as a TID: 13 characters of the sortable base32.",
    /// `rev` is more than five minutes ahead.
    RevInFuture "rev_in_future"
        "Set the host's clock: this `rev` is more than five minutes ahead of now.",
    /// `rev` is not greater than the stored one.
    RevNotNewer "rev_not_newer"
        "Let every commit have a greater `rev` than the one before; a repo that was restored \
         from a backup goes on with revisions from now.",
    /// `time` is not an RFC 3339 datetime.
    TimeSyntax "time_syntax"
        "Write `time` as an RFC 3339 datetime, such as 2026-11-26T20:05:49.123Z.",
    /// `blocks` is not CAR v1, or has no root.
    CarMalformed "car_malformed"
        "Send `blocks` as a CAR of version 1 with the commit as its first root, and every \
         section whole.",
    /// A block's bytes do not hash to its CID.
    BlockCidMismatch "block_cid_mismatch"
        "Send each block's bytes as they were hashed: those of one block do not match its CID.",
    /// The first root is not the `commit` field.
    CommitCidMismatch "commit_cid_mismatch"
        "Name the same CID in the field `commit` and as the first root of `blocks`.",
    /// The commit block is not in the CAR.
    CommitMissing "commit_missing"
        "Put the commit's own block into `blocks`.",
    /// The commit block is not a commit.
    CommitMalformed "commit_malformed"
        "Write the commit object in canonical CBOR with `did`, `version` 3, `data`, `rev`, \
         `prev` and a `sig` of 64 bytes, and nothing else.",
    /// The commit's `did` is not the event's `repo`.
    CommitDidMismatch "commit_did_mismatch"
        "Let the `did` in the commit be the account that the event is about.",
    /// The commit's `rev` is not the event's.
    CommitRevMismatch "commit_rev_mismatch"
        "Let the `rev` in the commit be that of the event; after a migration the first own \
         commit puts this right.",
    /// An op without what its action needs.
    OpMalformed "op_malformed"
        "Give each operation what its action needs: `cid` for a create, `cid` and `prev` for an \
         update, `prev` for a delete.",
    /// An op's path is not NSID `/` record key.
    OpPath "op_path"
        "Write each operation's path as collection (an NSID), a slash, and a record key, at \
         most 1,024 bytes.",
    /// Several ops on one path that do not follow from each other.
    OpDuplicate "op_duplicate"
        "Let several operations on one path follow from each other: create only what is not \
         there, change or delete only what is.",
    /// A created or updated record's block is not in the CAR.
    RecordMissing "record_missing"
        "Put the block of each created or updated record into `blocks`.",
    /// A record over 1,000,000 bytes.
    RecordTooBig "record_too_big"
        "Keep each record within 1,000,000 bytes.",
    /// A record that is not one CBOR map.
    RecordMalformed "record_malformed"
        "Write each record as one CBOR map.",
    /// An MST node that breaks the tree's rules.
    MstMalformed "mst_malformed"
        "Build the tree by the rules of the Merkle Search Tree: sorted keys, each in the layer \
         of its hash, exact prefixes, no needless nodes.",
    /// An MST over its limits.
    MstTooLarge "mst_too_large"
        "Keep the tree within its limits: 1,024 entries in a node, 64 layers, each block once.",
    /// The tree does not hold what an op says.
    OpNotInTree "op_not_in_tree"
        "Let the operations say what the tree shows: a created or updated record is in it under \
         its CID, a deleted one is not.",
    /// A node needed to undo the ops is missing.
    InversionIncomplete "inversion_incomplete"
        "Put all nodes of the tree into `blocks` that are needed to undo the operations, those \
         beside a deleted key, too (Sync 1.1).",
    /// Undoing the ops does not give `prevData`.
    InversionMismatch "inversion_mismatch"
        "List every change of the commit as an operation, with its right `prev`: undone on the \
         new tree they must give `prevData`.",
    /// A host that speaks Sync 1.1 sent a commit without `prevData` or an op without `prev`.
    PrevDataMissing "prev_data_missing"
        "Send `prevData`, and `prev` with every update and delete: this host has shown that it \
         speaks Sync 1.1.",
    /// The signature's S is in the upper half.
    SignatureHighS "signature_high_s"
        "Sign with the lower of the two possible values of S (low-S), as the specification \
         asks.",
    /// The signature does not verify.
    SignatureInvalid "signature_invalid"
        "Sign commits with the key that the account's DID document names; if the key was \
         changed, publish it first and send an `#identity`.",
    // 4. #sync.
    /// The same `#sync` again within a minute.
    SyncRepeated "sync_repeated"
        "Nothing to fix: the same `#sync` came again within a minute.",
    // 5. #identity.
    /// From another host than the account's, and nothing changed.
    IdentityUnchanged "identity_unchanged"
        "Nothing to fix if the account has moved away: an `#identity` counts if it comes from \
         the account's own host, or if the document has changed.",
    // Ours.
    /// A check panicked: our bug, contained to the event.
    VerifierPanic "verifier_panic"
        "This is a fault of the relay, not of the host: tell its operators, who find the frame \
         kept in their data folder.",
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
    fn every_offence_says_what_to_fix() {
        let texts: BTreeSet<&str> = Reject::ALL.iter().map(|reject| reject.explain()).collect();
        assert_eq!(texts.len(), Reject::ALL.len(), "a text is used once");
        for reject in Reject::ALL {
            let text = reject.explain();
            assert!(text.starts_with(char::is_uppercase) && text.ends_with('.'), "{text}");
            assert!((20..=200).contains(&text.len()), "{} characters: {text}", text.len());
            assert!(!text.contains("  "), "{text}");
            assert_eq!(Reject::named(reject.name()), Some(*reject));
        }
        assert_eq!(Reject::named("nothing"), None);
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
