//! A lane's connection over time: made, looked at when it was idle, replaced, refused.

use std::time::Duration;

use super::run::TrialRun;
use super::timer::{TaskSocket, within};
use crate::codec::socket::Route;
use crate::codec::stream::Socket;
use crate::codec::{BlockingConn, Conn, Connected, Failure};
use crate::side::{ErrorKind, Phase};
use crate::sys::now_ns;

/// After a failed connect a lane waits this long, doubling to [`BACKOFF_MOST_NS`].
const BACKOFF_FIRST_NS: u32 = 10_000_000;
const BACKOFF_MOST_NS: u32 = 1_000_000_000;

/// Idle time after which a lane looks whether its connection still stands, and has received
/// nothing that it did not ask for. Looking costs a system call, which busy lanes do not pay.
const IDLE_NS: u64 = 100_000;

/// What a lane knows of its connection, whichever it is.
pub(super) struct Link {
    id: u32,
    /// Where it records; kept, since it takes a division to find.
    shard: u16,
    /// When the connection was last known to stand.
    seen: u64,
    /// The connection has answered a request.
    reused: bool,
    backoff_ns: u32,
    /// Connections begun, which decides where the next one comes from.
    connects: u32,
}

impl Link {
    pub(super) fn new(trial: &TrialRun, id: u32) -> Self {
        let shard = trial.shard(id) as u16;
        Link { id, shard, seen: 0, reused: false, backoff_ns: 0, connects: 0 }
    }

    pub(super) fn shard(&self) -> usize {
        self.shard.into()
    }

    pub(super) fn answered(&mut self, end: u64) {
        self.seen = end;
        self.reused = true;
        self.backoff_ns = 0;
    }

    /// Names what ended an exchange. A connection that had served before and ended unanswered was
    /// closed while it was idle, as far as a client can tell.
    pub(super) fn failed(&mut self, failure: Failure) -> Option<(ErrorKind, String)> {
        let (kind, message) = match failure {
            Failure::TimedOut => return None,
            Failure::Unanswered { message, .. } if self.reused => (ErrorKind::Stale, message),
            Failure::Unanswered { kind, message } | Failure::Error { kind, message } => {
                (kind, message)
            }
        };
        self.backoff_ns = match kind {
            ErrorKind::Connect => (self.backoff_ns * 2).clamp(BACKOFF_FIRST_NS, BACKOFF_MOST_NS),
            _ => 0,
        };
        Some((kind, message))
    }

    /// How long to wait before the next connect: only after the target has refused one.
    pub(super) fn pause(&self) -> Option<Duration> {
        (self.backoff_ns > 0).then(|| Duration::from_nanos(self.backoff_ns.into()))
    }

    /// Whether the connection was idle before `at`, so that the target may have closed it.
    pub(super) fn was_idle(&self, at: u64) -> bool {
        at > self.seen + IDLE_NS
    }

    /// Gives up a connection that the target has closed, or on which bytes came that nobody asked
    /// for: they are no answer to the next request (RFC 9112, section 9.2).
    pub(super) fn look<S: Socket + 'static>(&mut self, connection: &mut Option<Conn<S>>) {
        if connection.as_mut().is_some_and(|idle| !idle.is_idle()) {
            *connection = None;
        }
        self.seen = now_ns();
    }

    /// Whether the target has closed a connection that may have been idle before `at`.
    pub(super) fn is_lost<S: Socket + 'static>(&self, at: u64, connection: &mut Conn<S>) -> bool {
        self.was_idle(at) && !connection.is_idle()
    }

    fn route<'t>(&mut self, trial: &'t TrialRun) -> Route<'t> {
        let number = self.connects;
        self.connects = number.wrapping_add(1);
        trial.route(self.id, number)
    }

    /// Connects a blocking socket; `again` is the phase of the request that needs it, if one does.
    pub(super) fn connect(
        &mut self,
        trial: &TrialRun,
        again: Option<Phase>,
    ) -> Result<BlockingConn, Failure> {
        let begun = now_ns();
        let route = self.route(trial);
        let codec = trial.job.cell.codec;
        let made = BlockingConn::connect(codec, &route, trial.timeout(), trial.tls.as_ref())?;
        Ok(self.connected(trial, begun, again, made))
    }

    pub(super) async fn connect_async<S: TaskSocket>(
        &mut self,
        trial: &TrialRun,
        again: Option<Phase>,
    ) -> Result<Conn<S>, Failure> {
        let begun = now_ns();
        let route = self.route(trial);
        // Boxed, since connecting is rare and its state would stay part of every lane.
        let connect = Conn::connect_async(trial.job.cell.codec, route, trial.tls.as_ref());
        let made = Box::pin(within::<S::Timer, _>(trial.timeout(), connect)).await?;
        Ok(self.connected(trial, begun, again, made))
    }

    /// Books a connection begun at `begun` and keeps the codec's part of it.
    fn connected<S: Socket>(
        &mut self,
        trial: &TrialRun,
        begun: u64,
        again: Option<Phase>,
        made: Connected<S>,
    ) -> Conn<S> {
        let now = now_ns();
        self.seen = now;
        self.reused = false;
        let ready = made.handshake.as_ref().map_or(now, |(at, _)| *at);
        if again != Some(Phase::Warmup) {
            trial.recorder.connected(self.shard(), ready - begun, again.is_some());
            if let Some((_, agreed)) = made.handshake {
                trial.recorder.shook_hands(self.shard(), now - ready, agreed);
            }
        }
        made.connection
    }
}
