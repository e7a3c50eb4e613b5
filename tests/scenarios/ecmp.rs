//! Three firewalls announce the same default route: flows spread, a flow sticks, a lost member moves
//! only its own flows, and quickly.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use anyhow::{Result, ensure};
use tests::{
    Lab,
    daemon::{Daemon, Frr, Options},
    lab::stream::{Echo, Report, Stream},
    network::Cable,
    overview::{
        CONVERGENCE, INTERNET, Overview, firewall_peer, instance,
        paths::{FlowWatch, shares},
    },
    scenario, until,
    waypost::Waypost,
};

const FLOWS: u16 = 64;
/// Bounds of behaviour: when a next hop dies.
const LINK_DOWN: Duration = Duration::from_millis(50);
const SILENT_DEATH: Duration = Duration::from_secs(3);

#[test]
fn a_link_down_moves_only_the_flows_of_that_member_within_50_ms() -> Result<()> {
    scenario(|lab| {
        let trio = Trio::start(lab, Cable::Straight)?;
        for family in [0, 1] {
            let report = trio.lose_the_third(family, |world| world.firewalls[2].vm.link.down())?;
            ensure!(report.longest_outage() <= LINK_DOWN, "{report}");
            trio.bring_the_third_back()?;
        }
        Ok(())
    })
}

#[test]
fn a_silent_death_moves_only_the_flows_of_that_member_within_3_s() -> Result<()> {
    scenario(|lab| {
        let trio = Trio::start(lab, Cable::Switched)?;
        for family in [0, 1] {
            let report = trio.lose_the_third(family, |world| world.firewalls[2].vm.link.down())?;
            ensure!(report.longest_outage() <= SILENT_DEATH, "{report}");
            // It was the probes, not BGP, that told: the hold timer has not run out.
            trio.waypost.established(&["fw3"])?;
            trio.bring_the_third_back()?;
        }
        Ok(())
    })
}

#[test]
fn a_lost_session_moves_only_the_flows_of_that_member_and_loses_nothing() -> Result<()> {
    scenario(|lab| {
        // The third is a peer without graceful restart: its routes go with its session.
        let mut trio = Trio::start_with(lab, Cable::Straight, Options::default())?;
        let mut third = trio.firewalls.remove(2);
        for family in [0, 1] {
            let report = trio.lose_the_third(family, |_| third.process().kill())?;
            report.nothing_lost()?;
            third.start_again()?;
            trio.waypost.established(&["fw3"])?;
        }
        Ok(())
    })
}

/// Waypost and three firewalls that announce the default routes.
struct Trio {
    world: Overview,
    waypost: Waypost,
    firewalls: Vec<Frr>,
}

impl Trio {
    fn start(lab: &Lab, cable: Cable) -> Result<Self> {
        Self::start_with(lab, cable, Overview::appliance_options())
    }

    fn start_with(lab: &Lab, cable: Cable, third: Options) -> Result<Self> {
        let world = Overview::build(lab, 3, cable)?;
        let mut config = world.config()?;
        config
            .peers()
            .extend(world.firewalls[1..].iter().map(firewall_peer));
        let waypost = Waypost::start(&world.gw, config)?;
        let firewalls = vec![
            world.start_firewall(0)?,
            world.start_firewall(1)?,
            world.start_firewall_with(2, third)?,
        ];
        for firewall in &firewalls {
            firewall.established(&[instance(1)?, instance(2)?], CONVERGENCE)?;
        }
        waypost.established(&["fw", "fw2", "fw3"])?;
        Ok(Self {
            world,
            waypost,
            firewalls,
        })
    }

    /// Sends flows to the Internet, takes the third firewall away, and demands that its flows, and
    /// only these, go on by the other two. (Replies always come back by the first.)
    fn lose_the_third(
        &self,
        family: usize,
        lose: impl FnOnce(&Overview) -> Result<()>,
    ) -> Result<Report> {
        let (from, to) = (
            self.world.vm1.addresses[family],
            INTERNET[family].parse::<IpAddr>()?,
        );
        let _echo = Echo::start(&self.world.internet, to)?;
        let watch = FlowWatch::start(&self.world)?;
        // Until all three carry flows, datagrams may be dropped: not of this stream.
        self.all_three_carry(from, to, &watch)?;
        watch.clear();

        let stream = Stream::start(&self.world.vm1.host, from, to, FLOWS, 1000)?;
        let round = |what: &str| -> Result<u64> {
            let since = stream.sent();
            until(what, CONVERGENCE, || {
                ensure!(stream.sent() > since + 10 * u64::from(FLOWS));
                Ok(since)
            })
        };
        round("ten rounds before the loss")?;
        let before = watch.stuck(0)?;
        let counts = shares(&before);
        ensure!(before.len() == usize::from(FLOWS), "{} flows", before.len());
        ensure!(
            counts.len() == 3 && counts.values().all(|flows| *flows >= 8),
            "{counts:?}"
        );

        lose(&self.world)?;
        let settled = until("no flow takes the third firewall", CONVERGENCE, || {
            let since = round("ten rounds after the loss")?;
            let flows = watch.stuck(since)?;
            ensure!(
                !flows.values().any(|firewall| firewall == "fw3"),
                "{:?}",
                shares(&flows)
            );
            ensure!(flows.len() == usize::from(FLOWS), "{:?}", shares(&flows));
            Ok(flows)
        })?;
        let report = stream.finish()?;
        only_the_third_moved(&before, &settled)?;
        for flow in report.lost_by_flow().into_keys() {
            let port = tests::lab::stream::FIRST_FLOW_PORT + u16::try_from(flow)?;
            let firewall = &before[&port];
            ensure!(
                firewall == "fw3",
                "a flow of {firewall} lost datagrams: {report}"
            );
        }
        println!("{counts:?} → {:?}; {report}", shares(&settled));
        Ok(report)
    }

    fn all_three_carry(&self, from: IpAddr, to: IpAddr, watch: &FlowWatch) -> Result<()> {
        let probe = Stream::start(&self.world.vm1.host, from, to, FLOWS, 1000)?;
        until("flows take all three firewalls", CONVERGENCE, || {
            let since = probe.sent().saturating_sub(4 * u64::from(FLOWS));
            let used = shares(&watch.stuck(since)?);
            ensure!(used.len() == 3, "{used:?}");
            Ok(())
        })?;
        probe.finish()?;
        Ok(())
    }

    fn bring_the_third_back(&self) -> Result<()> {
        let third = &self.world.firewalls[2];
        third.vm.link.up()?;
        // The kernel took the IPv6 address and the routes of an interface that was down.
        third.vm.configure_machine_side()?;
        for (prefix, gateway) in tests::network::route_server_subnet()?
            .into_iter()
            .zip(third.vm.gateways)
        {
            third
                .host()
                .route(prefix, gateway, tests::network::UPLINK)?;
        }
        Ok(())
    }
}

fn only_the_third_moved(
    before: &BTreeMap<u16, String>,
    after: &BTreeMap<u16, String>,
) -> Result<()> {
    for (flow, firewall) in before {
        let now = &after[flow];
        ensure!(
            firewall == "fw3" || firewall == now,
            "flow {flow} moved from {firewall} to {now}"
        );
    }
    Ok(())
}
