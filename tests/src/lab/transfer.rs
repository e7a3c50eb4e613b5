//! A TCP transfer in which every byte is checked.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};

use super::Host;

/// Bytes that are made, sent and compared at a time.
const BLOCK: usize = 1 << 20;

/// How long a transfer may stand still.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a transfer achieved.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Bytes that arrived, every one as it was sent.
    pub bytes: u64,
    /// From the connection's opening to the last byte's acknowledgement by the far program.
    pub elapsed: Duration,
}

impl Transfer {
    /// Rate in Gbit/s.
    #[must_use]
    pub fn gigabits(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.elapsed.as_secs_f64() / 1e9
    }
}

impl std::fmt::Display for Transfer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (mib, seconds) = (self.bytes >> 20, self.elapsed.as_secs_f64());
        write!(
            f,
            "{mib} MiB in {seconds:.2} s, {:.2} Gbit/s",
            self.gigabits()
        )
    }
}

/// Sends `bytes` (rounded up to whole MiB) from one host to an address of another, over TCP. The
/// far program compares every byte with what it must be.
///
/// # Errors
/// No connection, a stand-still, a byte that differs or is missing.
pub fn transfer(from: &Host, to: &Host, address: IpAddr, bytes: u64) -> Result<Transfer> {
    let blocks = bytes.div_ceil(BLOCK as u64);
    let listener = to.inside(|| TcpListener::bind((address, 0)))?;
    let target = listener.local_addr()?;
    thread::scope(|scope| {
        let receiver = scope.spawn(move || receive(&listener, blocks));
        let sent = from.inside(|| send(target, blocks));
        if sent.is_err() {
            // The receiver may still wait for a connection: give it one that ends at once.
            drop(to.inside(|| TcpStream::connect(target)));
        }
        let received = receiver
            .join()
            .map_err(|_| anyhow!("the receiver panicked"))?;
        let elapsed = sent.with_context(|| format!("{from} sends to {address}"))?;
        received.with_context(|| format!("{to} receives on {address}"))?;
        Ok(Transfer {
            bytes: blocks * BLOCK as u64,
            elapsed,
        })
    })
}

fn send(target: SocketAddr, blocks: u64) -> Result<Duration> {
    let start = Instant::now();
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut block = Block::new();
    for number in 0..blocks {
        stream.write_all(block.numbered(number))?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = [0; 8];
    stream
        .read_exact(&mut answer)
        .context("the far end did not acknowledge all bytes")?;
    ensure!(u64::from_be_bytes(answer) == blocks);
    Ok(start.elapsed())
}

fn receive(listener: &TcpListener, blocks: u64) -> Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut block = Block::new();
    let mut received = vec![0; BLOCK];
    for number in 0..blocks {
        stream
            .read_exact(&mut received)
            .with_context(|| format!("after {number} of {blocks} MiB"))?;
        ensure!(
            received == block.numbered(number),
            "MiB {number} of {blocks} differs from what was sent"
        );
    }
    ensure!(stream.read(&mut received)? == 0, "more than was sent");
    stream.write_all(&blocks.to_be_bytes())?;
    Ok(())
}

/// Bytes without a pattern, headed by the block's number.
struct Block(Vec<u8>);

impl Block {
    fn new() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let words = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        });
        Self(words.take(BLOCK / 8).flat_map(u64::to_be_bytes).collect())
    }

    fn numbered(&mut self, number: u64) -> &[u8] {
        self.0[..8].copy_from_slice(&number.to_be_bytes());
        &self.0
    }
}
