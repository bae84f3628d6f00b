//! What the CBOR readers and the writer take, refuse and produce.

use super::*;
