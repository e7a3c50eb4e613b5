//! However a lab ends, nothing is left of it.

use std::{fs, io, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use tests::{
    daemon::{Bird, Options, Speaker},
    lab::Link,
    scenario, until,
};

const LIMIT: Duration = Duration::from_secs(20);

/// The lab's process is killed as hard as can be, from outside. Its namespaces, and every process in
/// them, must be gone; no mount of it may show on the machine.
#[test]
fn a_killed_lab_leaves_nothing() -> Result<()> {
    const INNER: &str = "WAYPOST_LAB_TO_BE_KILLED";
    if let Some(mark) = std::env::var_os(INNER) {
        return scenario(move |lab| {
            let host = lab.host("doomed")?;
            let other = lab.host("other")?;
            Link::new((&host, "eth0"), (&other, "eth0"))?;
            let mut sleeper = Command::new("sleep");
            sleeper.arg(mark);
            let _child = sleeper.spawn()?;
            let lonely = Speaker {
                asn: 65001,
                router_id: "10.0.0.1".parse()?,
                addresses: Vec::new(),
                neighbors: Vec::new(),
                announce: Vec::new(),
                underlay: Vec::new(),
                install: false,
                options: Options::default(),
            };
            let _bird = Bird::start(&host, lonely)?;
            fs::write("/run/ready-to-die", "")?;
            loop {
                std::thread::park();
            }
        });
    }
    // Seconds that nobody else sleeps for.
    let mark = format!("8{}", std::process::id());
    let mut lab = Command::new(std::env::current_exe()?)
        .args(["--exact", "a_killed_lab_leaves_nothing", "--nocapture"])
        .env(INNER, &mark)
        .env_remove("WAYPOST_LAB_INSIDE")
        .spawn()?;
    let sleeper = until("the lab to be killed runs", LIMIT, || {
        process_with(&["sleep", &mark])
    })?;
    let namespaces = |id: u32, kind: &str| fs::read_link(format!("/proc/{id}/ns/{kind}"));
    let own = namespaces(std::process::id(), "mnt")?;
    let doomed = ["mnt", "pid", "net"].map(|kind| namespaces(sleeper, kind));
    until("the lab stands", LIMIT, || {
        let path = format!("/proc/{sleeper}/root/run/ready-to-die");
        Ok(fs::metadata(path).map(drop)?)
    })?;
    ensure!(
        doomed[0].as_ref().is_ok_and(|mounts| *mounts != own),
        "{doomed:?}"
    );
    lab.kill()?;
    lab.wait()?;
    until("nothing of the killed lab is left", LIMIT, || {
        for entry in fs::read_dir("/proc")? {
            let Ok(id) = entry?.file_name().to_string_lossy().parse::<u32>() else {
                continue;
            };
            for (kind, gone) in ["mnt", "pid", "net"].iter().zip(&doomed) {
                let alive = namespaces(id, kind).ok();
                let gone = gone.as_ref().ok();
                ensure!(
                    alive.is_none() || alive.as_ref() != gone,
                    "process {id} is left in it"
                );
            }
        }
        Ok(())
    })?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains("doomed"), "a mount is left: {mounts}");
    Ok(())
}

fn process_with(arguments: &[&str]) -> Result<u32> {
    for entry in fs::read_dir("/proc")? {
        let Ok(id) = entry?.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line
            .split(|byte| *byte == 0)
            .filter(|word| !word.is_empty())
            .collect();
        if words
            .iter()
            .copied()
            .eq(arguments.iter().map(|word| word.as_bytes()))
        {
            return Ok(id);
        }
    }
    Err(io::Error::from(io::ErrorKind::NotFound)).context(arguments.join(" "))
}
