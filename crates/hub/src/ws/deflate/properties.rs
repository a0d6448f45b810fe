//! What holds for every message, compressed or pretending to be.

use std::io::Write as _;

use flate2::write::DeflateEncoder;
use flate2::{Compression, Decompress, FlushDecompress, Status};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::ws::{Incoming, Opcode, ReadError, Reader, client_frame};

/// What a frame of the [`Deflater`] carries.
fn payload_of(frame: &[u8]) -> &[u8] {
    match frame[1] {
        126 => &frame[4..],
        127 => &frame[10..],
        _ => &frame[2..],
    }
}

/// Data as a client compresses them, at any level.
fn deflated(data: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(data).unwrap();
    encoder.flush().unwrap();
    let flushed = encoder.get_ref().clone();
    // Nothing was written, so nothing was flushed (RFC 7692 §7.2.3.6).
    flushed.strip_suffix(&FLUSH_TAIL).map_or(vec![0], <[u8]>::to_vec)
}

/// Bytes that no compressor makes fewer.
pub(super) fn noise(seed: u32, len: usize) -> Vec<u8> {
    let step = |n: &u32| Some(n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    std::iter::successors(Some(seed), step).map(|n| (n >> 24) as u8).take(len).collect()
}

/// Messages from all the same to all different.
fn any_message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => vec(any::<u8>(), 0..600),
        1 => (any::<u32>(), 30_000_usize..140_000).prop_map(|(seed, len)| noise(seed, len)),
        8 => vec(0_u8..4, 0..3000),
        8 => (vec(any::<u8>(), 1..700), 1_usize..200).prop_map(|(word, n)| word.repeat(n)),
        8 => "(\\{\"topic\":\"[a-z]{3}/[0-9]{2}\",\"data\":[0-9]{1,5}\\}){0,80}".prop_map(String::into_bytes),
    ]
}

/// Deflate data with a few bytes changed, cut or added.
fn any_damaged() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>());
    let damage = (vec(change, 0..4), any::<prop::sample::Index>(), vec(any::<u8>(), 0..3));
    (any_message(), 0_u32..10, damage).prop_map(|(message, level, (changes, cut, more))| {
        let mut data = deflated(&message, level);
        for (at, byte) in changes {
            let at = at.index(data.len());
            data[at] = byte;
        }
        data.truncate(data.len() - cut.index(data.len() + 1) % 5);
        data.extend(more);
        data
    })
}

proptest! {
    #[test]
    fn what_is_compressed_for_a_client_is_smaller_and_inflates_within_its_window(
        messages in vec((any_message(), any::<bool>()), 1..5),
    ) {
        let mut deflater = Deflater::new();
        for (message, is_small) in messages {
            let window = DeflateWindow::ALL[usize::from(is_small)];
            let Some(frame) = deflater.frame(Opcode::Binary, &message, window) else { continue };
            let payload = payload_of(&frame);
            prop_assert!(payload.len() < message.len());
            // A client with exactly that window.
            let mut client = Decompress::new_with_window_bits(false, window.bits());
            let mut inflated = Vec::with_capacity(message.len() + 1);
            let data = [payload, &FLUSH_TAIL].concat();
            let status = client.decompress_vec(&data, &mut inflated, FlushDecompress::None);
            prop_assert_eq!(status.unwrap(), Status::Ok);
            prop_assert_eq!(inflated, message);
        }
    }

    #[test]
    fn whatever_level_a_client_uses_its_messages_come_through(
        messages in vec((any_message(), 0_u32..10), 1..5),
    ) {
        let mut inflater = Inflater::new(200_000);
        let mut reader = Reader::new(200_000, true);
        for (message, level) in messages {
            let mut wire = client_frame(Opcode::Binary, true, [5, 6, 7, 8], &deflated(&message, level));
            wire[0] |= 0x40;
            let mut input = &mut wire[..];
            let Ok(Some(Incoming::Compressed { text: false, payload })) = reader.next(&mut input) else {
                panic!("one compressed message was sent");
            };
            prop_assert_eq!(inflater.inflate(false, payload), Ok(Incoming::Binary(&message)));
        }
    }

    #[test]
    fn the_bound_is_exact_and_text_is_checked(message in any_message()) {
        let data = deflated(&message, 6);
        let is_text = str::from_utf8(&message).is_ok();
        let inflated = Inflater::new(message.len()).inflate(true, &data).map(|_| ());
        prop_assert_eq!(inflated, if is_text { Ok(()) } else { Err(ReadError::InvalidUtf8) });
        if let Some(less) = message.len().checked_sub(1) {
            let error = ReadError::TooLarge { message_bytes_max: less };
            let inflated = Inflater::new(less).inflate(true, &data).map(|_| ());
            prop_assert_eq!(inflated, Err(error));
        }
    }

    #[test]
    fn whatever_comes_stays_within_the_bound_and_harms_no_later_message(
        data in prop_oneof![vec(any::<u8>(), 0..400), any_damaged()],
        message_bytes_max in 0_usize..5000,
    ) {
        let mut inflater = Inflater::new(message_bytes_max);
        if let Ok(incoming) = inflater.inflate(false, &data) {
            let Incoming::Binary(message) = incoming else { panic!("{incoming:?} was not asked for") };
            prop_assert!(message.len() <= message_bytes_max);
        }
        prop_assert!(inflater.held_bytes() <= message_bytes_max + 1);
        let hello = deflated(&b"Hello"[..message_bytes_max.min(5)], 6);
        let expected = &b"Hello"[..message_bytes_max.min(5)];
        prop_assert_eq!(inflater.inflate(false, &hello), Ok(Incoming::Binary(expected)));
    }

    #[test]
    fn offers_with_known_parameters_in_range_are_met(
        params in prop::sample::subsequence(vec!["server_no", "client_no", "server_bits", "client_bits"], 0..=4).prop_shuffle(),
        (server_bits, client_bits) in (8_u8..=15, 8_u8..=15),
        is_quoted: bool,
    ) {
        let quote = if is_quoted { "\"" } else { "" };
        let params = params.iter().map(|param| match *param {
            "server_no" => "; server_no_context_takeover".to_owned(),
            "client_no" => ";client_no_context_takeover".to_owned(),
            "server_bits" => format!(" ; server_max_window_bits = {quote}{server_bits}{quote}"),
            _ => format!("; client_max_window_bits={quote}{client_bits}{quote}"),
        }).collect::<String>();
        let agreed = negotiate_deflate([format!("permessage-deflate{params}").as_bytes()]).unwrap();
        let asked = params.contains("server_max").then_some(server_bits);
        prop_assert_eq!(agreed.is_some(), asked != Some(8));
        if let Some((deflate, answer)) = agreed {
            prop_assert!(deflate.window.bits() <= asked.unwrap_or(15));
            let said = answer.split_once("server_max_window_bits=").map(|(_, bits)| bits.parse::<u8>().unwrap());
            prop_assert_eq!(said, asked.map(|_| deflate.window.bits()));
        }
    }

    #[test]
    fn offers_of_any_shape_are_answered_by_what_they_allow(
        offers in vec("(permessage-deflate|foo)(; ?(server_no_context_takeover|client_max_window_bits|server_max_window_bits|x)(=[0-9]{1,2})?){0,3}", 0..4),
    ) {
        let list = offers.join(", ");
        let together = negotiate_deflate([list.as_bytes()]).unwrap();
        // As in one list, so in several lines; and the first that is accepted alone is the one that is accepted.
        prop_assert_eq!(negotiate_deflate(offers.iter().map(|offer| offer.as_bytes())).unwrap(), together);
        let alone = offers.iter().find_map(|offer| negotiate_deflate([offer.as_bytes()]).unwrap());
        prop_assert_eq!(alone, together);
    }
}
