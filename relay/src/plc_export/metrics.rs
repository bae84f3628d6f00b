//! What following the export counts.

use std::time::Duration;

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use super::reader::Page;

/// The handles.
pub struct Metrics {
    operations: Counter,
    nullified: Counter,
    pages: Counter,
    malformed: Counter,
    refused: Counter,
    unreachable: Counter,
    lag: Gauge,
}

impl Metrics {
    /// Registers them.
    pub fn register() -> Self {
        describe_counter!(
            "mainstem_relay_plc_export_operations_total",
            "Operations read from the PLC export, each once, by what they are."
        );
        describe_counter!("mainstem_relay_plc_export_pages_total", "Pages of the PLC export.");
        describe_counter!(
            "mainstem_relay_plc_export_errors_total",
            "Requests refused or failed, and lines that cannot be read, by reason."
        );
        describe_gauge!(
            "mainstem_relay_plc_export_lag_seconds",
            "How far what is known from the PLC export is behind the present."
        );
        let operations =
            |kind| counter!("mainstem_relay_plc_export_operations_total", "kind" => kind);
        let errors =
            |reason| counter!("mainstem_relay_plc_export_errors_total", "reason" => reason);
        Self {
            operations: operations("valid"),
            nullified: operations("nullified"),
            pages: counter!("mainstem_relay_plc_export_pages_total"),
            malformed: errors("malformed"),
            refused: errors("refused"),
            unreachable: errors("unreachable"),
            lag: gauge!("mainstem_relay_plc_export_lag_seconds"),
        }
    }

    pub(super) fn page(&self, page: &Page) {
        self.pages.increment(1);
        self.operations.increment(count(page.operations - page.nullified));
        self.nullified.increment(count(page.nullified));
        self.malformed.increment(count(page.malformed));
    }

    pub(super) fn lag(&self, lag: Duration) {
        self.lag.set(lag.as_secs_f64());
    }

    pub(super) fn refused(&self) {
        self.refused.increment(1);
    }

    pub(super) fn unreachable(&self) {
        self.unreachable.increment(1);
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
