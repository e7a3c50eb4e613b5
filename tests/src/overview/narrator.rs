//! Tells a story step by step: what was expected, what was seen, whether it held.

use std::{
    fmt::Write as _,
    io::{Write as _, stdout},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

/// Prints each step as it happens and remembers how it went.
#[derive(Debug, Default)]
pub struct Narrator {
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    title: String,
    held: bool,
    took: Duration,
}

impl Narrator {
    /// One step: does what it is about and returns what was seen, or how that differs from what was
    /// expected. A step that does not hold does not end the story.
    pub fn step(&mut self, title: &str, expected: &str, see: impl FnOnce() -> Result<String>) {
        let number = self.steps.len() + 1;
        println!("\n{number:2}. {title}");
        print_block("expected", expected);
        let _ = stdout().flush();
        let start = Instant::now();
        let seen = see();
        let took = start.elapsed();
        let held = seen.is_ok();
        match seen {
            Ok(seen) => print_block("seen", &seen),
            Err(error) => print_block("seen", &format!("{error:#}")),
        }
        println!("    {}", if held { "held" } else { "DID NOT HOLD" });
        self.steps.push(Step {
            title: title.to_owned(),
            held,
            took,
        });
    }

    /// All steps at a glance.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let width = self.steps.iter().map(|step| step.title.len()).max();
        for (number, step) in (1..).zip(&self.steps) {
            let verdict = if step.held { "held" } else { "DID NOT HOLD" };
            let _ = writeln!(
                text,
                " {number:2}  {:width$}  {:>7.2} s  {verdict}",
                step.title,
                step.took.as_secs_f64(),
                width = width.unwrap_or_default(),
            );
        }
        let held = self.steps.iter().filter(|step| step.held).count();
        let _ = write!(text, " {held} of {} held", self.steps.len());
        text
    }

    /// Demands that every step held.
    ///
    /// # Errors
    /// One did not: the summary.
    pub fn all_held(&self) -> Result<()> {
        let all = self.steps.iter().all(|step| step.held) && !self.steps.is_empty();
        ensure!(all, "not every step held\n{}", self.summary());
        Ok(())
    }
}

fn print_block(label: &str, text: &str) {
    let mut lines = text.trim_end().lines();
    println!("    {label:9} {}", lines.next().unwrap_or_default());
    for line in lines {
        println!("    {:9} {line}", "");
    }
}
