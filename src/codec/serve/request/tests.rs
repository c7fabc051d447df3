use proptest::prelude::*;

use super::*;

/// Offers `input` in pieces that end at `cuts`, as a connection does, and lists the results.
fn steps(input: &[u8], cuts: impl IntoIterator<Item = usize>) -> Vec<Step> {
    let mut parser = Parser::default();
    let (mut steps, mut pending, mut from) = (Vec::new(), Vec::new(), 0);
    for end in cuts.into_iter().chain([input.len()]) {
        let end = end.clamp(from, input.len());
        pending.extend_from_slice(&input[from..end]);
        from = end;
        loop {
            let (used, step) = parser.advance(&pending);
            pending.drain(..used);
            match step {
                Step::More => break,
                // Whether the body is there already depends on the cut, and so does this step.
                Step::Continue => {}
                Step::Whole(_) => steps.push(step),
                Step::Refused(_) => {
                    steps.push(step);
                    return steps;
                }
            }
        }
    }
    steps
}

fn whole(head_only: bool, persistence: Persistence) -> Step {
    Step::Whole(Request { head_only, persistence })
}

const PLAIN: Step = Step::Whole(Request { head_only: false, persistence: Persistence::Default });
const MALFORMED: Step = Step::Refused(Refusal::Malformed);
const TOO_LARGE: Step = Step::Refused(Refusal::TooLarge);

/// Requests and what they amount to, whole and cut at every byte.
fn check(input: impl AsRef<[u8]>, expected: &[Step]) {
    let input = input.as_ref();
    let text = String::from_utf8_lossy(&input[..input.len().min(200)]);
    assert_eq!(steps(input, []), expected, "whole: {text:?}");
    assert_eq!(steps(input, 0..input.len()), expected, "byte by byte: {text:?}");
}

#[test]
fn methods_and_versions() {
    check("GET / HTTP/1.1\r\nhost: a\r\n\r\n", &[PLAIN]);
    check("\r\n\r\nGET / HTTP/1.1\r\n\r\n", &[PLAIN]);
    check("GET / HTTP/1.1\n\n", &[PLAIN]);
    check("HEAD / HTTP/1.1\r\n\r\n", &[whole(true, Persistence::Default)]);
    check("GET / HTTP/1.0\r\n\r\n", &[whole(false, Persistence::Close)]);
    check("GET / HTTP/1.1\r\n\r", &[]);
    check("", &[]);
}

#[test]
fn persistence_follows_the_connection_header() {
    let close = whole(false, Persistence::Close);
    check("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n", &[close]);
    check("GET / HTTP/1.1\r\nConnection: te , close\r\n\r\n", &[close]);
    check("GET / HTTP/1.1\r\nConnection: te\r\nConnection: close\r\n\r\n", &[close]);
    check("GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n", &[PLAIN]);
    check("GET / HTTP/1.1\r\nConnection: closed\r\n\r\n", &[PLAIN]);
    let announced = whole(false, Persistence::Announced);
    check("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", &[announced]);
    check("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", &[close]);
}

#[test]
fn bodies_are_dropped_and_the_next_request_follows() {
    check("POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nGET /GET / HTTP/1.1\r\n\r\n", &[PLAIN; 2]);
    check("POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\nGET / HTTP/1.1\r\n\r\n", &[PLAIN; 2]);
    check("POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nGET ", &[]);
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n";
    let next = "GET / HTTP/1.1\r\n\r\n";
    check(format!("{chunked}5\r\nab\r\nc\r\n0\r\n\r\n{next}"), &[PLAIN; 2]);
    check(format!("{chunked}A;name=\"v\"\r\n0123456789\r\n000\r\n\r\n{next}"), &[PLAIN; 2]);
    check(format!("{chunked}0\r\ndigest: x\r\nother: y\r\n\r\n{next}"), &[PLAIN; 2]);
    check(format!("{chunked}1\r\nx\r\n0\r\n"), &[]);
}

#[test]
fn what_cannot_be_framed_is_refused() {
    for bad in [
        "nonsense\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}", // The first bytes of TLS.
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\na: \u{0}\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length:\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 1, 2\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n11111111111111111\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nbad trailer\r\n\r\n",
    ] {
        check(bad, &[MALFORMED]);
    }
    check("POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx", &[PLAIN]);
    check("POST / HTTP/1.1\r\ncontent-length: 1, 1\r\n\r\nx", &[PLAIN]);
    check("GET / HTTP/1.1\r\n\r\n garbage", &[PLAIN, MALFORMED]);
}

#[test]
fn heads_are_bounded_in_headers_and_in_bytes() {
    let with = |headers: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(headers));
    check(with(MAX_HEADERS), &[PLAIN]);
    check(with(MAX_HEADERS + 1), &[TOO_LARGE]);
    let long = |bytes: usize| {
        let fixed = "GET / HTTP/1.1\r\na: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(bytes - fixed))
    };
    assert_eq!(steps(long(MAX_HEAD).as_bytes(), []), [PLAIN]);
    for cut in [0, 1000, MAX_HEAD - 1, MAX_HEAD] {
        let input = long(MAX_HEAD + 1);
        assert_eq!(steps(input.as_bytes(), [cut]), [TOO_LARGE], "cut at {cut}");
    }
    assert_eq!(steps(&vec![b'a'; 10 * MAX_HEAD], (0..10).map(|i| i * MAX_HEAD)), [TOO_LARGE]);
}

#[test]
fn chunk_lines_and_trailers_are_bounded() {
    let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
    let extension = format!("{head}1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(MAX_CHUNK_LINE));
    check(extension, &[MALFORMED]);
    let trailers = format!("{head}0\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
    check(trailers, &[TOO_LARGE]);
}

#[test]
fn an_expectation_is_answered_only_while_the_body_is_missing() {
    let head = b"POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n";
    let mut parser = Parser::default();
    assert_eq!(parser.advance(head), (head.len(), Step::Continue));
    assert_eq!(parser.advance(b""), (0, Step::More), "the expectation is met once");
    assert_eq!(parser.advance(b"x"), (1, PLAIN));
    let together = [&head[..], b"x"].concat();
    assert_eq!(parser.advance(&together), (together.len(), PLAIN));
    let old = b"POST / HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n";
    assert_eq!(parser.advance(old), (old.len(), Step::More), "HTTP/1.0 knows no 100");
}

/// Streams that look like requests often enough to reach every phase.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        Just(b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n".to_vec()),
        Just(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n".to_vec()),
        Just(b"HEAD / HTTP/1.0\r\nconnection: keep-alive\r\n".to_vec()),
        Just(b"expect: 100-continue\r\n".to_vec()),
        Just(b"3\r\nabc\r\n".to_vec()),
        Just(b"0\r\n\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        prop::collection::vec(any::<u8>(), 0..12),
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        input in prop::collection::vec(any::<u8>(), 0..2000),
        cuts in prop::collection::vec(0usize..2000, 0..8),
    ) {
        steps(&input, cuts);
    }

    #[test]
    fn cuts_change_nothing(
        input in stream(),
        cuts in prop::collection::vec(0usize..300, 0..8),
    ) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        prop_assert_eq!(steps(&input, cuts), steps(&input, []));
        prop_assert_eq!(steps(&input, 0..input.len()), steps(&input, []));
    }
}
