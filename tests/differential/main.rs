//! Differential truth: the lean parser and hyper's client read the same bytes alike.
//!
//! Both get each response of a corpus whole, split at every byte and byte by byte, with the
//! connection held open or closed behind it, and must agree on status, body length, body checksum
//! and on whether the connection serves another request, or on fault or waiting. Where they do
//! not, `differences` says so and why. The other direction as well: what hyper writes is, byte
//! for byte, what a plan renders.

#[path = "../common/mod.rs"]
mod common;
mod corpus;
mod live;
mod memory;
mod wire;

use std::pin::Pin;
use std::task::Poll;

use corpus::{Case, corpus};
use duel::codec::parse::{Progress, ResponseParser};
use http::{Method, Request};
use http_body_util::Full;
use hyper::body::Body;
use memory::{End, Script, drive, handshake};
use proptest::prelude::*;

/// FNV-1a: enough to tell bodies apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Checksum(u64);

impl Checksum {
    const EMPTY: Self = Self(0xcbf2_9ce4_8422_2325);

    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// What a client makes of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Answer { status: u16, body_bytes: u64, checksum: Checksum, reusable: bool },
    Fault,
    Waiting,
}

fn lean(pieces: &[&[u8]], end: End, method: &Method) -> Outcome {
    let mut parser = ResponseParser::new(method == Method::HEAD);
    let (mut buffer, mut checksum, mut answer) = (Vec::new(), Checksum::EMPTY, None);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if answer.is_some() {
            continue;
        }
        let consumed = match parser.feed_with(&buffer, |part| checksum.add(part)) {
            Ok(Progress::NeedMore { consumed }) => consumed,
            Ok(Progress::Done { consumed, answer: done }) => {
                answer = Some(done);
                consumed
            }
            Err(_) => return Outcome::Fault,
        };
        buffer.drain(..consumed);
    }
    if answer.is_none() && end == End::Closed {
        match parser.eof(&buffer) {
            Ok(done) => answer = Some(done),
            Err(_) => return Outcome::Fault,
        }
    }
    let Some(answer) = answer else { return Outcome::Waiting };
    Outcome::Answer {
        status: answer.status,
        body_bytes: answer.body_bytes,
        checksum,
        reusable: answer.keep_alive && buffer.is_empty() && end == End::Open,
    }
}

fn hyper(pieces: &[&[u8]], end: End, method: &Method) -> Outcome {
    let (mut sender, connection) = handshake(Script::new(pieces, end));
    let mut connection = Some(connection);
    let request = Request::builder().method(method).uri("/").header("host", "test");
    let request = request.body(Full::default()).unwrap();
    let mut response = Box::pin(sender.send_request(request));
    let mut response = match drive(&mut connection, |cx| response.as_mut().poll(cx)) {
        None => return Outcome::Waiting,
        Some(Err(_)) => return Outcome::Fault,
        Some(Ok(response)) => response,
    };
    let (mut body_bytes, mut checksum) = (0, Checksum::EMPTY);
    loop {
        let body = response.body_mut();
        match drive(&mut connection, |cx| Pin::new(&mut *body).poll_frame(cx)) {
            None => return Outcome::Waiting,
            Some(None) => break,
            Some(Some(Err(_))) => return Outcome::Fault,
            Some(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    body_bytes += data.len() as u64;
                    checksum.add(&data);
                }
            }
        }
    }
    let reusable = matches!(drive(&mut connection, |cx| sender.poll_ready(cx)), Some(Ok(())));
    // Bytes that nobody asked for, or the end of the stream, end the connection one poll later.
    drive(&mut connection, |_| Poll::<()>::Pending);
    let reusable = reusable && connection.is_some();
    Outcome::Answer { status: response.status().as_u16(), body_bytes, checksum, reusable }
}

/// Where the parsers part: the case, the only end of which it holds (or both), what each makes of
/// it, and why that is right.
struct Difference {
    name: &'static str,
    end: Option<End>,
    lean: Outcome,
    hyper: Outcome,
    #[expect(dead_code, reason = "read by people")]
    why: &'static str,
}

fn differences() -> Vec<Difference> {
    let empty = |status, end| Outcome::Answer {
        status,
        body_bytes: 0,
        checksum: Checksum::EMPTY,
        reusable: end == End::Open,
    };
    let both_ends = |name, status, why| {
        [End::Open, End::Closed].map(|end| Difference {
            name,
            end: Some(end),
            lean: Outcome::Fault,
            hyper: empty(status, end),
            why,
        })
    };
    let mut all = Vec::new();
    all.extend(both_ends(
        "trailer ended by a bare LF",
        200,
        "hyper collects lines up to CR LF but parses them up to LF: it takes the first blank line \
         of either kind for the end and drops the rest unseen. Two readings of one stream are how \
         responses get smuggled; lean knows CR LF only.",
    ));
    all.extend(both_ends(
        "end of chunks by a bare LF",
        200,
        "As above: hyper drops a line unseen.",
    ));
    all.extend(both_ends(
        "101 responses of 1xx",
        204,
        "hyper takes any number; lean stops a target that goes on for ever at 100.",
    ));
    all.push(Difference {
        name: "cut behind a malformed trailer",
        end: Some(End::Open),
        lean: Outcome::Fault,
        hyper: Outcome::Waiting,
        why: "hyper parses trailers when their section ends, lean as they come: a fault is known \
              at once instead of at the timeout.",
    });
    all
}

/// Every way in which a case is given to both: whole, cut in two anywhere, byte by byte.
fn splits(bytes: &[u8]) -> Vec<Vec<&[u8]>> {
    let step = bytes.len().div_ceil(400).max(1);
    let cuts = (1..bytes.len()).step_by(step).map(|cut| {
        let (front, back) = bytes.split_at(cut);
        vec![front, back]
    });
    [vec![bytes], bytes.chunks(1).collect()].into_iter().chain(cuts).collect()
}

#[test]
fn lean_and_hyper_agree_on_the_corpus_in_every_split() {
    let (corpus, differences) = (corpus(), differences());
    assert!(corpus.len() >= 170, "the corpus shrank to {} responses", corpus.len());
    let mut seen = vec![false; differences.len()];
    let mut faults = Vec::new();
    for case in &corpus {
        for end in [End::Open, End::Closed] {
            let known = differences.iter().position(|difference| {
                difference.name == case.name && difference.end.is_none_or(|only| only == end)
            });
            if let Some(known) = known {
                seen[known] = true;
            }
            for pieces in splits(&case.bytes) {
                let found = (lean(&pieces, end, &case.method), hyper(&pieces, end, &case.method));
                let expected = match known.map(|known| &differences[known]) {
                    Some(known) => found == (known.lean.clone(), known.hyper.clone()),
                    None => found.0 == found.1,
                };
                if !expected {
                    let first: Vec<usize> =
                        pieces.iter().map(|piece| piece.len()).take(4).collect();
                    faults.push(format!("{}, {end:?}, read as {first:?}…: {found:?}", case.name));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} disagreements:\n{}", faults.len(), faults.join("\n"));
    let stale = differences.iter().zip(&seen).find(|(_, seen)| !**seen);
    assert!(stale.is_none(), "no such case: {}", stale.unwrap().0.name);
}

#[test]
fn the_corpus_has_every_outcome() {
    let outcomes: Vec<Outcome> =
        corpus().iter().map(|case| lean(&[&case.bytes], End::Open, &case.method)).collect();
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|o| wanted(o)).count();
    assert!(count(|o| matches!(o, Outcome::Answer { reusable: true, .. })) >= 40);
    assert!(count(|o| matches!(o, Outcome::Answer { reusable: false, .. })) >= 10);
    assert!(count(|o| *o == Outcome::Fault) >= 50);
    assert!(count(|o| *o == Outcome::Waiting) >= 15);
}

/// Cuts bytes at the given places.
fn cut<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect()
}

/// A case of the corpus with some bytes replaced, inserted or removed.
fn mutant() -> impl Strategy<Value = (Vec<u8>, Method)> {
    let byte =
        prop_oneof![prop::sample::select(b"\r\n\t :;,0159afHx\0\x7f\xff".to_vec()), any::<u8>()];
    let edit = (any::<prop::sample::Index>(), 0..3, byte);
    let short: Vec<Case> = corpus().into_iter().filter(|case| case.bytes.len() < 1000).collect();
    let case =
        (0..short.len()).prop_map(move |i| (short[i].bytes.clone(), short[i].method.clone()));
    (case, prop::collection::vec(edit, 1..4)).prop_map(|((mut bytes, method), edits)| {
        for (place, kind, byte) in edits {
            let at = place.index(bytes.len() + 1);
            match kind {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        (bytes, method)
    })
}

/// Whether a stream can reach the known differences in trailers, or that of blank lines before a
/// head: hyper, given them in a read of their own, looks at what follows only when it is whole,
/// so that a fault in it shows at the timeout.
fn may_differ(bytes: &[u8], end: End) -> bool {
    let chunked = bytes.to_ascii_lowercase().windows(7).any(|window| window == b"chunked");
    let bare_lf = (0..bytes.len()).any(|i| bytes[i] == b'\n' && (i == 0 || bytes[i - 1] != b'\r'));
    let blank_line = bytes.starts_with(b"\n") || bytes.starts_with(b"\r\n");
    chunked && bare_lf || (chunked || blank_line) && end == End::Open
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn lean_and_hyper_agree_on_mutants_of_the_corpus(
        (bytes, method) in mutant(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        end in prop::sample::select(vec![End::Open, End::Closed]),
    ) {
        let end = if may_differ(&bytes, end) { End::Closed } else { end };
        if may_differ(&bytes, end) {
            return Ok(());
        }
        let pieces = cut(&bytes, &cuts);
        prop_assert_eq!(
            lean(&pieces, end, &method),
            hyper(&pieces, end, &method),
            "lean and hyper on {}", bytes.escape_ascii()
        );
    }
}
