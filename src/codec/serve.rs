//! The server's end of a connection: what its codecs share, and what they ask of a server.
//!
//! [`request`] parses, [`inbox`] cuts requests out of what comes in, [`answers`] are prebuilt.

pub(crate) mod answers;
pub(crate) mod inbox;
pub(crate) mod request;

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::time::Duration;

use rustix::net::Shutdown;

use super::stream::{Accepted, Socket};
use crate::sys::MonotonicNs;
use answers::{AnswerKind, Answers, DRAIN};
use request::Persistence;

/// Read buffer on the stack: nothing of it stays with an idle connection.
pub(super) const CHUNK_BYTES: usize = 8 * 1024;

/// A server as the codec of a connection sees it: how it answers, and how a request waits and works
/// under the engine that runs the connection.
pub(crate) trait Service: Clone + Unpin + Send + Sync + 'static {
    /// An accepted connection as the codecs read it; `None` where TLS cannot begin.
    fn stream<S: Socket>(&self, socket: S) -> Option<Accepted<S>>;

    fn answers(&self) -> &Answers;

    /// Counts an answer just before its last byte is written, so that a client that has it finds it
    /// counted; taken back with `false` where the write fails.
    fn answered(&self, whole: bool);

    /// Does what a request asks for; returns how it is answered. `received_ns` is when it was whole.
    fn serve(
        &self,
        received_ns: MonotonicNs,
        head_only: bool,
        persistence: Persistence,
    ) -> impl Future<Output = AnswerKind> + Send;

    /// Waits until bytes of an answer may leave.
    fn hold(&self) -> impl Future<Output = ()> + Send;
}

/// Ends a connection with a reset: closing with a linger time of zero sends one.
pub(super) fn reset<S: Socket>(stream: &mut Accepted<S>) {
    stream.fall_silent();
    let _ = rustix::net::sockopt::set_socket_linger(stream.socket(), Some(Duration::ZERO));
}

/// Drops what the client still sends after the last answer, so that closing does not turn into a
/// reset that overtakes it.
pub(super) async fn farewell<S: Socket>(stream: &mut Accepted<S>) {
    let _ = poll_fn(|cx| stream.poll_close(cx)).await;
    let socket = stream.socket();
    let _ = rustix::net::shutdown(&*socket, Shutdown::Write);
    let mut budget = DRAIN as usize;
    loop {
        let length = poll_fn(|cx| {
            let mut bytes = [MaybeUninit::<u8>::uninit(); CHUNK_BYTES];
            socket.poll_recv(cx, &mut bytes, |came| came.len())
        });
        match length.await {
            Ok(length) if length > 0 && length < budget => budget -= length,
            _ => return,
        }
    }
}
