//! Who a DID is: documents, where they come from, and how long they are believed.

mod cache;
mod directory;
mod document;
mod handle;
mod resolver;

pub(crate) use cache::Cache;
pub(crate) use directory::{Directory, Progress, Snapshot};
pub use document::{DocumentError, fuzz_document, parse as parse_document};
pub(crate) use handle::Handles;
pub use handle::{Resolution, fuzz_handle};
pub(crate) use resolver::{Answer, Found, Lookup, Resolver};
