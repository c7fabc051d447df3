//! Where tasks leave what occupies a thread: compute and file steps.

use std::sync::Arc;

use anyhow::Context;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use super::handler::Handler;
use crate::plan::steps::Offload;

pub(super) struct Workshop {
    offload: Offload,
    /// Whose threads do it under `offload = "spawn_blocking"`.
    blocking: Handle,
    /// Under `offload = "rayon"`.
    pool: Option<rayon::ThreadPool>,
    permits: Option<Semaphore>,
}

impl Workshop {
    pub(super) fn new(handler: &Handler, blocking: Handle) -> anyhow::Result<Arc<Workshop>> {
        let offload = handler.plan.offload;
        let pool = (offload == Offload::Rayon).then(|| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(handler.cpus)
                .stack_size(handler.plan.setting.stack_bytes as usize)
                .build()
                .with_context(|| format!("a pool of {} threads could not be started", handler.cpus))
        });
        let permits = handler.plan.setting.permits.map(|n| Semaphore::new(n as usize));
        Ok(Arc::new(Workshop { offload, blocking, pool: pool.transpose()?, permits }))
    }

    /// Carries out work; `None` where the thread that was to do it is gone.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        // The semaphore is never closed.
        let _permit = match &self.permits {
            Some(permits) => permits.acquire().await.ok(),
            None => None,
        };
        match (self.offload, &self.pool) {
            (Offload::SpawnBlocking, _) => self.blocking.spawn_blocking(work).await.ok(),
            (Offload::Rayon, Some(pool)) => {
                let (done, over) = oneshot::channel();
                pool.spawn_fifo(move || drop(done.send(work())));
                over.await.ok()
            }
            _ => Some(work()),
        }
    }
}
