//! The numbers that order things: our seq, a host's seq, host ids, epochs, microseconds.

use std::fmt;

/// The largest integer that every client holds exactly (JavaScript's safe integers), and so the
/// bound of every sequence number on the wire.
pub const SEQ_MAX: u64 = (1 << 53) - 1;

/// A number in our own stream: microseconds since 1970, made strictly monotonic (I3).
/// As a cursor it means "everything after this"; [`Seq::ZERO`] is before everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(u64);

impl Seq {
    /// Before everything.
    pub const ZERO: Self = Self(0);

    /// `None` at or above 2^53.
    pub fn new(number: u64) -> Option<Self> {
        (number <= SEQ_MAX).then_some(Self(number))
    }

    /// The number as it stands on the wire.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// A number in one host's stream, 1 ≤ n < 2^53 (zero: nothing yet). It means something only
/// together with the host's [`Epoch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostSeq(u64);

impl HostSeq {
    /// Nothing received yet.
    pub const ZERO: Self = Self(0);

    /// `None` at or above 2^53.
    pub fn new(number: u64) -> Option<Self> {
        (number <= SEQ_MAX).then_some(Self(number))
    }

    /// The number as it stands on the wire.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// Counts how often a host's own sequence went backwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u32);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add(1).expect("a host resets fewer than 2^32 times"))
    }
}

/// A host's number in our store; given once, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u32);

impl HostId {
    /// No host's number: theirs begin at 1.
    pub const NOBODY: Self = Self(0);
}

/// Microseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u64);

impl Micros {
    /// This much later; stops at the largest value.
    #[must_use]
    pub fn plus(self, duration: std::time::Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for HostSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_sequence_number_is_below_2_to_the_53() {
        assert_eq!(Seq::new((1 << 53) - 1).map(Seq::get), Some(SEQ_MAX));
        assert_eq!(Seq::new(1 << 53), None);
        assert_eq!(HostSeq::new((1 << 53) - 1).map(HostSeq::get), Some(SEQ_MAX));
        assert_eq!(HostSeq::new(1 << 53), None);
    }

    #[test]
    fn times_stop_at_their_ends() {
        let second = Duration::from_secs(1);
        assert_eq!(Micros(1).plus(second), Micros(1_000_001));
        assert_eq!(Micros(u64::MAX).plus(second), Micros(u64::MAX));
        assert_eq!(Micros(0).plus(Duration::MAX), Micros(u64::MAX));
        assert_eq!(Micros(1_000_001).since(Micros(1)), second);
        assert_eq!(Micros(1).since(Micros(2)), Duration::ZERO);
    }
}
