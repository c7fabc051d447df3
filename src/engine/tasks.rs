//! Tasks of a thread with a ring: completions wake them by number.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Wake, Waker};

use super::reactor::Reactor;
use super::rings::Waited;

pub(crate) struct Tasks<F: ?Sized> {
    tasks: Vec<Option<Pin<Box<F>>>>,
    free: Vec<u32>,
    ready: Vec<u32>,
    woken: Arc<Woken>,
    waker: Waker,
}

/// Whether a task woke itself while it was polled: completions wake lanes by number.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

impl<F: Future<Output = ()> + ?Sized> Tasks<F> {
    pub(crate) fn new(tasks: usize) -> Self {
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(woken.clone());
        let (tasks, free) = (Vec::with_capacity(tasks), Vec::with_capacity(tasks));
        Tasks { tasks, free, ready: Vec::new(), woken, waker }
    }

    /// Adds the task that `make` makes, with sockets of its own if any; returns its number.
    pub(super) fn add(&mut self, make: impl FnOnce() -> Pin<Box<F>>) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.tasks.push(None);
            self.tasks.len() as u32 - 1
        });
        Reactor::seat(number);
        self.tasks[number as usize] = Some(make());
        number
    }

    /// As [`Tasks::add`], and polls it.
    pub(crate) fn begin(&mut self, make: impl FnOnce() -> Pin<Box<F>>) {
        let number = self.add(make);
        self.poll(number);
    }

    pub(super) fn alive(&self) -> usize {
        self.tasks.len() - self.free.len()
    }

    pub(super) fn poll(&mut self, number: u32) {
        let Some(task) = &mut self.tasks[number as usize] else { return };
        Reactor::enter_lane(number);
        self.woken.0.store(false, Relaxed);
        if task.as_mut().poll(&mut Context::from_waker(&self.waker)).is_ready() {
            self.tasks[number as usize] = None;
            self.free.push(number);
        } else if self.woken.0.load(Relaxed) {
            Reactor::wake(number);
        }
    }

    /// Waits for the ring until `until`, not asleep in the last `watch_ns`, and polls the lanes that
    /// can go on.
    pub(crate) fn turn(&mut self, until: u64, watch_ns: u64) -> anyhow::Result<Waited> {
        let mut ready = std::mem::take(&mut self.ready);
        let waited = Reactor::turn(until, watch_ns, &mut ready)?;
        ready.drain(..).for_each(|number| self.poll(number));
        self.ready = ready;
        Ok(waited)
    }
}
