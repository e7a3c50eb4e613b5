//! Roles (RFC 9234): a pair that fits is up, one that does not is refused by a clear word.

use anyhow::{Result, ensure};

use super::{
    matrix::{Feature, Matrix},
    plain::capabilities,
    stage::{Setting, Stage, Subject},
};
use crate::daemon::{Options, options::Role, words};

/// Daemons that are their neighbour's customer.
///
/// # Errors
/// The act cannot be played; what fails in it is in the matrix.
pub fn play<S: Subject>(stage: &mut Stage, matrix: &mut Matrix) -> Result<()> {
    let setting = Setting {
        asn: 65011,
        options: Options {
            role: Some(Role::Customer),
            ..Options::default()
        },
        peer: vec![("role", "provider".into()), ("strict_role", true.into())],
        feature: Some(Feature::Roles),
        ..Setting::default()
    };
    stage.act::<S>(matrix, setting, |act| {
        act.proves(Feature::Roles, |case, waypost| {
            let instance = case.instance(0)?;
            let theirs = case.daemon()?.capabilities(instance)?;
            ensure!(theirs.contains(words::ROLE), "the daemon says {theirs:?}");
            let ours = capabilities(case, waypost)?;
            ensure!(ours.contains(words::ROLE), "Waypost says {ours:?}");
            Ok(())
        });
        act.reload(&[("role", "customer".into())])?;
        act.proves(Feature::Roles, |case, waypost| {
            case.waypost_says(waypost, "ole")
        });
        Ok(())
    })
}
