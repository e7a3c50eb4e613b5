//! What a session may have beyond one plain path a prefix: several paths (ADD-PATH), routes announced
//! again between markers (enhanced route refresh), IPv4 routes with IPv6 next hops (RFC 8950).

use std::{net::IpAddr, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{
    lab::{Host, Process},
    network::{Cable, UPLINK},
    overview::{
        CONVERGENCE, FIREWALL_ASN, INSTANCES, NETWORK, OFFICE, Overview, SDWAN_ASN, SITE, instance,
        paths::Watch,
    },
    scenario, until,
    waypost::{Waypost, config::Peer},
};

const SEVERAL: &str = "10.251.0.0/16";

#[test]
fn an_ipv4_route_with_an_ipv6_next_hop_carries_packets() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 0, Cable::Straight)?;
        let [_, own] = world.sdwan.vm.addresses;
        let mut config = world.config()?;
        *config.peers() = vec![Peer::new("sdwan", own, SDWAN_ASN)];
        let waypost = Waypost::start(&world.gw, config)?;

        let sdwan = world.sdwan.host();
        sdwan.route(SITE[0].parse()?, "10.250.255.2".parse()?, "site")?;
        // BIRD learns here only, so that the way back is told to both by hand.
        let network = NETWORK[0].parse()?;
        sdwan.route(network, world.sdwan.vm.gateways[0], UPLINK)?;
        world.site.route(network, "10.250.255.1".parse()?, "wan")?;
        let mut text = format!(
            "router id 10.1.10.4;\nprotocol device {{}}\nipv6 table underlay;\n\
             protocol static under {{ ipv6 {{ table underlay; }}; route fd00:1::/48 via {}; }}\n\
             protocol static site {{ ipv4; route {} blackhole; }}\n",
            world.sdwan.vm.gateways[1], SITE[0]
        );
        for (number, [_, peer]) in INSTANCES.iter().enumerate() {
            text += &format!(
                "protocol bgp peer{number} {{ local {own} as {SDWAN_ASN}; neighbor {peer} as 65515; \
                 multihop; connect delay time 1; error wait time 1, 4;\n  ipv4 {{ import all; \
                 export where source = RTS_STATIC; extended next hop on; igp table underlay; next \
                 hop self; }};\n}}\n"
            );
        }
        let bird = Bird::start(sdwan, &text)?;
        waypost.established(&["sdwan"])?;
        let rows = learned(&waypost, SITE[0], 2)?;
        for row in &rows {
            ensure!(row["next_hop"] == own.to_string(), "{row}");
        }
        waypost.programmed(SITE[0])?;

        let watch = Watch::start(&world)?;
        for vm in [&world.vm1, &world.vm2] {
            watch.leads(vm, OFFICE[0].parse()?, &["sdwan", "office"], true)?;
        }

        bird.ask("disable site")?;
        learned(&waypost, SITE[0], 0)?;
        Ok(())
    })
}

#[test]
fn several_paths_of_a_prefix_go_both_ways_and_outlive_refreshes() -> Result<()> {
    scenario(|lab| {
        let world = Overview::build(lab, 1, Cable::Straight)?;
        let [own, _] = world.sdwan.vm.addresses;
        let [receiver, _] = world.firewalls[0].vm.addresses;
        let mut config = world.config()?;
        *config.peers() = vec![
            Peer::new("sdwan", own, SDWAN_ASN).set("add_path_receive", true),
            Peer::new("fw", receiver, FIREWALL_ASN).set("add_path_send", 2),
        ];
        let waypost = Waypost::start(&world.gw, config)?;

        let ways = [
            ("one", "10.1.10.4"),
            ("two", "10.1.10.5"),
            ("three", "10.1.10.6"),
        ];
        let mut text = preamble(own, world.sdwan.vm.gateways[0]);
        let mut export = String::from("filter several {\n");
        for (way, next_hop) in ways {
            text += &format!("protocol static {way} {{ ipv4; route {SEVERAL} blackhole; }}\n");
            export +=
                &format!("  if proto = \"{way}\" then {{ bgp_next_hop = {next_hop}; accept; }}\n");
        }
        text += &format!("{export}  reject;\n}}\n");
        text += &sessions(
            own,
            SDWAN_ASN,
            "import all; export filter several; add paths tx;",
        )?;
        let sdwan = Bird::start(world.sdwan.host(), &text)?;
        let mut text = preamble(receiver, world.firewalls[0].vm.gateways[0]);
        text += &sessions(
            receiver,
            FIREWALL_ASN,
            "import all; export none; add paths rx;",
        )?;
        let fw = Bird::start(world.firewalls[0].host(), &text)?;
        waypost.established(&["sdwan", "fw"])?;

        // Three paths from each of two sessions, all usable at once.
        let rows = learned(&waypost, SEVERAL, 6)?;
        ensure!(rows.iter().all(|row| row["path_id"].is_u64()), "{rows:?}");
        let rejected = rows.iter().filter(|row| row["state"] == "rejected");
        ensure!(rejected.count() == 0, "{rows:?}");
        let members = rows.iter().filter(|row| row["state"] == "multipath");
        ensure!(members.count() == 2, "{rows:?}");

        // Of the three, two go out.
        let two = ["10.1.10.4", "10.1.10.5"];
        fw.holds(&two)?;
        sdwan.ask("disable two")?;
        learned(&waypost, SEVERAL, 4)?;
        fw.holds(&["10.1.10.4", "10.1.10.6"])?;
        sdwan.ask("enable two")?;
        learned(&waypost, SEVERAL, 6)?;
        fw.holds(&two)?;

        // Asked for all again, they come between markers, and nothing is lost.
        fw.ask("reload in peer0")?;
        fw.says("peer0: Got BEGIN-OF-RR")?;
        fw.says("peer0: Got END-OF-RR")?;
        fw.holds(&two)?;
        sdwan.ask("reload out peer0")?;
        sdwan.says("peer0: Sending BEGIN-OF-RR")?;
        sdwan.says("peer0: Sending END-OF-RR")?;
        learned(&waypost, SEVERAL, 6)?;
        let peers = waypost.rows("peers")?;
        ensure!(
            peers.iter().all(|row| row["established_count"] == 1),
            "no session was reset: {peers:?}"
        );
        Ok(())
    })
}

/// Waits until Waypost has this number of paths to a prefix.
fn learned(waypost: &Waypost, prefix: &str, count: usize) -> Result<Vec<Value>> {
    until(&format!("{count} paths to {prefix}"), CONVERGENCE, || {
        let mut rows = waypost.rows("learned")?;
        rows.retain(|row| row["prefix"] == prefix);
        ensure!(rows.len() == count, "{rows:?}");
        Ok(rows)
    })
}

fn preamble(router_id: IpAddr, gateway: IpAddr) -> String {
    format!(
        "log stderr all;\nrouter id {router_id};\nprotocol device {{}}\nipv4 table underlay;\n\
         protocol static under {{ ipv4 {{ table underlay; }}; route 10.1.0.0/16 via {gateway}; }}\n"
    )
}

/// Sessions with both instances.
fn sessions(own: IpAddr, asn: u32, channel: &str) -> Result<String> {
    let mut text = String::new();
    for number in 0..2 {
        let peer = instance(number + 1)?;
        text += &format!(
            "protocol bgp peer{number} {{ local {own} as {asn}; neighbor {peer} as 65515; multihop; \
             connect delay time 1; error wait time 1, 4; debug {{ packets }};\n  ipv4 {{ {channel} \
             igp table underlay; }};\n}}\n"
        );
    }
    Ok(text)
}

/// A BIRD with a configuration of the test's own.
struct Bird {
    socket: PathBuf,
    process: Process,
}

impl Bird {
    fn start(host: &Host, text: &str) -> Result<Self> {
        let config = host.folder().join("several.conf");
        std::fs::write(&config, text)?;
        let socket = PathBuf::from(format!("/run/{host}-several.ctl"));
        let mut command = host.command("bird");
        command.arg("-f").arg("-c").arg(config);
        command.arg("-s").arg(&socket);
        let bird = Self {
            socket,
            process: host.spawn("bird", command)?,
        };
        until("BIRD answers", Duration::from_secs(10), || {
            bird.ask("show status")
        })
        .with_context(|| bird.process.log())?;
        Ok(bird)
    }

    fn ask(&self, question: &str) -> Result<String> {
        let output = Command::new("birdc")
            .arg("-s")
            .arg(&self.socket)
            .args(question.split_whitespace())
            .output()
            .context("cannot run birdc")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "birdc {question}: {text}");
        ensure!(!text.contains("syntax error"), "birdc {question}: {text}");
        Ok(text)
    }

    /// Waits until it has these next hops, and no others, from each of its two sessions.
    fn holds(&self, next_hops: &[&str]) -> Result<()> {
        until(&format!("BIRD holds {next_hops:?}"), CONVERGENCE, || {
            let text = self.ask(&format!("show route {SEVERAL} all"))?;
            let held = text
                .lines()
                .filter_map(|line| line.trim().strip_prefix("BGP.next_hop: "));
            let mut held: Vec<&str> = held.collect();
            held.sort_unstable();
            let mut expected = [next_hops, next_hops].concat();
            expected.sort_unstable();
            ensure!(held == expected, "{text}");
            Ok(())
        })
    }

    fn says(&self, words: &str) -> Result<()> {
        until(&format!("BIRD says {words}"), CONVERGENCE, || {
            ensure!(self.process.log().contains(words), "{}", self.process.log());
            Ok(())
        })
    }
}
