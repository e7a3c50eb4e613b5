//! Sessions with BIRD, in a network namespace of their own.

mod session_support;

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use ipnet::IpNet;
use router_user::bgp::{
    DownReason, RouteChange, SessionEvent,
    session::{SessionConfig, SessionHandle},
    settings::Security,
    speaker::Farewell,
    wire::{self, Context, Family},
};
use session_support::{Node, PATIENCE, announcement, in_private_network, send, session};
use tempfile::TempDir;

const ADDRESSES: [&str; 4] = [
    "10.1.255.4/32",
    "10.1.10.4/32",
    "fd00:1:0:ff::4/128",
    "fd00:1:0:a::4/128",
];

#[test]
fn bird_connects_and_routes_flow_both_ways_over_ipv4() {
    in_private_network(&ADDRESSES, || async {
        let config = passive(over_ipv4());
        let bird = Bird::start(&config, "");
        exchange_routes(config, bird).await;
    });
}

#[test]
fn bird_is_connected_to_and_routes_flow_both_ways_over_ipv4() {
    in_private_network(&ADDRESSES, || async {
        let config = over_ipv4();
        let bird = Bird::start(&config, "passive on;");
        exchange_routes(config, bird).await;
    });
}

#[test]
fn both_connect_at_once_and_routes_flow_both_ways_over_ipv6() {
    in_private_network(&ADDRESSES, || async {
        let config = session("fd00:1:0:ff::4", "fd00:1:0:a::4", 179);
        let bird = Bird::start(&config, "");
        exchange_routes(config, bird).await;
    });
}

#[test]
fn the_session_comes_back_after_bird_is_killed_and_started_again() {
    in_private_network(&ADDRESSES, || async {
        let config = over_ipv4();
        let mut bird = Bird::start(&config, "");
        let mut ours = Node::with(vec![config.clone()]);
        ours.up(&config.id).await;
        bird.kill();
        assert!(matches!(
            ours.down(&config.id).await,
            DownReason::Connection(_)
        ));
        ours.error("is its BGP daemon running?").await;
        bird.run();
        ours.up(&config.id).await;
        ours.announced("10.250.0.0/16").await;
    });
}

#[test]
fn what_bird_says_when_it_is_disabled_is_shown() {
    in_private_network(&ADDRESSES, || async {
        let config = over_ipv4();
        let bird = Bird::start(&config, "");
        let mut ours = Node::with(vec![config.clone()]);
        ours.up(&config.id).await;
        bird.control("disable waypost \"moving racks\"");
        let DownReason::NotificationReceived(notification) = ours.down(&config.id).await else {
            panic!("no NOTIFICATION");
        };
        assert_eq!((notification.code, notification.subcode), (6, 2));
        ours.error("10.1.10.4 sent NOTIFICATION 6/2 (Cease: administrative shutdown")
            .await;
        bird.control("enable waypost");
        ours.up(&config.id).await;
    });
}

#[test]
fn bird_and_we_authenticate_each_other_with_tcp_md5_and_gtsm() {
    in_private_network(&ADDRESSES, || async {
        let mut config = over_ipv4();
        config.security = Security {
            md5_password: Some("open sesame".parse().unwrap()),
            ttl_security: Some(2),
            ..Security::default()
        };
        let options = "password \"open sesame\"; multihop 2; ttl security on;";
        let _bird = Bird::start(&config, options);
        let mut ours = Node::with(vec![config.clone()]);
        ours.up(&config.id).await;
        ours.announced("10.250.0.0/16").await;

        // Without the password BIRD is not heard any more.
        let security = Security::default();
        let open = SessionConfig { security, ..config };
        let wrong = vec![open.clone()];
        assert!(ours.speaker.apply(wrong).is_empty());
        ours.down(&open.id).await;
        let up = |event: &SessionEvent| matches!(event, SessionEvent::Up { .. });
        assert!(ours.quiet(Duration::from_secs(3), up).await);
    });
}

#[test]
fn a_wrong_asn_is_named_by_bird_and_by_us() {
    in_private_network(&ADDRESSES, || async {
        let config = over_ipv4();
        let bird = Bird::start(&config, "");
        let wrong = SessionConfig {
            peer_asn: 65099,
            ..config
        };
        let mut ours = Node::with(vec![wrong]);
        ours.error("OPEN: peer says ASN 65010, the configuration says 65099")
            .await;
        bird.wait_for("show protocols all waypost", "Bad peer AS")
            .await;
    });
}

async fn exchange_routes(config: SessionConfig, bird: Bird) {
    let mut ours = Node::with(vec![config.clone()]);
    let (handle, terms) = ours.up_on_terms(&config.id).await;
    assert_eq!(terms.families, Family::ALL);
    assert!(terms.four_octet_asn && terms.route_refresh);
    learn(&mut ours).await;

    let context = terms.context();
    advertise(&handle, &context);
    let seen = bird
        .wait_for("show route protocol waypost all 10.1.0.0/16", "10.1.255.4")
        .await;
    assert!(seen.contains("BGP.as_path: 65515"), "{seen}");
    bird.wait_for("show route protocol waypost", "fd00:1::/48")
        .await;

    withdraw(&handle, &context, "10.1.0.0/16");
    bird.wait_for("show route protocol waypost count", "1 of ")
        .await;

    bird.control("reload in waypost");
    let family = ours
        .wait(|event| match event {
            SessionEvent::RefreshRequested { family, .. } => Some(family),
            _ => None,
        })
        .await;
    assert_eq!(family, Family::Ipv4Unicast);

    bird.control("disable site4");
    withdrawn(&mut ours, "10.250.0.0/16").await;

    // The hold time is 9 s: keepalives have to flow for longer.
    let down = |event: &SessionEvent| matches!(event, SessionEvent::Down { .. });
    assert!(ours.quiet(Duration::from_secs(11), down).await);

    ours.speaker.shutdown(Farewell::ForGood).await;
    bird.wait_for("show protocols all waypost", "Administrative shutdown")
        .await;
}

/// BIRD's routes come with their path, and with End-of-RIB for each family.
async fn learn(ours: &mut Node) {
    let mut missing: Vec<RouteKey> = vec![
        RouteKey::Prefix("10.250.0.0/16".parse().expect("a prefix")),
        RouteKey::Prefix("0.0.0.0/0".parse().expect("a prefix")),
        RouteKey::Prefix("fd00:250::/48".parse().expect("a prefix")),
        RouteKey::End(Family::Ipv4Unicast),
        RouteKey::End(Family::Ipv6Unicast),
    ];
    ours.wait(|event| {
        let SessionEvent::Routes { changes, .. } = event else {
            return None;
        };
        for change in changes {
            match change {
                RouteChange::Announce { attributes, nlri } => {
                    assert_eq!(attributes.as_path.asns().collect::<Vec<_>>(), [65010]);
                    missing.retain(|key| !nlri.iter().any(|n| *key == RouteKey::Prefix(n.prefix)));
                }
                RouteChange::EndOfRib(family) => {
                    missing.retain(|key| *key != RouteKey::End(family));
                }
                RouteChange::Withdraw { malformed, .. } => assert_eq!(malformed, None),
            }
        }
        missing.is_empty().then_some(())
    })
    .await;
}

#[derive(PartialEq)]
enum RouteKey {
    Prefix(IpNet),
    End(Family),
}

fn advertise(handle: &SessionHandle, context: &Context) {
    let v4 = announcement(context, 65515, "10.1.255.4", &["10.1.0.0/16"]);
    let v6 = announcement(context, 65515, "fd00:1:0:ff::4", &["fd00:1::/48"]);
    send(handle, v4);
    send(handle, v6);
}

fn withdraw(handle: &SessionHandle, context: &Context, prefix: &str) {
    let prefix: IpNet = prefix.parse().expect("a prefix");
    let mut out = BytesMut::new();
    wire::encode_withdraw(context, [prefix.into()], &mut out);
    send(handle, out.freeze());
}

async fn withdrawn(ours: &mut Node, prefix: &str) {
    let prefix: IpNet = prefix.parse().expect("a prefix");
    ours.change(|change| match change {
        RouteChange::Withdraw { nlri, malformed } => {
            assert_eq!(malformed, None);
            nlri.iter().any(|nlri| nlri.prefix == prefix).then_some(())
        }
        _ => None,
    })
    .await;
}

fn over_ipv4() -> SessionConfig {
    session("10.1.255.4", "10.1.10.4", 179)
}

fn passive(config: SessionConfig) -> SessionConfig {
    SessionConfig {
        passive: true,
        ..config
    }
}

/// A BIRD of this test's own; it ends with it.
struct Bird {
    directory: TempDir,
    process: Option<Child>,
}

impl Bird {
    /// BIRD as the peer of this session; `options` go into its BGP protocol.
    fn start(session: &SessionConfig, options: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let configuration = configuration(session, options);
        std::fs::write(directory.path().join("bird.conf"), configuration).expect("it is ours");
        let mut bird = Self {
            directory,
            process: None,
        };
        bird.run();
        bird
    }

    fn run(&mut self) {
        let process = Command::new("bird")
            .arg("-f")
            .args(["-c".as_ref(), self.path("bird.conf").as_os_str()])
            .args(["-s".as_ref(), self.path("bird.ctl").as_os_str()])
            .args(["-P".as_ref(), self.path("bird.pid").as_os_str()])
            .stdout(Stdio::null())
            .spawn();
        self.process = Some(process.unwrap_or_else(|error| {
            panic!("bird cannot be run ({error}): install it with: apt-get install bird2")
        }));
        let since = Instant::now();
        while !self.ask("show status").contains("Daemon is up") {
            assert!(since.elapsed() < PATIENCE, "BIRD does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it runs");
            process.wait().expect("it is our child");
        }
    }

    fn control(&self, command: &str) {
        let answer = self.ask(command);
        assert!(!answer.contains("syntax error"), "{command}: {answer}");
    }

    /// Asks again and again until the answer contains the text.
    async fn wait_for(&self, command: &str, text: &str) -> String {
        let since = Instant::now();
        loop {
            let answer = self.ask(command);
            if answer.contains(text) {
                return answer;
            }
            assert!(
                since.elapsed() < PATIENCE,
                "{command} never says {text:?}: {answer}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn ask(&self, command: &str) -> String {
        let output = Command::new("birdc")
            .args(["-s".as_ref(), self.path("bird.ctl").as_os_str()])
            .args(command.split(' '))
            .output()
            .expect("birdc comes with bird");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.directory.path(), name)
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        self.kill();
    }
}

fn configuration(session: &SessionConfig, options: &str) -> String {
    let SessionConfig {
        local_address,
        local_asn,
        peer_asn,
        ..
    } = session;
    let peer = session.id.peer;
    format!(
        "router id 10.1.10.4;
protocol device {{ }}
protocol static site4 {{ ipv4; route 10.250.0.0/16 blackhole; }}
protocol static default4 {{ ipv4; route 0.0.0.0/0 blackhole; }}
protocol static site6 {{ ipv6; route fd00:250::/48 blackhole; }}
protocol bgp waypost {{
    local {peer} as {peer_asn};
    neighbor {local_address} as {local_asn};
    multihop;
    strict bind on;
    connect delay time 1;
    connect retry time 1;
    error wait time 1, 2;
    hold time 9;
    {options}
    ipv4 {{ import all; export where source = RTS_STATIC; next hop address 10.1.10.4; }};
    ipv6 {{ import all; export where source = RTS_STATIC; next hop address fd00:1:0:a::4; }};
}}
"
    )
}
