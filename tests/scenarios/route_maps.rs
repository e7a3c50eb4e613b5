//! Route maps by `waypost reload`, with BIRD and FRR at the other ends: what they take out, change and
//! put together is seen in the daemons' own tables, and no session is reset.

use anyhow::{Context, Result, ensure};
use tests::{
    Lab,
    daemon::{Bird, Daemon, Frr},
    network::Cable,
    overview::{CONVERGENCE, Overview, Running, SITE, firewall_peer, instance, nva_speaker},
    scenario,
    undisturbed::Undisturbed,
    until,
    waypost::{Config, config::Peer},
};

const EVERYONE: [&str; 3] = ["sdwan", "fw", "fw2"];

/// The ASN of the second firewall.
const SECOND_ASN: u32 = 65021;

/// What the second firewall announces.
const LABS: [&str; 3] = ["172.20.1.0/24", "172.20.2.0/24", "192.168.77.0/24"];

/// The aggregate of the first two.
const SUM: &str = "172.20.0.0/16";

#[test]
fn an_inbound_map_filters_prefers_and_aggregates_what_bird_announces() -> Result<()> {
    scenario(|lab| {
        let mut world = World::start(lab)?;
        let others = Undisturbed::watch(&world.overview, &world.running.waypost, &EVERYONE)?;
        for prefix in LABS {
            world.first_holds(prefix, Some(("65515 65021", &[])))?;
        }
        world.reload(
            "fw2",
            "route_map_in",
            r#"
            [[rule]]
            name = "labs"
            prefix = ["172.20.0.0/16{24,24}"]
            aggregate = "172.20.0.0/16"
            [[rule]]
            name = "tag"
            prefix = ["192.168.0.0/16+"]
            local_pref = 200
            community_add = ["65021:7"]
            "#,
        )?;
        world.first_holds(SUM, Some(("65515", &[])))?;
        world.first_holds(LABS[0], None)?;
        world.first_holds(LABS[1], None)?;
        world.first_holds(LABS[2], Some(("65515 65021", &["65021:7"])))?;
        world.learned(
            LABS[0],
            "rejected",
            "gives way to 172.20.0.0/16 by rule \"labs\"",
        )?;
        world.learned(SUM, "best", "aggregate")?;
        world.running.waypost.programmed(SUM)?;
        let preferred = world
            .running
            .waypost
            .rows(&format!("learned --peer fw2 --prefix {}", LABS[2]))?;
        ensure!(
            preferred.len() == 2 && preferred.iter().all(|row| row["local_pref"] == 200),
            "{preferred:?}"
        );

        world.second.withdraw_all(&[LABS[0].parse()?])?;
        world.running.waypost.programmed(SUM)?;
        world.second.withdraw_all(&[LABS[1].parse()?])?;
        world.first_holds(SUM, None)?;
        world.second.announce_all(&[LABS[1].parse()?])?;
        world.first_holds(SUM, Some(("65515", &[])))?;

        world.reload("fw2", "route_map_in", "[[rule]]\naction = \"drop\"")?;
        world.first_holds(SUM, None)?;
        world.first_holds(LABS[2], None)?;
        world.learned(
            LABS[2],
            "rejected",
            "dropped by rule \"1\" of route map \"m\"",
        )?;
        world.plain()?;
        world.first_holds(LABS[2], Some(("65515 65021", &[])))?;
        println!("{}", others.prove(&world.running.waypost)?);
        Ok(())
    })
}

#[test]
fn an_outbound_map_changes_and_aggregates_what_frr_is_sent() -> Result<()> {
    scenario(|lab| {
        let mut world = World::start(lab)?;
        let others = Undisturbed::watch(&world.overview, &world.running.waypost, &EVERYONE)?;
        world.first_holds(LABS[0], Some(("65515 65021", &[])))?;
        world.reload(
            "fw",
            "route_map_out",
            r#"
            [[rule]]
            prefix = ["172.16.0.0/12+"]
            aggregate = "172.16.0.0/12"
            [[rule]]
            source_peer = ["sdwan"]
            as_path_prepend = [64999, 64999]
            community_add = ["65010:1", "large:65010:1:2"]
            [[rule]]
            source = ["originated"]
            action = "drop"
            "#,
        )?;
        world.first_holds("172.16.0.0/12", Some(("65515", &[])))?;
        let communities = ["65010:1", "large:65010:1:2"];
        let path = "65515 64999 64999 65010 65011";
        world.first_holds(SITE[0], Some((path, &communities)))?;
        world.first_holds(LABS[0], None)?;
        world.first_holds("10.1.0.0/16", None)?;
        world.learned(LABS[0], "best", "")?;

        let gone = LABS[..2].iter().map(|prefix| prefix.parse());
        world
            .second
            .withdraw_all(&gone.collect::<Result<Vec<_>, _>>()?)?;
        world.first_holds("172.16.0.0/12", None)?;
        world.plain()?;
        world.first_holds(SITE[0], Some(("65515 65010 65011", &[])))?;
        world.first_holds("10.1.0.0/16", Some(("65515", &[])))?;
        println!("{}", others.prove(&world.running.waypost)?);
        Ok(())
    })
}

/// The overview, on whose first firewall FRR runs, with a second one, on which BIRD does.
struct World {
    overview: Overview,
    running: Running,
    second: Bird,
    config: Config,
}

impl World {
    fn start(lab: &Lab) -> Result<Self> {
        let overview = Overview::build(lab, 2, Cable::Straight)?;
        let mut config = overview.config()?;
        // With the first one's ASN in their paths, that would not take its routes.
        config.peers().push(Peer {
            asn: SECOND_ASN,
            ..firewall_peer(&overview.firewalls[1])
        });
        let running = overview.start_with(config.clone())?;
        let mut speaker = nva_speaker(&overview.firewalls[1], SECOND_ASN)?;
        speaker.announce = LABS
            .iter()
            .map(|net| net.parse())
            .collect::<Result<_, _>>()?;
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

    /// Gives a peer a map of these rules, for this direction.
    fn reload(&mut self, peer: &str, direction: &str, rules: &str) -> Result<()> {
        let mut config = self.config.clone();
        let mut peers = config.peers().iter_mut();
        let named = peers.find(|known| known.name == peer).context("a peer")?;
        named.settings.insert(direction.to_owned(), "m".into());
        let mut map: toml::Table = toml::from_str(rules)?;
        map.insert("name".to_owned(), "m".into());
        config.route_server[0].add("route_map", map);
        self.running.waypost.reload(config)?;
        Ok(())
    }

    /// Takes the map away.
    fn plain(&mut self) -> Result<()> {
        self.running.waypost.reload(self.config.clone())?;
        Ok(())
    }

    /// Waits until FRR holds this prefix from instance 1 with this path and these communities, or has
    /// lost it.
    fn first_holds(&self, prefix: &str, expected: Option<(&str, &[&str])>) -> Result<()> {
        let frr: &Frr = &self.running.firewall;
        until(&format!("{prefix} as {expected:?}"), CONVERGENCE, || {
            let routes = frr.received(instance(1)?)?;
            let mut of_prefix = routes.iter().filter(|r| r.prefix.to_string() == prefix);
            let Some(held) = of_prefix.next() else {
                ensure!(expected.is_none(), "it does not hold it");
                return Ok(());
            };
            let (path, communities) = expected.with_context(|| format!("it holds {held}"))?;
            ensure!(held.as_path == path, "{held}");
            ensure!(
                communities
                    .iter()
                    .all(|one| held.communities.contains(*one)),
                "{held}"
            );
            ensure!(held.communities.len() == communities.len(), "{held}");
            Ok(())
        })
    }

    /// Waits until the second firewall's paths to a prefix are learned like this.
    fn learned(&self, prefix: &str, state: &str, reason: &str) -> Result<()> {
        let question = format!("learned --peer fw2 --instance 1 --prefix {prefix}");
        until(&format!("{prefix} is {state}"), CONVERGENCE, || {
            let rows = self.running.waypost.rows(&question)?;
            let [row] = &rows[..] else {
                anyhow::bail!("{rows:?}");
            };
            let why = row["reason"].as_str().unwrap_or_default();
            ensure!(row["state"] == state && why.contains(reason), "{row}");
            Ok(())
        })
    }
}
