//! Order and keep: sequencer, log, on-disk format
