//! From the crawler to the verifier: a host's events get their origin.

use std::sync::Arc;

use crawler::{Inbound, Intake};
use verifier::{Event, Origin};

/// One host's way into the verifier.
pub(super) struct HostIntake {
    verifier: verifier::Handle,
    origin: Arc<Origin>,
}

impl HostIntake {
    pub(super) fn new(verifier: verifier::Handle, origin: Arc<Origin>) -> Self {
        Self { verifier, origin }
    }
}

impl Intake for HostIntake {
    fn deliver(&self, inbound: Inbound) {
        let content = match inbound.content {
            crawler::Content::Event { kind, did, frame } => {
                verifier::Content::Event { kind, did, frame }
            }
            crawler::Content::Passed => verifier::Content::Passed,
        };
        self.verifier.submit(Event {
            origin: Arc::clone(&self.origin),
            ticket: inbound.ticket,
            received: inbound.received,
            content,
        });
    }
}
