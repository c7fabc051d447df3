//! What `call` steps call: connections to the upstream, kept between calls and shared by all
//! handlers, as the client of a service keeps them.
//!
//! A call beyond the first that is under way at once has a thread of its own under the blocking
//! engines and a task of its own under tokio, started for it and waited for: what a connection is
//! given by the engine, a call is given too. On a ring it is one more thing that the handler's task waits
//! for, over a connection of that ring.

use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpStream;

use crate::codec::socket::Route;
use crate::codec::stream::Socket;
use crate::codec::{BlockingConn, Conn, Failure, Reply};
use crate::engine::timer::{TaskSocket, within};
use crate::plan::endpoint::Endpoint;
use crate::plan::request::{Rendered, render};
use crate::plan::server::{ServerPlan, UpstreamPlan};
use crate::plan::{Codec, TrialPlan};
use crate::side::ErrorKind;
use crate::sys::now_ns;

pub(super) struct Upstream {
    at: Endpoint,
    codec: Codec,
    timeout: Duration,
    request: Rendered,
    /// Most calls of a handler that are under way at once.
    fan_out: u32,
    stack_bytes: usize,
    blocking: Idle<BlockingConn>,
    tasks: Idle<Conn<TcpStream>>,
}

/// Connections that nobody uses now; the last one to come is the first to go, so that no more stay
/// in use than are needed.
pub(super) struct Idle<C>(Mutex<Vec<C>>);

impl<C> Default for Idle<C> {
    fn default() -> Self {
        Idle(Mutex::default())
    }
}

impl<C> Idle<C> {
    fn take(&self) -> Option<C> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn keep(&self, connection: Option<C>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(connection);
    }
}

/// Calls of a step that are still to be made: whoever is free makes the next.
struct Calls(AtomicU32);

impl Calls {
    fn next(&self) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

impl Upstream {
    pub(super) fn new(
        at: Endpoint,
        upstream: &UpstreamPlan,
        plan: &ServerPlan,
    ) -> anyhow::Result<Upstream> {
        let request = render(&TrialPlan::default())?.pop().context("a call has a request")?;
        Ok(Upstream {
            at,
            codec: plan.codec,
            timeout: Duration::from_nanos(upstream.timeout_ns),
            request,
            fan_out: plan.fan_out.max(1),
            stack_bytes: plan.setting.stack_bytes as usize,
            blocking: Idle::default(),
            tasks: Idle::default(),
        })
    }

    fn route(&self) -> Route<'_> {
        Route { target: &self.at, source: None, allowed: &[] }
    }

    /// Makes the calls of a step on the calling thread and, where several are under way at once, on
    /// threads that are started for them.
    pub(super) fn call_blocking(&self, calls: u32) -> Result<(), Failure> {
        let left = Calls(AtomicU32::new(calls));
        let beside = self.fan_out.min(calls).saturating_sub(1);
        if beside == 0 {
            return self.make_blocking(&left);
        }
        std::thread::scope(|scope| {
            let start = |_| {
                let thread = std::thread::Builder::new().stack_size(self.stack_bytes);
                thread.spawn_scoped(scope, || self.make_blocking(&left)).map_err(|e| {
                    Failure::new(ErrorKind::Connect, format!("a call found no thread: {e}"))
                })
            };
            let threads: Vec<_> = (0..beside).map(start).collect();
            let mut ended = self.make_blocking(&left);
            for thread in threads {
                let its = thread.and_then(|thread| thread.join().unwrap_or_else(|_| Err(died())));
                ended = ended.and(its);
            }
            ended
        })
    }

    fn make_blocking(&self, left: &Calls) -> Result<(), Failure> {
        let mut kept = None;
        while left.next() {
            let mut connection = match kept.take().or_else(|| self.blocking.take()) {
                Some(connection) => connection,
                None => {
                    let route = self.route();
                    BlockingConn::connect(self.codec, &route, self.timeout, None)?.connection
                }
            };
            connection.prepare(&self.request);
            let deadline = now_ns() + self.timeout.as_nanos() as u64;
            let reply = connection.exchange(&self.request, deadline)?;
            kept = still_good(connection, reply)?;
        }
        self.blocking.keep(kept);
        Ok(())
    }

    /// As [`Upstream::call_blocking`], in the calling task and in tasks that are started for them.
    pub(super) async fn call_tasks(self: &Arc<Self>, calls: u32) -> Result<(), Failure> {
        let left = Arc::new(Calls(AtomicU32::new(calls)));
        let beside = self.fan_out.min(calls).saturating_sub(1);
        let start = |_| {
            let (upstream, left) = (self.clone(), left.clone());
            tokio::spawn(async move { upstream.make_in_task(&left, &upstream.tasks).await })
        };
        let tasks: Vec<_> = (0..beside).map(start).collect();
        let mut ended = self.make_in_task(&left, &self.tasks).await;
        for task in tasks {
            let its = task.await.unwrap_or_else(|_| Err(died()));
            ended = ended.and(its);
        }
        ended
    }

    /// As [`Upstream::call_tasks`], where the calls that are under way at once are all the calling task's:
    /// its ring wakes it for each. `idle` are connections of that ring.
    pub(super) async fn call_on_ring<S: TaskSocket>(
        &self,
        idle: &Idle<Conn<S>>,
        calls: u32,
    ) -> Result<(), Failure> {
        let left = Calls(AtomicU32::new(calls));
        let at_once = self.fan_out.min(calls);
        let mut under_way: Vec<_> =
            (0..at_once).map(|_| Box::pin(self.make_in_task(&left, idle))).collect();
        let mut ended = Ok(());
        poll_fn(|cx| {
            under_way.retain_mut(|calls| match calls.as_mut().poll(cx) {
                Poll::Ready(its) => {
                    ended = std::mem::replace(&mut ended, Ok(())).and(its);
                    false
                }
                Poll::Pending => true,
            });
            if under_way.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        ended
    }

    async fn make_in_task<S: TaskSocket>(
        &self,
        left: &Calls,
        idle: &Idle<Conn<S>>,
    ) -> Result<(), Failure> {
        let mut kept = None;
        while left.next() {
            let free = kept.take().or_else(|| idle.take());
            let call = async {
                let mut connection = match free {
                    Some(connection) => connection,
                    None => Conn::connect_async(self.codec, self.route(), None).await?.connection,
                };
                connection.prepare(&self.request);
                let reply = connection.exchange_async(&self.request).await?;
                still_good(connection, reply)
            };
            kept = within::<S::Timer, _>(self.timeout, call).await?;
        }
        idle.keep(kept);
        Ok(())
    }
}

/// The connection, where it may carry another call.
fn still_good<S: Socket>(connection: Conn<S>, reply: Reply) -> Result<Option<Conn<S>>, Failure> {
    match reply.status {
        200 => Ok(reply.keep.then_some(connection)),
        status => Err(Failure::new(ErrorKind::Status, format!("status {status}"))),
    }
}

fn died() -> Failure {
    Failure::new(ErrorKind::Protocol, "what made the call panicked")
}
