//! The arguments. Each command's long help ends in an example.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use jiff::Timestamp;

use super::peer::Peer;
use crate::{
    api::{
        query::{CounterFilter, EffectiveFilter, FibFilter, RouteFilter},
        types::ExplainQuery,
    },
    config::DEFAULT_SOCKET,
    events::Kind,
};

/// Waypost: a route server for virtual networks with its own data plane.
///
/// Network virtual appliances speak BGP to it; it works out, for every subnet, which next hop each
/// destination takes; an XDP program forwards the virtual machines' packets that way.
#[derive(Debug, Parser)]
#[command(
    name = "waypost",
    version,
    after_long_help = "Examples:\n  waypost check docs/example.toml\n  waypost run --config docs/example.toml\n  waypost show peers\n  waypost explain --subnet apps --to 10.250.0.10"
)]
pub(super) struct Arguments {
    /// The daemon's Unix socket [default: /run/waypost/waypost.sock; for "run": as configured].
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(subcommand)]
    pub(super) command: Command,
}

impl Arguments {
    /// The socket that was named, if one was.
    pub(super) fn given_socket(&self) -> Option<PathBuf> {
        self.socket.clone()
    }

    /// The daemon's socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.given_socket().unwrap_or_else(|| DEFAULT_SOCKET.into())
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the daemon in the foreground.
    ///
    /// SIGTERM and SIGINT close the sessions as for a restart and leave the pinned data plane
    /// forwarding; the next start adopts it: see "waypost stop --help". SIGHUP reads the file again,
    /// as "reload" does.
    #[command(
        after_long_help = "Example:\n  waypost run --config /etc/waypost.toml --log info,router_user::bgp=debug"
    )]
    Run(RunArguments),

    /// Check a configuration file, and whether this host has what it names.
    ///
    /// Every fault is told with file, line and remedy. The exit code is 1 if there is one.
    #[command(after_long_help = "Example:\n  waypost check /etc/waypost.toml")]
    Check(CheckArguments),

    /// Tell how the daemon is.
    #[command(after_long_help = "Example:\n  waypost status --json")]
    Status(OutputArguments),

    /// Show what the daemon knows: sessions, routes, forwarding state, counters.
    #[command(
        after_long_help = "Examples:\n  waypost show peers\n  waypost show learned --peer sdwan --prefix 10.250.0.0/16 --longer\n  waypost show effective --subnet hub/apps --json"
    )]
    Show {
        #[command(subcommand)]
        what: Show,
    },

    /// Tell what happened to sessions, limits, routes and next hops, when, why, and with what effect.
    ///
    /// One line an event, oldest first. With --follow it goes on as things happen, and begins now
    /// unless --since says otherwise.
    #[command(
        after_long_help = "Examples:\n  waypost events --since 10m --kind session,failover\n  waypost events --follow --peer fw --json"
    )]
    Events(EventArguments),

    /// Tell where a packet goes, and why.
    ///
    /// Which route is used, who announced it, why it won, which group of next hops it names, and by
    /// which port they are reached. With --from, --protocol and ports also which member of an ECMP
    /// group this flow takes, and whether it is dropped on its way. Where ports of a subnet see
    /// different routes (gateways'), --from or --port says which is meant.
    #[command(
        after_long_help = "Example:\n  waypost explain --subnet apps --to 198.51.100.10 --from 10.1.1.4 \\\n      --protocol tcp --source-port 40000 --destination-port 443"
    )]
    Explain(ExplainArguments),

    /// Make the daemon read its file again: all of it, or nothing if it has a fault.
    ///
    /// Sessions, prefixes and ports that did not change are not touched.
    #[command(after_long_help = "Example:\n  waypost reload")]
    Reload(OutputArguments),

    /// Show what a configuration would change, without applying it.
    ///
    /// Sessions, learned, advertised and effective routes, and what is written into the kernel's maps:
    /// what a reload would do if the daemon's file were this one. The file is read by this command.
    /// Sessions that are reset are taken to come back with the same routes; of new peers nothing is
    /// known. Faults are told as "check" tells them.
    #[command(
        after_long_help = "Examples:\n  waypost plan /etc/waypost.toml\n  waypost plan new.toml --exit-code --json"
    )]
    Plan(PlanArguments),

    /// Stop or start one of a route server's two instances.
    #[command(after_long_help = "Example:\n  waypost instance stop 1 --route-server rs1")]
    Instance {
        #[command(subcommand)]
        order: InstanceCommand,
    },

    /// Shut down, start, drain or clear the sessions of one peer.
    #[command(
        after_long_help = "Examples:\n  waypost peer drain fw\n  waypost peer shutdown fw \"maintenance until 18:00\"\n  waypost peer start fw\n  waypost peer undrain fw"
    )]
    Peer {
        #[command(subcommand)]
        order: Peer,
    },

    /// Stop the daemon.
    ///
    /// As for a restart: the pinned data plane goes on forwarding, and peers with graceful restart
    /// keep our routes for restart_time. They are sent no NOTIFICATION, or, if both sides announce
    /// RFC 8538, a Cease that is no hard reset; other peers are sent a Cease. With --flush all peers
    /// are told to drop our routes at once, the programs are detached and all pins removed, also
    /// where no daemon runs any more.
    #[command(
        after_long_help = "Examples:\n  waypost stop\n  waypost stop --flush --config /etc/waypost.toml"
    )]
    Stop(StopArguments),
}

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// What to log, for example "debug" or "info,router_user::bgp=trace" [default: RUST_LOG, else
    /// "info"].
    #[arg(long, value_name = "FILTER")]
    pub(super) log: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// The configuration file.
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Check the file alone, not whether this host has its interfaces and addresses.
    #[arg(long)]
    pub(super) file_only: bool,
}

#[derive(Debug, Args)]
pub(super) struct PlanArguments {
    /// The configuration file.
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Show long lists to their end.
    #[arg(long)]
    pub(super) all: bool,
    /// Exit with 2 if something would change.
    #[arg(long)]
    pub(super) exit_code: bool,
    #[command(flatten)]
    pub(super) output: OutputArguments,
}

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct OutputArguments {
    /// Print JSON instead of text.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Show {
    /// Sessions: one row for each instance and peer.
    #[command(after_long_help = "Example:\n  waypost show peers --instance 1")]
    Peers(PeerArguments),
    /// All about the sessions of one peer: capabilities, timers, counters, limits, last error.
    #[command(after_long_help = "Example:\n  waypost show peer fw --instance 1")]
    Peer(OnePeerArguments),
    /// Routes as peers announced them, before any rule of ours, with all attributes.
    #[command(after_long_help = "Example:\n  waypost show received --peer sdwan --json")]
    Received(RouteArguments),
    /// Routes that peers announced, with what became of each.
    ///
    /// After import: state is best, multipath, lost or rejected, and the reason names the rule.
    #[command(after_long_help = "Example:\n  waypost show learned --peer sdwan")]
    Learned(RouteArguments),
    /// Routes that peers were sent.
    #[command(
        after_long_help = "Example:\n  waypost show advertised --peer fw --prefix 10.1.0.0/16"
    )]
    Advertised(RouteArguments),
    /// Effective routes of the subnets: every candidate, whether it is used, and why not.
    #[command(after_long_help = "Example:\n  waypost show effective --subnet apps")]
    Effective(EffectiveArguments),
    /// The forwarding state in the kernel: routes, groups, next hops, ports.
    #[command(after_long_help = "Example:\n  waypost show fib --prefix 10.250.0.0/16")]
    Fib(FibArguments),
    /// Packets by port, next hop and reason.
    #[command(after_long_help = "Example:\n  waypost show counters --port vm1")]
    Counters(CounterArguments),
}

#[derive(Debug, Args)]
pub(super) struct PeerArguments {
    #[command(flatten)]
    peer: PeerFilter,
    #[command(flatten)]
    pub(super) output: OutputArguments,
}

#[derive(Debug, Args)]
pub(super) struct OnePeerArguments {
    /// Name or address of the peer.
    #[arg(value_name = "PEER")]
    peer: String,
    /// Instance, 1 or 2.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=2))]
    instance: Option<u8>,
    /// Name of a route server.
    #[arg(long, value_name = "NAME")]
    route_server: Option<String>,
    #[command(flatten)]
    pub(super) output: OutputArguments,
}

#[derive(Debug, Args)]
pub(super) struct RouteArguments {
    #[command(flatten)]
    peer: PeerFilter,
    #[command(flatten)]
    prefix: PrefixFilter,
    #[command(flatten)]
    pub(super) output: OutputArguments,
}

#[derive(Debug, Args)]
struct PeerFilter {
    /// Name or address of a peer.
    #[arg(long, value_name = "PEER")]
    peer: Option<String>,
    /// Instance, 1 or 2.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=2))]
    instance: Option<u8>,
    /// Name of a route server.
    #[arg(long, value_name = "NAME")]
    route_server: Option<String>,
}

#[derive(Debug, Args)]
struct PrefixFilter {
    /// Exactly this prefix.
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<IpNet>,
    /// Prefixes inside --prefix as well.
    #[arg(long, requires = "prefix")]
    longer: bool,
}

#[derive(Debug, Args)]
pub(super) struct EffectiveArguments {
    /// Subnet: NAME, or VNET/NAME where several networks have one of that name.
    #[arg(long, value_name = "SUBNET")]
    subnet: Option<String>,
    /// Only routes from this source.
    #[arg(long, value_parser = ["system", "learned", "user_defined"])]
    source: Option<String>,
    #[command(flatten)]
    prefix: PrefixFilter,
    #[command(flatten)]
    pub(super) output: OutputArguments,
}

#[derive(Debug, Args)]
pub(super) struct FibArguments {
    /// Only routes of this table.
    #[arg(long, value_name = "TABLE")]
    table: Option<String>,
    #[command(flatten)]
    prefix: PrefixFilter,
    #[command(flatten)]
    pub(super) output: OutputArguments,
}

#[derive(Debug, Args)]
pub(super) struct CounterArguments {
    /// Only this port (interface).
    #[arg(long, value_name = "INTERFACE")]
    port: Option<String>,
    #[command(flatten)]
    pub(super) output: OutputArguments,
}

#[derive(Debug, Args)]
pub(super) struct EventArguments {
    /// Go on with what happens from now on.
    #[arg(long)]
    pub(super) follow: bool,
    /// From a time on (2026-01-31T09:30:00Z), or for so long until now (10m, 2h, 1d).
    #[arg(long, value_name = "TIME|DURATION", value_parser = super::events::since)]
    pub(super) since: Option<Timestamp>,
    /// Only these: session, limit, route, failover, operator, reload, daemon; several with commas.
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    pub(super) kind: Vec<Kind>,
    /// Only about this route server.
    #[arg(long, value_name = "NAME")]
    pub(super) route_server: Option<String>,
    /// Only about this peer, or caused by it.
    #[arg(long, value_name = "NAME")]
    pub(super) peer: Option<String>,
    /// Print JSON, an object a line, as it stands in the log.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    /// Subnet that the packet comes from: NAME or VNET/NAME.
    #[arg(long, value_name = "SUBNET")]
    subnet: String,
    /// Destination address.
    #[arg(long, value_name = "ADDRESS")]
    to: IpAddr,
    /// Port (interface) of the subnet that the packet comes through [default: the one that has --from].
    #[arg(long, value_name = "INTERFACE")]
    port: Option<String>,
    /// Source address.
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// tcp, udp, icmp or a number.
    #[arg(long, value_name = "PROTOCOL", requires = "from")]
    protocol: Option<String>,
    /// Source port of TCP or UDP.
    #[arg(long, value_name = "PORT", requires = "protocol")]
    source_port: Option<u16>,
    /// Destination port of TCP or UDP.
    #[arg(long, value_name = "PORT", requires = "protocol")]
    destination_port: Option<u16>,
    #[command(flatten)]
    pub(super) output: OutputArguments,
}

#[derive(Debug, Subcommand)]
pub(super) enum InstanceCommand {
    /// Close its sessions (Cease, administrative shutdown) and keep them closed.
    #[command(after_long_help = "Example:\n  waypost instance stop 1")]
    Stop(InstanceArguments),
    /// Let its sessions come up again.
    #[command(after_long_help = "Example:\n  waypost instance start 1")]
    Start(InstanceArguments),
}

#[derive(Clone, Debug, Args)]
pub(super) struct InstanceArguments {
    /// Instance, 1 or 2.
    #[arg(value_name = "N", value_parser = clap::value_parser!(u8).range(1..=2))]
    pub(super) instance: u8,
    /// Name of the route server; needed where there are several.
    #[arg(long, value_name = "NAME")]
    pub(super) route_server: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct StopArguments {
    /// Detach the programs and remove all pins too: forwarding ends.
    #[arg(long)]
    pub(super) flush: bool,
    /// Where no daemon runs: the file that says which pins (`[dataplane]`); default pins without it.
    #[arg(long, value_name = "FILE", requires = "flush")]
    pub(super) config: Option<PathBuf>,
}

impl PeerArguments {
    pub(super) fn filter(&self) -> RouteFilter {
        RouteFilter {
            peer: self.peer.peer.clone(),
            instance: self.peer.instance,
            route_server: self.peer.route_server.clone(),
            ..RouteFilter::default()
        }
    }
}

impl OnePeerArguments {
    pub(super) fn filter(&self) -> RouteFilter {
        RouteFilter {
            peer: Some(self.peer.clone()),
            instance: self.instance,
            route_server: self.route_server.clone(),
            ..RouteFilter::default()
        }
    }
}

impl RouteArguments {
    pub(super) fn filter(&self) -> RouteFilter {
        RouteFilter {
            peer: self.peer.peer.clone(),
            instance: self.peer.instance,
            route_server: self.peer.route_server.clone(),
            prefix: self.prefix.prefix,
            longer: self.prefix.longer,
        }
    }
}

impl EffectiveArguments {
    pub(super) fn filter(&self) -> EffectiveFilter {
        EffectiveFilter {
            subnet: self.subnet.clone(),
            source: self.source.clone(),
            prefix: self.prefix.prefix,
            longer: self.prefix.longer,
        }
    }
}

impl FibArguments {
    pub(super) fn filter(&self) -> FibFilter {
        FibFilter {
            table: self.table.clone(),
            prefix: self.prefix.prefix,
            longer: self.prefix.longer,
        }
    }
}

impl CounterArguments {
    pub(super) fn filter(&self) -> CounterFilter {
        CounterFilter {
            interface: self.port.clone(),
        }
    }
}

impl ExplainArguments {
    pub(super) fn query(&self) -> ExplainQuery {
        ExplainQuery {
            subnet: self.subnet.clone(),
            to: self.to,
            port: self.port.clone(),
            from: self.from,
            protocol: self.protocol.clone(),
            source_port: self.source_port,
            destination_port: self.destination_port,
        }
    }
}
