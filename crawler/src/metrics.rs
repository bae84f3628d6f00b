//! The crawler's metrics, registered once. A host is never a label.

use metrics::{Counter, Gauge, Histogram, counter, describe_counter, describe_gauge};
use metrics::{describe_histogram, gauge, histogram};
use protocol::host_state::HostState;
use protocol::reject::Reject;

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
    /// Quiet hosts asked whether they have something.
    pub(crate) polls: Counter,
    /// Attempts that panicked.
    pub(crate) panics: Counter,
    /// Milliseconds for which a host over its limits was not read, of all hosts.
    pub(crate) throttled: Counter,
    /// How old an event was when it came; one a second and host.
    pub(crate) lag: Histogram,
    /// In the order of [`DROPS`].
    drops: [Counter; DROPS.len()],
    /// In the order of [`HostState::ALL`].
    hosts: [Gauge; HostState::ALL.len()],
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
        describe_counter!("mainstem_crawler_polls_total", "quiet hosts asked for news");
        describe_counter!("mainstem_crawler_panics_total", "connections ended by a panic of ours");
        describe_counter!(
            "mainstem_crawler_throttled_milliseconds_total",
            "time for which hosts over their limits were not read, of all hosts"
        );
        describe_histogram!(
            "mainstem_crawler_lag_seconds",
            "age of events when they are received, by their hosts' clocks; one a second and host"
        );
        Self {
            intake_used_bytes: gauge!("mainstem_crawler_intake_used_bytes"),
            frames: counter!("mainstem_crawler_frames_total"),
            frame_bytes: counter!("mainstem_crawler_frame_bytes_total"),
            unknown: counter!("mainstem_crawler_unknown_total"),
            connects: counter!("mainstem_crawler_connects_total"),
            dials: gauge!("mainstem_crawler_dials"),
            resets: counter!("mainstem_crawler_resets_total"),
            steps: counter!("mainstem_crawler_steps_total"),
            polls: counter!("mainstem_crawler_polls_total"),
            panics: counter!("mainstem_crawler_panics_total"),
            throttled: counter!("mainstem_crawler_throttled_milliseconds_total"),
            lag: histogram!("mainstem_crawler_lag_seconds"),
            drops: DROPS
                .map(|reject| counter!("mainstem_crawler_drops_total", "reason" => reject.name())),
            hosts: std::array::from_fn(
                |index| gauge!("mainstem_crawler_hosts", "state" => HostState::ALL[index].name()),
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
    pub(crate) fn hosts(&self, state: HostState) -> &Gauge {
        let index = HostState::ALL.iter().position(|other| *other == state);
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
