//! Path policy by `waypost reload`, with BIRD and FRR at the other ends: each switch takes effect on
//! live sessions.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{
    Lab,
    daemon::{Bird, Daemon},
    network::Cable,
    overview::{
        CONVERGENCE, DEFAULT, FIREWALL_ASN, Overview, Running, SITE, firewall_peer, instance,
        nva_speaker, prefixes_of,
    },
    scenario,
    undisturbed::Undisturbed,
    until,
    waypost::{Config, PATIENCE, config::Peer},
};

const EVERYONE: [&str; 3] = ["sdwan", "fw", "fw2"];

#[test]
fn what_a_peer_is_sent_changes_with_its_settings_and_no_session_is_reset() -> Result<()> {
    scenario(|lab| {
        let mut world = World::start(lab)?;
        let others = Undisturbed::watch(&world.overview, &world.running.waypost, &EVERYONE)?;
        world.second_holds(SITE[0], Some("65515 65010 65011"))?;
        world.second_holds(DEFAULT[0], None)?;

        world.reload(|peer| peer.set("transparent", true))?;
        world.second_holds(SITE[0], Some("65010 65011"))?;
        world.second_holds("10.1.0.0/16", Some("65515"))?;

        // Without it, what the first firewall announces has the second one's own ASN in its path.
        world.reload(|peer| peer.set("as_override", true))?;
        world.second_holds(DEFAULT[0], Some("65515 65515"))?;
        world.second_holds(SITE[0], Some("65515 65010 65011"))?;

        world.reload(|peer| peer)?;
        world.second_holds(DEFAULT[0], None)?;
        println!("{}", others.prove(&world.running.waypost)?);
        Ok(())
    })
}

#[test]
fn what_is_taken_from_a_peer_changes_with_its_settings_and_no_session_is_reset() -> Result<()> {
    scenario(|lab| {
        let mut world = World::start(lab)?;
        let before = world.established()?;
        world.taken(true, "")?;
        world.reload(|peer| peer.set("max_as_path_length", 1))?;
        world.taken(true, "")?;
        world.waypost_requires_policy(true)?;
        world.taken(false, "RFC 8212")?;
        world.second_holds("10.1.0.0/16", None)?;
        world.waypost_requires_policy(false)?;
        world.taken(true, "")?;
        world.second_holds("10.1.0.0/16", Some("65515"))?;
        let now = world.established()?;
        ensure!(now == before, "{before:?}, now {now:?}");
        Ok(())
    })
}

#[test]
fn rfc9234_a_role_is_told_and_routes_to_clients_are_marked() -> Result<()> {
    scenario(|lab| {
        let mut world = World::start(lab)?;
        world.reload(|peer| peer.set("role", "route_server"))?;
        // BIRD has none: without strict mode it comes back.
        until("BIRD sees the mark", PATIENCE, || {
            let routes = world.second.ask("show route 10.250.0.0/16 all")?;
            ensure!(routes.contains("BGP.otc: 65515"), "{routes}");
            Ok(())
        })?;
        world.running.waypost.established(&EVERYONE)?;
        let shown = world.running.waypost.show("peer fw2 --instance 1")?;
        let announced = shown[0]["terms"]["local_capabilities"].as_array().cloned();
        let announced = announced.context("capabilities")?;
        ensure!(
            announced.contains(&Value::from("role route server")),
            "{announced:?}"
        );
        world.reload(|peer| peer.set("role", "route_server").set("strict_role", true))?;
        until("the session is refused", PATIENCE, || {
            let rows = world.running.waypost.rows("peers --peer fw2")?;
            let refused = |row: &Value| {
                let error = row["last_error"].as_str().unwrap_or_default();
                error.contains("set its role to route server client")
            };
            ensure!(rows.iter().all(refused), "{rows:?}");
            Ok(())
        })
    })
}

/// The overview with a second firewall, on which BIRD runs.
struct World {
    overview: Overview,
    running: Running,
    second: Bird,
    config: Config,
}

impl World {
    fn start(lab: &Lab) -> Result<Self> {
        let overview = Overview::build(lab, 2, Cable::Straight)?;
        let config = overview.config()?;
        let mut first = config.clone();
        first.peers().push(firewall_peer(&overview.firewalls[1]));
        let running = overview.start_with(first)?;
        let mut speaker = nva_speaker(&overview.firewalls[1], FIREWALL_ASN)?;
        speaker.announce = prefixes_of(["198.18.0.0/15", "2001:2::/48"])?;
        let second = Bird::start(overview.firewalls[1].host(), speaker)?;
        second.established(&[instance(1)?, instance(2)?], CONVERGENCE)?;
        running.waypost.established(&EVERYONE)?;
        Ok(Self {
            overview,
            running,
            second,
            config,
        })
    }

    /// Gives Waypost the configuration with the second firewall changed so.
    fn reload(&mut self, change: impl FnOnce(Peer) -> Peer) -> Result<()> {
        let mut config = self.config.clone();
        let peer = firewall_peer(&self.overview.firewalls[1]);
        config.peers().push(change(peer));
        self.running.waypost.reload(config)?;
        Ok(())
    }

    fn waypost_requires_policy(&mut self, required: bool) -> Result<()> {
        let mut config = self.running.waypost.config().clone();
        let settings = &mut config.route_server[0].settings;
        settings.insert("require_policy".to_owned(), required.into());
        self.running.waypost.reload(config)?;
        Ok(())
    }

    /// Waits until BIRD holds this prefix from instance 1 with this path, or has lost it.
    fn second_holds(&self, prefix: &str, as_path: Option<&str>) -> Result<()> {
        until(&format!("{prefix} by {as_path:?}"), CONVERGENCE, || {
            let routes = self.second.received(instance(1)?)?;
            let mut of_prefix = routes.iter().filter(|r| r.prefix.to_string() == prefix);
            let held = of_prefix.next().map(|route| route.as_path.as_str());
            ensure!(held == as_path, "{held:?}");
            Ok(())
        })
    }

    /// Waits until what the second firewall announces is taken, or rejected for this reason.
    fn taken(&self, taken: bool, reason: &str) -> Result<()> {
        let question = "learned --peer fw2 --prefix 198.18.0.0/15";
        until(&format!("taken: {taken}"), CONVERGENCE, || {
            let rows = self.running.waypost.rows(question)?;
            ensure!(rows.len() == 2, "{rows:?}");
            for row in &rows {
                let why = row["reason"].as_str().unwrap_or_default();
                ensure!((row["state"] != "rejected") == taken, "{row}");
                ensure!(why.contains(reason), "{row}");
            }
            Ok(())
        })
    }

    /// How often each session has been established.
    fn established(&self) -> Result<BTreeMap<String, Value>> {
        let rows = self.running.waypost.rows("peers")?.into_iter();
        let name = |row: &Value| format!("{}/{}", row["peer"], row["instance"]);
        Ok(rows
            .map(|row| (name(&row), row["established_count"].clone()))
            .collect())
    }
}
