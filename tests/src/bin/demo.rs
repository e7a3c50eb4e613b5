//! The demo: a topology told step by step, without arguments the overview. `cargo xtask demo` builds
//! what it needs and starts it.
//!
//! Exit code 0 only if every step held. `--scenario NAME` tells another topology, `--list` prints
//! them. `--keep` leaves everything running until Ctrl-C and prints how to look around.

use std::{env, fs, path::Path, process::ExitCode, thread};

use anyhow::{Context, Result, bail};
use tests::{
    Lab,
    lab::isolation::{self, Place},
    overview::narrator::Narrator,
    topology::{
        Story,
        stories::{STORIES, overview},
    },
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

/// What it was asked to do.
struct Wish {
    story: Story,
    keep: bool,
}

fn run() -> Result<bool> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments == ["--list"] {
        list();
        return Ok(true);
    }
    let wish = understand(&arguments)?;
    match isolation::place()? {
        Place::Inside(folder) => perform(&folder, &wish),
        Place::Outside => {
            waypost::binary()?;
            let folder = isolation::fresh_folder("demo", wish.story.name)?;
            Ok(isolation::run_attached(&folder, &arguments)?.success())
        }
    }
}

fn understand(arguments: &[String]) -> Result<Wish> {
    let mut wish = Wish {
        story: overview::STORY,
        keep: false,
    };
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--keep" => wish.keep = true,
            "--scenario" => {
                let name = words
                    .next()
                    .context("--scenario needs a name; see --list")?;
                let mut known = STORIES.iter();
                let found = known.find(|story| story.name == name);
                wish.story = *found.with_context(|| {
                    let names: Vec<&str> = STORIES.iter().map(|story| story.name).collect();
                    format!("no scenario {name}; there are: {}", names.join(", "))
                })?;
            }
            other => {
                bail!("unknown argument {other}; there are --scenario NAME, --list and --keep")
            }
        }
    }
    Ok(wish)
}

fn list() {
    for story in STORIES {
        println!("{:2}  {:30}  {}", story.number, story.name, story.about);
    }
}

fn perform(folder: &Path, wish: &Wish) -> Result<bool> {
    let Story { about, drawing, .. } = wish.story;
    println!(
        "{about}\n\n{drawing}\n\nEverything runs in network namespaces of its own, which vanish with \
         this program.\nConfigurations and logs: {}",
        folder.display()
    );
    let lab = Lab::new(folder)?;
    let mut narrator = Narrator::default();
    let _daemons = (wish.story.tell)(&lab, &mut narrator)?;
    println!("\n{}", narrator.summary());
    if wish.keep {
        look_around(folder, wish.story.name == overview::STORY.name)?;
        loop {
            thread::park();
        }
    }
    Ok(narrator.all_held().is_ok())
}

/// Prints how to enter each host: its network namespace within the lab's mounts.
fn look_around(folder: &Path, is_overview: bool) -> Result<()> {
    let pid = isolation::outer_pid(folder)?;
    let enter = |host: &str| format!("nsenter -t {pid} -m -p nsenter --net=/run/netns/{host}");
    let binary = waypost::binary()?;
    let waypost = binary.display();
    println!("\nIt goes on running until Ctrl-C. To look around, as root:\n");
    let gw = enter("gw");
    for what in ["show peers", "show learned", "show effective"] {
        println!("  {gw} {waypost} {what}");
    }
    println!("  {gw} bpftool map show");
    if is_overview {
        println!("  {gw} {waypost} explain --subnet apps --to 10.250.0.10");
        println!("  {} ping 10.250.0.10", enter("vm1"));
        println!(
            "  {} birdc -s /run/sdwan-bird.ctl show route",
            enter("sdwan")
        );
        println!(
            "  {} vtysh --vty_socket /run/fw-frr -c 'show bgp ipv4'",
            enter("fw")
        );
    }
    let mut hosts = Vec::new();
    for entry in fs::read_dir("/run/netns")? {
        hosts.push(entry?.file_name().to_string_lossy().into_owned());
    }
    hosts.retain(|host| host != "gw" && !host.starts_with("switch-"));
    hosts.sort();
    println!("  {gw} bash     # or: {}", hosts.join(", "));
    Ok(())
}
