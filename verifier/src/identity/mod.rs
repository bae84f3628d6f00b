//! Who a DID is: documents, where they come from, and how long they are believed.

mod cache;
mod coverage;
mod directory;
mod document;
mod export;
mod gate;
mod handle;
mod plc;
mod quiet;
mod requests;
mod resolver;

pub(crate) use cache::Cache;
pub use coverage::Coverage;
pub(crate) use directory::{Directory, HostPace, Progress, Snapshot, Wanted};
pub use document::{DocumentError, fuzz_document, parse as parse_document};
pub use export::{Exported, fuzz_export, parse as parse_export};
pub use gate::Limits as PlcLimits;
pub(crate) use handle::Handles;
pub use handle::{Resolution, fuzz_handle};
pub(crate) use resolver::{Answer, Found, Lookup, Resolver};
