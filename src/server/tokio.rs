//! `tokio` and `tokio-single`: one task per connection, on a worker thread per CPU or on one thread.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use super::blocking::SHORTAGE_PAUSE;
use super::handler::{Desk, Handler, Runner};
use super::upstream::Upstream;
use crate::codec::{Failure, by_codec};
use crate::sys::{MonotonicNs, now_ns};

pub(super) fn run(listener: TcpListener, handler: &Arc<Handler>) -> anyhow::Result<()> {
    let runtime = handler.threads.runtime(handler.plan.engine.facts().threads)?;
    listener.set_nonblocking(true)?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let socket = match listener.accept().await {
                Ok((socket, _)) => socket,
                Err(e) => {
                    handler.trouble(0, || format!("a connection could not be accepted: {e}"));
                    // The listener stays readable: without a pause this task would spin.
                    tokio::time::sleep(SHORTAGE_PAUSE).await;
                    continue;
                }
            };
            handler.accepted();
            let service = Desk(handler.clone(), Task);
            by_codec!(handler.plan.codec, socket, service, |connection| tokio::spawn(connection));
        }
    })
}

/// A connection's task waits on tokio's timer, and works where the plan says.
#[derive(Clone)]
struct Task;

impl Runner for Task {
    async fn until(&self, at: MonotonicNs) {
        tokio::time::sleep(Duration::from_nanos(at.saturating_sub(now_ns()))).await;
    }

    async fn work<T: Send + 'static>(
        &self,
        handler: &Handler,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        handler.work_elsewhere(work).await
    }

    async fn call(&self, upstream: &Arc<Upstream>, calls: u32) -> Result<(), Failure> {
        upstream.call_tasks(calls).await
    }
}
