//! What the gateway host must have.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use super::{EXAMPLE, addresses, line_of};
use crate::config::{
    host::{self, Host},
    parse_with_warnings,
};

#[test]
fn the_host_must_have_the_interfaces_and_the_instances_addresses() {
    let parsed = parse_with_warnings(EXAMPLE, "x.toml").unwrap();
    let mut complete = Host::default();
    for (interface, own) in [
        (
            "lo",
            &[
                "10.1.255.4",
                "fd00:1:0:ff::4",
                "10.1.255.5",
                "fd00:1:0:ff::5",
            ][..],
        ),
        ("vm1", &["10.1.1.1", "fd00:1:0:1::1"]),
        ("vm2", &["10.1.2.1", "fd00:1:0:2::1"]),
        ("sdwan", &["10.1.10.1", "fd00:1:0:a::1"]),
        ("fw", &["10.1.20.1", "fd00:1:0:14::1"]),
    ] {
        let own: HashSet<_> = addresses(own).into_iter().collect();
        complete.interfaces.insert(interface.to_owned(), own);
    }
    assert_eq!(host::check(&parsed, &complete, None), Ok(Vec::new()));

    let mut without = complete.clone();
    let fw = without.interfaces.remove("fw").unwrap();
    without.interfaces.insert("fw0".to_owned(), fw);
    let told = host::check(&parsed, &without, None)
        .unwrap_err()
        .to_string();
    let line = line_of("interface = \"fw\"");
    assert!(
        told.starts_with(&format!("x.toml:{line}: this host has no interface fw; ")),
        "{told}"
    );

    let warnings = host::check(&parsed, &without, Some(&parsed.config)).unwrap();
    assert_eq!(
        warnings.len(),
        1,
        "a known port that vanished is only a warning"
    );

    let mut without = complete.clone();
    let address: IpAddr = "10.1.255.5".parse().unwrap();
    without.interfaces.get_mut("lo").unwrap().remove(&address);
    let told = host::check(&parsed, &without, None)
        .unwrap_err()
        .to_string();
    assert!(told.contains("address 10.1.255.5 of instance 2 of route server rs1 is not on this host; ip address add 10.1.255.5/32 dev lo"), "{told}");

    let warnings = host::check(&parsed, &without, Some(&parsed.config)).unwrap();
    let told: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    let line = line_of("\"10.1.255.5\"");
    assert_eq!(
        told,
        [format!(
            "x.toml:{line}: address 10.1.255.5 of instance 2 of route server rs1 is not on this \
             host; ip address add 10.1.255.5/32 dev lo"
        )],
        "a known address that vanished is only a warning"
    );
    let mut other = parsed.config.clone();
    other.route_servers[0].instances[1].addresses.clear();
    host::check(&parsed, &without, Some(&other)).expect_err("it was not known");

    let mut without = complete.clone();
    without.interfaces.insert("vm1".to_owned(), HashSet::new());
    let warnings = host::check(&parsed, &without, None).unwrap();
    assert_eq!(warnings.len(), 2);
    assert_eq!(warnings[0].remedy, "ip address add 10.1.1.1/32 dev vm1");
}

#[tokio::test]
async fn the_host_is_read_from_the_kernel() {
    let host = Host::read().await.unwrap();
    let loopback: HashMap<_, _> = host
        .interfaces
        .into_iter()
        .filter(|(name, _)| name == "lo")
        .collect();
    let localhost = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    assert!(loopback["lo"].contains(&localhost));
}
