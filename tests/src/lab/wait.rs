//! Waiting for a condition, with a limit, never for a time.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks again and again until `look` has an answer.
///
/// # Errors
/// After `limit`: what was expected, and what was seen last (the error of `look`).
pub fn until<T>(expected: &str, limit: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match look() {
            Ok(answer) => return Ok(answer),
            Err(seen) if start.elapsed() >= limit => {
                return Err(anyhow!(
                    "after {:.1} s\n  expected: {expected}\n  seen:     {seen:#}",
                    start.elapsed().as_secs_f64()
                ));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}
