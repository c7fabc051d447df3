//! Timers of tasks.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep};

use crate::codec::Failure;
use crate::sys::now_ns;

/// One lazily re-armed timer per lane: it is moved when it fires, not with each request, so that a
/// request costs no work on the timer wheel.
pub(super) type Timer = Sleep;

/// A timer that first looks after `timeout`.
pub(super) fn timer(timeout: Duration) -> Timer {
    sleep(timeout)
}

/// Makes the timer wake the task that awaits this, which [`bound`] relies on.
pub(super) async fn arm(mut timer: Pin<&mut Timer>) {
    poll_fn(|cx| {
        // A timer that has gone off already is seen and moved by the first `bound`.
        let _ = poll_timer(timer.as_mut(), cx);
        Poll::Ready(())
    })
    .await;
}

/// Polls the timer whatever is left of the task's budget. A target that floods its client uses
/// that up with each poll, and a timer without budget neither tells that it went off nor keeps
/// the waker.
fn poll_timer(timer: Pin<&mut Timer>, cx: &mut Context<'_>) -> Poll<()> {
    pin!(unconstrained(timer)).poll(cx)
}

/// Bounds an exchange by `deadline` on CLOCK_MONOTONIC.
///
/// The timer is armed for the task that awaits this, from [`arm`] or from the last call that moved
/// it, so that it is polled again only when it has gone off.
///
/// Takes the exchange by reference and is no `async fn`: one would hold the exchange twice, as an
/// argument and pinned, in every lane (tests: `a_waiting_lane_is_small`).
pub(super) fn bound<'a, T>(
    mut timer: Pin<&'a mut Timer>,
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
        while poll_timer(timer.as_mut(), cx).is_ready() {
            let left = deadline.saturating_sub(now_ns());
            if left == 0 {
                return Poll::Ready(Err(Failure::TimedOut));
            }
            timer.as_mut().reset(Instant::now() + Duration::from_nanos(left));
        }
        Poll::Pending
    })
}

/// Waits until `at` on CLOCK_MONOTONIC.
pub(super) async fn wait_until(at: u64) {
    let left = at.saturating_sub(now_ns());
    if left > 0 {
        sleep(Duration::from_nanos(left)).await;
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
            let mut timer = pin!(timer(timeout));
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
