//! Wants in, changes out.

use proptest::prelude::*;
use trestle_recorder::RecordRule;

use super::*;

/// The default.
const PREFIXES_MAX: usize = 10_000;
const LINGER: Duration = Duration::from_secs(2);

fn rules(prefixes: &[&str]) -> RecordRules {
    prefixes.iter().map(|prefix| RecordRule::new(*prefix)).collect()
}

fn told(wants: &mut Wants) -> Vec<String> {
    let text = |sign: char, prefix: &[u8]| format!("{sign}{}", String::from_utf8_lossy(prefix));
    let changes = wants.changes().into_iter().map(|change| match change {
        Change::Subscribe(prefix) => text('+', &prefix),
        Change::Unsubscribe(prefix) => text('-', &prefix),
    });
    changes.collect()
}

#[test]
fn only_what_is_not_recorded_goes_up_on_its_own() {
    let (mut wants, now) = (Wants::new(LINGER, PREFIXES_MAX), Instant::now());
    wants.record(rules(&["jobs/", "chat/"]), now);
    assert_eq!(told(&mut wants), ["+chat/", "+jobs/"]);
    for prefix in ["jobs/42", "jobs/", "job", "x", "x"] {
        wants.add(prefix.as_bytes().into());
    }
    assert_eq!(told(&mut wants), ["+job", "+x"]);
    assert!(wants.reaches(b"jobs/1") && wants.reaches(b"jo b") == wants.reaches(b"jo"));
    assert_eq!(wants.len(), 4);
}

#[test]
fn the_last_removal_lingers() {
    let (mut wants, start) = (Wants::new(LINGER, PREFIXES_MAX), Instant::now());
    wants.add(b"x"[..].into());
    wants.add(b"x"[..].into());
    wants.remove(b"x"[..].into(), start);
    wants.tick(start + LINGER * 2);
    assert_eq!(told(&mut wants), ["+x"], "one still wants it");

    wants.remove(b"x"[..].into(), start);
    wants.tick(start + LINGER / 2);
    wants.add(b"x"[..].into());
    wants.tick(start + LINGER * 2);
    assert_eq!(told(&mut wants), [""; 0], "a reload churns nothing");

    wants.remove(b"x"[..].into(), start + LINGER * 2);
    wants.tick(start + LINGER * 3);
    assert_eq!(told(&mut wants), ["-x"]);
    assert!(!wants.reaches(b"x"));
}

#[test]
fn a_storm_that_leaves_is_ended_bit_by_bit() {
    let (mut wants, start) = (Wants::new(LINGER, PREFIXES_MAX), Instant::now());
    let prefixes: Vec<Box<[u8]>> = (0..5_000u32).map(|n| n.to_be_bytes()[..].into()).collect();
    prefixes.iter().for_each(|prefix| wants.add(prefix.clone()));
    assert_eq!(wants.changes().len(), 5_000);
    prefixes.into_iter().for_each(|prefix| wants.remove(prefix, start));
    let ended = [(); 4].map(|()| {
        wants.tick(start + LINGER);
        wants.changes().len()
    });
    assert_eq!(ended, [2_000, 2_000, 1_000, 0]);
    assert_eq!((wants.len(), wants.leaving.capacity()), (0, 0));
}

#[test]
fn rules_that_change_move_the_border() {
    let (mut wants, start) = (Wants::new(LINGER, PREFIXES_MAX), Instant::now());
    wants.add(b"jobs/1"[..].into());
    wants.add(b"x"[..].into());
    wants.record(rules(&["jobs/"]), start);
    wants.tick(start + LINGER);
    assert_eq!(told(&mut wants), ["+jobs/1", "+x", "+jobs/", "-jobs/1"]);
    wants.record(rules(&[]), start);
    wants.tick(start + LINGER);
    assert_eq!(told(&mut wants), ["+jobs/1", "-jobs/"]);
}

#[test]
fn too_many_neighbours_are_asked_for_as_one() {
    let (mut wants, start) = (Wants::new(LINGER, 4), Instant::now());
    for prefix in ["jobs/10", "jobs/11", "user/1", "zoo"] {
        wants.add(prefix.as_bytes().into());
    }
    assert_eq!(wants.n_joined(), 0);
    wants.changes();
    // All four that fit and the fifth have nothing in common, and at this bound are joined all at once.
    wants.add(b"user/2"[..].into());
    assert_eq!(told(&mut wants)[..2], ["+user/2", "+"]);
    assert_eq!((wants.len(), wants.n_joined()), (1, 5));
    for prefix in ["jobs/10", "jobs/11", "user/1"] {
        wants.remove(prefix.as_bytes().into(), start);
    }
    wants.tick(start);
    assert_eq!(
        told(&mut wants),
        ["+user/2", "+zoo"],
        "two of four are few enough to be asked for by themselves"
    );
    wants.tick(start + LINGER);
    assert_eq!(told(&mut wants), ["-"]);
}

#[test]
fn those_with_most_in_common_are_joined() {
    let (mut wants, start) = (Wants::new(LINGER, PREFIXES_MAX), Instant::now());
    let user = |n: usize| -> Box<[u8]> { format!("user/{n:06}").into_bytes().into() };
    (0..2 * PREFIXES_MAX).for_each(|n| wants.add(user(n)));
    for room in ["chat/lobby", "jobs/"] {
        wants.add(room.as_bytes().into());
    }
    assert!(wants.len() <= PREFIXES_MAX, "{}", wants.len());
    assert!((0..2 * PREFIXES_MAX).all(|n| wants.reaches(&user(n))));
    assert!(!wants.reaches(b"chat/l") && !wants.reaches(b"user/1") && !wants.reaches(b"system"));
    (0..2 * PREFIXES_MAX).for_each(|n| wants.remove(user(n), start));
    while wants.len() > 2 {
        wants.tick(start + LINGER);
    }
    assert!(wants.reaches(b"jobs/1") && !wants.reaches(b"user/000001"));
}

#[test]
fn what_lingers_makes_room() {
    let (mut wants, start) = (Wants::new(LINGER, 2), Instant::now());
    for prefix in ["a", "b", "c", "d"] {
        wants.add(prefix.as_bytes().into());
        wants.remove(prefix.as_bytes().into(), start);
    }
    assert_eq!(told(&mut wants), ["+a", "+b", "+c", "-a", "+d", "-b"]);
}

/// Those that are asked for by themselves again stood beside what lingered, half as many again as the bound.
#[test]
fn what_lingers_makes_room_for_those_that_part() {
    let (mut wants, start) = (Wants::new(LINGER, 110), Instant::now());
    let prefix = |letter: char, n: usize| -> Box<[u8]> { format!("{letter}/{n:03}").into_bytes().into() };
    (0..100).for_each(|n| wants.add(prefix('u', n)));
    (0..105).for_each(|n| wants.add(prefix('x', n)));
    assert!(wants.n_joined() >= 100);
    let mut subscribed = BTreeSet::new();
    apply(&mut wants, &mut subscribed);
    (0..50).for_each(|n| wants.remove(prefix('u', n), start));
    (0..100).for_each(|n| wants.remove(prefix('x', n), start));
    apply(&mut wants, &mut subscribed);
    assert!(subscribed.len() > 100, "they linger");
    wants.tick(start);
    assert_eq!(wants.n_joined(), 0);
    assert!(apply(&mut wants, &mut subscribed) <= 112);
    assert!((50..100).all(|n| subscribed.contains(&prefix('u', n))));
}

proptest! {
    /// However wants and rules come and go: once everything has lingered, exactly what is recorded or wanted and not
    /// covered is subscribed, unless that is more than half the bound; and at no time does a wanted topic not reach, or
    /// the bound not hold.
    #[test]
    fn agrees_with_a_list(
        script in proptest::collection::vec((0u8..3, "[ab]{0,2}"), 0..40),
        prefixes_max in 2usize..20,
    ) {
        let (mut wants, mut now) = (Wants::new(LINGER, prefixes_max), Instant::now());
        let (mut list, mut ruled) = (Vec::<String>::new(), Vec::<String>::new());
        let mut subscribed = BTreeSet::<Box<[u8]>>::new();
        for (verb, prefix) in script {
            match verb {
                0 => { wants.add(prefix.as_bytes().into()); list.push(prefix); }
                1 => {
                    if let Some(i) = list.iter().position(|p| *p == prefix) { list.swap_remove(i); }
                    wants.remove(prefix.as_bytes().into(), now);
                }
                _ => {
                    ruled = if prefix.is_empty() { Vec::new() } else { vec![prefix] };
                    wants.record(rules(&ruled.iter().map(|r| &r[..]).collect::<Vec<_>>()), now);
                }
            }
            now += Duration::from_millis(700);
            wants.tick(now);
            let most = apply(&mut wants, &mut subscribed);
            // A shorter one stands before those that it replaces end; where rules change, so do all of theirs.
            prop_assert!(verb > 1 || most <= prefixes_max + ruled.len() + 2, "{} for a moment", most);
            let reached = |p: &String| subscribed.iter().any(|up| p.as_bytes().starts_with(up));
            prop_assert!(list.iter().chain(&ruled).all(reached));
            prop_assert!(subscribed.len() <= prefixes_max + ruled.len());
        }
        wants.tick(now + LINGER);
        wants.tick(now + LINGER * 2);
        apply(&mut wants, &mut subscribed);
        let on_demand: BTreeSet<_> =
            list.iter().filter(|p| !ruled.iter().any(|rule| p.starts_with(rule))).collect();
        let n_on_demand = on_demand.len();
        let expected: BTreeSet<Box<[u8]>> =
            on_demand.into_iter().chain(&ruled).map(|prefix| prefix.as_bytes().into()).collect();
        if n_on_demand <= prefixes_max / 2 {
            prop_assert_eq!(subscribed, expected);
        } else if wants.n_joined() == 0 {
            prop_assert_eq!(subscribed, expected);
        } else {
            prop_assert!(wants.n_joined() <= n_on_demand);
        }
    }
}

/// The most that were subscribed meanwhile.
fn apply(wants: &mut Wants, subscribed: &mut BTreeSet<Box<[u8]>>) -> usize {
    let mut most = 0;
    for change in wants.changes() {
        match change {
            Change::Subscribe(prefix) => assert!(subscribed.insert(prefix), "told once"),
            Change::Unsubscribe(prefix) => assert!(subscribed.remove(&prefix), "was told"),
        }
        most = most.max(subscribed.len());
    }
    most
}
