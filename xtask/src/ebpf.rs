//! The eBPF toolchain: which compiler builds `router-ebpf`, and the build itself.
//!
//! Two kinds of compiler serve: a rustup nightly with the `rust-src` component, or a system
//! compiler with its library source (Debian: `rustc-web` and `rust-web-src`). Beside it stands
//! `bpf-linker`, which must be built with the compiler's major version of LLVM or a newer one.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// Version of `bpf-linker` that `setup` installs.
pub const BPF_LINKER_VERSION: &str = "0.13.0";

/// Where Debian's compiler stands.
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";

/// A compiler that can build for the BPF target.
#[derive(Clone, Debug)]
pub struct Compiler {
    /// The compiler's path.
    pub rustc: PathBuf,
    /// `release:` of `rustc -vV`.
    pub release: String,
    /// Major version of its LLVM.
    pub llvm_major: u32,
}

impl Compiler {
    /// The compiler to use: `WAYPOST_EBPF_RUSTC`, a rustup nightly with `rust-src`, or the system's
    /// with its library source.
    ///
    /// # Errors
    /// None of them is there; the message says what to run.
    pub fn find() -> Result<Self> {
        if let Some(path) = env::var_os("WAYPOST_EBPF_RUSTC") {
            return Self::at(PathBuf::from(&path)).with_context(|| {
                format!(
                    "WAYPOST_EBPF_RUSTC={} cannot build eBPF programs",
                    path.display()
                )
            });
        }
        let nightly = Command::new("rustup")
            .args(["which", "--toolchain", "nightly", "rustc"])
            .output();
        if let Ok(output) = nightly
            && output.status.success()
            && let Ok(compiler) = Self::at(PathBuf::from(
                String::from_utf8_lossy(&output.stdout).trim(),
            ))
        {
            return Ok(compiler);
        }
        if let Ok(compiler) = Self::at(PathBuf::from(SYSTEM_RUSTC)) {
            return Ok(compiler);
        }
        bail!(
            "no Rust compiler with its library source for the eBPF target is installed: \
             run `cargo xtask setup`"
        )
    }

    fn at(rustc: PathBuf) -> Result<Self> {
        let verbose = output_of(Command::new(&rustc).arg("-vV"))?;
        let field = |name: &str| {
            verbose
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
                .map(str::to_owned)
        };
        let release = field("release:").context("`rustc -vV` names no release")?;
        let llvm_major = field("LLVM version:")
            .and_then(|version| version.split('.').next()?.parse().ok())
            .context("`rustc -vV` names no LLVM version")?;
        let sysroot = output_of(Command::new(&rustc).args(["--print", "sysroot"]))?;
        let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
        if !source.exists() {
            bail!(
                "{} has no library source ({} is missing)",
                rustc.display(),
                source.display()
            );
        }
        Ok(Self {
            rustc,
            release,
            llvm_major,
        })
    }

    /// Where Debian puts this compiler's LLVM.
    #[must_use]
    pub fn llvm_prefix(&self) -> PathBuf {
        PathBuf::from(format!("/usr/lib/llvm-{}", self.llvm_major))
    }
}

/// Path of `bpf-linker`.
///
/// # Errors
/// It is not installed; the message says what to run.
pub fn find_linker() -> Result<PathBuf> {
    let in_cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
        .map(|home| home.join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(in_cargo_home)
        .map(|folder| folder.join("bpf-linker"))
        .find(|file| file.is_file())
        .context("bpf-linker is not installed: run `cargo xtask setup`")
}

/// Builds the programs of `router-ebpf` and copies their objects into the build script's
/// `OUT_DIR`. To be called from a build script.
///
/// # Errors
/// The toolchain is missing, or the programs do not compile.
pub fn build(programs: &[&str]) -> Result<()> {
    let manifest =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("not in a build script")?);
    let root = manifest
        .parent()
        .context("the crate has no parent folder")?;
    for watched in ["router-ebpf", "router-common"] {
        println!("cargo:rerun-if-changed={}", root.join(watched).display());
    }
    for variable in ["WAYPOST_EBPF_RUSTC", "PATH"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").context("not in a build script")?);
    // OUT_DIR is <target>/<profile>/build/<crate>/out: one eBPF target folder serves all profiles.
    let target = out
        .ancestors()
        .nth(4)
        .context("OUT_DIR is not where cargo puts it")?
        .join("ebpf");
    cargo_build(root, &target, &[])?;
    for program in programs {
        let object = target.join(bpf_target()).join("release").join(program);
        fs::copy(&object, out.join(format!("{program}.bpf.o")))
            .with_context(|| format!("{} was not built", object.display()))?;
    }
    Ok(())
}

/// Builds `router-ebpf` of the workspace at `root` with warnings as errors.
///
/// # Errors
/// The toolchain is missing, or the programs do not compile without a warning.
pub fn check(root: &Path) -> Result<()> {
    cargo_build(root, &root.join("target/ebpf-check"), &["-Dwarnings"])
}

fn cargo_build(root: &Path, target: &Path, extra_flags: &[&str]) -> Result<()> {
    let compiler = Compiler::find()?;
    let linker = find_linker()?;
    let mut path = vec![linker.parent().map(Path::to_owned).unwrap_or_default()];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    // v3: 32-bit arithmetic and jumps, known to every kernel since 5.1.
    let flags = [
        &["-Ctarget-cpu=v3", "-Cdebuginfo=2", "-Clink-arg=--btf"],
        extra_flags,
    ]
    .concat();
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(root.join("router-ebpf"))
        .args([
            "build",
            "--release",
            "--bins",
            "-Zbuild-std=core",
            "--target",
            bpf_target(),
        ])
        .arg("--target-dir")
        .arg(target)
        .env("RUSTC", &compiler.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("PATH", env::join_paths(path)?)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    for variable in [
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
    ] {
        command.env_remove(variable);
    }
    let output = command.output().context("cargo does not start")?;
    if !output.status.success() {
        bail!(
            "router-ebpf does not build:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

fn bpf_target() -> &'static str {
    if cfg!(target_endian = "big") {
        "bpfeb-unknown-none"
    } else {
        "bpfel-unknown-none"
    }
}

fn output_of(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("{command:?} does not start"))?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}
