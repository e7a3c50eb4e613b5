//! The real kernel: the loaded program, its pinned links, and the host's network.

use std::{
    fs, io,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
};

use anyhow::{Context as _, Result};
use aya::{Ebpf, EbpfLoader, programs::Xdp};
use router_common::maps::Settings;
use tracing::{info, warn};

use super::{
    bpf::{self, XdpMode},
    ethtool,
    handover::Handover,
    kernel::{Attached, Host, KernelError, Maps},
    maps::MapSet,
    netlink::Requests,
    object, pins,
    pins::Pins,
};
use crate::{config::DataplaneConfig, names::InterfaceName};

/// Name of the program in the object.
const PROGRAM: &str = "waypost";

/// Everything that belongs to this host's kernel.
pub(super) struct Linux {
    /// Keeps the program loaded.
    object: Ebpf,
    pins: Pins,
    requests: Requests,
    require_native: bool,
    handover: Handover,
}

impl Linux {
    /// Locks the pins, opens or makes the maps, loads the program. Nothing is attached yet.
    ///
    /// # Errors
    /// What is missing, and what to do about it.
    pub(super) fn open(config: &DataplaneConfig) -> Result<(MapSet, Self)> {
        let pins = Pins::open(config)?;
        let definitions = pins::definitions(object::WAYPOST, config)?;
        let layout = pins::layout(&definitions);
        let folder = pins.layout(&layout)?;
        pins::check(&folder, &definitions)?;
        let mut loader = EbpfLoader::new();
        for definition in &definitions {
            loader.map_pin_path(&definition.name, folder.join(&definition.name));
            if let Some(size) = pins::configured_size(&definition.name, config) {
                loader.map_max_entries(&definition.name, size);
            }
        }
        let mut object = loader
            .load(object::WAYPOST)
            .context("the maps of the XDP program cannot be made")?;
        let program: &mut Xdp = object
            .program_mut(PROGRAM)
            .with_context(|| format!("the XDP object has no program {PROGRAM}"))?
            .try_into()?;
        program
            .load()
            .context("the kernel refuses the XDP program")?;
        // Only now: the program is loaded by the maps' descriptors.
        let mut maps = MapSet::take(&mut object)?;
        maps.put_settings(Settings {
            flow_seed: config.flow_seed,
            icmp_rate: config.icmp_rate,
            reserved: 0,
        })?;
        let host = Self {
            handover: Handover::from(pins.other_layouts(&layout)),
            pins,
            object,
            requests: Requests::open().context("netlink cannot be opened")?,
            require_native: config.require_native,
        };
        Ok((maps, host))
    }

    pub(super) fn requests(&mut self) -> &mut Requests {
        &mut self.requests
    }

    fn program(&self) -> Result<&Xdp, KernelError> {
        self.object
            .program(PROGRAM)
            .and_then(|program| program.try_into().ok())
            .ok_or_else(|| KernelError::Refused("the XDP program is not loaded".into()))
    }

    /// Takes over a pinned link, if it is still alive and on this interface.
    fn adopt_link(
        &mut self,
        interface: &InterfaceName,
        ifindex: u32,
    ) -> Result<Option<Attached>, KernelError> {
        let path = self.pins.link(interface);
        let Ok(link) = bpf::open_pin(&path) else {
            return Ok(None);
        };
        if bpf::link_ifindex(link.as_fd()).ok() == Some(ifindex) {
            if self.handover.waits() {
                return Ok(Some(Attached::Waiting));
            }
            match self.replace(&link) {
                Ok(()) => return Ok(Some(self.mode(ifindex))),
                // The interface has vanished; it may have returned under the same number.
                Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
                Err(error) => {
                    return Err(KernelError::call("the program cannot be replaced", error));
                }
            }
        }
        pins::remove_link(&path).map_err(|error| KernelError::Refused(format!("{error:#}")))?;
        Ok(None)
    }

    fn replace(&self, link: &OwnedFd) -> io::Result<()> {
        let program = self.program().map_err(io::Error::other)?;
        let fd = program.fd().map_err(io::Error::other)?;
        bpf::link_update(link.as_fd(), fd.as_fd())
    }

    fn mode(&mut self, ifindex: u32) -> Attached {
        match self.requests.generic_xdp(ifindex) {
            Ok(true) => Attached::Generic,
            _ => Attached::Native,
        }
    }

    fn create_link(
        &self,
        interface: &InterfaceName,
        ifindex: u32,
        mode: XdpMode,
    ) -> io::Result<()> {
        let program = self.program().map_err(io::Error::other)?;
        let fd = program.fd().map_err(io::Error::other)?;
        let link = bpf::link_create(fd.as_fd(), ifindex, mode)?;
        bpf::pin(link.as_fd(), &self.pins.link(interface))
    }

    fn attach_anew(&mut self, name: &InterfaceName, ifindex: u32) -> Result<Attached, KernelError> {
        match self.create_link(name, ifindex, XdpMode::Native) {
            Ok(()) => Ok(Attached::Native),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                if self.require_native {
                    return Err(KernelError::Refused(format!(
                        "the driver of {name} has no native XDP: use another interface, or set \
                         `require_native = false` in [dataplane] for the slower generic mode"
                    )));
                }
                self.create_link(name, ifindex, XdpMode::Generic)
                    .map(|()| Attached::Generic)
                    .map_err(|error| refused_attach(name, error))
            }
            Err(error) => Err(refused_attach(name, error)),
        }
    }

    /// The interface's link runs our program, or is gone.
    fn switched(&mut self, name: &InterfaceName) {
        self.handover.switched(name);
        self.remove_folders();
    }

    fn remove_folders(&mut self) {
        for folder in self.handover.take_unused() {
            match pins::remove_folder(&folder) {
                Ok(_) => info!("{}: maps of another build removed", folder.display()),
                Err(error) => warn!("{error:#}"),
            }
        }
    }
}

impl Host for Linux {
    fn prepare(&mut self, name: &InterfaceName, ifindex: u32) -> Result<(), KernelError> {
        switch_forwarding_off(name)?;
        let timers = self.requests.set_neighbour_timers(ifindex);
        if let Err(error) = timers.and_then(|()| self.requests.doubt_neighbours(ifindex)) {
            warn!(port = %name, "neighbour timers stay as they are, a silent death shows later: {error}");
        }
        Ok(())
    }

    fn attach(&mut self, name: &InterfaceName, ifindex: u32) -> Result<Attached, KernelError> {
        let attached = match self.adopt_link(name, ifindex)? {
            Some(attached) => attached,
            None => self.attach_anew(name, ifindex)?,
        };
        if attached != Attached::Waiting {
            self.switched(name);
        }
        Ok(attached)
    }

    fn detach(&mut self, name: &InterfaceName) -> Result<(), KernelError> {
        pins::remove_link(&self.pins.link(name))
            .map_err(|error| KernelError::Refused(format!("{error:#}")))?;
        self.switched(name);
        Ok(())
    }

    fn attached(&self) -> Vec<InterfaceName> {
        self.pins.links()
    }

    fn finish_adoption(&mut self) -> Vec<(InterfaceName, Result<Attached, KernelError>)> {
        if !self.handover.begin(self.pins.links()) {
            return Vec::new();
        }
        let mut switched = Vec::new();
        for name in self.pins.links() {
            let result = bpf::open_pin(&self.pins.link(&name)).and_then(|link| {
                self.replace(&link)?;
                bpf::link_ifindex(link.as_fd())
            });
            let result = match result {
                // The interface has vanished meanwhile; it gets a new link when it returns.
                Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {
                    if let Err(error) = self.detach(&name) {
                        warn!(port = %name, "{error}");
                    }
                    continue;
                }
                Ok(ifindex) => {
                    self.switched(&name);
                    Ok(self.mode(ifindex))
                }
                Err(error) => Err(KernelError::call(
                    "the older build's program cannot be replaced",
                    error,
                )),
            };
            switched.push((name, result));
        }
        self.remove_folders();
        switched
    }

    fn probe(&mut self, ifindex: u32, address: IpAddr) -> Result<(), KernelError> {
        self.requests
            .probe(ifindex, address)
            .map_err(|error| KernelError::call("netlink", error))
    }

    fn forget_neighbour(&mut self, ifindex: u32, address: IpAddr) {
        // The entry may have gone with its interface.
        let _ = self.requests.forget_neighbour(ifindex, address);
    }

    fn interface_towards(&mut self, address: IpAddr) -> Option<u32> {
        self.requests.interface_towards(address).ok().flatten()
    }

    fn redirect_failed(&mut self, name: &InterfaceName, ifindex: u32) -> u64 {
        ethtool::xdp_transmit_errors(name.as_str()).unwrap_or(0)
            + self.requests.dropped(ifindex).unwrap_or(0)
    }
}

/// Linux must not forward what XDP does not: it would by the host's own routes.
fn switch_forwarding_off(interface: &InterfaceName) -> Result<(), KernelError> {
    for family in ["ipv4", "ipv6"] {
        let path = format!("/proc/sys/net/{family}/conf/{interface}/forwarding");
        match fs::read_to_string(&path) {
            Ok(value) if value.trim() != "0" => {}
            // Off, or the family is not there.
            _ => continue,
        }
        fs::write(&path, "0").map_err(|error| {
            KernelError::Refused(format!(
                "{family} forwarding of the kernel is on for {interface} and cannot be switched \
                 off ({error}): Linux would forward what Waypost drops; run \
                 `sysctl -w net.{family}.conf.{interface}.forwarding=0`"
            ))
        })?;
        warn!(port = %interface, "{family} forwarding of the kernel was on: switched off");
    }
    Ok(())
}

fn refused_attach(interface: &InterfaceName, error: io::Error) -> KernelError {
    match error.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => KernelError::Refused(format!(
            "{interface} has another XDP program: remove it, `bpftool net show dev {interface}` \
             names it"
        )),
        Some(libc::ERANGE | libc::EINVAL) => KernelError::Refused(format!(
            "the driver of {interface} refuses XDP with its present settings ({error}): try a \
             smaller MTU, and see `dmesg`"
        )),
        _ => KernelError::call(format!("XDP cannot be attached to {interface}"), error),
    }
}
