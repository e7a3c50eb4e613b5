//! Network namespaces whose names nobody outside sees: they live in a mount namespace of this
//! process alone, and go with it.

use std::{
    fs::File,
    io::{self, Write as _},
    mem,
    os::fd::AsRawFd as _,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, ensure};

/// Hides what this process mounts from the rest of the machine. To be called before threads start.
pub fn isolate() -> Result<()> {
    // SAFETY: changes this process's view of mounts alone.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    ensure!(
        result == 0,
        "a private mount namespace is refused: {}",
        io::Error::last_os_error()
    );
    run("mount --make-rprivate /")?;
    run("mkdir -p /run/netns")?;
    run("mount -t tmpfs tmpfs /run/netns")
}

/// Runs a command of words without quotes.
pub fn run(command: &str) -> Result<()> {
    let mut words = command.split_whitespace();
    let program = words.next().context("an empty command")?;
    let output = Command::new(program)
        .args(words)
        .output()
        .with_context(|| format!("{program} does not start"))?;
    ensure!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Runs a command with input.
pub fn feed(command: &str, input: &str) -> Result<()> {
    let mut words = command.split_whitespace();
    let program = words.next().context("an empty command")?;
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .spawn()
        .with_context(|| format!("{program} does not start"))?;
    child
        .stdin
        .take()
        .context("the child has no input")?
        .write_all(input.as_bytes())?;
    let status = child.wait()?;
    ensure!(status.success(), "{command}: {status}");
    Ok(())
}

/// Writes a file as seen in a namespace (`/proc/sys`, `/sys/class/net`).
pub fn write_in(namespace: &str, file: &str, value: &str) -> Result<()> {
    let output = Command::new("ip")
        .args(["netns", "exec", namespace, "sh", "-c"])
        .arg(format!("echo {value} > {file}"))
        .output()
        .context("ip does not start")?;
    ensure!(
        output.status.success(),
        "writing {file} in {namespace}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Calls `work` in a thread that is in the namespace.
pub fn within<T: Send>(namespace: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let file = File::open(format!("/run/netns/{namespace}"))
        .with_context(|| format!("there is no namespace {namespace}"))?;
    thread::scope(|scope| {
        scope
            .spawn(move || {
                // SAFETY: moves this thread alone.
                let result = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
                ensure!(result == 0, "setns: {}", io::Error::last_os_error());
                work()
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Number of an interface in the namespace of the calling thread.
pub fn index_of(interface: &str) -> Result<u32> {
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: the name ends in NUL.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    ensure!(index != 0, "{interface}: {}", io::Error::last_os_error());
    Ok(index)
}

/// Binds a thread (0: the calling one) to a CPU.
pub fn pin(thread: libc::pid_t, cpu: usize) -> Result<()> {
    // SAFETY: the set is as large as said.
    let result = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(thread, size_of_val(&set), &raw const set)
    };
    ensure!(
        result == 0,
        "binding thread {thread} to CPU {cpu}: {}",
        io::Error::last_os_error()
    );
    Ok(())
}
