//! What sessions cost, and that nothing of them stays.

use super::script::Stage;
use super::world::World;
use crate::limits::Limits;
use crate::protocol::Protocol;
use crate::session::Session;

/// The blueprint of an idle connection is 2 KiB in all; the kernel's socket and the connection's task are not in it.
const SESSION_BYTES_MAX: usize = 160;

#[test]
fn a_session_is_small() {
    println!("Session: {} bytes", size_of::<Session>());
    assert!(size_of::<Session>() <= SESSION_BYTES_MAX, "{} bytes", size_of::<Session>());
}

/// After a storm of 10,000 clients half a megabyte of places for them stayed, and their timers for as long as those had
/// been set: one of the last to go had one of the highest numbers.
#[test]
fn places_and_timers_of_a_storm_go_with_it() {
    let mut stage = Stage::new(Limits::default());
    let world = &mut stage.world;
    let mut clients: Vec<_> =
        (0..2_000).map(|_| world.open(Protocol::Json, std::iter::empty::<&[u8]>())).collect();
    world.settle();
    // Everybody but the newest.
    let newest = clients.pop().unwrap();
    clients.into_iter().for_each(|client| world.leave(client));
    assert_eq!(world.hub.sessions.len(), 1);
    world.leave(newest);
    assert!(world.hub.sessions.capacity() < 64 && world.hub.places.capacity() < 64);
    assert!(world.hub.wheel.is_empty());
}

fn open_and_leave(world: &mut World, n_clients: usize) {
    let clients: Vec<_> = (0..n_clients)
        .map(|n| {
            let protocol = Protocol::WEBSOCKET[n % 3];
            let topics = [format!("x/{n}"), format!("x/{}", n % 7), String::new()];
            world.open(protocol, topics.iter().map(String::as_bytes))
        })
        .collect();
    world.publish(b"x/1", b"hello");
    world.settle();
    clients.into_iter().for_each(|client| world.leave(client));
}

#[test]
fn nothing_stays_of_clients_that_left() {
    let mut stage = Stage::new(Limits::default());
    let world = &mut stage.world;
    for _ in 0..20 {
        open_and_leave(world, 100);
        assert_eq!((world.hub.n_sessions(), world.hub.n_subscriptions()), (0, 0));
        assert!(world.hub.subscribers.is_bare(), "no node but the root");
        assert!(world.wanted.is_empty());
    }
    assert!(world.hub.sessions.capacity() < 200, "numbers are used again");
    // The timers of those who left go with their time.
    world.wait(2 * Limits::default().half_open_timeout);
    assert!(world.hub.wheel.is_empty());
    assert_eq!(world.hub.outbox_bytes(), 0);
}
