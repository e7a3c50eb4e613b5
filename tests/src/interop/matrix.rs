//! What holds with a daemon, as a table: features by who connects over what.
//!
//! In: a verdict a cell. Out: the table as text, the same in `docs/interoperation.md`, and an error
//! if a cell does not hold.

use std::{collections::BTreeMap, env, fmt, fs, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::{Connects, Transport};

/// What Waypost and a daemon do together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Both sides tell the same capabilities.
    Capabilities,
    /// Routes of both families, both ways: announced, withdrawn, announced again.
    Routes,
    /// Sessions and paths with ASNs above 65535.
    FourOctetAsn,
    /// A speaker without 4-octet ASNs.
    TwoOctetAsn,
    /// Standard communities both ways.
    Communities,
    /// Extended communities both ways.
    ExtendedCommunities,
    /// Large communities both ways.
    LargeCommunities,
    /// A message of more than 4096 bytes, from Waypost to the daemon.
    ExtendedMessageSent,
    /// The same from the daemon to Waypost.
    ExtendedMessageReceived,
    /// The daemon asks for all routes again.
    RefreshByDaemon,
    /// What is sent again stands between markers.
    EnhancedRefresh,
    /// Waypost asks for all routes again.
    RefreshByWaypost,
    /// GRACEFUL_SHUTDOWN.
    GracefulShutdown,
    /// The daemon closes the session and says why.
    ShutdownByDaemon,
    /// Waypost closes the session and says why.
    ShutdownByWaypost,
    /// The daemon dies and comes back.
    RestartOfDaemon,
    /// Waypost ends and comes back.
    RestartOfWaypost,
    /// TCP MD5.
    Md5,
    /// TCP MD5: another key while the session is up.
    Md5KeyChange,
    /// GTSM.
    TtlSecurity,
    /// Several paths a prefix, from the daemon to Waypost.
    AddPathReceived,
    /// Several paths a prefix, from Waypost to the daemon.
    AddPathSent,
    /// Graceful restart of the daemon.
    GracefulRestartOfDaemon,
    /// Graceful restart of Waypost.
    GracefulRestartOfWaypost,
    /// Long-lived graceful restart of the daemon.
    LongLived,
    /// Roles.
    Roles,
    /// IPv4 routes over IPv6 next hops.
    Ipv6NextHop,
    /// Many prefixes three times.
    ManyPrefixes,
}

impl Feature {
    fn title(self) -> &'static str {
        match self {
            Self::Capabilities => "Capabilities: both sides tell the same (RFC 5492)",
            Self::Routes => "IPv4 and IPv6 routes both ways (RFC 4271, 4760)",
            Self::FourOctetAsn => "4-octet ASNs in session and paths (RFC 6793)",
            Self::TwoOctetAsn => "A 2-octet speaker: AS4_PATH both ways (RFC 6793)",
            Self::Communities => "Communities both ways (RFC 1997)",
            Self::ExtendedCommunities => "Extended communities both ways (RFC 4360)",
            Self::LargeCommunities => "Large communities both ways (RFC 8092)",
            Self::ExtendedMessageSent => "A message above 4096 bytes sent (RFC 8654)",
            Self::ExtendedMessageReceived => "A message above 4096 bytes received (RFC 8654)",
            Self::RefreshByDaemon => "Route refresh asked by the daemon (RFC 2918, 7313)",
            Self::EnhancedRefresh => {
                "Enhanced route refresh: BoRR and EoRR of both families (RFC 7313)"
            }
            Self::RefreshByWaypost => "Route refresh asked by Waypost (RFC 2918, 7313)",
            Self::GracefulShutdown => "Graceful shutdown: last choice (RFC 8326)",
            Self::ShutdownByDaemon => "Shutdown with a text by the daemon (RFC 9003)",
            Self::ShutdownByWaypost => "Shutdown with a text by Waypost (RFC 9003)",
            Self::RestartOfDaemon => "The daemon is killed and comes back",
            Self::RestartOfWaypost => "Waypost ends and comes back",
            Self::Md5 => "TCP MD5: right, wrong and changed key (RFC 2385)",
            Self::Md5KeyChange => "TCP MD5: key changed while the session is up (RFC 2385)",
            Self::TtlSecurity => "GTSM (RFC 5082)",
            Self::AddPathReceived => "ADD-PATH: several paths received (RFC 7911)",
            Self::AddPathSent => "ADD-PATH: several paths sent (RFC 7911)",
            Self::GracefulRestartOfDaemon => "Graceful restart of the daemon (RFC 4724)",
            Self::GracefulRestartOfWaypost => "Graceful restart of Waypost (RFC 4724)",
            Self::LongLived => "Long-lived graceful restart of the daemon (RFC 9494)",
            Self::Roles => "Roles: right, and wrong refused (RFC 9234)",
            Self::Ipv6NextHop => "IPv4 routes over IPv6 next hops (RFC 8950)",
            Self::ManyPrefixes => "Many prefixes announced and withdrawn three times",
        }
    }
}

/// A column: who connects over what.
pub type Role = (Transport, Connects);

/// The columns.
pub const ROLES: [Role; 4] = [
    (Transport::Ipv4, Connects::Waypost),
    (Transport::Ipv4, Connects::Daemon),
    (Transport::Ipv6, Connects::Waypost),
    (Transport::Ipv6, Connects::Daemon),
];

/// What is known of a feature in a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Proved.
    Ok,
    /// The daemon, or the feature in this role, has it not: why, by whose documentation.
    NotApplicable(String),
    /// It should hold, but does not.
    Failed(String),
}

/// What a daemon cannot do.
#[derive(Clone, Copy, Debug)]
pub struct Lack {
    /// The feature.
    pub feature: Feature,
    /// Over one transport only.
    pub transport: Option<Transport>,
    /// Only where this side connects.
    pub connects: Option<Connects>,
    /// Why, naming the documentation.
    pub why: &'static str,
}

/// The table of one daemon.
#[derive(Debug)]
pub struct Matrix {
    daemon: String,
    rows: BTreeMap<Feature, [Option<Cell>; 4]>,
}

impl Matrix {
    /// An empty one: for example of `BIRD`.
    #[must_use]
    pub fn new(daemon: &str) -> Self {
        Self {
            daemon: daemon.to_owned(),
            rows: BTreeMap::new(),
        }
    }

    /// Fills in a cell. A feature that is proved in several steps holds if all steps do.
    pub fn set(&mut self, feature: Feature, role: usize, cell: Cell) {
        if let Cell::Failed(why) = &cell {
            println!("FAILED {feature:?} {}: {why}", column(ROLES[role]));
        }
        let known = &mut self.rows.entry(feature).or_default()[role];
        if !matches!(known, Some(Cell::Failed(_))) {
            *known = Some(cell);
        }
    }

    /// Prints the table, and demands that it holds and, if it is `whole`, stands in the document.
    ///
    /// # Errors
    /// A cell failed or is empty; the document says something else.
    pub fn prove(&self, whole: bool) -> Result<()> {
        println!("\n{self}");
        self.holds()?;
        if whole { self.is_documented() } else { Ok(()) }
    }

    /// Demands that no cell failed.
    ///
    /// # Errors
    /// One did.
    pub fn holds(&self) -> Result<()> {
        let mut failed = Vec::new();
        for (feature, cells) in &self.rows {
            for (cell, role) in cells.iter().zip(ROLES) {
                match cell {
                    Some(Cell::Failed(why)) => failed.push(format!(
                        "{} {} ({}): {why}",
                        self.daemon,
                        feature.title(),
                        column(role)
                    )),
                    None if *feature != Feature::ManyPrefixes => {
                        failed.push(format!("{feature:?}: nothing is known"));
                    }
                    _ => {}
                }
            }
        }
        ensure!(failed.is_empty(), "{}", failed.join("\n\n"));
        Ok(())
    }

    fn is_documented(&self) -> Result<()> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/interoperation.md");
        let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        let (start, end) = (
            format!("<!-- {} -->\n", self.daemon),
            format!("<!-- end of {} -->", self.daemon),
        );
        let from = text.find(&start).map(|at| at + start.len());
        let until = text.find(&end);
        let (Some(from), Some(until)) = (from, until) else {
            bail!("{}: no {start} … {end}", path.display());
        };
        let table = self.to_string();
        if text[from..until] == table {
            return Ok(());
        }
        ensure!(
            env::var_os("WAYPOST_WRITE_MATRIX").is_some(),
            "{} says something else about {}; run the scenario with WAYPOST_WRITE_MATRIX=1 to write \
             it anew",
            path.display(),
            self.daemon
        );
        let text = format!("{}{table}{}", &text[..from], &text[until..]);
        Ok(fs::write(&path, text)?)
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<String> = ROLES.into_iter().map(column).collect();
        writeln!(f, "| {} | {} |", self.daemon, columns.join(" | "))?;
        writeln!(f, "| --- | --- | --- | --- | --- |")?;
        let mut notes: Vec<&str> = Vec::new();
        for (feature, cells) in &self.rows {
            write!(f, "| {} |", feature.title())?;
            for cell in cells {
                match cell {
                    Some(Cell::Ok) => write!(f, " ok |")?,
                    Some(Cell::NotApplicable(why)) => {
                        let known = notes.iter().position(|note| note == why);
                        let number = known.unwrap_or_else(|| {
                            notes.push(why);
                            notes.len() - 1
                        });
                        write!(f, " not applicable [{}] |", number + 1)?;
                    }
                    Some(Cell::Failed(_)) => write!(f, " FAILED |")?,
                    None => write!(f, " ? |")?,
                }
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        for (number, note) in notes.iter().enumerate() {
            writeln!(f, "{}. {note}", number + 1)?;
        }
        Ok(())
    }
}

fn column((transport, connects): Role) -> String {
    let transport = match transport {
        Transport::Ipv4 => "IPv4",
        Transport::Ipv6 => "IPv6",
    };
    let connects = match connects {
        Connects::Waypost => "Waypost connects",
        Connects::Daemon => "daemon connects",
        Connects::Both => "both connect",
    };
    format!("{transport}, {connects}")
}
