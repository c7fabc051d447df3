//! Sockets for lanes: the same options under every engine.

use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Protocol, Socket, Type};

/// Lanes that share one source address. Past half of the ephemeral range (~14,100 ports) the
/// kernel's port search tries one parity first and connects fall to ~500/s, so more lanes than
/// this spread over 127.0.0.0/8.
pub const LANES_PER_SOURCE: u32 = 8_000;

/// Where a lane connects from and to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The target.
    pub target: SocketAddr,
    /// The source address, where the lane must not leave the choice to the kernel.
    pub source: Option<IpAddr>,
}

impl Route {
    /// The route of lane `lane` of worker `worker`.
    ///
    /// A trial of up to [`LANES_PER_SOURCE`] connections, or with a target outside 127.0.0.0/8,
    /// lets the kernel choose the source.
    pub fn new(target: SocketAddr, worker: u32, lane: u32, total_lanes: u64) -> Self {
        let spread = matches!(target.ip(), IpAddr::V4(ip) if ip.is_loopback())
            && total_lanes > u64::from(LANES_PER_SOURCE);
        let source = spread.then(|| {
            let [high, low] = ((worker + 1) as u16).to_be_bytes();
            // 127.128.0.0/9 keeps sources apart from the addresses that targets listen on.
            let third = (lane / LANES_PER_SOURCE) as u8;
            IpAddr::V4(Ipv4Addr::new(127, 128 | (high & 0x7f), low, third.saturating_add(1)))
        });
        Route { target, source }
    }

    fn socket(&self) -> std::io::Result<Socket> {
        let socket =
            Socket::new(Domain::for_address(self.target), Type::STREAM, Some(Protocol::TCP))?;
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
        Ok(socket)
    }

    /// Connects a blocking socket. `timeout` bounds the connect, each write and each read.
    pub fn connect_blocking(&self, timeout: Duration) -> std::io::Result<TcpStream> {
        let socket = self.socket()?;
        // Linux applies the send timeout to a blocking connect as well.
        socket.set_write_timeout(Some(timeout))?;
        socket.set_read_timeout(Some(Duration::from_nanos(early(timeout.as_nanos() as u64))))?;
        socket.connect(&self.target.into()).map_err(|e| match e.raw_os_error() {
            // EINPROGRESS is what a blocking connect returns when its send timeout expires.
            Some(code) if code == Errno::INPROGRESS.raw_os_error() => {
                std::io::Error::new(std::io::ErrorKind::TimedOut, "connect timed out")
            }
            _ => e,
        })?;
        Ok(socket.into())
    }

    /// Connects an async socket; the caller bounds the time.
    pub async fn connect_async(&self) -> std::io::Result<tokio::net::TcpStream> {
        let socket = self.socket()?;
        socket.set_nonblocking(true)?;
        tokio::net::TcpSocket::from_std_stream(socket.into()).connect(self.target).await
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
        take: impl FnOnce(&[u8]) -> R,
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
        let target: SocketAddr = "127.0.0.1:80".parse().unwrap();
        assert_eq!(Route::new(target, 0, 0, 8_000).source, None);
        let source = |worker, lane| Route::new(target, worker, lane, 19_000).source;
        assert_eq!(source(0, 7_999), source(0, 0));
        assert_ne!(source(0, 8_000), source(0, 0));
        assert_ne!(source(1, 0), source(0, 0));
        assert!(source(74, 18_999).is_some_and(|ip| ip.is_loopback()));
        let remote: SocketAddr = "192.0.2.1:80".parse().unwrap();
        assert_eq!(Route::new(remote, 0, 9_000, 19_000).source, None);
    }
}
