//! The response parser on any bytes in any split: no panic, bounded leftovers, and an outcome
//! that does not depend on the split.
//!
//! Run: `RUSTC_BOOTSTRAP=1 cargo fuzz run response -- -max_total_time=600`

#![no_main]

use duel::codec::parse::{Answer, MAX_HEAD, ParseError, Progress, ResponseParser};
use libfuzzer_sys::fuzz_target;

type Outcome = Result<(Answer, Vec<u8>), ParseError>;

/// Feeds the stream in reads of the given sizes, in turn, and then its end.
fn outcome(stream: &[u8], reads: &[usize], request_is_head: bool) -> Outcome {
    let mut parser = ResponseParser::new(request_is_head);
    let mut body = Vec::new();
    let (mut consumed, mut read) = (0, 0usize);
    for size in reads.iter().cycle() {
        read = stream.len().min(read.saturating_add(*size));
        match parser.feed_with(&stream[consumed..read], |part| body.extend_from_slice(part))? {
            Progress::NeedMore { consumed: more } => consumed += more,
            Progress::Done { consumed: more, answer } => {
                assert!(consumed + more <= read, "more consumed than given");
                assert_eq!(answer.body_bytes, body.len() as u64, "counted and shown bytes differ");
                return Ok((answer, body));
            }
        }
        assert!(consumed <= read, "more consumed than given");
        assert!(read - consumed < MAX_HEAD, "{} bytes left with the caller", read - consumed);
        if read == stream.len() {
            break;
        }
    }
    let answer = parser.eof(&stream[consumed..])?;
    assert!(!answer.keep_alive, "an ended connection was called alive");
    Ok((answer, body))
}

fuzz_target!(|data: &[u8]| {
    let [flags, first, second, stream @ ..] = data else { return };
    let request_is_head = flags & 1 == 1;
    let reads = [usize::from(*first) + 1, usize::from(*second) + 1];
    let whole = outcome(stream, &[usize::MAX], request_is_head);
    assert_eq!(outcome(stream, &reads, request_is_head), whole, "reads of {reads:?}");
    assert_eq!(outcome(stream, &[1], request_is_head), whole, "byte by byte");
});
