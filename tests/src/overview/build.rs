//! Hosts, links and addresses of the overview.

use std::net::IpAddr;

use anyhow::Result;

use super::{DEFAULT, INSTANCES, INTERNET, NETWORK, OFFICE, Overview, SITE_LINK};
use crate::{
    lab::{Host, Lab, Link},
    network::{Cable, Nva, UPLINK, Vm},
};

impl Overview {
    /// Builds it with that many firewalls: `fw`, `fw2`, `fw3`.
    ///
    /// # Errors
    /// The lab refuses.
    pub fn build(lab: &Lab, firewalls: u8, cable: Cable) -> Result<Self> {
        let gw = lab.host("gw")?;
        for address in INSTANCES.as_flattened() {
            let address: IpAddr = address.parse()?;
            gw.address("lo", address.into())?;
        }
        let vm1 = Vm::attach(
            lab,
            &gw,
            "vm1",
            ["10.1.1.4", "fd00:1:0:1::4"],
            ["10.1.1.1", "fd00:1:0:1::1"],
        )?;
        let vm2 = Vm::attach(
            lab,
            &gw,
            "vm2",
            ["10.1.2.4", "fd00:1:0:2::4"],
            ["10.1.2.1", "fd00:1:0:2::1"],
        )?;
        let sdwan = Nva::attach(
            lab,
            &gw,
            "sdwan",
            ["10.1.10.4", "fd00:1:0:a::4"],
            ["10.1.10.1", "fd00:1:0:a::1"],
            cable,
        )?;
        let (site, office) = build_site(lab, &sdwan)?;
        let internet = lab.host("internet")?;
        for address in INTERNET {
            let address: IpAddr = address.parse()?;
            internet.address("lo", address.into())?;
        }
        let firewalls = (0..firewalls)
            .map(|number| build_firewall(lab, &gw, &internet, number, cable))
            .collect::<Result<_>>()?;
        Ok(Self {
            gw,
            vm1,
            vm2,
            sdwan,
            firewalls,
            site,
            office,
            internet,
        })
    }

    /// Every machine and those of its interfaces on which packets come in.
    #[must_use]
    pub fn points(&self) -> Vec<(Host, Vec<String>)> {
        let point = |host: &Host, interfaces: &[&str]| {
            let interfaces = interfaces.iter().map(|name| (*name).to_owned());
            (host.clone(), interfaces.collect())
        };
        let mut points = vec![
            point(&self.vm1.host, &[UPLINK]),
            point(&self.vm2.host, &[UPLINK]),
            point(self.sdwan.host(), &[UPLINK, "site"]),
            point(&self.site, &["wan", "lan"]),
            point(&self.office, &["eth0"]),
        ];
        let firewalls = self.firewalls.iter().map(Nva::host);
        points.extend(firewalls.clone().map(|host| point(host, &[UPLINK, "wan"])));
        let wans: Vec<&str> = firewalls.map(Host::name).collect();
        points.push(point(&self.internet, &wans));
        points
    }
}

fn build_site(lab: &Lab, sdwan: &Nva) -> Result<(Host, Host)> {
    let (site, office) = (lab.host("site")?, lab.host("office")?);
    site.forward(true)?;
    Link::new((sdwan.host(), "site"), (&site, "wan"))?;
    Link::new((&site, "lan"), (&office, "eth0"))?;
    for [near, far] in SITE_LINK {
        let length = if near.contains(':') { 64 } else { 30 };
        sdwan
            .host()
            .address("site", format!("{near}/{length}").parse()?)?;
        site.address("wan", format!("{far}/{length}").parse()?)?;
    }
    let lan = [("10.250.0.1", 24), ("fd00:250::1", 64)];
    for ((router, length), (host, any)) in lan.into_iter().zip(OFFICE.into_iter().zip(DEFAULT)) {
        site.address("lan", format!("{router}/{length}").parse()?)?;
        office.address("eth0", format!("{host}/{length}").parse()?)?;
        office.route(any.parse()?, router.parse()?, "eth0")?;
    }
    Ok((site, office))
}

/// Firewall `number` (0 is `fw`) and its link to the Internet. Packets to the network come back
/// through the first.
fn build_firewall(lab: &Lab, gw: &Host, internet: &Host, number: u8, cable: Cable) -> Result<Nva> {
    let name = match number {
        0 => "fw".to_owned(),
        more => format!("fw{}", more + 1),
    };
    let last = 4 + number;
    let firewall = Nva::attach(
        lab,
        gw,
        &name,
        [&format!("10.1.20.{last}"), &format!("fd00:1:0:14::{last}")],
        ["10.1.20.1", "fd00:1:0:14::1"],
        cable,
    )?;
    let host = firewall.host();
    Link::new((host, "wan"), (internet, &name))?;
    let four = 4 * number;
    let links = [
        (
            format!("203.0.113.{}", four + 1),
            format!("203.0.113.{}", four + 2),
            30,
        ),
        (
            format!("2001:db8:f{number}::1"),
            format!("2001:db8:f{number}::2"),
            64,
        ),
    ];
    for (((near, far, length), any), network) in links.iter().zip(DEFAULT).zip(NETWORK) {
        host.address("wan", format!("{near}/{length}").parse()?)?;
        internet.address(&name, format!("{far}/{length}").parse()?)?;
        host.route(any.parse()?, far.parse()?, "wan")?;
        if number == 0 {
            internet.route(network.parse()?, near.parse()?, &name)?;
        }
    }
    Ok(firewall)
}
