//! `uring`: one task per connection on io_uring, a thread with a ring per CPU.
//!
//! The ring of the first thread accepts, and deals connections out in turn: each stays on its ring.
//! Other threads reach a ring through its bell, an `eventfd` that it waits for as for a socket.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::time::Duration;

use anyhow::Context;
use rustix::event::{EventfdFlags, eventfd};

use super::blocking::{SHORTAGE_PAUSE, Shortage, accept_next};
use super::handler::{Desk, Handler, Runner};
use super::upstream::{Idle, Upstream};
use crate::codec::{Conn, Failure, by_codec};
use crate::engine::reactor::{Reactor, RingSocket};
use crate::engine::ring_timer::RingTimer;
use crate::engine::rings::Manner;
use crate::engine::tasks::Tasks;
use crate::engine::timer::sleep;
use crate::plan::engine::LaneThreads;
use crate::plan::server::CONNECTIONS_OF_RING;
use crate::sys::{MonotonicNs, now_ns, wake_promptly};

/// Longest wait for a ring: an hour.
const LONGEST_NS: u64 = 3_600_000_000_000;

pub(super) fn run(listener: TcpListener, handler: &Arc<Handler>) -> anyhow::Result<()> {
    let stack_bytes = handler.plan.setting.stack_bytes as usize;
    // It runs no task: what blocks goes to its threads, as under `tokio`.
    let _blocking = handler.threads.runtime(LaneThreads::Own)?;
    let homes = (0..handler.cpus).map(|_| Home::new());
    let homes = homes.collect::<anyhow::Result<Vec<_>>>()?;
    listener.set_nonblocking(true)?;
    for home in &homes[1..] {
        let (home, own) = (home.clone(), handler.clone());
        let thread = std::thread::Builder::new().stack_size(stack_bytes);
        let serve = move || {
            if let Err(e) = run_ring(&home, &own, None) {
                own.trouble(0, || format!("{e:#}"));
            }
        };
        thread.spawn(serve).context("the thread of a ring could not be started")?;
    }
    run_ring(&homes[0].clone(), handler, Some((listener, homes)))
}

/// Serves the connections of the calling thread's ring. The first accepts, for all of them.
fn run_ring(
    home: &Arc<Home>,
    handler: &Arc<Handler>,
    accepts: Option<(TcpListener, Vec<Arc<Home>>)>,
) -> anyhow::Result<()> {
    wake_promptly();
    let manner = Manner { multishot: true, batch: 1, linger_ns: 0 };
    Reactor::start(CONNECTIONS_OF_RING, manner, &handler.rings)?;
    let mut tasks: Tasks<dyn Future<Output = ()>> = Tasks::new(0);
    let accepted = Arrivals::default();
    let bell = home.bell.try_clone().context("a ring has no bell")?;
    tasks.begin(|| Box::pin(listen_for(bell, home.clone(), accepted.clone())));
    if let Some((listener, homes)) = accepts {
        let (accepted, handler) = (accepted.clone(), handler.clone());
        tasks.begin(|| Box::pin(welcome(listener, homes, accepted, handler)));
    }
    loop {
        for socket in accepted.take() {
            tasks.begin(|| connection(socket, home, handler));
        }
        tasks.turn(now_ns() + LONGEST_NS, 0)?;
    }
}

/// Connections that a ring is to serve and does not yet.
type Arrivals = Rc<RefCell<Vec<OwnedFd>>>;

/// Accepts whoever comes, and deals connections out to the rings, of which this is the first.
async fn welcome(
    listener: TcpListener,
    homes: Vec<Arc<Home>>,
    own: Arrivals,
    handler: Arc<Handler>,
) {
    let listener = RingSocket::new(OwnedFd::from(listener).into());
    let mut next = (0..homes.len()).cycle();
    loop {
        match accept_next(&listener, &handler) {
            Ok(Some(socket)) => match next.next() {
                Some(ring @ 1..) => homes[ring].leave(News::Accepted(socket)),
                _ => own.borrow_mut().push(socket),
            },
            Ok(None) => listener.readable().await,
            Err(Shortage) => sleep::<RingTimer>(SHORTAGE_PAUSE).await,
        }
    }
}

/// Takes what other threads leave at a ring.
async fn listen_for(bell: OwnedFd, home: Arc<Home>, accepted: Arrivals) {
    let bell = RingSocket::new(bell.into());
    loop {
        bell.readable().await;
        let _ = rustix::io::read(&bell, &mut [0; 8]);
        let left = std::mem::take(&mut *home.news());
        for news in left {
            match news {
                News::Accepted(socket) => accepted.borrow_mut().push(socket),
                News::Woken(lane) => Reactor::wake(lane),
            }
        }
    }
}

fn connection(
    socket: OwnedFd,
    home: &Arc<Home>,
    handler: &Arc<Handler>,
) -> Pin<Box<dyn Future<Output = ()>>> {
    let service = Desk(handler.clone(), RingTask(home.clone()));
    let socket = RingSocket::new(socket.into());
    by_codec!(handler.plan.codec, socket, service, |connection| Box::pin(connection))
}

/// A ring as other threads see it.
struct Home {
    bell: OwnedFd,
    news: Mutex<Vec<News>>,
    /// Connections of this ring to the upstream that nobody uses now.
    calls: Idle<Conn<RingSocket>>,
}

/// What another thread has for a ring.
enum News {
    Accepted(OwnedFd),
    Woken(u32),
}

impl Home {
    fn new() -> anyhow::Result<Arc<Home>> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let bell = eventfd(0, flags).context("a ring has no bell")?;
        Ok(Arc::new(Home { bell, news: Mutex::default(), calls: Idle::default() }))
    }

    fn news(&self) -> MutexGuard<'_, Vec<News>> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, news: News) {
        let mut all = self.news();
        all.push(news);
        // Whoever left the first of them has rung, or is about to.
        if all.len() == 1 {
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }
}

/// Wakes a task of a ring from any thread.
struct LaneWaker {
    home: Arc<Home>,
    lane: u32,
}

impl Wake for LaneWaker {
    fn wake(self: Arc<Self>) {
        self.home.leave(News::Woken(self.lane));
    }
}

/// A connection's task waits on its ring's timers, and works where the plan says.
#[derive(Clone)]
struct RingTask(Arc<Home>);

impl Runner for RingTask {
    async fn until(&self, at: MonotonicNs) {
        sleep::<RingTimer>(Duration::from_nanos(at.saturating_sub(now_ns()))).await;
    }

    async fn work<T: Send + 'static>(
        &self,
        handler: &Handler,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let waker = LaneWaker { home: self.0.clone(), lane: Reactor::lane() };
        let waker = Waker::from(Arc::new(waker));
        let mut done = pin!(handler.work_elsewhere(work));
        poll_fn(|_| done.as_mut().poll(&mut std::task::Context::from_waker(&waker))).await
    }

    async fn call(&self, upstream: &Arc<Upstream>, calls: u32) -> Result<(), Failure> {
        upstream.call_on_ring(&self.0.calls, calls).await
    }
}
