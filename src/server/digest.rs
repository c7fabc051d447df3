//! What a target was sent, as a digest: proof that engines sent the same requests.
//!
//! Engines send in different orders over different connections, so the digest is one of a
//! multiset: the sum modulo 2^256 of the SHA-256 of each raw request, head and body as they came
//! (AdHash; Bellare and Micciancio 1997, "A new paradigm for collision-free hashing"). It guards
//! against mistakes, for which a sum is enough, not against an adversary.
//!
//! Beside the sum each request's number and the first half of its own digest are kept, so that
//! two runs that differ can be told where.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::plan::prepare::NUMBER_HEADER;

/// Bytes of one request in [`Report::requests`]: number, then the first half of its digest.
const ENTRY_BYTES: usize = 24;

/// A sum of SHA-256 digests modulo 2^256, least significant word first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Multiset([u64; 4]);

impl Multiset {
    pub(crate) fn add(&mut self, digest: &[u8; 32]) {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(digest.chunks_exact(8)) {
            *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        self.plus(&Multiset(words));
    }

    pub(crate) fn plus(&mut self, other: &Multiset) {
        let mut carry = false;
        for (word, added) in self.0.iter_mut().zip(other.0) {
            let (sum, over) = word.overflowing_add(added);
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            (*word, carry) = (sum, over || over_again);
        }
    }

    /// In hexadecimal, most significant word first.
    pub(crate) fn hex(&self) -> String {
        self.0.iter().rev().map(|word| format!("{word:016x}")).collect()
    }
}

/// One request as a target saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// What its number header says; `u64::MAX` without one.
    pub number: u64,
    /// The first half of its SHA-256.
    pub digest: [u8; 16],
}

impl Seen {
    /// A request of this number and these raw bytes, and its whole digest.
    pub fn of(number: u64, raw: &[u8]) -> (Seen, [u8; 32]) {
        Self::finished(number, Sha256::new_with_prefix(raw))
    }

    fn finished(number: u64, hash: Sha256) -> (Seen, [u8; 32]) {
        let whole: [u8; 32] = hash.finalize().into();
        let mut digest = [0; 16];
        digest.copy_from_slice(&whole[..16]);
        (Seen { number, digest }, whole)
    }
}

/// The requests of a target, in the order in which they came.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    sum: Multiset,
    entries: Vec<u8>,
}

impl Log {
    pub(super) fn add(&mut self, ongoing: &mut Ongoing) {
        let Ongoing { hash, number, .. } = std::mem::take(ongoing);
        let (seen, whole) = Seen::finished(number.unwrap_or(u64::MAX), hash);
        self.sum.add(&whole);
        self.entries.extend_from_slice(&seen.number.to_le_bytes());
        self.entries.extend_from_slice(&seen.digest);
    }

    pub(super) fn report(&self) -> Report {
        Report { sum: self.sum.hex(), requests: STANDARD_NO_PAD.encode(&self.entries) }
    }
}

/// What a target says of its requests at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`Multiset::hex`].
    pub sum: String,
    /// Base64 of each request's number (8 bytes, little-endian) and half digest (16 bytes).
    pub requests: String,
}

impl Report {
    /// Sum and requests.
    ///
    /// # Errors
    /// Text that no target wrote.
    pub fn decode(&self) -> anyhow::Result<(Multiset, Vec<Seen>)> {
        let torn = || anyhow::anyhow!("the target's digest cannot be read");
        let mut words = [0; 4];
        for (word, at) in words.iter_mut().rev().zip([0, 16, 32, 48]) {
            let digits = self.sum.get(at..at + 16).ok_or_else(torn)?;
            *word = u64::from_str_radix(digits, 16).map_err(|_| torn())?;
        }
        let bytes = STANDARD_NO_PAD.decode(&self.requests).map_err(|_| torn())?;
        let entry = |bytes: &[u8]| {
            let (mut number, mut digest) = ([0; 8], [0; 16]);
            number.copy_from_slice(&bytes[..8]);
            digest.copy_from_slice(&bytes[8..]);
            Seen { number: u64::from_le_bytes(number), digest }
        };
        anyhow::ensure!(bytes.len() % ENTRY_BYTES == 0, torn());
        Ok((Multiset(words), bytes.chunks_exact(ENTRY_BYTES).map(entry).collect()))
    }
}

/// A request on its way in.
#[derive(Debug, Clone, Default)]
pub(super) struct Ongoing {
    hash: Sha256,
    number: Option<u64>,
    begun: bool,
}

impl Ongoing {
    /// Takes raw bytes; the first ones hold the whole head, which is parsed at once.
    pub(super) fn feed(&mut self, raw: &[u8]) {
        if raw.is_empty() {
            return;
        }
        if !self.begun {
            self.begun = true;
            self.number = number(raw);
        }
        self.hash.update(raw);
    }
}

fn number(head: &[u8]) -> Option<u64> {
    let mut lines = head.split(|byte| *byte == b'\n').take_while(|line| line.len() > 1);
    let value = lines.find_map(|line| {
        let (name, value) = line.split_at_checked(NUMBER_HEADER.len())?;
        name.eq_ignore_ascii_case(NUMBER_HEADER.as_bytes()).then(|| value.strip_prefix(b":"))?
    })?;
    std::str::from_utf8(value.trim_ascii()).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(requests: &[&[u8]]) -> (Multiset, Vec<Seen>) {
        let mut log = Log::default();
        for request in requests {
            let mut ongoing = Ongoing::default();
            // In pieces, the head whole.
            let head = request.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
            ongoing.feed(&request[..head]);
            request[head..].chunks(2).for_each(|piece| ongoing.feed(piece));
            log.add(&mut ongoing);
        }
        log.report().decode().unwrap()
    }

    const ONE: &[u8] = b"GET /1 HTTP/1.1\r\nx-duel-request: 1\r\n\r\n";
    const TWO: &[u8] = b"POST /2 HTTP/1.1\r\nhost: x\r\nX-Duel-Request:2\r\n\r\nbody";

    #[test]
    fn the_sum_knows_no_order_and_every_byte() {
        let (sum, seen) = log(&[ONE, TWO, ONE]);
        assert_eq!(sum, log(&[TWO, ONE, ONE]).0, "the order decides");
        assert_ne!(sum, log(&[ONE, TWO]).0, "how often decides nothing");
        assert_ne!(sum, log(&[ONE, TWO, TWO]).0);
        let changed = [ONE, b"POST /2 HTTP/1.1\r\nhost: x\r\nX-Duel-Request:2\r\n\r\nbodY", ONE];
        assert_ne!(sum, log(&changed).0, "a byte of the body decides nothing");
        assert_eq!(seen.iter().map(|s| s.number).collect::<Vec<_>>(), [1, 2, 1]);
        assert_eq!(seen[1], Seen::of(2, TWO).0);
        let bare = b"GET / HTTP/1.1\r\n\r\nx-duel-request: 9\r\n";
        assert_eq!(log(&[bare]).1[0].number, u64::MAX, "a body holds no number");
    }

    #[test]
    fn the_sum_carries_from_word_to_word() {
        let mut sum = Multiset::default();
        sum.add(&[0xff; 32]);
        let mut one = [0; 32];
        one[0] = 1;
        sum.add(&one);
        assert_eq!(sum, Multiset::default(), "2^256 − 1 and 1 are 0");
        sum.add(&one);
        assert_eq!(sum.hex(), format!("{:064x}", 1));
    }

    #[test]
    fn what_no_target_wrote_is_refused() {
        let good = Log::default().report();
        assert!(good.decode().is_ok());
        for (sum, requests) in [("", ""), (&*good.sum, "AAAA"), (&*good.sum, "!")] {
            let report = Report { sum: sum.into(), requests: requests.into() };
            assert!(report.decode().is_err(), "{report:?}");
        }
    }
}
