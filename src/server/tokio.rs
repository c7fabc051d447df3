//! `tokio` and `tokio-single`: one task per connection, on a worker thread per CPU or on one thread.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::{Builder, Handle};

use super::handler::{Desk, Handler, Runner};
use super::upstream::Upstream;
use super::workshop::Workshop;
use crate::codec::{Failure, by_codec};
use crate::plan::server::ServerEngine;
use crate::sys::{MonotonicNs, now_ns};

pub(super) fn run(listener: TcpListener, handler: &Arc<Handler>) -> anyhow::Result<()> {
    let mut builder = match handler.plan.engine {
        ServerEngine::TokioSingle => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let runtime = builder
        .worker_threads(handler.cpus)
        .thread_stack_size(handler.plan.setting.stack_bytes as usize)
        .enable_io()
        .enable_time()
        .build()
        .context("the tokio runtime could not be built")?;
    listener.set_nonblocking(true)?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let here = Task(Workshop::new(handler, Handle::current())?);
        loop {
            let socket = match listener.accept().await {
                Ok((socket, _)) => socket,
                Err(e) => {
                    handler.trouble(0, || format!("a connection could not be accepted: {e}"));
                    // The listener stays readable: without a pause this task would spin.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            handler.accepted();
            let service = Desk(handler.clone(), here.clone());
            by_codec!(handler.plan.codec, socket, service, |connection| tokio::spawn(connection));
        }
    })
}

/// A connection's task waits on tokio's timer, and works where the plan says.
#[derive(Clone)]
struct Task(Arc<Workshop>);

impl Runner for Task {
    async fn until(&self, at: MonotonicNs) {
        tokio::time::sleep(Duration::from_nanos(at.saturating_sub(now_ns()))).await;
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.0.work(work).await
    }

    async fn call(&self, upstream: &Arc<Upstream>, calls: u32) -> Result<(), Failure> {
        upstream.call_tasks(calls).await
    }
}
