//! The high-water mark: which numbers may be given out before the disk has their events (I3).
//!
//! With [`Durability::Os`] consumers see events that a power cut takes back. Their numbers must
//! not come again with other events, also when the clock went back meanwhile. So a seq is given
//! out only if the disk has a mark that is not below it, and a start counts on from the greater
//! of head and mark. The mark runs ahead of the head by seconds, so that it costs a synced write
//! every few seconds; a stop in order takes it back to the last number given out.
//!
//! With [`Durability::Fsync`] nobody sees what the disk does not have, and no mark is written. One
//! that is found is honoured all the same: what was lost before the start was lost under `os`.

use protocol::ids::{SEQ_MAX, Seq};

use crate::{Durability, Error};

use super::Sequencer;

/// The last number that may have been given out before a start that found these: up to the mark
/// they may be with consumers though their events are not here.
pub(crate) fn given(head: Seq, mark: Seq) -> Seq {
    if mark > head {
        tracing::warn!(
            %head, %mark,
            "not stopped in order under --durability os: a power cut may have taken events after \
             the head; counting on after the mark"
        );
    }
    head.max(mark)
}

impl Sequencer {
    /// Before numbers up to the head are shown: sees to it that the disk has a mark for them.
    pub(super) fn reserve(&mut self) -> Result<(), Error> {
        let left = self.mark.get().saturating_sub(self.head.get());
        let is_enough = left >= LEFT_MIN || self.mark.get() == SEQ_MAX;
        if self.durability == Durability::Fsync || is_enough {
            return Ok(());
        }
        let mark = self.head.get().saturating_add(AHEAD).min(SEQ_MAX);
        self.mark = Seq::new(mark).expect("not beyond the last one");
        // A crash before it is written: the numbers were shown to nobody. After it: the next start
        // passes over numbers that nobody has seen, which is what they are there for.
        self.store.mark(self.mark)
    }

    /// At a stop in order: the disk has everything, and no number beyond the head was given out.
    pub(super) fn end_in_order(&mut self) -> Result<(), Error> {
        match self.durability {
            Durability::Fsync => self.store.sync(),
            Durability::Os => {
                self.mark = self.head;
                // The write waits for the disk, and so for everything before it.
                self.store.mark(self.mark)
            }
        }
    }
}

/// How far the mark is set ahead of the head: 10 s of numbers while seqs follow the clock. A start
/// after a crash jumps ahead of the clock by at most this much.
const AHEAD: u64 = 10_000_000;
/// It is renewed when less than this is left: every 5 s under load.
const LEFT_MIN: u64 = AHEAD / 2;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::fixture::*;
    use crate::sequencer::tests::crash_image;
    use crate::{Handle, Options, open};

    fn os(dir: &Path, clock: &Clockwork) -> Options {
        Options { durability: Durability::Os, ..on_disk(clock, dir) }
    }

    /// The seq that the next event gets.
    async fn next(handle: &Handle) -> u64 {
        let head = handle.log().head();
        let mut moved = handle.log().subscribe();
        moved.mark_unchanged();
        handle.submit(vec![logged(&did(1), vec![active(&did(1))])]);
        moved.changed().await.unwrap();
        assert!(handle.log().head() > head);
        handle.log().head().get()
    }

    #[tokio::test]
    async fn i3_numbers_lost_in_a_power_cut_are_not_given_again_though_the_clock_went_back() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clockwork::at(NOW);
        let handle = open(os(dir.path(), &clock)).unwrap();
        let kept = next(&handle).await;
        let cut = crash_image(dir.path());
        clock.advance(Duration::from_secs(4));
        let lost = next(&handle).await;
        assert_eq!((kept, lost), (NOW, NOW + 4_000_000));

        // What the disk has after a power cut: the first event, and the mark.
        clock.set(NOW - 5 * 86_400_000_000);
        for durability in [Durability::Os, Durability::Fsync] {
            let image = crash_image(cut.path());
            let restarted = open(Options { durability, ..os(image.path(), &clock) }).unwrap();
            let log = restarted.log();
            assert_eq!(log.head().get(), kept);
            assert!(log.given().get() >= lost, "{}", log.given());
            let given = log.given().get();
            // Whoever saw what was lost goes on with what comes, and so does everybody else.
            assert_eq!(next(&restarted).await, given + 1);
            assert_eq!(read_all(&log, seq(lost), 1 << 20).await.len(), 1);
            assert_eq!(read_all(&log, seq(kept), 1 << 20).await.len(), 1);
            assert_eq!(read_all(&log, seq(0), 1 << 20).await.len(), 2);
            restarted.stop().unwrap();
        }

        // A run that logs nothing forgets nothing, whatever its mode, and however it ends.
        for durability in [Durability::Fsync, Durability::Os] {
            open(Options { durability, ..os(cut.path(), &clock) }).unwrap().stop().unwrap();
            let image = crash_image(cut.path());
            let restarted = open(os(image.path(), &clock)).unwrap();
            assert!(next(&restarted).await > lost);
        }
    }

    #[tokio::test]
    async fn i3_no_number_is_shown_before_the_disk_has_a_mark_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clockwork::at(NOW);
        let handle = open(os(dir.path(), &clock)).unwrap();
        for step in [0, 1, 4_000_000, 4_000_000, 4_000_000, 3_600_000_000, 1, 90_000_000_000] {
            clock.advance(Duration::from_micros(step));
            let shown = next(&handle).await;
            let image = open(on_disk(&clock, crash_image(dir.path()).path())).unwrap();
            let given = image.log().given().get();
            assert!((shown + LEFT_MIN..=shown + AHEAD).contains(&given), "{given} for {shown}");
        }
    }

    #[tokio::test]
    async fn i3_a_stop_in_order_passes_over_no_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clockwork::at(NOW);
        for durability in [Durability::Os, Durability::Fsync, Durability::Os, Durability::Os] {
            let handle = open(Options { durability, ..os(dir.path(), &clock) }).unwrap();
            let before = handle.log().head().get();
            assert_eq!(handle.log().given().get(), before);
            assert_eq!(next(&handle).await, NOW.max(before + 1));
            handle.stop().unwrap();
        }
    }

    #[tokio::test]
    async fn i3_a_mark_ends_where_the_numbers_do() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clockwork::at(SEQ_MAX - 1);
        let handle = open(os(dir.path(), &clock)).unwrap();
        assert_eq!(next(&handle).await, SEQ_MAX - 1);
        assert_eq!(next(&handle).await, SEQ_MAX);
        handle.submit(vec![logged(&did(1), vec![active(&did(1))])]);
        assert!(matches!(handle.failed().await, Error::SeqExhausted(_)));
    }
}
