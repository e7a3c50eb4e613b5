//! The command line.
//!
//! In: arguments. Out: text or JSON on standard output, faults on standard error, and an exit code:
//! 0 it worked, 1 the thing failed, 2 the arguments are wrong (`plan --exit-code`: or something would
//! change). No logic of a stage lives here.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use crate::api::{
    client::Client,
    query::{InstanceOrder, StopOrder},
    types::{AdvertisedRow, Counters, EffectiveRow, Explanation, FibView, LearnedRow, PeerDetail},
    types::{PeerRow, ReceivedRow, ReloadReport, Status},
};

mod args;
mod detail;
mod events;
mod output;
mod peer;
mod plan;
mod run;
mod stop;
mod table;

use args::{Arguments, Command, InstanceCommand, Show};
use output::{print, print_as};

/// Runs the command that the arguments name.
#[must_use]
pub fn run() -> ExitCode {
    // clap prints help and usage itself, and exits with 0 and 2.
    let arguments = Arguments::parse();
    match dispatch(&arguments) {
        Ok(code) => code,
        Err(error) => {
            // One fault a line; the causes behind a context on the same line.
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::Run(run) => {
            run::run(run, arguments.given_socket())?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Check(check) => {
            run::check(check)?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    runtime.block_on(async {
        if let Command::Plan(asked) = &arguments.command {
            return plan::plan(&Client::new(&arguments.socket()), asked).await;
        }
        ask(arguments).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// The commands that ask a running daemon.
async fn ask(arguments: &Arguments) -> anyhow::Result<()> {
    let client = Client::new(&arguments.socket());
    match &arguments.command {
        Command::Run(_) | Command::Check(_) | Command::Plan(_) => Ok(()),
        Command::Status(output) => {
            let status: Status = client.get("/v1/status", &()).await?;
            print_as(output.json, &status, status_text)
        }
        Command::Show { what } => show(&client, what).await,
        Command::Events(asked) => events::events(&client, asked).await,
        Command::Explain(explain) => {
            let answer: Explanation = client.post("/v1/explain", &explain.query()).await?;
            print_as(explain.output.json, &answer, story)
        }
        Command::Reload(output) => {
            let report: ReloadReport = client.post("/v1/reload", &()).await?;
            print_as(output.json, &report, reload_text)
        }
        Command::Instance { order } => {
            let (path, arguments) = match order {
                InstanceCommand::Stop(arguments) => (STOP_INSTANCE, arguments),
                InstanceCommand::Start(arguments) => ("/v1/instance/start", arguments),
            };
            let order = InstanceOrder {
                route_server: arguments.route_server.clone(),
                instance: arguments.instance,
            };
            client.post::<()>(path, &order).await?;
            let what = match path {
                STOP_INSTANCE => "stopped",
                _ => "started",
            };
            print(&format!("instance {} {what}\n", order.instance))
        }
        Command::Peer { order } => peer::command(&client, order).await,
        Command::Stop(stop) => {
            let order = StopOrder { flush: stop.flush };
            let text =
                stop::stop(&client, &arguments.socket(), order, stop.config.as_deref()).await?;
            print(&text)
        }
    }
}

async fn show(client: &Client, what: &Show) -> anyhow::Result<()> {
    match what {
        Show::Peers(asked) => {
            let rows: Vec<PeerRow> = client.get("/v1/peers", &asked.filter()).await?;
            print_as(asked.output.json, &rows, |rows| table::peers(rows))
        }
        Show::Peer(asked) => {
            let rows: Vec<PeerDetail> = client.get("/v1/peer", &asked.filter()).await?;
            print_as(asked.output.json, &rows, |rows| detail::details(rows))
        }
        Show::Received(asked) => {
            let rows: Vec<ReceivedRow> = client.get("/v1/received", &asked.filter()).await?;
            print_as(asked.output.json, &rows, |rows| table::received(rows))
        }
        Show::Learned(asked) => {
            let rows: Vec<LearnedRow> = client.get("/v1/learned", &asked.filter()).await?;
            print_as(asked.output.json, &rows, |rows| table::learned(rows))
        }
        Show::Advertised(asked) => {
            let rows: Vec<AdvertisedRow> = client.get("/v1/advertised", &asked.filter()).await?;
            print_as(asked.output.json, &rows, |rows| table::advertised(rows))
        }
        Show::Effective(asked) => {
            let rows: Vec<EffectiveRow> = client.get("/v1/effective", &asked.filter()).await?;
            print_as(asked.output.json, &rows, |rows| table::effective(rows))
        }
        Show::Fib(asked) => {
            let view: FibView = client.get("/v1/fib", &asked.filter()).await?;
            print_as(asked.output.json, &view, table::fib)
        }
        Show::Counters(asked) => {
            let counters: Counters = client.get("/v1/counters", &asked.filter()).await?;
            print_as(asked.output.json, &counters, table::counters)
        }
    }
}

/// Where an instance is ordered to stop.
const STOP_INSTANCE: &str = "/v1/instance/stop";

fn status_text(status: &Status) -> String {
    format!(
        "waypost {}, process {}, up {}, {}\n{}, {}{}\n\n{}",
        status.version,
        status.pid,
        table::duration(status.uptime_seconds),
        status.config,
        table::count(status.vnets, "virtual network"),
        table::count(status.ports, "port"),
        if status.synchronised {
            ""
        } else {
            "; waiting for the peers' routes (those of an earlier run stay meanwhile)"
        },
        table::route_servers(&status.route_servers),
    )
}

/// The story alone: what it tells of is in the JSON.
fn story(explanation: &Explanation) -> String {
    explanation
        .story
        .iter()
        .map(|line| format!("{line}\n"))
        .collect()
}

fn reload_text(report: &ReloadReport) -> String {
    let mut text = String::new();
    for warning in &report.warnings {
        text += &format!("warning: {warning}\n");
    }
    if report.changes.is_empty() {
        text += "nothing changed\n";
    }
    for change in &report.changes {
        text += &format!("{change}\n");
    }
    text
}
