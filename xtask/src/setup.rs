//! `cargo xtask setup`: installs what is missing, and only that.
//!
//! Three things are needed: a compiler for the eBPF target (see [`xtask::ebpf::Compiler`]),
//! `bpf-linker` built with that compiler's LLVM, and the programs that the lab runs (BGP daemons,
//! `bpftool`, `traceroute` …).

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use xtask::ebpf::{self, Compiler};

use crate::shell;

/// Debian packages with which the eBPF target builds where no rustup nightly has `rust-src`.
const COMPILER_PACKAGES: &[&str] = &["rustc-web", "rust-web-src"];

/// What the lab's scenarios run: a command that only its Debian package brings.
const LAB: &[(&str, &str)] = &[
    ("bird", "bird2"),
    ("vtysh", "frr"),
    ("gobgpd", "gobgpd"),
    ("bgpctl", "openbgpd"),
    ("exabgp", "exabgp"),
    ("bpftool", "bpftool"),
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("traceroute", "traceroute"),
    ("ping", "iputils-ping"),
];

/// The newest LLVM that [`ebpf::BPF_LINKER_VERSION`] knows.
const NEWEST_LLVM: u32 = 23;

/// Installs what is missing; quick when nothing is.
pub(crate) fn run() -> Result<()> {
    let compiler = compiler()?;
    linker(&compiler)?;
    lab()?;
    println!(
        "eBPF toolchain: {} ({}, LLVM {}), bpf-linker",
        compiler.rustc.display(),
        compiler.release,
        compiler.llvm_major
    );
    Ok(())
}

/// What the fuzz targets need beside: libFuzzer is built from C++.
pub(crate) fn fuzzing() -> Result<()> {
    if is_installed("c++") {
        return Ok(());
    }
    if !has_apt() {
        bail!("`c++` is missing: install a C++ compiler, then run `cargo xtask fuzz` again");
    }
    apt_install(&["g++"])
}

fn compiler() -> Result<Compiler> {
    if let Ok(compiler) = Compiler::find() {
        return Ok(compiler);
    }
    if has_apt() {
        apt_install(COMPILER_PACKAGES)?;
    } else {
        shell::run(Command::new("rustup").args([
            "toolchain",
            "install",
            "nightly",
            "--profile",
            "minimal",
            "--component",
            "rust-src",
        ]))?;
    }
    Compiler::find()
}

fn linker(compiler: &Compiler) -> Result<()> {
    let installed = ebpf::find_linker().ok();
    let llvm = installed.as_deref().and_then(linked_llvm);
    if installed.is_some() && llvm.is_none_or(|llvm| llvm >= compiler.llvm_major) {
        return Ok(());
    }
    let major = compiler.llvm_major;
    let prefix = compiler.llvm_prefix();
    if !prefix.join("bin/llvm-config").exists() {
        if !has_apt() {
            bail!(
                "{} is missing: install LLVM {major} with its development files (the compiler {} \
                 is built with it), then run `cargo xtask setup` again",
                prefix.join("bin/llvm-config").display(),
                compiler.rustc.display()
            );
        }
        let llvm = format!("llvm-{major}-dev");
        apt_install(&[
            &llvm,
            "libzstd-dev",
            "zlib1g-dev",
            "libxml2-dev",
            "build-essential",
        ])?;
    }
    let mut path = vec![prefix.join("bin")];
    path.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    let feature = format!("llvm-{major}");
    let mut command = shell::cargo(&["install", "bpf-linker", "--force", "--no-default-features"]);
    command
        .args(["--features", &feature])
        .env("PATH", std::env::join_paths(path)?)
        .env(format!("LLVM_SYS_{major}1_PREFIX"), &prefix)
        // Not into the workspace's own target folder.
        .env_remove("CARGO_TARGET_DIR")
        .current_dir("/");
    if major <= NEWEST_LLVM {
        command.args(["--version", ebpf::BPF_LINKER_VERSION]);
    }
    shell::run(&mut command)
}

/// Major version of the LLVM that a linker is dynamically linked with; `None`: linked statically.
fn linked_llvm(linker: &Path) -> Option<u32> {
    let output = Command::new("ldd").arg(linker).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if text.contains("libLLVM") && text.contains("not found") {
        return Some(0);
    }
    llvm_of_ldd(&text)
}

fn llvm_of_ldd(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("libLLVM")?;
    let digits: String = rest
        .trim_start_matches(|c: char| !c.is_ascii_digit())
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

fn lab() -> Result<()> {
    let missing: Vec<&str> = LAB
        .iter()
        .filter(|(command, _)| !is_installed(command))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !has_apt() {
        bail!(
            "the lab needs these programs, by their Debian package names: {}; install them, then \
             run `cargo xtask setup` again",
            missing.join(" ")
        );
    }
    apt_install(&missing)
}

fn is_installed(command: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .any(|folder| folder.join(command).is_file())
}

fn has_apt() -> bool {
    Path::new("/usr/bin/apt-get").exists()
}

fn apt_install(packages: &[&str]) -> Result<()> {
    let apt = |arguments: &[&str]| {
        let mut command = if shell::is_root() {
            Command::new("apt-get")
        } else {
            let mut sudo = Command::new("sudo");
            sudo.args(["--preserve-env=DEBIAN_FRONTEND", "apt-get"]);
            sudo
        };
        command
            .args(["-qq", "-o", "Dpkg::Use-Pty=0"])
            .args(arguments);
        // What dpkg does line by line is of no interest; faults go to standard error.
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null());
        command
    };
    shell::run(&mut apt(&["update"]))
        .context("the package lists could not be fetched: is the network there?")?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(packages);
    shell::run(&mut apt(&install))
        .with_context(|| format!("could not install {}", packages.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::llvm_of_ldd;

    #[test]
    fn the_llvm_that_a_linker_was_built_with_is_read_from_its_libraries() {
        assert_eq!(
            llvm_of_ldd("\tlibLLVM.so.22.1 => /usr/lib/llvm-22/lib/…"),
            Some(22)
        );
        assert_eq!(llvm_of_ldd("\tlibLLVM-17.so.1 => /lib/…"), Some(17));
        assert_eq!(llvm_of_ldd("\tlibc.so.6 => /lib/…"), None);
    }
}
