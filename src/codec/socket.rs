//! Sockets for lanes: the same options under every engine.

use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use socket2::{Domain, Protocol, SockAddr, Type};

use super::stream::{Socket, send_now};
use crate::plan::endpoint::Endpoint;

/// Lanes that share one source address. Past half of the ephemeral range (~14,100 ports) the
/// kernel's port search tries one parity first and connects fall to ~500/s, so more lanes than
/// this spread over 127.0.0.0/8.
pub(crate) const LANES_PER_SOURCE: u32 = 8_000;

/// Source addresses of a worker in 127.0.0.0/8: the last byte of them, 1 to 254.
pub(crate) const SOURCES_PER_WORKER: u32 = 254;

/// How long to wait before a full backlog of a Unix socket is tried again: the kernel tells nobody
/// when there is room.
pub(crate) const BACKLOG_PAUSE: Duration = Duration::from_millis(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route<'t> {
    pub target: &'t Endpoint,
    /// The source address, where the lane must not leave the choice to the kernel.
    pub source: Option<IpAddr>,
    /// Addresses outside of loopback that may be connected to.
    pub allowed: &'t [SocketAddr],
}

impl<'t> Route<'t> {
    /// The route of lane `lane` of worker `worker`.
    ///
    /// A trial of up to [`LANES_PER_SOURCE`] connections, or with a target outside 127.0.0.0/8,
    /// lets the kernel choose the source.
    pub fn new(target: &'t Endpoint, worker: u32, lane: u32, total_lanes: u64) -> Self {
        let spread = target.is_loopback_v4() && total_lanes > u64::from(LANES_PER_SOURCE);
        let source = spread.then(|| source(worker, lane / LANES_PER_SOURCE));
        Route { target, source, allowed: &[] }
    }

    /// The route of a lane's connection number `connection` where each serves one request: every
    /// other source address, since a port stays in TIME_WAIT for a minute.
    pub(crate) fn rotating(target: &'t Endpoint, worker: u32, lane: u32, connection: u32) -> Self {
        let number = lane.wrapping_add(connection) % SOURCES_PER_WORKER;
        let source = target.is_loopback_v4().then(|| source(worker, number));
        Route { target, source, allowed: &[] }
    }

    /// The last word on where load goes: whatever named the target, a socket leaves this machine
    /// only for an address that the user allowed.
    fn guard(&self) -> std::io::Result<()> {
        if self.target.foreign().is_none_or(|at| self.allowed.contains(&at)) {
            return Ok(());
        }
        let why = format!("{} is not a loopback address, and nobody allowed it", self.target);
        Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, why))
    }

    /// The socket and the address to connect it to.
    pub(crate) fn socket(&self) -> std::io::Result<(socket2::Socket, SockAddr)> {
        self.guard()?;
        let target = match self.target {
            Endpoint::Tcp(address) => *address,
            Endpoint::Unix(path) => {
                let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
                return Ok((socket, SockAddr::unix(path)?));
            }
        };
        let socket =
            socket2::Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = self.source {
            // The port is chosen at connect, by the whole four-tuple, not at bind.
            nix::sys::socket::setsockopt(
                &socket,
                nix::sys::socket::sockopt::IpBindAddressNoPort,
                &true,
            )?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        Ok((socket, target.into()))
    }

    /// Connects a blocking socket. `timeout` bounds the connect and each read.
    ///
    /// A Unix socket comes as a `TcpStream` too: nothing but reads, writes and timeouts is asked
    /// of it, which are the same system calls for every stream socket.
    pub(crate) fn connect_blocking(&self, timeout: Duration) -> std::io::Result<TcpStream> {
        let (socket, address) = self.socket()?;
        // Linux applies the send timeout to a blocking connect as well.
        socket.set_write_timeout(Some(timeout))?;
        socket.set_read_timeout(Some(Duration::from_nanos(early(timeout.as_nanos() as u64))))?;
        socket.connect(&address).map_err(|e| match e.raw_os_error() {
            // What a blocking connect returns when its send timeout expires: EINPROGRESS, or
            // EAGAIN on a Unix socket.
            Some(code)
                if code == Errno::INPROGRESS.raw_os_error()
                    || code == Errno::AGAIN.raw_os_error() =>
            {
                std::io::Error::new(std::io::ErrorKind::TimedOut, "connect timed out")
            }
            _ => explain(e),
        })?;
        Ok(socket.into())
    }
}

/// A socket that wakes a task.
pub trait AsyncSocket: Socket + Sized {
    /// Connects; the caller bounds the time. See [`Route::connect_blocking`] for the type of a Unix
    /// socket.
    fn connect(route: &Route<'_>) -> impl Future<Output = std::io::Result<Self>>;
}

impl AsyncSocket for tokio::net::TcpStream {
    async fn connect(route: &Route<'_>) -> std::io::Result<Self> {
        let (socket, address) = route.socket()?;
        socket.set_nonblocking(true)?;
        match route.target {
            Endpoint::Tcp(target) => tokio::net::TcpSocket::from_std_stream(socket.into())
                .connect(*target)
                .await
                .map_err(explain),
            Endpoint::Unix(_) => {
                while let Err(e) = socket.connect(&address) {
                    if e.kind() != std::io::ErrorKind::WouldBlock {
                        return Err(e);
                    }
                    tokio::time::sleep(BACKLOG_PAUSE).await;
                }
                Self::from_std(socket.into())
            }
        }
    }
}

/// Source address `number` of a worker.
fn source(worker: u32, number: u32) -> IpAddr {
    let [high, low] = ((worker + 1) as u16).to_be_bytes();
    // 127.128.0.0/9 keeps sources apart from the addresses that targets listen on.
    IpAddr::V4(Ipv4Addr::new(127, 128 | (high & 0x7f), low, (number as u8).saturating_add(1)))
}

/// Says what the kernel's "Cannot assign requested address" means for a connect.
pub(crate) fn explain(error: std::io::Error) -> std::io::Error {
    match error.kind() {
        std::io::ErrorKind::AddrNotAvailable => std::io::Error::new(
            error.kind(),
            "no free port to this address, or no local address for it (EADDRNOTAVAIL): see \
             net.ipv4.ip_local_port_range, of which a port stays in TIME_WAIT for 60 s",
        ),
        _ => error,
    }
}

/// Requests up to this size fit an empty send buffer, so that writing them takes no time.
const SMALL_WRITE_BYTES: usize = 16 * 1024;

/// The time to ask the kernel for when `ns` is wanted: socket timeouts run on the timer wheel,
/// which may be late by an eighth (kernel/time/timer.c), so they are set that much shorter, and a
/// read that they end too early is repeated with what is left. Below 100 ms the wheel is exact
/// to a few ticks.
fn early(ns: u64) -> u64 {
    // The kernel reads zero as no timeout at all.
    if ns < 100_000_000 { ns.max(1_000_000) } else { ns / 8 * 7 }
}

/// A blocking socket under one deadline per exchange.
///
/// Writes never block; reads do so only once [`Socket::block`] has allowed it, under the receive
/// timeout set at connect. Further reads of an exchange get what remains of its time; the socket
/// option is written only when that is over a twentieth of `timeout` less than what the socket has,
/// so that a body in many reads costs few calls and a request still ends within 1.1 × `timeout`.
pub struct BlockingSocket {
    stream: TcpStream,
    timeout: u64,
    receive_timeout: u64,
    deadline: u64,
    /// Whether time may have passed inside a call since the exchange began.
    waited: bool,
    /// The next read may block.
    armed: bool,
    /// The send buffer was full at the last write.
    full: bool,
}

impl BlockingSocket {
    /// Takes over a socket of [`Route::connect_blocking`]; `timeout` in nanoseconds.
    pub(super) fn new(stream: TcpStream, timeout: u64) -> Self {
        BlockingSocket {
            stream,
            timeout,
            receive_timeout: timeout,
            deadline: 0,
            waited: false,
            armed: false,
            full: false,
        }
    }

    /// Begins an exchange that may have begun before: every wait gets only what remains until
    /// `deadline`.
    pub(super) fn begin_late(&mut self, deadline: u64) {
        self.begin(deadline);
        self.waited = true;
    }

    fn allowance(&self) -> std::io::Result<u64> {
        if !self.waited {
            return Ok(self.timeout);
        }
        match self.deadline.saturating_sub(crate::sys::now_ns()) {
            0 => Err(std::io::ErrorKind::TimedOut.into()),
            left => Ok(left),
        }
    }

    fn read<R>(
        &mut self,
        buffer: &mut [MaybeUninit<u8>],
        take: impl FnOnce(&mut [u8]) -> R,
    ) -> std::io::Result<R> {
        let mut wanted = self.allowance()?;
        self.waited = true;
        loop {
            let set = self.receive_timeout;
            if wanted > set || set - wanted > self.timeout / 20 {
                self.stream.set_read_timeout(Some(Duration::from_nanos(early(wanted))))?;
                self.receive_timeout = wanted;
            }
            match rustix::net::recv(&self.stream, &mut *buffer, RecvFlags::empty()) {
                Ok(((filled, _), _)) => return Ok(take(filled)),
                // Early by design: what is left is waited for.
                Err(Errno::AGAIN) => wanted = self.allowance()?,
                // A signal, such as a stop and continue, needs no handler to interrupt a call.
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Waits for room in the send buffer, or for the answer to a request that is still being sent.
    #[cold]
    fn wait_for_room(&mut self) -> std::io::Result<()> {
        self.waited = true;
        let mut wanted = [PollFd::new(&self.stream, PollFlags::IN | PollFlags::OUT)];
        loop {
            let left = Timespec::try_from(Duration::from_nanos(self.allowance()?)).ok();
            match rustix::event::poll(&mut wanted, left.as_ref()) {
                Ok(0) => {}
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.armed = wanted[0].revents().intersects(!PollFlags::OUT);
        self.full = false;
        Ok(())
    }
}

impl AsFd for BlockingSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Socket for BlockingSocket {
    const BLOCKS: bool = true;

    #[inline]
    fn begin(&mut self, deadline: u64) {
        if self.deadline != deadline {
            self.deadline = deadline;
            self.waited = false;
            self.armed = false;
            self.full = false;
        }
    }

    #[inline]
    fn block(&mut self) -> std::io::Result<()> {
        if self.full {
            return self.wait_for_room();
        }
        self.armed = true;
        Ok(())
    }

    #[inline]
    fn poll_recv<R>(
        &mut self,
        _: &mut Context<'_>,
        buffer: &mut [MaybeUninit<u8>],
        take: impl FnOnce(&mut [u8]) -> R,
    ) -> Poll<std::io::Result<R>> {
        if !self.armed {
            return Poll::Pending;
        }
        self.armed = false;
        Poll::Ready(self.read(buffer, take))
    }

    #[inline]
    fn poll_send(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = match send_now(&self.stream, bytes) {
            Err(Errno::AGAIN) => {
                self.full = true;
                return Poll::Pending;
            }
            sent => sent?,
        };
        self.waited |= bytes.len() > SMALL_WRITE_BYTES || written < bytes.len();
        Poll::Ready(Ok(written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_lanes_leave_the_source_to_the_kernel_many_spread_it() {
        let target = Endpoint::Tcp("127.0.0.1:80".parse().unwrap());
        assert_eq!(Route::new(&target, 0, 0, 8_000).source, None);
        let source = |worker, lane| Route::new(&target, worker, lane, 19_000).source;
        assert_eq!(source(0, 7_999), source(0, 0));
        assert_ne!(source(0, 8_000), source(0, 0));
        assert_ne!(source(1, 0), source(0, 0));
        assert!(source(74, 18_999).is_some_and(|ip| ip.is_loopback()));
        let remote = Endpoint::Tcp("192.0.2.1:80".parse().unwrap());
        assert_eq!(Route::new(&remote, 0, 9_000, 19_000).source, None);
    }

    #[test]
    fn one_request_a_connection_takes_every_source_of_a_worker_in_turn() {
        let target = Endpoint::Tcp("127.0.0.1:80".parse().unwrap());
        let all: std::collections::HashSet<_> = (0..2 * SOURCES_PER_WORKER)
            .filter_map(|n| Route::rotating(&target, 3, 77, n).source)
            .collect();
        assert_eq!(all.len(), SOURCES_PER_WORKER as usize);
        assert!(all.iter().all(IpAddr::is_loopback));
        assert!(!all.contains(&Route::rotating(&target, 4, 77, 0).source.unwrap()));
        for other in ["[::1]:80", "192.0.2.1:80", "unix:/tmp/x"] {
            let target: Endpoint = other.parse().unwrap();
            assert_eq!(Route::rotating(&target, 0, 0, 0).source, None, "{other}");
        }
    }
}
