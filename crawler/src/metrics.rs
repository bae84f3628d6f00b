//! The crawler's metrics, registered once. A host is never a label.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use protocol::reject::Reject;

use crate::report::State;

/// Handles that the tasks share; using one costs an atomic operation.
pub(crate) struct Metrics {
    /// Bytes of the intake budget in use.
    pub(crate) intake_used_bytes: Gauge,
    /// Messages received, of every sort.
    pub(crate) frames: Counter,
    /// Their bytes, discarded ones included.
    pub(crate) frame_bytes: Counter,
    /// Frames of an unknown `op` or `t`.
    pub(crate) unknown: Counter,
    /// Connections that were opened.
    pub(crate) connects: Counter,
    /// Dials with their handshakes under way.
    pub(crate) dials: Gauge,
    /// Sequences that went backwards.
    pub(crate) resets: Counter,
    /// Steps over a position that kept killing connections.
    pub(crate) steps: Counter,
    /// In the order of [`DROPS`].
    drops: [Counter; DROPS.len()],
    /// In the order of [`State::ALL`].
    hosts: [Gauge; State::ALL.len()],
}

impl Metrics {
    /// Registers all with the recorder of the process.
    pub(crate) fn register() -> Self {
        describe_gauge!("mainstem_crawler_intake_used_bytes", "intake budget in use");
        describe_counter!("mainstem_crawler_frames_total", "messages received from hosts");
        describe_counter!("mainstem_crawler_frame_bytes_total", "bytes of those messages");
        describe_counter!("mainstem_crawler_unknown_total", "frames of an unknown op or t");
        describe_counter!("mainstem_crawler_connects_total", "connections opened to hosts");
        describe_gauge!("mainstem_crawler_dials", "dials and handshakes under way");
        describe_counter!("mainstem_crawler_resets_total", "host sequences that went backwards");
        describe_counter!("mainstem_crawler_steps_total", "positions stepped over");
        describe_counter!("mainstem_crawler_drops_total", "frames dropped, by reason");
        describe_gauge!("mainstem_crawler_hosts", "hosts, by state");
        Self {
            intake_used_bytes: gauge!("mainstem_crawler_intake_used_bytes"),
            frames: counter!("mainstem_crawler_frames_total"),
            frame_bytes: counter!("mainstem_crawler_frame_bytes_total"),
            unknown: counter!("mainstem_crawler_unknown_total"),
            connects: counter!("mainstem_crawler_connects_total"),
            dials: gauge!("mainstem_crawler_dials"),
            resets: counter!("mainstem_crawler_resets_total"),
            steps: counter!("mainstem_crawler_steps_total"),
            drops: DROPS
                .map(|reject| counter!("mainstem_crawler_drops_total", "reason" => reject.name())),
            hosts: std::array::from_fn(
                |index| gauge!("mainstem_crawler_hosts", "state" => State::ALL[index].name()),
            ),
        }
    }

    /// Counts a dropped frame.
    pub(crate) fn dropped(&self, reject: Reject) {
        if let Some(index) = DROPS.iter().position(|drop| *drop == reject) {
            self.drops[index].increment(1);
        }
    }

    /// The gauge of the hosts in this state.
    pub(crate) fn hosts(&self, state: State) -> &Gauge {
        let index = State::ALL.iter().position(|other| *other == state);
        &self.hosts[index.expect("every state is listed")]
    }
}

/// The offences that the crawler itself drops.
const DROPS: [Reject; 5] = [
    Reject::FrameText,
    Reject::FrameTooBig,
    Reject::FrameMalformed,
    Reject::SeqMissing,
    Reject::SeqStale,
];
