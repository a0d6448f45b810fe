//! How all clients of a shard are sent elsewhere: evenly, and without a message less.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;
use trestle_recorder::RecordRules;

use super::client::Seen;
use super::world::World;
use crate::limits::Limits;
use crate::protocol::Protocol;
use crate::wheel::TICK;

/// What one client saw, up to its close.
struct Leaving {
    events: u64,
    /// What goodbye said, counted from it.
    reconnect_after: Option<Duration>,
    is_closed: bool,
}

fn look(world: &World, client: usize) -> Leaving {
    let seen = &world.clients[client].seen;
    let goodbyes = seen.iter().filter_map(|seen| match seen {
        Seen::Text(text) => serde_json::from_str::<Value>(text).ok()?.get("goodbye").cloned(),
        _ => None,
    });
    let goodbyes: Vec<_> = goodbyes.collect();
    assert!(goodbyes.len() <= 1, "goodbye is said once: {goodbyes:?}");
    let after_ms = goodbyes.first().map(|goodbye| goodbye["reconnect_after_ms"].as_u64().expect("a time"));
    Leaving {
        events: world.n_events(client),
        reconnect_after: after_ms.map(Duration::from_millis),
        is_closed: seen.last() == Some(&Seen::Close(Some(1012))),
    }
}

proptest! {
    /// Each close comes within a tick of its place in the row, no message before it is missing, and those who come back
    /// when they were told never come in a crowd.
    #[test]
    fn closes_are_even_and_nothing_is_missing_before_them(n in 1usize..80, spread_ms in 0u64..40_000, n_raw in 0usize..20) {
        let mut world = World::new(Limits::default(), RecordRules::everything());
        let protocol = |client| if client % 20 < n_raw { Protocol::RustWebsocket } else { Protocol::Json };
        for client in 0..n {
            world.open(protocol(client), [&b"x"[..]]);
        }
        let (spread, start) = (Duration::from_millis(spread_ms), world.now);
        world.goodbye(spread);
        let mut closed_at = vec![None; n];
        let mut published = 0;
        loop {
            world.settle();
            let elapsed = world.now - start;
            for (client, closed_at) in closed_at.iter_mut().enumerate().filter(|(_, at)| at.is_none()) {
                let leaving = look(&world, client);
                prop_assert_eq!(leaving.events, published, "of client {}", client);
                *closed_at = leaving.is_closed.then_some(elapsed);
            }
            if closed_at.iter().all(Option::is_some) {
                break;
            }
            prop_assert!(elapsed <= spread + TICK, "some are never closed");
            published += 1;
            world.publish(b"x", b"until the close");
            world.settle();
            world.wait(TICK);
        }
        let mut back = Vec::new();
        for (client, closed_at) in closed_at.iter().enumerate() {
            let (due, closed_at) = (spread.mul_f64(client as f64 / n as f64), closed_at.expect("all are closed"));
            prop_assert!(due <= closed_at && closed_at <= due + TICK, "client {} at {:?}", client, closed_at);
            let told = look(&world, client).reconnect_after;
            prop_assert_eq!(told.is_some(), protocol(client) == Protocol::Json);
            if let Some(told) = told {
                prop_assert!(closed_at <= told + Duration::from_millis(1), "told {told:?}, closed at {closed_at:?}");
                back.push(told);
            }
        }
        let share = spread.mul_f64(1.0 / n as f64).saturating_sub(Duration::from_millis(1));
        prop_assert!(back.windows(2).all(|two| two[1] - two[0] >= share), "{:?}", back);
    }
}
