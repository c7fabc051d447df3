//! Timers of tasks.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep};

use crate::codec::Failure;
use crate::codec::socket::AsyncSocket;
use crate::sys::now_ns;

/// A timer that wakes the task that polled it.
///
/// A lane has one for its requests, lazily re-armed: it is moved when it fires, not with each request,
/// so that a request costs no work on whatever holds the timers.
pub(crate) trait LaneTimer: Sized {
    /// A timer that goes off after `time`.
    fn after(time: Duration) -> Self;

    /// Whether it has gone off; cheap.
    fn is_elapsed(&self) -> bool;

    /// Wakes the task when it goes off.
    fn poll_elapsed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()>;

    /// Moves it to `time` from now.
    fn reset(self: Pin<&mut Self>, time: Duration);
}

impl LaneTimer for Sleep {
    fn after(time: Duration) -> Self {
        tokio::time::sleep(time)
    }

    fn is_elapsed(&self) -> bool {
        Sleep::is_elapsed(self)
    }

    /// Polls the timer whatever is left of the task's budget. A target that floods its client uses
    /// that up with each poll, and a timer without budget neither tells that it went off nor keeps
    /// the waker.
    fn poll_elapsed(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        pin!(unconstrained(self)).poll(cx)
    }

    fn reset(self: Pin<&mut Self>, time: Duration) {
        Sleep::reset(self, Instant::now() + time);
    }
}

/// The socket of a task, and the timers of whoever schedules that.
pub(crate) trait TaskSocket: AsyncSocket + 'static {
    type Timer: LaneTimer;
}

impl TaskSocket for tokio::net::TcpStream {
    type Timer = Sleep;
}

pub(crate) async fn sleep<T: LaneTimer>(time: Duration) {
    let mut timer = pin!(T::after(time));
    poll_fn(|cx| timer.as_mut().poll_elapsed(cx)).await;
}

/// Makes the timer wake the task that awaits this, which [`bound`] relies on.
pub(super) async fn arm(mut timer: Pin<&mut impl LaneTimer>) {
    poll_fn(|cx| {
        // A timer that has gone off already is seen and moved by the first `bound`.
        let _ = timer.as_mut().poll_elapsed(cx);
        Poll::Ready(())
    })
    .await;
}

/// Bounds an exchange by `deadline` on CLOCK_MONOTONIC.
///
/// The timer is armed for the task that awaits this, from [`arm`] or from the last call that moved
/// it, so that it is polled again only when it has gone off.
///
/// Takes the exchange by reference and is no `async fn`: one would hold the exchange twice, as an
/// argument and pinned, in every lane (tests: `a_waiting_lane_is_small`).
pub(super) fn bound<'a, T>(
    mut timer: Pin<&'a mut impl LaneTimer>,
    deadline: u64,
    mut exchange: Pin<&'a mut impl Future<Output = Result<T, Failure>>>,
) -> impl Future<Output = Result<T, Failure>> + 'a {
    poll_fn(move |cx| {
        if let Poll::Ready(result) = exchange.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        if !timer.is_elapsed() {
            return Poll::Pending;
        }
        while timer.as_mut().poll_elapsed(cx).is_ready() {
            let left = deadline.saturating_sub(now_ns());
            if left == 0 {
                return Poll::Ready(Err(Failure::TimedOut));
            }
            timer.as_mut().reset(Duration::from_nanos(left));
        }
        Poll::Pending
    })
}

/// Gives an exchange so much time, by a timer of its own.
pub(crate) async fn within<T: LaneTimer, R>(
    time: Duration,
    exchange: impl Future<Output = Result<R, Failure>>,
) -> Result<R, Failure> {
    let (mut timer, exchange) = (pin!(T::after(time)), pin!(exchange));
    let deadline = now_ns() + time.as_nanos() as u64;
    arm(timer.as_mut()).await;
    bound(timer.as_mut(), deadline, exchange).await
}

/// Waits until `at` on CLOCK_MONOTONIC.
pub(super) async fn wait_until(at: u64) {
    let left = at.saturating_sub(now_ns());
    if left > 0 {
        tokio::time::sleep(Duration::from_nanos(left)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a flood looks like to the lane: the exchange is never without work, and each poll of
    /// it leaves the task without budget.
    #[test]
    fn a_flood_does_not_outrun_the_timeout() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime without I/O");
        let result = runtime.block_on(async {
            let timeout = Duration::from_millis(20);
            let mut timer = pin!(Sleep::after(timeout));
            arm(timer.as_mut()).await;
            let deadline = now_ns() + timeout.as_nanos() as u64;
            let mut flood = pin!(async {
                // Ends by itself, some hundred timeouts late, so that a lane without a bound fails.
                for _ in 0..50_000_000_u64 {
                    tokio::task::coop::consume_budget().await;
                }
                Ok(())
            });
            let result = bound(timer.as_mut(), deadline, flood.as_mut()).await;
            assert!(now_ns() >= deadline, "no earlier than the timeout");
            result
        });
        assert!(matches!(result, Err(Failure::TimedOut)), "the flood ended first");
    }
}
