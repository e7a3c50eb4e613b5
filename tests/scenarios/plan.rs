//! `waypost plan`, then `waypost reload`, on a live network: what the UPDATEs at the appliances say, how
//! `bpftool`'s dumps of the kernel's maps differ, and how the rows of paths and of subnets do, is what
//! the plan said, and nothing else; and all of it happens at once.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use serde_json::Value;
use tests::{
    Lab,
    daemon::{Bird, Daemon, Frr, Policy},
    kernel_maps::{KernelMaps, dump},
    network::{Cable, Nva},
    overview::{INSTANCES, Overview, Running, firewall_peer},
    planned::{Watched, established, sessions},
    scenario,
    topology::{Kind, World, plan::member},
    until,
    updates::Told,
    waypost::{
        Config, PATIENCE, Waypost,
        config::{Peering, RouteTable, UserRoute},
    },
};

/// Within this a change is done, wherever it leads.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Changes of either kind that are timed.
const CHANGES: u8 = 10;

#[test]
fn a_reload_sends_and_writes_exactly_what_the_plan_said() -> Result<()> {
    scenario(|lab| {
        let overview = Overview::build(lab, 2, Cable::Straight)?;
        let (mut watched, _daemons) = watched(&overview)?;
        let second = overview.start_firewall(1)?;
        let mut config = watched.waypost.config().clone();
        watched.quiet()?;

        // A new peer: what it would announce nobody knows.
        config.peers().push(firewall_peer(&overview.firewalls[1]));
        let plan = watched.waypost.plan(&config)?;
        let added = sessions(&plan, "added")?;
        ensure!(
            added == BTreeSet::from(["fw2/1".into(), "fw2/2".into()]),
            "{plan}"
        );
        ensure!(plan["learned"] == Value::Array(vec![]), "{plan}");
        watched.waypost.reload(config.clone())?;
        watched.waypost.established(&["sdwan", "fw", "fw2"])?;
        watched.quiet()?;

        // A prefix of the network: the appliances are told, subnets deliver there.
        for (prefix, subnet) in ["10.3.0.0/16", "fd00:3::/48"]
            .into_iter()
            .zip(["10.3.1.0/24", "fd00:3:0:1::/64"])
        {
            config.network().prefixes.push(prefix.parse()?);
            config.network().subnet[1].prefixes.push(subnet.parse()?);
        }
        let step = watched.plan_and_reload("a prefix", config.clone())?;
        ensure!(
            step.sent == 6 * 2,
            "{step:?}: two prefixes to three peers, twice"
        );
        ensure!(step.written > 0, "{step:?}");

        // What one appliance is sent.
        let peers = config.peers();
        peers[0] = peers[0].clone().set("transparent", true);
        let step = watched.plan_and_reload("a peer's setting", config.clone())?;
        ensure!(step.sent > 0 && step.written == 0, "{step:?}");

        // A route by hand, for which no appliance is asked.
        let route = [
            ("prefix".to_owned(), "10.9.0.0/16".into()),
            ("next_hop".to_owned(), vec!["10.1.10.4"].into()),
        ];
        config.route_server[0].add("learned", route.into_iter().collect());
        let step = watched.plan_and_reload("a static route", config.clone())?;
        ensure!(step.sent > 0 && step.written == 1, "{step:?}");

        // Appliances are not told of each other.
        let settings = &mut config.route_server[0].settings;
        settings.insert("reflect_between_nvas".to_owned(), false.into());
        let step = watched.plan_and_reload("no reflection", config.clone())?;
        ensure!(step.sent > 0 && step.written == 0, "{step:?}");

        // One of two equal firewalls goes: half of the default route's next hops.
        config.peers().retain(|peer| peer.name != "fw2");
        let step = watched.plan_and_reload("a peer that goes", config.clone())?;
        ensure!(step.written == 2, "{step:?}: both default routes");
        ensure!(step.sent == 0, "{step:?}");
        drop(second);

        let plan = watched.waypost.plan(&config)?;
        ensure!(plan["changes"] == Value::Array(vec![]), "{plan}");
        Ok(())
    })
}

#[test]
fn changes_of_every_kind_do_what_the_plan_said() -> Result<()> {
    scenario(|lab| {
        let (mut watched, _daemons) = hub_and_spoke(lab)?;
        let mut config = watched.waypost.config().clone();
        watched.quiet()?;

        let settings = &mut config.route_server[0].settings;
        settings.insert("branch_to_branch".to_owned(), true.into());
        let step = watched.plan_and_reload("branch_to_branch", config.clone())?;
        ensure!(step.sent > 0 && step.written > 0, "{step:?}");

        // The shorter path of the two appliances wins now, there and at every party.
        let settings = &mut config.route_server[0].settings;
        settings.insert("routing_preference".to_owned(), "as_path".into());
        let step = watched.plan_and_reload("routing_preference", config.clone())?;
        ensure!(step.sent > 0 && step.written > 0, "{step:?}");
        ensure!(step.learned > 0 && step.effective > 0, "{step:?}");

        // Two prefixes to two appliances and the gateway's member, twice; the spoke learns.
        for (vnet, remote, transit) in [(0, "spoke", true), (1, "hub", false)] {
            config.vnet[vnet].peering.push(Peering {
                remote: remote.to_owned(),
                allow_gateway_transit: transit,
                use_remote_route_server: !transit,
                ..Peering::default()
            });
        }
        let step = watched.plan_and_reload("a peering", config.clone())?;
        ensure!(step.sent == 2 * 3 * 2, "{step:?}");
        ensure!(step.written > 0 && step.effective > 0, "{step:?}");

        let address = config.route_server[0].peer[0].address;
        config.route_table.push(RouteTable {
            name: "through-nva1".to_owned(),
            propagate_routes: vec!["express_route"].into(),
            route: vec![UserRoute {
                prefix: SHARED[0].parse()?,
                next_hop_type: "virtual_appliance".to_owned(),
                next_hop: Some(address),
            }],
        });
        config.vnet[1].subnet[0].route_table = Some("through-nva1".to_owned());
        let step = watched.plan_and_reload("a route table", config.clone())?;
        ensure!(step.sent == 0 && step.effective > 0, "{step:?}");

        // Attributes that others are sent, and three quarters of the flows.
        let mut rule = toml::Table::new();
        rule.insert("weight".to_owned(), 3.into());
        rule.insert("med".to_owned(), 50.into());
        let tags: toml::Value = vec!["65011:7", "large:65011:1:2"].into();
        rule.insert("community_add".to_owned(), tags);
        let mut map = toml::Table::new();
        map.insert("name".to_owned(), "heavy".into());
        map.insert("rule".to_owned(), vec![toml::Value::Table(rule)].into());
        config.route_server[0].add("route_map", map);
        let peers = config.peers();
        peers[1] = peers[1].clone().set("route_map_in", "heavy");
        let step = watched.plan_and_reload("a route map", config.clone())?;
        ensure!(
            step.sent > 0 && step.written > 0 && step.learned > 0,
            "{step:?}"
        );
        let maps = dump(&watched.gw)?;
        let uneven = maps.routes.values().any(|way| {
            let buckets: BTreeSet<usize> = way.next_hops.values().copied().collect();
            buckets.len() == 2 && buckets.first() < buckets.last()
        });
        ensure!(uneven, "no route is spread unevenly: {maps:?}");

        let settings = &mut config.route_server[0].settings;
        settings.insert("max_paths".to_owned(), 1.into());
        let step = watched.plan_and_reload("max_paths", config.clone())?;
        ensure!(step.sent == 0 && step.written > 0, "{step:?}");
        Ok(())
    })
}

#[test]
fn a_change_reaches_appliances_and_maps_within_a_second() -> Result<()> {
    scenario(|lab| {
        let overview = Overview::build(lab, 1, Cable::Straight)?;
        let (mut watched, (_site, mut sdwan, _firewall)) = watched(&overview)?;
        let mut config = watched.waypost.config().clone();
        let (mut reloads, mut updates) = (Vec::new(), Vec::new());
        for number in 0..CHANGES {
            watched.quiet()?;
            let prefix: IpNet = format!("10.{}.0.0/16", 100 + number).parse()?;
            config.network().prefixes.push(prefix);
            let captures = watched.captures()?;
            let start = Instant::now();
            watched.waypost.reload(config.clone())?;
            until("all are told, and the maps have it", PATIENCE, || {
                let told = watched.told(&captures)?;
                let has = |told: &&Vec<Told>| {
                    let mut told = told.iter();
                    told.any(|told| told.prefix == prefix && told.route.is_some())
                };
                let sessions = told.values().filter(has).count();
                ensure!(sessions == 4, "{sessions} of 4 sessions: {told:?}");
                let maps = dump(&watched.gw)?;
                ensure!(holds(&maps, "vm1", Table::Own, prefix), "{maps:?}");
                Ok(())
            })?;
            reloads.push(start.elapsed());

            let prefix: IpNet = format!("172.16.{number}.0/24").parse()?;
            let start = Instant::now();
            sdwan.announce(prefix)?;
            until("the maps have it", PATIENCE, || {
                let maps = dump(&watched.gw)?;
                ensure!(holds(&maps, "vm1", Table::Learned, prefix), "{maps:?}");
                Ok(())
            })?;
            updates.push(start.elapsed());
        }
        for (what, times) in [
            ("reload to UPDATEs and maps", reloads),
            ("UPDATE to maps", updates),
        ] {
            println!("{what}: {times:?}");
            let longest = times.iter().max().context("a change")?;
            ensure!(*longest <= AT_ONCE, "{what}: {longest:?}");
        }
        Ok(())
    })
}

#[test]
fn a_session_that_is_reset_comes_back_with_its_routes_and_only_it() -> Result<()> {
    scenario(|lab| {
        let overview = Overview::build(lab, 1, Cable::Straight)?;
        let mut running = overview.start()?;
        let mut config = running.waypost.config().clone();
        let peers = config.peers();
        peers[0] = peers[0].clone().set("hold_time", 30);
        let before = dump(&overview.gw)?;
        let counts = established(&running.waypost)?;

        let plan = running.waypost.plan(&config)?;
        let reset = sessions(&plan, "reset")?;
        ensure!(
            reset == BTreeSet::from(["sdwan/1".into(), "sdwan/2".into()]),
            "{plan}"
        );
        let why = plan["sessions"][0]["why"].as_str().unwrap_or_default();
        ensure!(why.starts_with("hold_time;"), "{why}");
        for list in ["learned", "advertised", "effective"] {
            ensure!(plan[list] == Value::Array(vec![]), "{list}: {plan}");
        }
        ensure!(established(&running.waypost)? == counts && dump(&overview.gw)? == before);

        running.waypost.reload(config)?;
        until(
            "both sessions are back and nothing else has changed",
            PATIENCE,
            || {
                let now = established(&running.waypost)?;
                for (session, count) in &counts {
                    let expected = count + u64::from(reset.contains(session));
                    let found = now.get(session);
                    ensure!(
                        found == Some(&expected),
                        "{session}: {found:?}, not {expected}"
                    );
                }
                ensure!(dump(&overview.gw)? == before, "the maps differ");
                Ok(())
            },
        )?;
        Ok(())
    })
}

#[test]
fn a_plan_tells_faults_as_check_does_and_whether_anything_would_change() -> Result<()> {
    scenario(|lab| {
        let overview = Overview::build(lab, 1, Cable::Straight)?;
        let running = overview.start()?;
        let mut config = running.waypost.config().clone();
        let before = dump(&overview.gw)?;
        let code = |config: &Config| -> Result<(Option<i32>, String)> {
            let file = running.waypost.planned(config)?;
            let socket = config.daemon.socket.display();
            let binary = tests::waypost::binary()?;
            let line = format!(
                "{} plan {} --exit-code --socket {socket}",
                binary.display(),
                file.display()
            );
            let output = overview.gw.output(&line)?;
            let said = [output.stdout, output.stderr].concat();
            Ok((output.status.code(), String::from_utf8(said)?))
        };
        let (same, said) = code(&config)?;
        ensure!(
            same == Some(0) && said.contains("nothing would change"),
            "{said}"
        );
        config.network().prefixes.push("10.3.0.0/16".parse()?);
        let (changed, said) = code(&config)?;
        ensure!(changed == Some(2), "{said}");
        for part in [
            "prefix 10.3.0.0/16 added",
            "advertised: 4 changes",
            "4 sessions as they are",
        ] {
            ensure!(said.contains(part), "no {part} in: {said}");
        }
        println!("{said}");
        config.peers()[0].asn = 23456;
        let (faulty, said) = code(&config)?;
        ensure!(faulty == Some(1), "{said}");
        ensure!(
            said.contains("planned.toml:") && said.contains("23456"),
            "{said}"
        );
        ensure!(dump(&overview.gw)? == before, "a plan has changed the maps");
        Ok(())
    })
}

/// What both appliances and the gateway announce in the second world.
const SHARED: [&str; 2] = ["10.100.0.0/16", "fd00:100::/48"];

/// The overview with its daemons, of which plans are asked.
fn watched(overview: &Overview) -> Result<(Watched, (Bird, Bird, Frr))> {
    let Running {
        waypost,
        site,
        sdwan,
        firewall,
    } = overview.start()?;
    let firewalls = overview.firewalls.iter().map(Nva::host);
    let hosts = [overview.sdwan.host()].into_iter().chain(firewalls);
    let mut instances = Vec::new();
    for [ipv4, ipv6] in INSTANCES {
        instances.push([ipv4.parse()?, ipv6.parse()?]);
    }
    let watched = Watched {
        gw: overview.gw.clone(),
        speakers: hosts
            .map(|host| (host.name().to_owned(), host.clone()))
            .collect(),
        instances: [instances[0], instances[1]],
        waypost,
    };
    Ok((watched, (site, sdwan, firewall)))
}

/// A hub with two appliances and an ExpressRoute gateway, all of which announce the same by paths of
/// their own, and a spoke that is not peered with it.
fn hub_and_spoke(lab: &Lab) -> Result<(Watched, Vec<Bird>)> {
    let mut world = World::new(lab)?;
    let (hub, spoke) = (world.network("hub", 1)?, world.network("spoke", 2)?);
    let server = world.route_server(&hub, "rs1")?;
    let nva_subnet = world.subnet(&hub, "nva", 10)?;
    let gateway_subnet = world.subnet(&hub, "GatewaySubnet", 3)?;
    for (network, name) in [(&hub, "vm1"), (&spoke, "vm2")] {
        let apps = world.subnet(network, "apps", 1)?;
        world.vm(&apps, 4, name)?;
    }
    let nva1 = world.appliance(&nva_subnet, 4, "nva1", &[&server])?;
    let nva2 = world.appliance(&nva_subnet, 5, "nva2", &[&server])?;
    let er = world.appliance(&gateway_subnet, 4, "er", &[&server])?;
    world.peer(&server, &nva1, 65010)?;
    world.peer(&server, &nva2, 65011)?;
    world.gateway(&server, "er", Kind::ExpressRoute, &[&er], 65050)?;
    let waypost = Waypost::start(&world.gw, world.config.clone())?;
    let mut daemons = Vec::new();
    let mut speakers = Vec::new();
    let member = member("er", er.address());
    for (appliance, asn, peer, prepended) in [
        (&nva1, 65010, "nva1", 0),
        (&nva2, 65011, "nva2", 0),
        (&er, 65050, member.as_str(), 2),
    ] {
        let mut speaker = appliance.speaker(asn)?;
        for prefix in SHARED {
            speaker.announce.push(prefix.parse()?);
        }
        appliance.set_policy(&mut speaker, &server, &Policy::prepended(prepended));
        daemons.push(Bird::start(appliance.host(), speaker)?);
        speakers.push((peer.to_owned(), appliance.host().clone()));
    }
    waypost.established(&["nva1", "nva2", &member])?;
    let watched = Watched {
        gw: world.gw.clone(),
        speakers,
        instances: server.instances,
        waypost,
    };
    Ok((watched, daemons))
}

/// One of the two tables that a port's packets meet.
#[derive(Clone, Copy)]
enum Table {
    Own,
    Learned,
}

/// Whether a table of a port has a route of this prefix.
fn holds(maps: &KernelMaps, port: &str, which: Table, prefix: IpNet) -> bool {
    let table = maps.ports.get(port).and_then(|place| match which {
        Table::Own => Some(place.own_table.clone()),
        Table::Learned => place.learned_table.clone(),
    });
    table.is_some_and(|table| maps.routes.contains_key(&(table, prefix.to_string())))
}
