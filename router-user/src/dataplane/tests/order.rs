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
