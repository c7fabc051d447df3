//! When a request was sent and answered, and how it ended.

/// The four instants of a request of an open loop, or the two of a closed one; CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy)]
pub struct Instants {
    /// By the plan; `None` in a closed loop.
    pub intended: Option<u64>,
    /// When the pacer let it go; equals `start` in a closed loop.
    pub released: u64,
    /// Just before its first byte is written.
    pub start: u64,
    /// After its last byte was read.
    pub end: u64,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Answered whole, with an expected status.
    Completed,
    TimedOut,
    Failed,
}
