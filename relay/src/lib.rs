//! Out: fan-out, APIs, wiring; the binary
