//! `waypost peer …`: the operator's commands for the sessions of one peer.

use clap::{Args, Subcommand, ValueEnum};

use super::{args::OutputArguments, output::print_as};
use crate::api::{
    client::Client,
    query::{PeerCommand, PeerOrder},
    types::PeerOrderRow,
};

#[derive(Debug, Subcommand)]
pub(super) enum Peer {
    /// Close its sessions (Cease, administrative shutdown) and keep them closed.
    ///
    /// They stay closed over reloads, until "peer start". The peer is told the text (RFC 9003). To
    /// lose no packet, drain the peer first.
    #[command(
        after_long_help = "Examples:\n  waypost peer shutdown fw \"maintenance until 18:00, ticket 4711\"\n  waypost peer shutdown 10.1.20.4 --instance 1"
    )]
    Shutdown(ShutdownArguments),
    /// Let its sessions come up again.
    #[command(after_long_help = "Example:\n  waypost peer start fw")]
    Start(PeerArguments),
    /// Make its routes last choice, and ours with it, so that traffic moves away (RFC 8326).
    ///
    /// Wherever another appliance announces the same prefix, its path is used instead; everyone
    /// who is sent this peer's routes, and the peer itself, sees the community GRACEFUL_SHUTDOWN.
    /// The sessions stay up. Then shut it down: nothing is lost.
    #[command(
        after_long_help = "Examples:\n  waypost peer drain fw\n  waypost peer drain fw --off"
    )]
    Drain(DrainArguments),
    /// End a drain.
    #[command(after_long_help = "Example:\n  waypost peer undrain fw")]
    Undrain(PeerArguments),
    /// Start over with it: soft or hard.
    ///
    /// "soft" asks it for all its routes again (it must take such requests, RFC 2918) and sends it
    /// all of ours again; the session goes on. "hard" closes its sessions (Cease, administrative
    /// reset), and they come back.
    #[command(
        after_long_help = "Examples:\n  waypost peer clear fw soft\n  waypost peer clear fw hard --instance 1"
    )]
    Clear(ClearArguments),
}

#[derive(Debug, Args)]
pub(super) struct PeerArguments {
    /// Name or address of the peer.
    #[arg(value_name = "PEER")]
    peer: String,
    /// Its session with this instance only, 1 or 2.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=2))]
    instance: Option<u8>,
    /// Name of the route server; needed where several have a peer of that name or address.
    #[arg(long, value_name = "NAME")]
    route_server: Option<String>,
    #[command(flatten)]
    output: OutputArguments,
}

#[derive(Debug, Args)]
pub(super) struct ShutdownArguments {
    #[command(flatten)]
    peer: PeerArguments,
    /// What the peer is told, at most 255 bytes.
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    /// The same, as an option.
    #[arg(long = "text", value_name = "TEXT", conflicts_with = "text")]
    text_option: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct DrainArguments {
    #[command(flatten)]
    peer: PeerArguments,
    /// End it, as "peer undrain" does.
    #[arg(long)]
    off: bool,
}

#[derive(Debug, Args)]
pub(super) struct ClearArguments {
    #[command(flatten)]
    peer: PeerArguments,
    /// How.
    #[arg(value_name = "HOW")]
    how: How,
    /// What the peer is told with "hard", at most 255 bytes.
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum How {
    /// Routes again, both ways; the session goes on.
    Soft,
    /// Close the sessions; they come back at once.
    Hard,
}

/// Sends the order and prints what became of it.
pub(super) async fn command(client: &Client, order: &Peer) -> anyhow::Result<()> {
    let (peer, command, text) = match order {
        Peer::Shutdown(asked) => {
            let text = asked.text.as_ref().or(asked.text_option.as_ref());
            (&asked.peer, PeerCommand::Shutdown, text)
        }
        Peer::Start(peer) => (peer, PeerCommand::Start, None),
        Peer::Drain(DrainArguments { peer, off: false }) => (peer, PeerCommand::Drain, None),
        Peer::Drain(DrainArguments { peer, off: true }) | Peer::Undrain(peer) => {
            (peer, PeerCommand::Undrain, None)
        }
        Peer::Clear(asked) => {
            let command = match asked.how {
                How::Soft => PeerCommand::ClearSoft,
                How::Hard => PeerCommand::ClearHard,
            };
            (&asked.peer, command, asked.text.as_ref())
        }
    };
    let order = PeerOrder {
        route_server: peer.route_server.clone(),
        peer: peer.peer.clone(),
        instance: peer.instance,
        command,
        text: text.cloned().unwrap_or_default(),
    };
    let rows: Vec<PeerOrderRow> = client.post("/v1/peer", &order).await?;
    print_as(peer.output.json, &rows, |rows| told(rows))
}

fn told(rows: &[PeerOrderRow]) -> String {
    let line = |row: &PeerOrderRow| {
        let not = if row.done { "" } else { "not done: " };
        format!(
            "{}, instance {}: {not}{}\n",
            row.peer, row.instance, row.what
        )
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_session_is_a_line_that_says_what_became_of_it() {
        let row = |instance, done, what: &str| PeerOrderRow {
            route_server: "rs1".into(),
            instance,
            peer: "fw".into(),
            done,
            what: what.to_owned(),
        };
        let rows = [row(1, true, "shut down"), row(2, false, "it is stopped")];
        assert_eq!(
            told(&rows),
            "fw, instance 1: shut down\nfw, instance 2: not done: it is stopped\n"
        );
    }
}
