//! The last head that was parsed whole, and what it came to. A target mostly sends the same one
//! again, but for a date that changes once a second: comparing it takes a tenth of parsing it.
//!
//! One for the whole process, so that lanes take no memory for it. A reader that meets a writer has
//! not found what it looks for, and parses.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};

/// Longest head that is kept, in words of eight bytes.
const WORDS: usize = 64;
/// Of heads that differ from the one that is kept, every how manieth takes its place: where all of
/// them differ, keeping them would cost more than it saves.
const KEEP_EVERY: u32 = 32;

/// What a head came to, in two words that mean nothing here.
pub(super) type Outcome = [u64; 2];

pub(super) struct Memo {
    /// Odd while it is written.
    version: AtomicU32,
    /// Heads that it was no help with; approximate.
    missed: AtomicU32,
    /// In bytes; 0 before the first.
    length: AtomicU32,
    outcome: [AtomicU64; 2],
    head: [AtomicU64; WORDS],
}

impl Memo {
    pub(super) const fn new() -> Self {
        Memo {
            version: AtomicU32::new(0),
            missed: AtomicU32::new(0),
            length: AtomicU32::new(0),
            outcome: [const { AtomicU64::new(0) }; 2],
            head: [const { AtomicU64::new(0) }; WORDS],
        }
    }

    /// What `bytes` begin with, if that is the head that is kept: its length and its outcome.
    #[inline]
    pub(super) fn find(&self, bytes: &[u8]) -> Option<(usize, Outcome)> {
        let version = self.version.load(Acquire);
        let length = self.length.load(Relaxed) as usize;
        let head = bytes.get(..length).filter(|head| !head.is_empty())?;
        let (words, rest) = head.as_chunks::<8>();
        // Without a branch for each word: a head that differs does so in few of its words, mostly late.
        let apart = |(a, b): (&[u8; 8], &AtomicU64)| u64::from_ne_bytes(*a) ^ b.load(Relaxed);
        let differs = words.iter().zip(&self.head).map(apart).fold(0, |all, one| all | one);
        if differs != 0
            || (!rest.is_empty() && word(rest) != self.head.get(words.len())?.load(Relaxed))
        {
            return None;
        }
        let outcome = [self.outcome[0].load(Relaxed), self.outcome[1].load(Relaxed)];
        fence(Acquire);
        let whole = version.is_multiple_of(2) && self.version.load(Relaxed) == version;
        whole.then_some((length, outcome))
    }

    /// Keeps a head that [`Memo::find`] did not find, unless it is too long or not its turn.
    #[inline]
    pub(super) fn keep(&self, head: &[u8], outcome: Outcome) {
        let missed = self.missed.load(Relaxed);
        self.missed.store(missed.wrapping_add(1), Relaxed);
        if missed.is_multiple_of(KEEP_EVERY) && head.len() <= 8 * WORDS {
            self.write(head, outcome);
        }
    }

    #[cold]
    fn write(&self, head: &[u8], outcome: Outcome) {
        let version = self.version.load(Relaxed);
        let odd = version | 1;
        if odd == version || self.version.compare_exchange(version, odd, Acquire, Relaxed).is_err()
        {
            return;
        }
        fence(Release);
        for (kept, bytes) in self.head.iter().zip(head.chunks(8)) {
            kept.store(word(bytes), Relaxed);
        }
        self.outcome.iter().zip(outcome).for_each(|(kept, word)| kept.store(word, Relaxed));
        self.length.store(head.len() as u32, Relaxed);
        self.version.store(odd.wrapping_add(1), Release);
    }
}

/// Up to eight bytes, zeros behind them.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_ne_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_bytes_are_found() {
        let memo = Memo::new();
        assert_eq!(memo.find(b""), None);
        assert_eq!(memo.find(&[0; 100]), None);
        for length in 1..8 * WORDS {
            let memo = Memo::new();
            let head: Vec<u8> = (0..length).map(|i| (i * 7 + 1) as u8).collect();
            memo.keep(&head, [length as u64, 9]);
            let with_body = [&head[..], b"body"].concat();
            assert_eq!(memo.find(&head), Some((length, [length as u64, 9])));
            assert_eq!(memo.find(&with_body), Some((length, [length as u64, 9])));
            assert_eq!(memo.find(&head[..length - 1]), None);
            for at in [0, length / 2, length - 1] {
                let mut other = with_body.clone();
                other[at] ^= 1;
                assert_eq!(memo.find(&other), None, "byte {at} of {length}");
            }
        }
        let memo = Memo::new();
        memo.keep(&[1; 8 * WORDS + 1], [1, 1]);
        assert_eq!(memo.find(&[1; 600]), None, "too long to keep");
    }

    /// Four threads keep heads of their own and look for them; what is found is whole.
    #[test]
    fn a_head_is_never_found_with_the_outcome_of_another() {
        let memo = Memo::new();
        let found: u64 = std::thread::scope(|scope| {
            let look = |thread: u64| {
                let memo = &memo;
                scope.spawn(move || {
                    let mut found = 0;
                    for round in 0..20_000 {
                        let head = [(thread * 61 + round % 7) as u8; 300];
                        let outcome = [u64::from(head[0]), !u64::from(head[0])];
                        match memo.find(&head) {
                            Some(got) => assert_eq!(got, (300, outcome)),
                            None => memo.write(&head, outcome),
                        }
                        found += u64::from(memo.find(&head).is_some());
                    }
                    found
                })
            };
            let threads: Vec<_> = (0..4).map(look).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert!(found > 0);
    }
}
