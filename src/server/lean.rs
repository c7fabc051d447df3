//! HTTP/1.1 on a server's connection, as duel writes it: requests parsed in place, prebuilt answers
//! in one write. The same future on blocking sockets and on tokio's.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::task::ready;
use std::time::Duration;

use rustix::net::Shutdown;

use super::connection::Inbox;
use super::handler::{Handler, Runner};
use super::request::Step;
use super::response::{CONTINUE, DRAIN, Kind};
use crate::codec::stream::Socket;
use crate::sys::now_ns;

/// Read buffer on the stack: nothing of it stays with an idle connection.
const CHUNK_BYTES: usize = 8 * 1024;

/// Serves a connection to its end.
pub(super) async fn connection<S: Socket, R: Runner>(
    mut socket: S,
    runner: R,
    handler: Arc<Handler>,
) {
    let mut inbox = Inbox::new(false);
    let mut step = Step::More;
    loop {
        let kind = match step {
            Step::More => match receive(&mut socket, &mut inbox).await {
                Ok(Some(next)) => {
                    step = next;
                    continue;
                }
                Ok(None) | Err(_) => return,
            },
            Step::Continue => {
                if send(&mut socket, CONTINUE).await.is_err() {
                    return;
                }
                step = inbox.next_step();
                continue;
            }
            Step::Whole(request) => {
                let (head_only, persistence) = (request.head_only, request.persistence);
                handler.serve(&runner, now_ns(), head_only, persistence).await
            }
            Step::Refused(refusal) => Kind::Refused(refusal),
        };
        if kind == Kind::Reset {
            return reset(&socket);
        }
        if answer(&mut socket, &runner, &handler, kind).await.is_err() {
            return;
        }
        if kind.closes() {
            return farewell(&mut socket).await;
        }
        step = inbox.next_step();
    }
}

/// What came next; `None` at the end of the stream.
async fn receive<S: Socket>(socket: &mut S, inbox: &mut Inbox) -> std::io::Result<Option<Step>> {
    poll_fn(|cx| {
        let mut bytes = [MaybeUninit::<u8>::uninit(); CHUNK_BYTES];
        let inbox = &mut *inbox;
        socket.poll_recv(cx, &mut bytes, |came| match came {
            [] => None,
            came => Some(inbox.absorb(came)),
        })
    })
    .await
}

/// Sends an answer piece by piece, none of them during a stall.
async fn answer<S: Socket, R: Runner>(
    socket: &mut S,
    runner: &R,
    handler: &Handler,
    kind: Kind,
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
        let counts = matches!(kind, Kind::Served { .. }) && handler.answers.is_whole(kind, whole);
        if counts {
            handler.answered(true);
        }
        if let Err(e) = send(socket, piece).await {
            if counts {
                handler.answered(false);
            }
            return Err(e);
        }
        sent = whole;
    }
}

async fn send<S: Socket>(socket: &mut S, bytes: &[u8]) -> std::io::Result<()> {
    let mut sent = 0;
    poll_fn(|cx| {
        while sent < bytes.len() {
            sent += ready!(socket.poll_send(cx, &bytes[sent..]))?;
        }
        std::task::Poll::Ready(Ok(()))
    })
    .await
}

/// Ends a connection with a reset: closing with a linger time of zero sends one.
pub(super) fn reset(socket: &impl Socket) {
    let _ = rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

/// Drops what the client still sends after the last answer, so that closing does not turn into a
/// reset that overtakes it.
pub(super) async fn farewell<S: Socket>(socket: &mut S) {
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
