//! Sockets for lanes: the same options under every engine.

use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::plan::endpoint::Endpoint;

/// Lanes that share one source address. Past half of the ephemeral range (~14,100 ports) the
/// kernel's port search tries one parity first and connects fall to ~500/s, so more lanes than
/// this spread over 127.0.0.0/8.
pub const LANES_PER_SOURCE: u32 = 8_000;

/// Source addresses of a worker in 127.0.0.0/8: the last byte of them, 1 to 254.
pub const SOURCES_PER_WORKER: u32 = 254;

/// How long to wait before a full backlog of a Unix socket is tried again: the kernel tells nobody
/// when there is room.
const BACKLOG_PAUSE: Duration = Duration::from_millis(1);

/// Where a lane connects from and to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route<'t> {
    /// The target.
    pub target: &'t Endpoint,
    /// The source address, where the lane must not leave the choice to the kernel.
    pub source: Option<IpAddr>,
}

impl<'t> Route<'t> {
    /// The route of lane `lane` of worker `worker`.
    ///
    /// A trial of up to [`LANES_PER_SOURCE`] connections, or with a target outside 127.0.0.0/8,
    /// lets the kernel choose the source.
    pub fn new(target: &'t Endpoint, worker: u32, lane: u32, total_lanes: u64) -> Self {
        let spread = target.is_loopback_v4() && total_lanes > u64::from(LANES_PER_SOURCE);
        let source = spread.then(|| source(worker, lane / LANES_PER_SOURCE));
        Route { target, source }
    }

    /// The route of a lane's connection number `connection` where each serves one request: every
    /// other source address, since a port stays in TIME_WAIT for a minute.
    pub fn rotating(target: &'t Endpoint, worker: u32, lane: u32, connection: u32) -> Self {
        let number = lane.wrapping_add(connection) % SOURCES_PER_WORKER;
        Route { target, source: target.is_loopback_v4().then(|| source(worker, number)) }
    }

    /// The socket and the address to connect it to.
    fn socket(&self) -> std::io::Result<(Socket, SockAddr)> {
        let target = match self.target {
            Endpoint::Tcp(address) => *address,
            Endpoint::Unix(path) => {
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                return Ok((socket, SockAddr::unix(path)?));
            }
        };
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
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

    /// Connects a blocking socket. `timeout` bounds the connect, each write and each read.
    ///
    /// A Unix socket comes as a `TcpStream` too: nothing but reads, writes and timeouts is asked
    /// of it, which are the same system calls for every stream socket.
    pub fn connect_blocking(&self, timeout: Duration) -> std::io::Result<TcpStream> {
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

    /// Connects an async socket; the caller bounds the time. See [`Route::connect_blocking`] for
    /// the type.
    pub async fn connect_async(&self) -> std::io::Result<tokio::net::TcpStream> {
        let (socket, address) = self.socket()?;
        socket.set_nonblocking(true)?;
        match self.target {
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
                tokio::net::TcpStream::from_std(socket.into())
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
fn explain(error: std::io::Error) -> std::io::Error {
    match error.kind() {
        std::io::ErrorKind::AddrNotAvailable => std::io::Error::new(
            error.kind(),
            "no free port to this address, or no local address for it (EADDRNOTAVAIL): see \
             net.ipv4.ip_local_port_range, of which a port stays in TIME_WAIT for 60 s",
        ),
        _ => error,
    }
}

/// Requests up to this size fit an empty send buffer, so that writing them never blocks.
const SMALL_WRITE_BYTES: usize = 16 * 1024;

/// The time to ask the kernel for when `ns` is wanted: socket timeouts run on the timer wheel,
/// which may be late by an eighth (kernel/time/timer.c), so they are set that much shorter, and a
/// read that they end too early is repeated with what is left. Below 100 ms the wheel is exact
/// to a few ticks.
fn early(ns: u64) -> u64 {
    // The kernel reads zero as no timeout at all.
    if ns < 100_000_000 { ns.max(1_000_000) } else { ns / 8 * 7 }
}

/// A blocking socket under one deadline a request.
///
/// The timeouts set at connect serve the first write and the first read of a request. Further
/// calls of the same request get what remains; a socket option is written only when it is over a
/// twentieth of `timeout` less than what the socket has, so that a body in many reads costs few
/// calls and a request still ends within 1.1 × `timeout`.
pub struct BlockingSocket {
    stream: TcpStream,
    timeout: u64,
    receive_timeout: u64,
    send_timeout: u64,
    deadline: u64,
    /// Whether time may have passed inside a call since the request's start.
    waited: bool,
}

impl BlockingSocket {
    /// Takes over a socket of [`Route::connect_blocking`]; `timeout` in nanoseconds.
    pub fn new(stream: TcpStream, timeout: u64) -> Self {
        BlockingSocket {
            stream,
            timeout,
            receive_timeout: timeout,
            send_timeout: timeout,
            deadline: 0,
            waited: false,
        }
    }

    /// Time that a call may take; a new deadline begins a new request.
    fn allowance(&mut self, deadline: u64) -> std::io::Result<u64> {
        if self.deadline != deadline {
            self.deadline = deadline;
            self.waited = false;
        }
        if !self.waited {
            return Ok(self.timeout);
        }
        match deadline.saturating_sub(crate::sys::now_ns()) {
            0 => Err(std::io::ErrorKind::TimedOut.into()),
            left => Ok(left),
        }
    }

    fn outdated(&self, set: u64, wanted: u64) -> bool {
        wanted > set || set - wanted > self.timeout / 20
    }

    /// Writes once; blocks while the send buffer is full.
    ///
    /// # Errors
    /// `TimedOut` when the deadline passed.
    pub fn write(&mut self, bytes: &[u8], deadline: u64) -> std::io::Result<usize> {
        let wanted = self.allowance(deadline)?;
        if self.outdated(self.send_timeout, wanted) {
            self.stream.set_write_timeout(Some(Duration::from_nanos(wanted)))?;
            self.send_timeout = wanted;
        }
        let written = loop {
            match rustix::net::send(&self.stream, bytes, SendFlags::NOSIGNAL) {
                Ok(written) => break written,
                Err(e) => interrupted_or(e)?,
            }
        };
        self.waited |= bytes.len() > SMALL_WRITE_BYTES || written < bytes.len();
        Ok(written)
    }

    /// Reads once into `buffer` and hands what came to `take`: nothing at the end of the stream.
    /// Blocks until something has arrived.
    ///
    /// # Errors
    /// `TimedOut` when the deadline passed.
    pub fn read<R>(
        &mut self,
        buffer: &mut [MaybeUninit<u8>],
        deadline: u64,
        take: impl FnOnce(&mut [u8]) -> R,
    ) -> std::io::Result<R> {
        let mut wanted = self.allowance(deadline)?;
        self.waited = true;
        loop {
            if self.outdated(self.receive_timeout, wanted) {
                self.stream.set_read_timeout(Some(Duration::from_nanos(early(wanted))))?;
                self.receive_timeout = wanted;
            }
            match rustix::net::recv(&self.stream, &mut *buffer, RecvFlags::empty()) {
                Ok(((filled, _), _)) => return Ok(take(filled)),
                // Early by design: what is left is waited for.
                Err(Errno::AGAIN) => wanted = self.allowance(deadline)?,
                Err(e) => interrupted_or(e)?,
            }
        }
    }

    /// Begins an exchange that is not a request and may have begun before: every call gets only
    /// what remains until `deadline`.
    pub fn begin_late(&mut self, deadline: u64) {
        self.deadline = deadline;
        self.waited = true;
    }

    /// Sets the timeouts as they were at connect, so that the next request need not.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn rearm(&mut self) -> std::io::Result<()> {
        if self.receive_timeout != self.timeout {
            self.stream.set_read_timeout(Some(Duration::from_nanos(early(self.timeout))))?;
            self.receive_timeout = self.timeout;
        }
        if self.send_timeout != self.timeout {
            self.stream.set_write_timeout(Some(Duration::from_nanos(self.timeout)))?;
            self.send_timeout = self.timeout;
        }
        Ok(())
    }

    /// Reads once like [`BlockingSocket::read`] if that needs no waiting; `None` if it does.
    ///
    /// # Errors
    /// The connection broke.
    pub fn read_now<R>(
        &self,
        buffer: &mut [MaybeUninit<u8>],
        take: impl FnOnce(&mut [u8]) -> R,
    ) -> std::io::Result<Option<R>> {
        match rustix::net::recv(&self.stream, buffer, RecvFlags::DONTWAIT) {
            Ok(((filled, _), _)) => Ok(Some(take(filled))),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Writes as much as needs no waiting.
    ///
    /// # Errors
    /// The connection broke, or its buffer is full.
    pub fn write_now(&self, bytes: &[u8]) -> std::io::Result<usize> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        Ok(rustix::net::send(&self.stream, bytes, flags)?)
    }

    /// Whether an idle connection can still take a request: nothing has come that was not asked
    /// for, not even the end of the stream. One system call.
    pub fn is_quiet(&self) -> bool {
        let mut byte = [0u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        rustix::net::recv(&self.stream, &mut byte, flags) == Err(Errno::AGAIN)
    }
}

/// Passes over a call that a signal interrupted (a stop and continue does, without any handler);
/// an expired socket timeout becomes `TimedOut`.
fn interrupted_or(error: Errno) -> std::io::Result<()> {
    match error {
        Errno::INTR => Ok(()),
        Errno::AGAIN => Err(std::io::ErrorKind::TimedOut.into()),
        other => Err(other.into()),
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
