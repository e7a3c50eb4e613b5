//! The command line as a user meets it: exit codes, messages, a closed pipe.

use std::process::{Command, Output, Stdio};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/example.toml");

#[test]
fn a_good_file_is_told_so_and_the_exit_code_is_0() {
    let output = waypost(&["check", "--file-only", EXAMPLE]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("good: 1 virtual network, 5 subnets, 4 ports"),
        "{said}"
    );
}

#[test]
fn faults_go_to_standard_error_one_a_line_and_the_exit_code_is_1() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    let example = std::fs::read_to_string(EXAMPLE).unwrap();
    let bad = example.replacen("asn = 65010", "asn = 0", 1).replacen(
        "ip_forwarding = true",
        "ip_forwardin = true",
        1,
    );
    std::fs::write(&file, bad).unwrap();
    let file = file.to_str().unwrap();
    for command in [&["check", file][..], &["run", "--config", file]] {
        let output = waypost(command);
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        let said = stderr(&output);
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 2, "{said}");
        assert!(lines.iter().all(|line| line.starts_with(file)), "{said}");
        assert!(
            lines[0].contains("did you mean \"ip_forwarding\"?"),
            "{said}"
        );
    }
}

#[test]
fn a_missing_file_is_named() {
    let output = waypost(&["check", "/nowhere/waypost.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot read /nowhere/waypost.toml"));
}

#[test]
fn wrong_arguments_give_exit_code_2() {
    for arguments in [
        &["bogus"][..],
        &["show"],
        &["show", "learned", "--prefix", "10.1.0.0"],
        &["show", "learned", "--longer"],
        &["instance", "stop", "3"],
        &["peer", "shutdown"],
        &["peer", "shutdown", "fw", "text", "--text", "text"],
        &["peer", "shutdown", "fw", "--instance", "3"],
        &["peer", "clear", "fw"],
        &["peer", "clear", "fw", "gently"],
        &["show", "peer"],
        &["events", "--since", "yesterday"],
        &["events", "--kind", "session,rout"],
        &["explain", "--subnet", "apps"],
        &[
            "explain",
            "--subnet",
            "apps",
            "--to",
            "10.0.0.1",
            "--source-port",
            "4",
        ],
        &["stop", "--config", EXAMPLE],
    ] {
        let output = waypost(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn without_a_daemon_each_question_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("none.sock");
    let socket = socket.to_str().unwrap();
    for arguments in [
        &["status"][..],
        &["show", "peers"],
        &["show", "fib", "--json"],
        &["events", "--follow"],
        &[
            "events",
            "--since",
            "10m",
            "--kind",
            "session,route",
            "--json",
        ],
        &["explain", "--subnet", "apps", "--to", "10.0.0.1"],
        &["reload"],
        &["instance", "stop", "1"],
        &["peer", "shutdown", "fw", "maintenance until 18:00"],
        &["peer", "shutdown", "fw", "--text", "maintenance"],
        &["peer", "clear", "fw", "hard", "--json"],
        &["show", "peer", "fw"],
        &["show", "received"],
        &["stop"],
    ] {
        let arguments = [arguments, &["--socket", socket]].concat();
        let output = waypost(&arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = stderr(&output);
        assert!(
            said.contains(&format!("no daemon answers on {socket}; start one")),
            "{said}"
        );
    }
}

#[test]
fn each_commands_help_ends_in_an_example() {
    for command in [
        &["run"][..],
        &["check"],
        &["status"],
        &["show"],
        &["show", "peers"],
        &["show", "learned"],
        &["show", "advertised"],
        &["show", "effective"],
        &["show", "fib"],
        &["show", "counters"],
        &["events"],
        &["explain"],
        &["reload"],
        &["instance", "stop"],
        &["instance", "start"],
        &["peer"],
        &["peer", "shutdown"],
        &["peer", "start"],
        &["peer", "drain"],
        &["peer", "undrain"],
        &["peer", "clear"],
        &["show", "peer"],
        &["show", "received"],
        &["stop"],
    ] {
        let output = waypost(&[command, &["--help"]].concat());
        assert_eq!(output.status.code(), Some(0));
        let help = String::from_utf8(output.stdout).unwrap();
        let (_, example) = help
            .rsplit_once("Example")
            .unwrap_or_else(|| panic!("{help}"));
        let called = format!("  waypost {}", command.join(" "));
        assert!(example.contains(&called), "{help}");
    }
}

#[test]
fn output_to_a_closed_pipe_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = Command::new(env!("CARGO_BIN_EXE_waypost"))
        .args(["check", "--file-only", EXAMPLE])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(stderr(&output), "");
    assert_eq!(output.status.code(), Some(0));
}

fn waypost(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_waypost"))
        .args(arguments)
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
