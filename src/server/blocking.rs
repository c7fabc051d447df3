//! Connections on threads: the same futures as under tokio, driven by the thread that calls.
//!
//! A read pends until the thread, having nothing else to do, opens the [`ReadGate`]; it then waits in
//! the kernel. Writes and timers block where they are called. A request thus costs one read and one
//! write, as hand-written blocking code does.

use std::future::Future;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};

use super::handler::{Desk, Handler, Runner};
use super::upstream::Upstream;
use crate::codec::stream::Socket;
use crate::codec::{Failure, by_codec};
use crate::sys::{MonotonicNs, sleep_until_ns};

const CLOSED: u8 = 0;
/// The next read may look at the socket.
const OPEN: u8 = 1;
/// It did, and nothing was there.
const DRY: u8 = 2;
/// The future was woken by itself: there is more to do before anything is read.
const WOKEN: u8 = 3;

/// A connection's socket, and what its future and the thread that drives it tell each other.
struct ReadGate {
    socket: OwnedFd,
    state: AtomicU8,
    /// Whether an open read waits for bytes, or only takes what is there.
    waits: bool,
}

impl ReadGate {
    fn new(socket: OwnedFd, waits: bool) -> Arc<ReadGate> {
        Arc::new(ReadGate { socket, state: AtomicU8::new(CLOSED), waits })
    }

    fn set(&self, state: u8) {
        self.state.store(state, Relaxed);
    }

    fn get(&self) -> u8 {
        self.state.load(Relaxed)
    }
}

impl Wake for ReadGate {
    fn wake(self: Arc<Self>) {
        self.set(WOKEN);
    }
}

/// A connection that threads drive.
pub(super) struct Driven<F> {
    future: F,
    gate: Arc<ReadGate>,
}

/// The same as it is kept between two requests.
pub(super) type Parked = Driven<Pin<Box<dyn Future<Output = ()> + Send>>>;

impl<F: Future<Output = ()>> Driven<F> {
    /// Serves the connection to its end, waiting for each request.
    fn drive(self) {
        let Driven { future, gate } = self;
        let mut future = pin!(future);
        while !turn(future.as_mut(), &gate) {}
    }
}

impl Parked {
    /// Serves what has come; returns whether the connection goes on.
    pub(super) fn serve_what_came(&mut self) -> bool {
        self.gate.set(OPEN);
        while self.gate.get() != DRY {
            if turn(self.future.as_mut(), &self.gate) {
                return false;
            }
        }
        true
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.gate.socket.as_fd()
    }
}

/// Polls once, and lets the next poll read unless there is more to do first; returns whether the
/// connection has ended.
fn turn(future: Pin<&mut (impl Future<Output = ()> + ?Sized)>, gate: &Arc<ReadGate>) -> bool {
    let waker = Waker::from(gate.clone());
    if future.poll(&mut Context::from_waker(&waker)).is_ready() {
        return true;
    }
    match gate.get() {
        WOKEN => gate.set(CLOSED),
        DRY => {}
        _ => gate.set(OPEN),
    }
    false
}

/// An accepted socket, read when the gate is open.
struct GatedSocket(Arc<ReadGate>);

impl AsFd for GatedSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.socket.as_fd()
    }
}

impl Socket for GatedSocket {
    const BLOCKS: bool = true;

    fn poll_recv<R>(
        &mut self,
        _: &mut Context<'_>,
        buffer: &mut [MaybeUninit<u8>],
        take: impl FnOnce(&mut [u8]) -> R,
    ) -> Poll<std::io::Result<R>> {
        let gate = &self.0;
        if gate.get() != OPEN {
            return Poll::Pending;
        }
        let flags = if gate.waits { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        loop {
            let (state, read) = match rustix::net::recv(&gate.socket, &mut *buffer, flags) {
                Ok(((filled, _), _)) => (CLOSED, Poll::Ready(Ok(take(filled)))),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => (DRY, Poll::Pending),
                Err(e) => return Poll::Ready(Err(e.into())),
            };
            gate.set(state);
            return read;
        }
    }

    fn poll_send(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let send = || rustix::net::send(&self.0.socket, bytes, SendFlags::NOSIGNAL);
        Poll::Ready(Ok(rustix::io::retry_on_intr(send)?))
    }
}

/// The calling thread itself waits and works.
#[derive(Clone)]
struct OwnThread;

impl Runner for OwnThread {
    async fn until(&self, at: MonotonicNs) {
        sleep_until_ns(at);
    }

    async fn work<T: Send + 'static>(
        &self,
        _: &Handler,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        Some(work())
    }

    async fn call(&self, upstream: &Arc<Upstream>, calls: u32) -> Result<(), Failure> {
        upstream.call_blocking(calls)
    }
}

/// What a connection takes has run out.
pub(super) struct Shortage;

/// How long accepting pauses then: the listener stays readable, and whoever accepts would spin.
pub(super) const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// Accepts the next connection; what cannot be accepted is told and left out.
pub(super) fn accept(listener: impl AsFd, handler: &Handler) -> Option<OwnedFd> {
    accept_next(listener, handler).unwrap_or_else(|Shortage| {
        std::thread::sleep(SHORTAGE_PAUSE);
        None
    })
}

/// The same without the pause.
pub(super) fn accept_next(
    listener: impl AsFd,
    handler: &Handler,
) -> Result<Option<OwnedFd>, Shortage> {
    match rustix::net::accept_with(&listener, SocketFlags::CLOEXEC) {
        Ok(socket) => {
            handler.accepted();
            Ok(Some(socket))
        }
        Err(e @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
            handler.trouble(0, || format!("a connection could not be accepted: {e}"));
            Err(Shortage)
        }
        Err(_) => Ok(None),
    }
}

/// Serves a connection on the calling thread, to its end.
pub(super) fn serve(socket: OwnedFd, handler: Arc<Handler>) {
    crate::sys::wake_promptly();
    let gate = ReadGate::new(socket, true);
    let socket = GatedSocket(gate.clone());
    let (codec, service) = (handler.plan.codec, Desk(handler, OwnThread));
    by_codec!(codec, socket, service, |future| Driven { future, gate }.drive());
}

/// A connection that is served by whichever thread finds a request on it.
pub(super) fn park(socket: OwnedFd, handler: Arc<Handler>) -> Parked {
    let gate = ReadGate::new(socket, false);
    let socket = GatedSocket(gate.clone());
    let (codec, service) = (handler.plan.codec, Desk(handler, OwnThread));
    let future: Pin<Box<dyn Future<Output = ()> + Send>> =
        by_codec!(codec, socket, service, |connection| Box::pin(connection));
    Driven { future, gate }
}
