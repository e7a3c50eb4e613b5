//! From text to [`Config`].

use std::{path::PathBuf, time::Duration};

use router_common::maps;
use toml::de::DeTable;

use super::{
    Config, DaemonConfig, DataplaneConfig, Fault, Faults, Parsed,
    fault::Report,
    network,
    networks::Networks,
    peering,
    places::Places,
    route_server,
    route_table::RouteTables,
    schema,
    section::Section,
    values::{AbsolutePath, Listen, Name, OptionalPath},
};

/// Default path of the API's socket.
pub const DEFAULT_SOCKET: &str = "/run/waypost/waypost.sock";

/// Default path of the event log.
pub const DEFAULT_EVENT_LOG: &str = "/var/lib/waypost/events.jsonl";

/// Default mount point of bpffs.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf";

/// Reads a configuration; `file` is its name in messages.
///
/// # Errors
///
/// Every fault of the text, in the order of its lines.
pub fn parse(text: &str, file: &str) -> Result<Config, Faults> {
    parse_with_warnings(text, file).map(|parsed| parsed.config)
}

/// As [`parse`], with what deserves a warning and the places that the host check names.
///
/// # Errors
///
/// Every fault of the text, in the order of its lines.
pub fn parse_with_warnings(text: &str, file: &str) -> Result<Parsed, Faults> {
    let mut report = Report::new(file, text);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        report.fault(
            error.span().map_or(0, |span| span.start),
            format!("not TOML: {}", error.message()),
            "correct the syntax (https://toml.io)",
        );
    }
    if !errors.is_empty() {
        // What a broken text means is a guess: no further faults on top of it.
        return Err(report.finish().expect_err("a syntax fault was reported"));
    }

    let mut places = Places {
        file: report.file(),
        ..Places::default()
    };
    let root = Section::root(document.get_ref(), &mut report);
    let daemon = read_daemon(&root, &mut report);
    let dataplane = read_dataplane(&root, &mut report);
    let mut tables = RouteTables::read(&root, &mut report);
    let networks = network::read_all(&root, &mut tables, &mut places, &mut report);
    let mut networks = Networks::connect(networks, &mut report);
    let mut reader = route_server::Reader::new(&mut networks, &mut places);
    let route_servers = reader.read_all(&root, &mut report);
    let (served, connected) = reader.served();
    peering::check(connected, &served, &mut report);
    networks.check_machines(&mut report);
    let config = Config {
        daemon,
        dataplane,
        route_tables: tables.finish(&networks, &route_servers, &mut report),
        vnets: networks.into_vnets(),
        route_servers,
    };
    let warnings: Vec<Fault> = report.finish()?;
    Ok(Parsed {
        config,
        warnings,
        places,
    })
}

fn read_daemon(root: &Section<'_, '_>, report: &mut Report) -> DaemonConfig {
    let mut daemon = DaemonConfig::default();
    let Some(section) = root.subsection("daemon", &schema::DAEMON, report) else {
        return daemon;
    };
    if let Some(path) = section.text::<AbsolutePath>("socket", report) {
        daemon.socket = path.value.0;
    }
    if let Some(port) = section.integer("bgp_port", 1..=u16::MAX, report) {
        daemon.bgp_port = port.value;
    }
    if let Some(seconds) = section.integer("stale_time", 0..=86_400_u64, report) {
        daemon.stale_time = Duration::from_secs(seconds.value);
    }
    if let Some(path) = section.text::<OptionalPath>("event_log", report) {
        daemon.event_log = path.value.0;
    }
    if let Some(size) = section.integer("event_log_size", 1..=65_536_u64, report) {
        daemon.event_log_size = size.value << 20;
    }
    if let Some(address) = section.text::<Listen>("metrics", report) {
        if !address.value.0.ip().is_loopback() {
            report.warning(
                address.at,
                format!(
                    "metrics are served to whoever reaches {}, without any check of who asks",
                    address.value.0
                ),
                "serve them at a loopback address, or let a firewall say who may ask",
            );
        }
        daemon.metrics = Some(address.value.0);
    }
    daemon
}

fn read_dataplane(root: &Section<'_, '_>, report: &mut Report) -> DataplaneConfig {
    let mut dataplane = DataplaneConfig::default();
    let Some(section) = root.subsection("dataplane", &schema::DATAPLANE, report) else {
        return dataplane;
    };
    if let Some(name) = section.text::<Name>("instance", report) {
        dataplane.instance = name.value.0;
    }
    if let Some(path) = section.text::<AbsolutePath>("bpffs", report) {
        dataplane.bpffs = path.value.0;
    }
    dataplane.require_native = section.boolean("require_native", false, report);
    let sizes = 1..=1_u32 << 28;
    if let Some(size) = section.integer("max_routes_v4", sizes.clone(), report) {
        dataplane.max_routes_v4 = size.value;
    }
    if let Some(size) = section.integer("max_routes_v6", sizes, report) {
        dataplane.max_routes_v6 = size.value;
    }
    if let Some(seed) = section.integer("flow_seed", 0..=u64::MAX, report) {
        dataplane.flow_seed = seed.value;
    }
    if let Some(rate) = section.integer("icmp_rate", 0..=1_000_000_u32, report) {
        dataplane.icmp_rate = rate.value;
    }
    dataplane
}

impl Default for DaemonConfig {
    fn default() -> Self {
        Self {
            socket: PathBuf::from(DEFAULT_SOCKET),
            bgp_port: 179,
            stale_time: Duration::from_secs(120),
            event_log: Some(PathBuf::from(DEFAULT_EVENT_LOG)),
            event_log_size: 64 << 20,
            metrics: None,
        }
    }
}

impl Default for DataplaneConfig {
    fn default() -> Self {
        Self {
            instance: "default".to_owned(),
            bpffs: PathBuf::from(DEFAULT_BPFFS),
            require_native: false,
            max_routes_v4: maps::MAX_ROUTES_V4,
            max_routes_v6: maps::MAX_ROUTES_V6,
            flow_seed: 0,
            icmp_rate: 1000,
        }
    }
}
