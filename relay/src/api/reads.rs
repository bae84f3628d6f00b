//! Reads of the store that take more than a row or two: a few at a time, on threads that may wait
//! for the disk, so that whoever asks for them costs nobody else anything.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Gauge, describe_gauge, gauge};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::XrpcError;

/// The way to the store for such reads. Cheap to clone.
#[derive(Clone)]
pub struct Reads {
    storage: storage::Handle,
    places: Arc<Semaphore>,
    running: Gauge,
}

impl Reads {
    /// Nobody reads yet. `purpose` tells them apart in metrics.
    pub fn new(storage: storage::Handle, purpose: &'static str) -> Self {
        describe_gauge!(
            "mainstem_relay_reads_running",
            "Reads of the store for status pages and lists of accounts: four of each at most."
        );
        let running = gauge!("mainstem_relay_reads_running", "purpose" => purpose);
        Self { storage, places: Arc::new(Semaphore::new(READS_MAX)), running }
    }

    /// Reads when it is its turn; refused if that is not soon.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&storage::Handle) -> Result<T, storage::Error> + Send + 'static,
    ) -> Result<T, XrpcError> {
        let place = timeout(PATIENCE, Arc::clone(&self.places).acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            return Err(XrpcError::busy("too many such requests at once: ask again later"));
        };
        let (storage, running) = (self.storage.clone(), self.running.clone());
        let reading = spawn_blocking(move || {
            let _place = place;
            running.increment(1);
            let read = read(&storage);
            running.decrement(1);
            read
        });
        let read = reading.await.unwrap_or(Err(storage::Error::Panicked));
        Ok(read?)
    }
}

/// Each holds a thread and a page of rows, some hundred kB at most.
const READS_MAX: usize = 4;
/// Longer than a page takes on a disk that works.
const PATIENCE: Duration = Duration::from_secs(2);
