//! What lanes wait for: the start, and the end of the process.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::futex;
use tokio::sync::Notify;

/// Closed, then open for ever. Threads wait on a futex and tasks on a notification; opening wakes
/// all of them at once, without a lock that ten thousand lanes would queue for.
#[derive(Default)]
pub(crate) struct Latch {
    open: AtomicU32,
    tasks: Notify,
}

impl Latch {
    /// Opens it; more than once does no harm.
    pub(crate) fn open(&self) {
        self.open.store(1, Ordering::Release);
        // Waking nobody is no error, and this call has no other.
        let _ = futex::wake(&self.open, futex::Flags::PRIVATE, i32::MAX as u32);
        self.tasks.notify_waiters();
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire) == 1
    }

    pub(super) fn wait(&self) {
        while !self.is_open() {
            // An early return (a signal, or a latch opened just now) leads to another look.
            let _ = futex::wait(&self.open, futex::Flags::PRIVATE, 0, None);
        }
    }

    pub(super) async fn wait_async(&self) {
        let notified = self.tasks.notified();
        // `notified` counts from its creation, so an opening between here and the await is seen.
        if !self.is_open() {
            notified.await;
        }
    }
}
