//! What clients publish, and who hears of the answer.

use proptest::prelude::*;
use trestle_messages::Position;

use super::script::{Stage, check};
use super::world::{EPOCH, World};
use crate::encode::Publish;
use crate::limits::Limits;
use crate::protocol::Protocol;
use trestle_recorder::RecordRules;

#[test]
fn a_publication_is_answered_with_its_position_or_the_reason() {
    check(
        r#"a opens json
           b opens proto
           a says {"id":1,"publish":{"topic":"x","text":"hi"}}
           b says {"id":2,"publish":{"topic":"x","data":{"a":1},"key":"k"}}
           a says {"id":3,"publish":{"topic":"n","parts":[{"text":"a"},{"base64":"AA=="}]}}
           b says {"id":4,"publish":{"topic":"y","base64":"AA"}}
           published @1
           published @2
           published unrecorded
           unpublished unconfirmed"#,
        "a: welcome 25000 @0
         b: welcome 25000 @0
         a: published 1 @1
         b: published 2 @2
         a: published 3
         b: error 4 unconfirmed",
    );
}

#[test]
fn an_answer_for_who_has_gone_is_nobodys() {
    // The number is given out again; the answer belonged to the earlier client.
    check(
        r#"a opens json
           a says {"id":1,"publish":{"topic":"x","text":"hi"}}
           a leaves
           b opens json
           b says {"id":1,"publish":{"topic":"x","text":"ho"}}
           published @1
           published @2"#,
        "a: welcome 25000 @0
         a: gone
         b: welcome 25000 @0
         b: published 1 @2",
    );
}

#[test]
fn behind_a_close_frame_nothing_is_answered() {
    check(
        r#"a opens json
           a stalls 0
           a says {"id":1,"publish":{"topic":"x","text":"hi"}}
           restart 0s
           published @1
           a reads"#,
        "a: welcome 25000 @0
         a: goodbye restarting 250
         a: close 1012",
    );
}

#[test]
fn who_has_many_without_an_answer_is_not_read() {
    let limits = Limits { publications_max: 3, publication_bytes_max: 1_000, ..Limits::default() };
    let mut stage = Stage::new(limits);
    stage.play("a opens json");
    let session = stage.world.clients[0].session.unwrap();
    for id in 0..3 {
        assert!(stage.world.hub.wants_read(session));
        stage.play(&format!(r#"a says {{"id":{id},"publish":{{"topic":"x","text":"hi"}}}}"#));
    }
    assert!(!stage.world.hub.wants_read(session));
    stage.play("unpublished rate_limited");
    assert!(stage.world.hub.wants_read(session));
    let long = "-".repeat(1_000);
    stage.play(&format!(r#"a says {{"id":3,"publish":{{"topic":"x","text":"{long}"}}}}"#));
    assert!(!stage.world.hub.wants_read(session));
    for _ in 0..3 {
        stage.play("published @1");
    }
    assert!(stage.world.hub.wants_read(session));
    assert_eq!(stage.world.hub.counts().refused.iter().sum::<u64>(), 1);
}

#[derive(Debug, Clone)]
enum Step {
    Publish { client: usize, body: Vec<u8> },
    Answer { recorded: bool },
    Leave { client: usize },
    Come,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<usize>(), any::<Vec<u8>>()).prop_map(|(client, body)| Step::Publish { client, body }),
        3 => any::<bool>().prop_map(|recorded| Step::Answer { recorded }),
        1 => any::<usize>().prop_map(|client| Step::Leave { client }),
        1 => Just(Step::Come),
    ]
}

proptest! {
    /// Whoever stays hears each of its answers once, with the position that was given, and nobody else's.
    #[test]
    fn each_hears_its_own_answers(steps in proptest::collection::vec(step(), 0..60)) {
        let mut world = World::new(Limits::default(), RecordRules::everything());
        let mut here = vec![world.open(Protocol::Json, [])];
        // By client: how many replies are due. In flight: by whom, and the body.
        let (mut due, mut in_flight) = (vec![Vec::new()], std::collections::VecDeque::new());
        let mut offset = 0;
        for step in steps {
            match step {
                Step::Publish { client, body } if !here.is_empty() => {
                    let client = here[client % here.len()];
                    let id = due[client].len() + in_flight.iter().filter(|(by, _)| *by == client).count();
                    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &body);
                    let publish = format!(r#"{{"topic":"x/{client}","base64":"{base64}"}}"#);
                    world.say(client, &format!(r#"{{"id":{id},"publish":{publish}}}"#));
                    in_flight.push_back((client, body));
                }
                Step::Answer { recorded } if !in_flight.is_empty() => {
                    let (client, body) = in_flight.pop_front().unwrap();
                    offset += 1;
                    let position = recorded.then_some(Position { epoch: EPOCH, offset });
                    let topic = format!("x/{client}").into_bytes();
                    let publish = world.answer(Ok(position));
                    prop_assert_eq!(publish, Publish { topic, body: vec![body], key: None });
                    let id = due[client].len();
                    let position = position.map_or(String::new(), |at| format!(r#""position":"{at}""#));
                    due[client].push(format!(r#"{{"reply":{{"id":{id},"published":{{{position}}}}}}}"#));
                }
                Step::Leave { client } if !here.is_empty() => {
                    let client = here.swap_remove(client % here.len());
                    world.leave(client);
                }
                Step::Come => {
                    here.push(world.open(Protocol::Json, []));
                    due.push(Vec::new());
                }
                _ => {}
            }
            world.settle();
        }
        for client in here {
            let heard = world.clients[client].seen.iter().skip(1);
            let heard: Vec<_> = heard.map(|seen| match seen {
                super::client::Seen::Text(text) => text.clone(),
                other => panic!("{other:?}"),
            }).collect();
            prop_assert_eq!(&heard, &due[client]);
        }
    }
}
