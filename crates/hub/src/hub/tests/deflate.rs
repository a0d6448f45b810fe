//! Compression: once for all who want it, where it pays.

use super::client::masked;
use super::script::Stage;
use crate::hub::SessionId;
use crate::limits::Limits;
use crate::protocol::Protocol;
use crate::ws::{Deflate, DeflateWindow, Deflater, Incoming, Inflater, Opcode, server_frame};

const FULL: Option<Deflate> = Some(Deflate { window: DeflateWindow::Full });
const SMALL: Option<Deflate> = Some(Deflate { window: DeflateWindow::Small });
/// Of a frame's first byte.
const RSV1: u8 = 0x40;

fn stage() -> Stage {
    Stage::new(Limits { message_bytes_max: 1_000, ..Limits::default() })
}

/// What a visit gives to each session: where it is in memory, and the bytes.
fn visit_all(stage: &mut Stage, sessions: &[SessionId]) -> Vec<(*const u8, Vec<u8>)> {
    sessions
        .iter()
        .map(|session| {
            let mut given = (std::ptr::null(), Vec::new());
            stage.world.hub.visit(*session, |slices| {
                given.0 = slices[0].as_ptr();
                slices.iter().for_each(|slice| given.1.extend_from_slice(slice));
                Ok(slices.iter().map(|slice| slice.len()).sum())
            });
            given
        })
        .collect()
}

fn open(stage: &mut Stage, deflate: Option<Deflate>) -> SessionId {
    stage.world.hub.open(Protocol::RustWebsocket, deflate, everything(), [&b"x"[..]])
}

fn inflate(frame: &[u8]) -> Vec<u8> {
    assert_eq!(frame[0], 0xc1, "a whole text, compressed");
    let header_bytes = if frame[1] == 126 { 4 } else { 2 };
    match Inflater::new(10_000).inflate(true, &frame[header_bytes..]).unwrap() {
        Incoming::Text(text) => text.as_bytes().to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_message_is_compressed_once_for_each_window() {
    let mut stage = stage();
    let full = [0; 3].map(|_| open(&mut stage, FULL));
    let small = [0; 2].map(|_| open(&mut stage, SMALL));
    let plain = open(&mut stage, None);
    let body = "progress ".repeat(50);
    stage.world.append(b"x", body.as_bytes());
    stage.world.route();
    let full = visit_all(&mut stage, &full);
    let small = visit_all(&mut stage, &small);
    assert!(full.iter().all(|given| given.0 == full[0].0), "one frame for all");
    assert!(small.iter().all(|given| given.0 == small[0].0));
    for frame in [&full[0].1, &small[0].1] {
        assert!(frame.len() < body.len() / 4);
        assert_eq!(inflate(frame), body.as_bytes());
    }
    assert_eq!(visit_all(&mut stage, &[plain])[0].1, server_frame(Opcode::Text, body.as_bytes()));
}

#[test]
fn it_is_not_where_it_does_not_pay() {
    let mut stage = stage();
    let sessions = [0; 3].map(|_| open(&mut stage, FULL));
    // Three readers are too few, for the fourth it is done.
    let body = "progress ".repeat(50);
    stage.world.append(b"x", body.as_bytes());
    stage.world.route();
    assert!(visit_all(&mut stage, &sessions).iter().all(|(_, frame)| frame[0] & RSV1 == 0));
    let all = [sessions[0], sessions[1], sessions[2], open(&mut stage, FULL)];
    for (body, is_compressed) in [("progress ".repeat(50), true), ("short ".repeat(20), false)] {
        stage.world.append(b"x", body.as_bytes());
        stage.world.route();
        let given = visit_all(&mut stage, &all);
        assert!(given.iter().all(|(_, frame)| (frame[0] & RSV1 != 0) == is_compressed), "{body}");
    }
}

#[test]
fn a_slow_client_is_given_what_is_compressed_already() {
    let mut stage = stage();
    let sessions = [0; 5].map(|_| open(&mut stage, FULL));
    let body = "progress ".repeat(50);
    for _ in 0..2 {
        stage.world.append(b"x", body.as_bytes());
        stage.world.route();
        let blocked = |_: &[std::io::IoSlice<'_>]| Err(std::io::ErrorKind::WouldBlock.into());
        stage.world.hub.visit(sessions[0], blocked);
        visit_all(&mut stage, &sessions[1..]);
        let dirty = stage.world.hub.take_dirty();
        stage.world.hub.end_turn(dirty);
    }
    let (_, given) = visit_all(&mut stage, &sessions[..1]).remove(0);
    let frame_bytes = given.len() / 2;
    assert_eq!(inflate(&given[..frame_bytes]), body.as_bytes());
    assert_eq!(given[..frame_bytes], given[frame_bytes..]);
}

fn compressed(text: &str) -> Vec<u8> {
    let frame =
        Deflater::new().frame(Opcode::Text, text.as_bytes(), DeflateWindow::Full).expect("it is shorter");
    let header_bytes = if frame[1] == 126 { 4 } else { 2 };
    let mut frame = masked(Opcode::Text, &frame[header_bytes..]);
    frame[0] |= RSV1;
    frame
}

#[test]
fn a_compressed_command_is_obeyed() {
    let mut stage = stage();
    let session = stage.world.hub.open(Protocol::Json, FULL, everything(), []);
    let command = format!(r#"{{"id":1,"subscribe":{{"topics":["{}"]}}}}"#, "x".repeat(100));
    stage.world.hub.receive(session, &mut compressed(&command));
    assert_eq!(stage.world.hub.n_subscriptions(), 1);
}

#[test]
fn a_bomb_closes_with_1009() {
    let mut stage = stage();
    let session = stage.world.hub.open(Protocol::Json, FULL, everything(), []);
    visit_all(&mut stage, &[session]);
    stage.world.hub.receive(session, &mut compressed(&"0".repeat(100_000)));
    let (_, frame) = visit_all(&mut stage, &[session]).remove(0);
    assert_eq!((frame[0], &frame[2..4]), (0x88, &1009u16.to_be_bytes()[..]));
}

#[test]
fn what_was_not_agreed_on_closes_with_1002() {
    let mut stage = stage();
    let session = stage.world.hub.open(Protocol::Json, None, everything(), []);
    visit_all(&mut stage, &[session]);
    stage.world.hub.receive(session, &mut compressed(&"0".repeat(1_000)));
    let (_, frame) = visit_all(&mut stage, &[session]).remove(0);
    assert_eq!((frame[0], &frame[2..4]), (0x88, &1002u16.to_be_bytes()[..]));
}

fn everything() -> std::sync::Arc<crate::Grant> {
    std::sync::Arc::new(crate::Grant::everything())
}
