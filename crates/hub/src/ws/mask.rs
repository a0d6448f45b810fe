//! The mask of a client's payload (RFC 6455 §5.3).

/// Bytes per step. Four words a step let the compiler use the widest vector registers that it may.
const STEP_BYTES: usize = 32;

/// Masks or unmasks `payload` in place, at any alignment; doing it twice gives the same bytes again.
///
/// `offset` is how many bytes of the frame's payload came before these: only its value modulo 4 matters.
pub fn unmask(payload: &mut [u8], key: [u8; 4], offset: usize) {
    let mut key = key;
    key.rotate_left(offset % 4);
    let word = u64::from(u32::from_ne_bytes(key));
    let word = word << 32 | word;
    let (steps, rest) = payload.as_chunks_mut::<STEP_BYTES>();
    for step in steps {
        for bytes in step.as_chunks_mut::<8>().0 {
            *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
        }
    }
    let (words, rest) = rest.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    // Steps and words are multiples of four, so the key stands at its first byte again.
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn section_5_7_the_example_of_a_masked_hello() {
        let mut payload = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        unmask(&mut payload, [0x37, 0xfa, 0x21, 0x3d], 0);
        assert_eq!(&payload, b"Hello");
    }

    proptest! {
        #[test]
        fn section_5_3_agrees_with_the_formula_at_every_alignment(
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            key: [u8; 4],
            skip in 0_usize..16,
            offset: usize,
        ) {
            let skip = skip.min(payload.len());
            let mut unmasked = payload.clone();
            unmask(&mut unmasked[skip..], key, offset);
            for (i, byte) in unmasked.iter().enumerate() {
                let mask = if i < skip { 0 } else { key[(i - skip + offset % 4) % 4] };
                prop_assert_eq!(*byte, payload[i] ^ mask);
            }
        }
    }
}
