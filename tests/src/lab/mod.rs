//! Hosts, links, processes, captures and traffic: a small world of network namespaces.

use std::{
    any::type_name,
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result, bail, ensure};

pub mod capture;
pub mod host;
pub mod isolation;
pub mod link;
pub mod packet;
pub mod ping;
pub mod process;
pub mod stream;
pub mod sysctl;
pub mod traceroute;
pub mod transfer;
pub mod wait;
pub mod witness;

pub use capture::Capture;
pub use host::Host;
pub use link::Link;
pub use packet::Packet;
pub use ping::Ping;
pub use process::Process;
pub use witness::Witness;

use isolation::Place;

/// The lab: one for each process, inside its own namespaces.
#[derive(Debug)]
pub struct Lab {
    folder: PathBuf,
}

impl Lab {
    /// Makes the process's private world usable. Called once, inside.
    ///
    /// # Errors
    /// A mount is refused.
    pub fn new(folder: &Path) -> Result<Self> {
        isolation::settle().context("cannot set up the lab's private mounts")?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// A new host: a network namespace with its loopback up, reachable by `ip netns exec NAME` from
    /// within the lab.
    ///
    /// # Errors
    /// The namespace cannot be made.
    pub fn host(&self, name: &str) -> Result<Host> {
        Host::new(name, &self.folder)
            .with_context(|| format!("cannot make the network namespace of host {name}"))
    }

    /// Where configurations and logs are kept; it outlives the lab.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Runs a scenario in a world of its own and tells how it ended. To be called as the whole body of
/// a `#[test]`: the test's name is taken from the closure's.
///
/// # Errors
/// What the scenario returned, or why it could not run: not root, no namespaces.
pub fn scenario<F>(story: F) -> Result<()>
where
    F: FnOnce(&Lab) -> Result<()>,
{
    match isolation::place()? {
        Place::Inside(folder) => inside(&folder, story),
        Place::Outside => {
            let (program, test) = test_name::<F>();
            outside(program, test)
        }
    }
}

/// Scenarios of one test binary take turns: some of them measure time.
static TURN: Mutex<()> = Mutex::new(());

/// Written by the inner process once its story has been told to the end.
const OUTCOME: &str = "outcome";

fn outside(program: &str, test: &str) -> Result<()> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = isolation::fresh_folder(program, &test.replace("::", "-"))?;
    let arguments = ["--exact", test, "--nocapture", "--test-threads=1"];
    let status = isolation::run_captured(&folder, &arguments)?;
    let outcome = fs::read_to_string(folder.join(OUTCOME)).unwrap_or_default();
    ensure!(
        status.success() && outcome == "held",
        "the scenario did not hold ({status}); logs and configurations: {}",
        folder.display()
    );
    Ok(())
}

fn inside(folder: &Path, story: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    let lab = Lab::new(folder)?;
    match catch_unwind(AssertUnwindSafe(|| story(&lab))) {
        Ok(Ok(())) => {
            fs::write(folder.join(OUTCOME), "held")?;
            Ok(())
        }
        Ok(Err(error)) => {
            eprintln!("{}", process::log_tails(25));
            eprintln!("scenario failed: {error:?}");
            bail!("{error:#}")
        }
        Err(panic) => {
            eprintln!("{}", process::log_tails(25));
            resume_unwind(panic)
        }
    }
}

/// The test binary and the test in it: `bird` and `when_both_connect` from
/// `bird::when_both_connect::{{closure}}`.
fn test_name<F>() -> (&'static str, &'static str) {
    let path = type_name::<F>();
    let path = path.strip_suffix("::{{closure}}").unwrap_or(path);
    path.split_once("::").unwrap_or(("", path))
}
