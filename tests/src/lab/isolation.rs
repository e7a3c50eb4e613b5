//! A world of its own for each lab.
//!
//! The process that wants a lab starts itself once more, as the first process of a new PID
//! namespace with new mount and network namespaces. That one gets SIGKILL when its parent goes
//! ([`libc::PR_SET_PDEATHSIG`]), and when the first process of a PID namespace goes, the kernel
//! kills all the others. The last process takes the namespaces with it, these take mounts (and with
//! bpffs every pinned map and link), interfaces and routes. So Ctrl-C, a panic and `kill -9` all
//! leave nothing, without a line of clean-up code that could be skipped.

use std::{
    env,
    ffi::{CString, OsStr},
    fs,
    io::{self, BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
};

use anyhow::{Context, Result, anyhow, bail, ensure};

/// Tells the inner process where it stands: the lab's folder.
const INSIDE: &str = "WAYPOST_LAB_INSIDE";

/// File in the lab's folder that holds the inner process's id as seen from outside.
const PID_FILE: &str = "pid";

/// Where this process stands.
#[derive(Debug)]
pub enum Place {
    /// On the machine.
    Outside,
    /// Inside a lab, whose folder this is.
    Inside(PathBuf),
}

/// Where this process stands.
///
/// # Errors
/// Not root: nothing of the lab works then.
pub fn place() -> Result<Place> {
    // SAFETY: no preconditions.
    let user = unsafe { libc::geteuid() };
    ensure!(
        user == 0,
        "the lab needs root (network namespaces, XDP, raw sockets), but this is user {user}: run it \
         with sudo, for example `sudo -E cargo xtask test`"
    );
    Ok(env::var_os(INSIDE).map_or(Place::Outside, |folder| Place::Inside(folder.into())))
}

/// `target/lab/<program>/<test>/`, emptied: configurations and logs of this run. Programs run side by
/// side and may have tests of one name.
///
/// # Errors
/// The folder cannot be made.
pub fn fresh_folder(program: &str, test: &str) -> Result<PathBuf> {
    let folder = target_folder()?.join("lab").join(program).join(test);
    let attempt = || -> io::Result<()> {
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)
    };
    attempt().with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// Starts this program once more, inside, with its output passed on line by line through `println!`
/// (so that the test harness captures it), and waits for its end.
///
/// # Errors
/// The namespaces cannot be made or the program not started.
pub fn run_captured(folder: &Path, arguments: &[impl AsRef<OsStr>]) -> Result<ExitStatus> {
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(env::current_exe()?);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    run(folder, command, move |child| {
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            println!("{line}");
        }
        child.wait()
    })
}

/// Starts this program once more, inside, on the same terminal, and waits for its end.
///
/// # Errors
/// The namespaces cannot be made or the program not started.
pub fn run_attached(folder: &Path, arguments: &[impl AsRef<OsStr>]) -> Result<ExitStatus> {
    let mut command = Command::new(env::current_exe()?);
    command.args(arguments).stdin(Stdio::null());
    run(folder, command, Child::wait)
}

/// The inner process's id as seen from the machine, for `nsenter`.
///
/// # Errors
/// The file that holds it cannot be read.
pub fn outer_pid(folder: &Path) -> Result<u32> {
    let path = folder.join(PID_FILE);
    fs::read_to_string(&path)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .with_context(|| format!("{} does not hold a process id", path.display()))
}

/// Makes the new namespaces usable: private mounts, `/proc` of the new PID namespace, `/run` (with
/// `/run/netns` and the daemons' sockets) and bpffs of the lab's own.
///
/// # Errors
/// A mount is refused.
pub(crate) fn settle() -> Result<()> {
    mount("none", "/", None, libc::MS_REC | libc::MS_PRIVATE)?;
    mount("proc", "/proc", Some("proc"), 0)?;
    mount("tmpfs", "/run", Some("tmpfs"), 0)?;
    mount("bpf", "/sys/fs/bpf", Some("bpf"), 0)?;
    fs::create_dir_all("/run/netns")?;
    Ok(())
}

/// Mounts; also what scenarios use to take something away.
///
/// # Errors
/// What the kernel says.
pub fn mount(source: &str, target: &str, kind: Option<&str>, flags: libc::c_ulong) -> Result<()> {
    let text = |text: &str| CString::new(text).map_err(|_| anyhow!("NUL in {text:?}"));
    let (from, to) = (text(source)?, text(target)?);
    let kind = kind.map(text).transpose()?;
    let kind = kind.as_ref().map_or(std::ptr::null(), |kind| kind.as_ptr());
    // SAFETY: all pointers are NUL-terminated strings that outlive the call, or null where allowed.
    let result = unsafe { libc::mount(from.as_ptr(), to.as_ptr(), kind, flags, std::ptr::null()) };
    if result != 0 {
        let error = io::Error::last_os_error();
        bail!("mounting {source} on {target}: {error}");
    }
    Ok(())
}

/// The thread that makes the namespaces stays until the child has gone: the parent-death signal
/// follows the thread, not the process.
fn run(
    folder: &Path,
    mut command: Command,
    attend: impl FnOnce(&mut Child) -> io::Result<ExitStatus> + Send,
) -> Result<ExitStatus> {
    let flags = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWNET;
    thread::scope(|scope| {
        let body = move || -> Result<ExitStatus> {
            // SAFETY: takes flags only; what is unshared belongs to this thread alone.
            if unsafe { libc::unshare(flags) } != 0 {
                let error = io::Error::last_os_error();
                bail!("cannot make namespaces ({error}); the lab needs CAP_SYS_ADMIN");
            }
            // Scenarios make many errors that are only looked at: none needs a backtrace.
            command.env(INSIDE, folder).env("RUST_LIB_BACKTRACE", "0");
            // SAFETY: the hook makes one async-signal-safe system call.
            unsafe { command.pre_exec(die_with_parent) };
            let mut child = command.spawn().context("cannot start the lab's process")?;
            // The command holds the writing end of the output's pipe.
            drop(command);
            fs::write(folder.join(PID_FILE), child.id().to_string())?;
            Ok(attend(&mut child)?)
        };
        let thread = scope.spawn(body);
        thread
            .join()
            .map_err(|_| anyhow!("the lab's thread panicked"))?
    })
}

fn die_with_parent() -> io::Result<()> {
    // SAFETY: plain integers.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The `target` folder that this program was built into.
fn target_folder() -> Result<PathBuf> {
    let program = env::current_exe()?;
    program
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists())
        .map(Path::to_owned)
        .with_context(|| format!("{} does not lie in a target folder", program.display()))
}
