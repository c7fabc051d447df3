//! Timers of tasks on a ring, and connecting, which may have to wait for one.

use std::io::ErrorKind as IoErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::io::Errno;

use super::reactor::{RingSocket, with};
use super::timer::{LaneTimer, TaskSocket, sleep};
use crate::codec::socket::{AsyncSocket, BACKLOG_PAUSE, Route, explain};
use crate::sys::now_ns;
use crate::sys::ring::Ring;

impl AsyncSocket for RingSocket {
    async fn connect(route: &Route<'_>) -> std::io::Result<Self> {
        let (socket, address) = route.socket()?;
        socket.set_nonblocking(true)?;
        let made = RingSocket::new(socket.into());
        let socket = socket2::SockRef::from(&made.socket);
        while let Err(e) = socket.connect(&address) {
            if e.kind() == IoErrorKind::WouldBlock {
                // The full backlog of a Unix socket.
                sleep::<RingTimer>(BACKLOG_PAUSE).await;
                continue;
            }
            if e.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) {
                return Err(explain(e));
            }
            made.ready(Ring::wait_writable).await;
            match socket.take_error()? {
                Some(e) => return Err(explain(e)),
                None => break,
            }
        }
        Ok(made)
    }
}

impl TaskSocket for RingSocket {
    type Timer = RingTimer;
}

pub(crate) struct RingTimer {
    at: u64,
    /// Its number where it is armed, or zero.
    armed: u32,
}

impl Drop for RingTimer {
    fn drop(&mut self) {
        if self.armed > 0 {
            with(|r| {
                if self.at > r.now {
                    r.timers.give_up(self.armed);
                }
            });
        }
    }
}

impl LaneTimer for RingTimer {
    fn after(time: Duration) -> Self {
        RingTimer { at: now_ns() + time.as_nanos() as u64, armed: 0 }
    }

    fn is_elapsed(&self) -> bool {
        with(|r| r.now >= self.at)
    }

    fn poll_elapsed(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        with(|r| {
            if r.now >= self.at {
                return Poll::Ready(());
            }
            if self.armed == 0 {
                self.armed = r.timers.set(self.at, r.lane);
            }
            Poll::Pending
        })
    }

    fn reset(mut self: Pin<&mut Self>, time: Duration) {
        self.set(Self::after(time));
    }
}
