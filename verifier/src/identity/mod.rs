//! Who a DID is: documents, where they come from, and how long they are believed.

mod cache;
mod directory;
mod document;
mod gate;
mod handle;
mod plc;
mod requests;
mod resolver;

pub(crate) use cache::Cache;
pub(crate) use directory::{Directory, HostPace, Progress, Snapshot, Wanted};
pub use document::{DocumentError, fuzz_document, parse as parse_document};
pub use gate::Limits as PlcLimits;
pub(crate) use handle::Handles;
pub use handle::{Resolution, fuzz_handle};
pub(crate) use resolver::{Answer, Found, Lookup, Resolver};
