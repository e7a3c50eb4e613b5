//! A large TCP transfer from a virtual machine through an appliance to a far host: real segments,
//! real checksums, every byte compared.

use anyhow::{Result, ensure};
use tests::{
    Lab,
    lab::transfer::transfer,
    network::Cable,
    overview::{OFFICE, Overview},
    scenario,
};

const GIBIBYTE: u64 = 1 << 30;

#[test]
fn a_gibibyte_arrives_unchanged_over_ipv4() -> Result<()> {
    scenario(|lab| a_gibibyte_arrives(lab, 0))
}

#[test]
fn a_gibibyte_arrives_unchanged_over_ipv6() -> Result<()> {
    scenario(|lab| a_gibibyte_arrives(lab, 1))
}

fn a_gibibyte_arrives(lab: &Lab, family: usize) -> Result<()> {
    let world = Overview::build(lab, 1, Cable::Straight)?;
    let running = world.start()?;
    let office = OFFICE[family].parse()?;
    let counted = |host: &tests::lab::Host, interface: &str| -> Result<u64> {
        let path = format!("ip -json -stats link show dev {interface}");
        let links: serde_json::Value = serde_json::from_str(&host.run(&path)?)?;
        Ok(links[0]["stats64"]["rx"]["bytes"]
            .as_u64()
            .unwrap_or_default())
    };

    let moved = transfer(&world.vm1.host, &world.office, office, GIBIBYTE)?;
    println!("vm1 → sdwan → site → office {office}: {moved}");

    ensure!(moved.bytes == GIBIBYTE);
    let through = counted(world.sdwan.host(), "eth0")?;
    ensure!(
        through > GIBIBYTE,
        "only {through} bytes came in at the SD-WAN"
    );
    let passed = running.waypost.counted("vm1", "to_host")?;
    ensure!(passed < 1000, "{passed} packets of vm1 went through Linux");
    Ok(())
}
