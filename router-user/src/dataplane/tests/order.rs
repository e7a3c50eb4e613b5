//! What waits for room, and in which order it takes it.

use super::*;

#[test]
fn a_port_that_waited_is_published_after_the_routes_that_waited_too() {
    let (world, mut reconciler) = start();
    let wide = vec![NextHop::Host; 64];
    let mut changes = vec![
        host(),
        group(1, &wide),
        group(2, &wide),
        route("11.0.0.0/8", 2),
    ];
    // As many as there are places, on interfaces that are not there.
    changes.extend((1..8).map(|n| port(&format!("absent{n}"), &[])));
    changes.push(port("vm1", &[]));
    apply(&mut reconciler, &changes);
    assert!(world.borrow().published.is_empty() && world.borrow().routes.is_empty());
    world.borrow_mut().log.clear();
    apply(
        &mut reconciler,
        &[
            Change::RemovePort("absent1".into()),
            Change::RemoveGroup(GroupId(1)),
        ],
    );
    grace(&world, &mut reconciler);
    let world = world.borrow();
    let at = |text: &str| world.log.iter().position(|it| it.starts_with(text));
    assert!(at("route").is_some(), "{:?}", world.log);
    assert!(at("route") < at("ifindex 1 port"), "{:?}", world.log);
}

#[test]
fn a_route_that_is_refused_does_not_hold_up_those_after_it() {
    let (world, mut reconciler) = start();
    let wide = vec![NextHop::Host; 64];
    apply(
        &mut reconciler,
        &[
            host(),
            group(1, &wide),
            group(2, &wide),
            // Its group never comes; that of the other one waits for room.
            route("10.0.0.0/8", 9),
            route("11.0.0.0/8", 2),
        ],
    );
    assert!(world.borrow().routes.is_empty());
    apply(&mut reconciler, &[Change::RemoveGroup(GroupId(1))]);
    grace(&world, &mut reconciler);
    let routes = &world.borrow().routes;
    assert_eq!(routes.len(), 1, "{:?}", reconciler.errors());
    let errors = reconciler.errors();
    assert!(
        errors.iter().any(|error| error.starts_with("1 routes")),
        "{errors:?}"
    );
}

#[test]
fn many_routes_that_wait_are_tried_again_part_by_part_to_the_last() {
    let (world, mut reconciler) = start();
    world.borrow_mut().max_routes = 100_000;
    let wide = vec![NextHop::Host; 64];
    let prefix = |n: u32| format!("11.{}.{}.0/24", n / 256, n % 256);
    let mut changes = vec![host(), group(1, &wide), group(2, &wide)];
    changes.extend((0..10_000).map(|n| route(&prefix(n), 2)));
    apply(&mut reconciler, &changes);
    apply(&mut reconciler, &[Change::RemoveGroup(GroupId(1))]);
    grace(&world, &mut reconciler);
    assert!(
        (1..10_000).contains(&world.borrow().routes.len()),
        "others wait meanwhile"
    );
    while reconciler.has_room() {
        reconciler.retry();
    }
    assert_eq!(world.borrow().routes.len(), 10_000);
    assert!(reconciler.errors().is_empty(), "{:?}", reconciler.errors());
}
