//! HTTP/1.1 on a server's connection, as duel writes it: requests parsed in place, prebuilt answers
//! in one write. The same future on blocking sockets and on tokio's, plain and under TLS.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::task::ready;
use std::time::Duration;

use rustix::net::Shutdown;

use super::connection::Inbox;
use super::handler::{Handler, Runner};
use super::request::Step;
use super::response::{AnswerKind, CONTINUE, DRAIN};
use crate::codec::stream::{Accepted, Socket};
use crate::sys::now_ns;

/// Read buffer on the stack: nothing of it stays with an idle connection.
const CHUNK_BYTES: usize = 8 * 1024;

/// Serves a connection to its end.
pub(super) async fn connection<S: Socket, R: Runner>(socket: S, runner: R, handler: Arc<Handler>) {
    let Some(mut stream) = handler.stream(socket) else { return };
    let mut inbox = Inbox::new(false);
    let mut step = Step::More;
    loop {
        let kind = match step {
            Step::More => match receive(&mut stream, &mut inbox).await {
                Ok(Some(next)) => {
                    step = next;
                    continue;
                }
                Ok(None) | Err(_) => return,
            },
            Step::Continue => {
                if send(&mut stream, CONTINUE).await.is_err() {
                    return;
                }
                step = inbox.next_step();
                continue;
            }
            Step::Whole(request) => {
                let (head_only, persistence) = (request.head_only, request.persistence);
                handler.serve(&runner, now_ns(), head_only, persistence).await
            }
            Step::Refused(refusal) => AnswerKind::Refused(refusal),
        };
        if kind == AnswerKind::Reset {
            return reset(&mut stream);
        }
        if answer(&mut stream, &runner, &handler, kind).await.is_err() {
            return;
        }
        if kind.closes() {
            return farewell(&mut stream).await;
        }
        step = inbox.next_step();
    }
}

/// What came next; `None` at the end of the stream.
async fn receive<S: Socket>(
    stream: &mut Accepted<S>,
    inbox: &mut Inbox,
) -> std::io::Result<Option<Step>> {
    loop {
        let came = poll_fn(|cx| {
            let mut bytes = [MaybeUninit::<u8>::uninit(); CHUNK_BYTES];
            let inbox = &mut *inbox;
            // One record under TLS may hold the end of a request, and the next one another.
            stream.poll_read(cx, &mut bytes, |before, came| match (before, came) {
                (Some(step), []) => Some(step),
                (None, []) => Some(None),
                (Some(Some(step @ (Step::Whole(_) | Step::Refused(_)))), came) => {
                    inbox.keep(came);
                    Some(Some(step))
                }
                (_, came) => Some(Some(inbox.absorb(came))),
            })
        });
        // Nothing for HTTP comes with a part of a record, or of a handshake.
        if let Some(step) = came.await? {
            return Ok(step);
        }
    }
}

/// Sends an answer piece by piece, none of them during a stall.
async fn answer<S: Socket, R: Runner>(
    stream: &mut Accepted<S>,
    runner: &R,
    handler: &Handler,
    kind: AnswerKind,
) -> std::io::Result<()> {
    let mut sent = 0;
    loop {
        let piece = handler.answers.piece(kind, sent);
        if piece.is_empty() {
            return Ok(());
        }
        let released = handler.after_stall(now_ns());
        if released > now_ns() {
            runner.until(released).await;
        }
        let whole = sent + piece.len() as u64;
        let counts =
            matches!(kind, AnswerKind::Served { .. }) && handler.answers.is_whole(kind, whole);
        if counts {
            handler.answered(true);
        }
        if let Err(e) = send(stream, piece).await {
            if counts {
                handler.answered(false);
            }
            return Err(e);
        }
        sent = whole;
    }
}

async fn send<S: Socket>(stream: &mut Accepted<S>, bytes: &[u8]) -> std::io::Result<()> {
    let mut sent = 0;
    poll_fn(|cx| {
        while sent < bytes.len() {
            sent += ready!(stream.poll_write(cx, &bytes[sent..]))?;
        }
        stream.poll_flush(cx)
    })
    .await
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
