//! The demo: topology 1 told step by step. `cargo xtask demo` builds what it needs and starts it.
//!
//! Exit code 0 only if every step held. `--keep` leaves everything running until Ctrl-C and prints
//! how to look around.

use std::{env, path::Path, process::ExitCode, thread};

use anyhow::{Result, bail};
use tests::{
    Lab,
    lab::isolation::{self, Place},
    network::Cable,
    overview::{Overview, narrator::Narrator, story},
    waypost,
};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let keep = match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        [] => false,
        ["--keep"] => true,
        other => bail!("unknown arguments {other:?}; the only one is --keep"),
    };
    match isolation::place()? {
        Place::Inside(folder) => perform(&folder, keep),
        Place::Outside => {
            waypost::binary()?;
            let folder = isolation::fresh_folder("demo", "overview")?;
            Ok(isolation::run_attached(&folder, &arguments)?.success())
        }
    }
}

fn perform(folder: &Path, keep: bool) -> Result<bool> {
    println!(
        "Waypost's main job: a virtual machine's packet takes the path that BGP chose.\n\n  office ── \
         site ── sdwan ──┐              ┌── fw  ──┐\n                          ├── gw ────────┼── \
         fw2 ──┼── internet\n                vm1, vm2 ──┘  Waypost     └── fw3 ──┘\n\nEverything \
         runs in network namespaces of its own, which vanish with this program.\nConfigurations and \
         logs: {}",
        folder.display()
    );
    let lab = Lab::new(folder)?;
    let world = Overview::build(&lab, 3, Cable::Straight)?;
    let mut narrator = Narrator::default();
    let _daemons = story::tell(&world, &mut narrator)?;
    println!("\n{}", narrator.summary());
    if keep {
        look_around(folder)?;
        loop {
            thread::park();
        }
    }
    Ok(narrator.all_held().is_ok())
}

/// Prints how to enter each host: its network namespace within the lab's mounts.
fn look_around(folder: &Path) -> Result<()> {
    let pid = isolation::outer_pid(folder)?;
    let enter = |host: &str| format!("nsenter -t {pid} -m -p nsenter --net=/run/netns/{host}");
    let binary = waypost::binary()?;
    let waypost = binary.display();
    println!("\nIt goes on running until Ctrl-C. To look around, as root:\n");
    let gw = enter("gw");
    for what in [
        format!("{waypost} show peers"),
        format!("{waypost} show effective"),
        format!("{waypost} explain --subnet apps --to 10.250.0.10"),
        "bpftool map show".to_owned(),
    ] {
        println!("  {gw} {what}");
    }
    println!("  {} ping 10.250.0.10", enter("vm1"));
    println!(
        "  {} birdc -s /run/sdwan-bird.ctl show route",
        enter("sdwan")
    );
    println!(
        "  {} vtysh --vty_socket /run/fw-frr -c 'show bgp ipv4'",
        enter("fw")
    );
    println!(
        "  {} bash     # or: vm2, fw2, fw3, site, office, internet",
        enter("gw")
    );
    Ok(())
}
