//! Where tasks leave what occupies a thread: compute and file steps.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::handler::Handler;
use crate::engine::offload::{carry_out, pool};
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
        let stack_bytes = handler.plan.setting.stack_bytes as usize;
        let pool = (offload == Offload::Rayon).then(|| pool(handler.cpus, stack_bytes, "offload"));
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
        carry_out(self.offload, Some(&self.blocking), self.pool.as_ref(), work).await
    }
}
