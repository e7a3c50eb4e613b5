//! `traceroute`, the system's own.

use std::net::IpAddr;

use anyhow::{Result, ensure};

use super::{Host, host::family_flag};

impl Host {
    /// The hops on the way to an address, one probe each: `None` where nobody answered.
    ///
    /// # Errors
    /// `traceroute` cannot run or says nothing of use.
    pub fn traceroute(&self, to: IpAddr) -> Result<Vec<Option<IpAddr>>> {
        let family = family_flag(to);
        let text = self.run(&format!("traceroute {family} -n -q 1 -w 1 -m 10 {to}"))?;
        let hops = parse(&text);
        ensure!(!hops.is_empty(), "{self}: traceroute to {to} says: {text}");
        Ok(hops)
    }
}

fn parse(text: &str) -> Vec<Option<IpAddr>> {
    text.lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1))
        .map(|hop| hop.parse().ok())
        .collect()
}

/// Hops as one line.
#[must_use]
pub fn as_text(hops: &[Option<IpAddr>]) -> String {
    let words: Vec<String> = hops
        .iter()
        .map(|hop| hop.map_or("*".to_owned(), |hop| hop.to_string()))
        .collect();
    words.join(" → ")
}

#[cfg(test)]
mod tests {
    use super::{as_text, parse};

    #[test]
    fn hops_are_read_in_order_and_silence_is_a_star() {
        let text = "\
traceroute to 10.250.0.10 (10.250.0.10), 10 hops max, 60 byte packets
 1  10.1.1.1  0.034 ms
 2  *
 3  10.250.0.10  0.051 ms
";
        assert_eq!(as_text(&parse(text)), "10.1.1.1 → * → 10.250.0.10");
    }
}
