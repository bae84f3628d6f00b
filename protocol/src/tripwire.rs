//! Points of an event's way at which a test ends the process, to see that nothing is lost there.
//!
//! A stage says that it passes a point; what happens then is decided by who hands the tripwire in.
//! In production nobody does, and a point costs one look at an empty option.

use std::fmt;
use std::sync::Arc;

/// A point, in the order of the data's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Point {
    /// A frame was read and has its ticket, and was not handed on.
    AfterReceive,
    /// A shard has judged, and no verdict was handed on.
    AfterVerify,
    /// A commit has its numbers, and nothing of it is written.
    BeforeCommit,
    /// The write of a commit begins.
    InCommit,
    /// The write of a commit has returned, and nobody has seen anything of it.
    AfterCommit,
    /// Accounts and cursors of a commit are shown, and its events are not.
    BeforePublish,
    /// A part of what is written to a consumer is in its socket.
    MidWrite,
    /// A higher floor is committed, and nothing below it is dropped.
    RetentionFloor,
    /// A step of what lies below the floor is dropped.
    RetentionDrop,
    /// An orderly stop: the crawler has stopped.
    ShutdownCrawler,
    /// An orderly stop: the verifier has stopped.
    ShutdownVerifier,
    /// An orderly stop: the store has what came before it, and has not written its rest.
    ShutdownStore,
    /// An orderly stop: the store has stopped, and consumers are still there.
    ShutdownConsumers,
}

/// Told when a point is passed. Cheap to clone; the default is none, which is told nothing.
#[derive(Clone, Default)]
pub struct Tripwire(Option<Arc<Wire>>);

struct Wire {
    points: Vec<Point>,
    hook: Box<dyn Fn(Point) + Send + Sync>,
}

impl Point {
    /// Every one.
    pub const ALL: [Self; 13] = [
        Self::AfterReceive,
        Self::AfterVerify,
        Self::BeforeCommit,
        Self::InCommit,
        Self::AfterCommit,
        Self::BeforePublish,
        Self::MidWrite,
        Self::RetentionFloor,
        Self::RetentionDrop,
        Self::ShutdownCrawler,
        Self::ShutdownVerifier,
        Self::ShutdownStore,
        Self::ShutdownConsumers,
    ];

    /// Its name, as a test asks for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AfterReceive => "after-receive",
            Self::AfterVerify => "after-verify",
            Self::BeforeCommit => "before-commit",
            Self::InCommit => "in-commit",
            Self::AfterCommit => "after-commit",
            Self::BeforePublish => "before-publish",
            Self::MidWrite => "mid-write",
            Self::RetentionFloor => "retention-floor",
            Self::RetentionDrop => "retention-drop",
            Self::ShutdownCrawler => "shutdown-crawler",
            Self::ShutdownVerifier => "shutdown-verifier",
            Self::ShutdownStore => "shutdown-store",
            Self::ShutdownConsumers => "shutdown-consumers",
        }
    }
}

impl Tripwire {
    /// Calls `hook` whenever one of these points is passed, in the thread that passes it.
    pub fn new(points: &[Point], hook: impl Fn(Point) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(Wire { points: points.to_vec(), hook: Box::new(hook) })))
    }

    /// The point is passed.
    pub fn pass(&self, point: Point) {
        if let Some(wire) = &self.0
            && wire.points.contains(&point)
        {
            (wire.hook)(point);
        }
    }

    /// How many of so many bytes are to be written before the point is passed: all of them, but
    /// half where it is watched.
    pub fn part(&self, point: Point, bytes: usize) -> usize {
        match &self.0 {
            Some(wire) if wire.points.contains(&point) => bytes.div_ceil(2),
            _ => bytes,
        }
    }
}

impl fmt::Debug for Tripwire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points = self.0.as_ref().map(|wire| &wire.points);
        f.debug_tuple("Tripwire").field(&points).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn only_a_watched_point_is_told() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&told);
        let watched = [Point::InCommit, Point::MidWrite];
        let tripwire = Tripwire::new(&watched, move |point| tell.lock().unwrap().push(point));
        for point in Point::ALL {
            Tripwire::default().pass(point);
            tripwire.pass(point);
        }
        assert_eq!(*told.lock().unwrap(), watched);
    }

    #[test]
    fn what_is_written_is_cut_only_where_that_is_watched() {
        let tripwire = Tripwire::new(&[Point::MidWrite], |_| {});
        let check = |bytes: usize, cut: usize| {
            assert_eq!(tripwire.part(Point::MidWrite, bytes), cut);
            assert_eq!(tripwire.part(Point::InCommit, bytes), bytes);
            assert_eq!(Tripwire::default().part(Point::MidWrite, bytes), bytes);
        };
        check(1, 1);
        check(2, 1);
        check(101, 51);
    }
}
