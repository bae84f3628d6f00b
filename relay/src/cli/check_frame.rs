//! `mainstem check-frame`: one frame through all checks that need no look-up, to see again what a
//! relay saw. The panic of a check is not contained here: it ends the process, with its trace.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use protocol::did::Did;
use protocol::frame::{self, Peek};
use protocol::host::{HostName, HostRules};
use protocol::ids::{Epoch, HostId, HostSeq, Micros};
use verifier::check::{Case, Proof, Room, begin, did_reject};

use crate::config;

/// Prints what the checks say: a name, or that the frame is right in itself.
pub fn run(options: &config::CheckFrame) -> anyhow::Result<()> {
    let mut frame = Vec::new();
    let file = File::open(&options.file);
    file.and_then(|file| file.take(FRAME_BYTES_MAX).read_to_end(&mut frame))
        .with_context(|| format!("read {}", options.file.display()))?;
    let said = judge(&frame.into())?;
    // Standard output is this command's purpose.
    writeln!(std::io::stdout().lock(), "{said}").context("print")
}

fn judge(frame: &Bytes) -> anyhow::Result<String> {
    let Peek::Event { kind, seq, did: Some(did) } = frame::peek(frame).context("decode")? else {
        bail!("not an event of an account");
    };
    let said = format!("{} of {did}", kind.name());
    let did = match Did::parse(did) {
        Ok(did) => did,
        Err(error) => return Ok(format!("{said}: {}", did_reject(error).name())),
    };
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let now = Micros::default().plus(wall);
    let case = Case {
        kind,
        did: &did,
        frame,
        host: HostId(1),
        name: &HostName::parse("host.example.com", HostRules::Insecure)?,
        epoch: Epoch(0),
        seq: seq.and_then(HostSeq::new).unwrap_or(HostSeq::ZERO),
        received: now,
        proof: Proof::Owed,
        handles: verifier::Handles::Pass,
        prior: None,
        synced: None,
        host_is_full: false,
        tombstone_spacing: Duration::ZERO,
        now,
    };
    Ok(match begin(&case, &mut Room::default()) {
        Ok(_) => format!("{said}: right in itself; its signature and its host were not looked at"),
        Err(reject) => format!("{said}: {}", reject.name()),
    })
}

/// More than any frame has.
const FRAME_BYTES_MAX: u64 = 8_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_judged_by_what_it_says() {
        let did = Did::parse("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa").unwrap();
        let outgoing = frame::Outgoing::account(&did, true, None, "yesterday");
        let mut bytes = Vec::new();
        outgoing.write_with(protocol::ids::Seq::ZERO, &mut bytes);
        let said = judge(&bytes.into()).unwrap();
        assert_eq!(said, "#account of did:plc:aaaaaaaaaaaaaaaaaaaaaaaa: time_syntax");
        assert!(judge(&Bytes::from_static(b"\xa0\xa0")).is_err());
    }
}
