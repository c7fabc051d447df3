//! The last head that a thread has seen: most responses of a run begin with the very same bytes.
//!
//! What a head decides follows from its bytes and from whether the request was a HEAD, from nothing
//! else, so equal bytes need no second look. A server that dates its answers misses once a second;
//! one whose heads all differ costs a comparison that ends early and one small copy a response.

use std::cell::RefCell;

use super::At;

/// Longest head that is kept: it lies in the memory of every thread that is a lane.
const LONGEST: usize = 512;

/// What a whole head decides of its response.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verdict {
    pub(super) at: At,
    pub(super) remaining: u64,
    pub(super) status: u16,
    pub(super) keep_alive: bool,
}

struct Last {
    bytes: [u8; LONGEST],
    /// Zero while there is none.
    length: usize,
    request_is_head: bool,
    verdict: Verdict,
}

const NOTHING: Verdict = Verdict { at: At::Head, remaining: 0, status: 0, keep_alive: false };

thread_local! {
    static LAST: RefCell<Last> = const {
        let bytes = [0; LONGEST];
        RefCell::new(Last { bytes, length: 0, request_is_head: false, verdict: NOTHING })
    };
}

/// The length and the verdict of the last head, if `bytes` begin with it.
#[inline]
pub(super) fn recall(bytes: &[u8], request_is_head: bool) -> Option<(usize, Verdict)> {
    LAST.with_borrow(|last| {
        let known = last.length > 0
            && last.request_is_head == request_is_head
            && bytes.starts_with(&last.bytes[..last.length]);
        known.then_some((last.length, last.verdict))
    })
}

/// Keeps a whole head, from its first byte to its blank line.
pub(super) fn keep(head: &[u8], request_is_head: bool, verdict: Verdict) {
    if head.len() > LONGEST {
        return;
    }
    LAST.with_borrow_mut(|last| {
        last.bytes[..head.len()].copy_from_slice(head);
        last.length = head.len();
        last.request_is_head = request_is_head;
        last.verdict = verdict;
    });
}
