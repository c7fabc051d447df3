//! The server's end of a connection, as duel writes it: requests parsed in place, prebuilt answers
//! in one write. The same future on blocking sockets and on tokio's, plain and under TLS.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::task::ready;

use crate::codec::serve::answers::{AnswerKind, CONTINUE};
use crate::codec::serve::inbox::Inbox;
use crate::codec::serve::request::Step;
use crate::codec::serve::{CHUNK_BYTES, Service, farewell, reset};
use crate::codec::stream::{Accepted, Socket};
use crate::sys::now_ns;

/// Serves a connection to its end.
pub(crate) async fn connection<S: Socket>(socket: S, service: impl Service) {
    let Some(mut stream) = service.stream(socket) else { return };
    let mut inbox = Inbox::default();
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
                step = inbox.next_step(|_| {});
                continue;
            }
            Step::Whole(request) => {
                let (head_only, persistence) = (request.head_only, request.persistence);
                service.serve(now_ns(), head_only, persistence).await
            }
            Step::Refused(refusal) => AnswerKind::Refused(refusal),
        };
        if kind == AnswerKind::Reset {
            return reset(&mut stream);
        }
        if answer(&mut stream, &service, kind).await.is_err() {
            return;
        }
        if kind.closes() {
            return farewell(&mut stream).await;
        }
        step = inbox.next_step(|_| {});
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
                (_, came) => Some(Some(inbox.absorb(came, |_| {}))),
            })
        });
        // Nothing for HTTP comes with a part of a record, or of a handshake.
        if let Some(step) = came.await? {
            return Ok(step);
        }
    }
}

/// Sends an answer piece by piece, none of them during a stall.
async fn answer<S: Socket>(
    stream: &mut Accepted<S>,
    service: &impl Service,
    kind: AnswerKind,
) -> std::io::Result<()> {
    let answers = service.answers();
    let mut sent = 0;
    loop {
        let piece = answers.piece(kind, sent);
        if piece.is_empty() {
            return Ok(());
        }
        service.hold().await;
        let whole = sent + piece.len() as u64;
        let counts = matches!(kind, AnswerKind::Served { .. }) && answers.is_whole(kind, whole);
        if counts {
            service.answered(true);
        }
        if let Err(e) = send(stream, piece).await {
            if counts {
                service.answered(false);
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
