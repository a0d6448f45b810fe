//! The mark in each body, by which messages are found in whatever a server makes of them.
//!
//! A mark is plain text that stands unescaped in JSON: `@@` and four letters of this run and `:`, 8 digits of the
//! message's number, 16 digits of its time. Clients search the raw bytes of a connection for it, so that finding one costs
//! the same in every framing, and a message of another run is not even seen.

use memchr::memmem::Finder;

/// Bytes of a mark.
pub const MARK_BYTES: usize = NEEDLE_BYTES + SEQ_DIGITS + TIME_DIGITS;
const NEEDLE_BYTES: usize = 7;
const SEQ_DIGITS: usize = 8;
const TIME_DIGITS: usize = 16;

/// The highest number of a message; higher ones are warm-up.
pub const SEQ_MAX: u64 = 89_999_999;
/// The first number of warm-up messages.
pub const WARM_UP: u32 = 90_000_000;

/// What a mark says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The message's number, from 0; from [`WARM_UP`] for warm-up messages.
    pub seq: u32,
    /// When it was published or should have been, by the run's clock, ns.
    pub time_ns: u64,
}

/// What stands where a mark begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A whole mark.
    Mark(Mark),
    /// Its beginning, and then no digits.
    Broken,
}

/// Writes and finds the marks of one run.
#[derive(Debug, Clone)]
pub struct Marker {
    needle: [u8; NEEDLE_BYTES],
    finder: Finder<'static>,
}

impl Marker {
    /// The marks of the run that is called `nonce`; of its bits 20 count.
    pub fn new(nonce: u64) -> Self {
        let letter = |nth: u32| b'a' + u8::try_from((nonce >> (5 * nth)) % 26).expect("below 26");
        let needle = [b'@', b'@', letter(0), letter(1), letter(2), letter(3), b':'];
        Self { needle, finder: Finder::new(&needle).into_owned() }
    }

    /// Writes `mark` over the first [`MARK_BYTES`] of `place`.
    pub fn write(&self, mark: Mark, place: &mut [u8]) {
        place[..NEEDLE_BYTES].copy_from_slice(&self.needle);
        digits(mark.seq.into(), &mut place[NEEDLE_BYTES..NEEDLE_BYTES + SEQ_DIGITS]);
        digits(mark.time_ns, &mut place[NEEDLE_BYTES + SEQ_DIGITS..MARK_BYTES]);
    }

    /// Tells `found` of every mark in `bytes`. Gives back where to begin when more has come: at most [`MARK_BYTES`] − 1
    /// bytes from the end, and behind the last mark.
    pub fn scan(&self, bytes: &[u8], mut found: impl FnMut(Found)) -> usize {
        let mut from = 0;
        while let Some(at) = self.finder.find(&bytes[from..]) {
            let at = from + at;
            let Some(mark) = bytes.get(at..at + MARK_BYTES) else { break };
            match read(mark) {
                Some(mark) => {
                    found(Found::Mark(mark));
                    from = at + MARK_BYTES;
                }
                None => {
                    found(Found::Broken);
                    from = at + NEEDLE_BYTES;
                }
            }
        }
        from.max(bytes.len().saturating_sub(MARK_BYTES - 1))
    }

    /// Where the first mark begins in `bytes`.
    pub fn find(&self, bytes: &[u8]) -> Option<usize> {
        self.finder.find(bytes)
    }
}

/// The mark that `bytes` are, [`MARK_BYTES`] long, if its digits are.
pub fn read(bytes: &[u8]) -> Option<Mark> {
    let eight = |from: usize| eight_digits(bytes[from..from + 8].try_into().expect("8 bytes"));
    let seq = eight(NEEDLE_BYTES)?;
    let time_ns = eight(NEEDLE_BYTES + 8)? * 100_000_000 + eight(NEEDLE_BYTES + 16)?;
    Some(Mark { seq: u32::try_from(seq).expect("8 digits"), time_ns })
}

/// The decimal number of eight digits, all at once in a register: a third of the time of one after the other.
fn eight_digits(text: [u8; 8]) -> Option<u64> {
    let text = u64::from_le_bytes(text);
    let high = text & 0xf0f0_f0f0_f0f0_f0f0;
    let above_nine = (text.wrapping_add(0x0606_0606_0606_0606)) & 0xf0f0_f0f0_f0f0_f0f0;
    if high != 0x3030_3030_3030_3030 || above_nine != 0x3030_3030_3030_3030 {
        return None;
    }
    let ones = text & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = (ones * 10 + (ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some((fours * 10_000 + (fours >> 32)) & 0xffff_ffff)
}

fn digits(mut number: u64, place: &mut [u8]) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("below 10");
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mark() -> impl Strategy<Value = Mark> {
        (0..100_000_000u32, 0..10_000_000_000_000_000u64).prop_map(|(seq, time_ns)| Mark { seq, time_ns })
    }

    /// What a connection's reader does: each read is scanned behind what the one before left.
    fn scan_in_reads(marker: &Marker, stream: &[u8], mut cuts: Vec<usize>) -> Vec<Found> {
        cuts.iter_mut().for_each(|cut| *cut %= stream.len() + 1);
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let (mut all, mut carry) = (Vec::new(), Vec::new());
        for ends in cuts.windows(2) {
            carry.extend_from_slice(&stream[ends[0]..ends[1]]);
            let rest = marker.scan(&carry, |found| all.push(found));
            carry.drain(..rest);
            assert!(carry.len() < MARK_BYTES);
        }
        all
    }

    proptest! {
        #[test]
        fn each_mark_is_found_once_however_the_stream_is_cut(
            nonce: u64,
            items in prop::collection::vec((prop::collection::vec(prop::sample::select(b"@@:ab0".to_vec()), 0..40), mark()), 0..8),
            cuts in prop::collection::vec(any::<usize>(), 0..40),
        ) {
            let marker = Marker::new(nonce);
            let mut stream = Vec::new();
            for (noise, mark) in &items {
                stream.extend_from_slice(noise);
                let at = stream.len();
                stream.resize(at + MARK_BYTES, 0);
                marker.write(*mark, &mut stream[at..]);
            }
            let expected: Vec<_> = items.iter().map(|(_, mark)| Found::Mark(*mark)).collect();
            let found = scan_in_reads(&marker, &stream, cuts);
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn only_digits_are_a_number(text: [u8; 8], number in 0..100_000_000u64) {
            let expected = text.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(&text).unwrap().parse().unwrap());
            prop_assert_eq!(eight_digits(text), expected);
            prop_assert_eq!(eight_digits(format!("{number:08}").into_bytes().try_into().unwrap()), Some(number));
        }
    }

    #[test]
    fn a_mark_of_another_run_is_not_seen_and_a_broken_one_is() {
        let (mine, other) = (Marker::new(1), Marker::new(2));
        let mut stream = [0; 2 * MARK_BYTES];
        other.write(Mark { seq: 1, time_ns: 2 }, &mut stream);
        mine.write(Mark { seq: 3, time_ns: 4 }, &mut stream[MARK_BYTES..]);
        stream[MARK_BYTES + 20] = b'x';
        let mut all = Vec::new();
        mine.scan(&stream, |found| all.push(found));
        assert_eq!(all, [Found::Broken]);
    }
}
