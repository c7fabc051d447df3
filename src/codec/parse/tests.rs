use proptest::prelude::*;

use super::*;

/// What a stream turned into: an answer with the bytes behind it, a fault, or still waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Answer(Answer, Vec<u8>, usize),
    Fault(ParseError),
    Waiting,
}

/// Feeds the pieces as a lane would, keeping what was not consumed; `eof` closes behind them.
fn outcome<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    request_is_head: bool,
    eof: bool,
) -> Outcome {
    let mut parser = ResponseParser::new(request_is_head);
    let (mut buffer, mut body, mut answer) = (Vec::new(), Vec::new(), None);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if answer.is_some() {
            continue;
        }
        let consumed = match parser.feed_with(&buffer, |part| body.extend_from_slice(part)) {
            Ok(Progress::NeedMore { consumed }) => consumed,
            Ok(Progress::Done { consumed, answer: done }) => {
                answer = Some(done);
                consumed
            }
            Err(error) => return Outcome::Fault(error),
        };
        buffer.drain(..consumed);
        assert!(
            answer.is_some() || buffer.len() < MAX_HEAD,
            "{} bytes left with the caller",
            buffer.len()
        );
    }
    if answer.is_none() && eof {
        match parser.eof(&buffer) {
            Ok(done) => answer = Some(done),
            Err(error) => return Outcome::Fault(error),
        }
    }
    match answer {
        None => Outcome::Waiting,
        Some(answer) => {
            assert_eq!(answer.body_bytes, body.len() as u64, "counted and shown bytes differ");
            Outcome::Answer(answer, body, buffer.len())
        }
    }
}

fn whole(bytes: &[u8]) -> Outcome {
    outcome([bytes], false, false)
}

fn closed(bytes: &[u8]) -> Outcome {
    outcome([bytes], false, true)
}

fn answers(status: u16, body: &[u8], keep_alive: bool) -> Outcome {
    let body_bytes = body.len() as u64;
    Outcome::Answer(Answer { status, body_bytes, keep_alive }, body.to_vec(), 0)
}

const NGINX: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.26.3\r\nDate: Mon, 06 Jul 2026 12:00:00 GMT\r\n\
    Content-Type: text/html\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello";

#[test]
fn the_state_of_a_lane_stays_small() {
    assert!(size_of::<ResponseParser>() <= 32, "{} bytes", size_of::<ResponseParser>());
    assert!(size_of::<Answer>() <= 16, "{} bytes", size_of::<Answer>());
}

#[test]
fn a_parser_that_is_done_takes_no_further_bytes() {
    let mut parser = ResponseParser::new(false);
    let answer = Answer { status: 200, body_bytes: 5, keep_alive: true };
    for _ in 0..3 {
        let done = Progress::Done { consumed: NGINX.len(), answer };
        assert_eq!(parser.feed(NGINX), Ok(done));
        assert_eq!(parser.feed(b"more"), Ok(Progress::Done { consumed: 0, answer }));
        parser = ResponseParser::new(false);
    }
    parser = ResponseParser::new(true);
    let head_only = Answer { body_bytes: 0, ..answer };
    let consumed = NGINX.len() - 5;
    assert_eq!(parser.feed(NGINX), Ok(Progress::Done { consumed, answer: head_only }));
}

#[test]
fn bytes_behind_the_answer_are_not_consumed() {
    let twice = [NGINX, NGINX].concat();
    let Outcome::Answer(answer, _, left) = whole(&twice) else { panic!("no answer") };
    assert_eq!((answer.body_bytes, left), (5, NGINX.len()));
}

#[test]
fn the_end_of_the_stream_is_named_by_what_it_cut() {
    for (bytes, error) in [
        (&b""[..], ParseError::NoResponse),
        (b"\r\n", ParseError::NoResponse),
        (b"HTTP/1.1 200 OK\r\nServer: x", ParseError::HeadCut),
        (b"HTTP/1.1 100 Continue\r\n\r\n", ParseError::HeadCut),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", ParseError::BodyCut),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfour", ParseError::BodyCut),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            ParseError::BodyCut,
        ),
    ] {
        assert_eq!(closed(bytes), Outcome::Fault(error), "{}", bytes.escape_ascii());
    }
    assert_eq!(closed(b"HTTP/1.1 200 OK\r\n\r\nall of it"), answers(200, b"all of it", false));
    assert_eq!(whole(b"HTTP/1.1 200 OK\r\n\r\nall of it"), Outcome::Waiting);
}

#[test]
fn connection_tokens_decide_over_the_version() {
    for (head, keep) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", true),
        ("HTTP/1.0 204 No Content\r\n\r\n", false),
        ("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", false),
        ("HTTP/1.1 204 No Content\r\nCONNECTION: Upgrade , CLOSE\r\n\r\n", false),
        ("HTTP/1.1 204 No Content\r\nConnection: keep-alive, close\r\n\r\n", false),
        ("HTTP/1.1 204 No Content\r\nConnection: closed\r\n\r\n", true),
        ("HTTP/1.0 204 No Content\r\nConnection: Keep-Alive\r\n\r\n", true),
        ("HTTP/1.0 204 No Content\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n", false),
        ("HTTP/1.0 204 No Content\r\nconnection: keep-alive\r\nconnection: close\r\n\r\n", false),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", false),
    ] {
        let status = head[9..12].parse().unwrap();
        assert_eq!(whole(head.as_bytes()), answers(status, b"", keep), "{head}");
    }
}

#[test]
fn heads_are_bounded_whatever_the_reads() {
    let head = |filler: usize| {
        let mut head = b"HTTP/1.1 204 No Content\r\nX: ".to_vec();
        head.resize(head.len() + filler, b'x');
        head.extend_from_slice(b"\r\n\r\n");
        head
    };
    let longest = MAX_HEAD - head(0).len();
    for read in [1024, 1000, usize::MAX] {
        let fit = head(longest);
        assert_eq!(outcome(fit.chunks(read), false, false), answers(204, b"", true), "{read}");
        let one_more = head(longest + 1);
        let fault = Outcome::Fault(ParseError::HeadTooLong);
        assert_eq!(outcome(one_more.chunks(read), false, false), fault, "{read}");
        let blank = b"\r\n".repeat(MAX_HEAD);
        assert_eq!(outcome(blank.chunks(read), false, false), fault, "{read} of blank lines");
    }
}

#[test]
fn headers_and_informational_responses_are_bounded() {
    let headers = |count: usize| {
        [b"HTTP/1.1 204 x\r\n".to_vec(), b"a: b\r\n".repeat(count), b"\r\n".to_vec()].concat()
    };
    // On both sides of the table that lies ready, and of the one for many headers.
    for count in [USUAL_HEADERS, USUAL_HEADERS + 1, MAX_HEADERS] {
        assert_eq!(whole(&headers(count)), answers(204, b"", true), "{count} headers");
    }
    let too_many = Outcome::Fault(ParseError::TooManyHeaders);
    assert_eq!(whole(&headers(MAX_HEADERS + 1)), too_many);
    let hints = |count: usize| {
        [b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".repeat(count), NGINX.to_vec()].concat()
    };
    assert_eq!(whole(&hints(MAX_INFORMATIONAL.into())), answers(200, b"hello", true));
    let too_many = whole(&hints(usize::from(MAX_INFORMATIONAL) + 1));
    assert_eq!(too_many, Outcome::Fault(ParseError::TooManyInformational));
}

#[test]
fn chunk_extensions_and_trailers_are_bounded() {
    let chunked = |extension: usize, trailers: usize, trailer: usize| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;".to_vec();
        bytes.resize(bytes.len() + extension, b'e');
        bytes.extend_from_slice(b"\r\nhi\r\n0\r\n");
        for _ in 0..trailers {
            bytes.extend_from_slice(b"t:");
            bytes.resize(bytes.len() + trailer, b't');
            bytes.extend_from_slice(b"\r\n");
        }
        [&bytes[..], b"\r\n"].concat()
    };
    assert_eq!(whole(&chunked(16_383, MAX_HEADERS, 100)), answers(200, b"hi", true));
    assert_eq!(whole(&chunked(0, 1, 32_761)), answers(200, b"hi", true));
    for (hostile, what) in [
        (chunked(16_384, 0, 0), "extension"),
        (chunked(0, MAX_HEADERS + 1, 1), "trailers"),
        (chunked(0, 1, 32_762), "trailer"),
    ] {
        let fault = whole(&hostile);
        assert!(matches!(fault, Outcome::Fault(ParseError::Framing(_))), "{what}: {fault:?}");
    }
}

#[test]
fn bodies_beyond_any_buffer_only_count() {
    let mut parser = ResponseParser::new(false);
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n";
    assert_eq!(parser.feed(head), Ok(Progress::NeedMore { consumed: head.len() }));
    let piece = vec![0u8; 1 << 20];
    for _ in 0..99 {
        assert_eq!(parser.feed(&piece), Ok(Progress::NeedMore { consumed: piece.len() }));
    }
    let answer = Answer { status: 200, body_bytes: 100 << 20, keep_alive: true };
    assert_eq!(parser.feed(&piece), Ok(Progress::Done { consumed: piece.len(), answer }));
}

/// Pieces of responses, so that random concatenations get past the status line.
const FRAGMENTS: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 304\r\n",
    b"Content-Length: 3\r\n",
    b"content-length: 3, 3\r\n",
    b"Content-Length: 18446744073709551615\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"X: \x80\t\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"3\r\n",
    b"abc",
    b"3;x=y\r\nabc\r\n",
    b"0\r\n",
    b"ffffffffffffffff\r\n",
    b"t: v\r\n",
    b"\0",
];

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        9 => prop::sample::select(FRAGMENTS).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(fragment, 0..14).prop_map(|fragments| fragments.concat())
}

proptest! {
    #[test]
    fn any_bytes_in_any_split_end_alike(
        bytes in prop_oneof![
            1 => prop::collection::vec(any::<u8>(), 0..300),
            2 => stream(),
            3 => stream().prop_map(|tail| [b"HTTP/1.1 200 OK\r\n", &tail[..]].concat()),
            3 => stream().prop_map(|tail| {
                [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &tail[..]].concat()
            }),
        ],
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        request_is_head in any::<bool>(),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        let at_once = outcome([&bytes[..]], request_is_head, true);
        prop_assert_eq!(&outcome(pieces, request_is_head, true), &at_once);
        prop_assert_eq!(&outcome(bytes.chunks(1), request_is_head, true), &at_once);
    }

    #[test]
    fn a_parser_in_error_never_panics(
        pieces in prop::collection::vec(stream(), 1..400),
    ) {
        let mut parser = ResponseParser::new(false);
        for piece in &pieces {
            if let Ok(Progress::NeedMore { consumed } | Progress::Done { consumed, .. }) =
                parser.feed(piece)
            {
                prop_assert!(consumed <= piece.len());
            }
        }
        let _ = parser.eof(b"");
    }
}
