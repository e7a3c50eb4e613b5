//! The few kernel settings that a host of the lab needs, in the namespace of the calling thread.

use std::fs;

use anyhow::{Context, Result};

/// What every host starts with: no forwarding, addresses usable at once (no duplicate address
/// detection), no source validation by the kernel, no router advertisements.
pub(super) fn defaults() -> Result<()> {
    for scope in ["all", "default"] {
        set(&format!("ipv4/conf/{scope}/rp_filter"), "0")?;
        set(&format!("ipv6/conf/{scope}/disable_ipv6"), "0")?;
        set(&format!("ipv6/conf/{scope}/accept_dad"), "0")?;
        set(&format!("ipv6/conf/{scope}/accept_ra"), "0")?;
    }
    set("ipv4/ping_group_range", "0 0")?;
    // Linux limits the ICMP errors that it sends; a traceroute of the lab is quicker than that.
    set("ipv4/icmp_ratelimit", "0")?;
    set("ipv6/icmp/ratelimit", "0")?;
    forward(false)
}

pub(super) fn forward(on: bool) -> Result<()> {
    let value = if on { "1" } else { "0" };
    set("ipv4/ip_forward", value)?;
    set("ipv6/conf/all/forwarding", value)?;
    set("ipv6/conf/default/forwarding", value)
}

/// Writes `/proc/sys/net/<key>`.
///
/// # Errors
/// There is no such setting, or the kernel refuses the value.
pub fn set(key: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{key}");
    fs::write(&path, value).with_context(|| format!("cannot write {value} to {path}"))
}
