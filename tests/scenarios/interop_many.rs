//! Sessions survive many prefixes, announced and withdrawn three times both ways.

use anyhow::Result;
use tests::{
    daemon::{Bird, ExaBgp, Frr, GoBgp, OpenBgpd},
    interop::many::prefixes,
    scenario,
};

#[test]
fn bird_survives_a_million_prefixes() -> Result<()> {
    scenario(|lab| prefixes::<Bird>(lab, 1_000_000))
}

#[test]
fn frr_survives_a_million_prefixes() -> Result<()> {
    scenario(|lab| prefixes::<Frr>(lab, 1_000_000))
}

#[test]
fn openbgpd_survives_a_million_prefixes() -> Result<()> {
    scenario(|lab| prefixes::<OpenBgpd>(lab, 1_000_000))
}

#[test]
fn gobgp_survives_a_hundred_thousand_prefixes() -> Result<()> {
    scenario(|lab| prefixes::<GoBgp>(lab, 100_000))
}

#[test]
fn exabgp_survives_a_hundred_thousand_prefixes() -> Result<()> {
    scenario(|lab| prefixes::<ExaBgp>(lab, 100_000))
}
