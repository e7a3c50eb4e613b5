//! Where a daemon proves its features: four machines, one a role, each with a daemon of its own, and
//! a feed that announces what no daemon would; Waypost in the middle.

use std::{net::IpAddr, thread, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use ipnet::IpNet;
use serde_json::Value;

use super::{
    Connects, Transport,
    matrix::{Cell, Feature, Lack, Matrix, ROLES},
};
use crate::{
    daemon::{
        Daemon, Neighbor, Options, Route, Speaker,
        feed::{Announcement, Feed},
    },
    lab::{Host, Lab, wait::until},
    network::{Cable, Nva},
    overview::{INSTANCES, NETWORK, ROUTE_SERVER_ASN, prefixes_of},
    waypost::{
        Waypost,
        config::{self, Config, Instance, Peer, RouteServer, Subnet, Vnet},
    },
};

/// How long a step may take. The longest that a daemon rests is OpenBGPD's idle hold: after any error
/// or NOTIFICATION it does not connect for 30 s (`INTERVAL_IDLE_HOLD_INITIAL` of bgpd/session.h), and
/// after a second one for 60 s, unless a session has been up for as long in between
/// (`change_state()` of bgpd/session.c). Waypost's Cease when a role changes is such a one.
pub const PATIENCE: Duration = Duration::from_secs(75);

/// The feed's ASN.
pub const FEED_ASN: u32 = 4_200_000_099;
/// The ASN that the feed's routes come from.
pub const ORIGIN_ASN: u32 = 65030;
/// ASNs of the two speakers behind each daemon.
pub const BEHIND_ASNS: [u32; 2] = [4_200_000_077, 4_200_000_078];
const BEHIND: [&str; 2] = ["10.99.0.2", "10.99.0.3"];
const FEED: [&str; 2] = ["10.1.10.4", "fd00:1:0:a::4"];
const NAMES: [&str; 4] = ["waits4", "calls4", "waits6", "calls6"];

/// A kind of daemon.
pub trait Subject {
    /// Its name.
    const NAME: &'static str;
    /// What it agrees on with Waypost if nothing is configured.
    const CAPABILITIES: &'static [&'static str];
    /// What it cannot do.
    const LACKS: &'static [Lack];
    /// It reads AS4_PATH of a neighbour that announces 4-octet ASNs when it does not itself.
    const READS_AS4_PATH: bool = true;

    /// Starts one.
    ///
    /// # Errors
    /// It does not start.
    fn start(host: &Host, speaker: Speaker) -> Result<Box<dyn Daemon>>;
}

type Start = fn(&Host, Speaker) -> Result<Box<dyn Daemon>>;

/// Hosts, Waypost and the feed.
#[derive(Debug)]
pub struct Stage {
    /// The gateway host.
    pub gw: Host,
    /// Waypost.
    pub waypost: Waypost,
    /// What the feed announces to instance 1.
    pub feed: Feed,
    feeder: Nva,
    places: Vec<Nva>,
    config: Config,
}

/// What is special about an act.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// The first daemon's ASN; the others' follow.
    pub asn: u32,
    /// The daemons' options.
    pub options: Options,
    /// Keys of the peers in Waypost's configuration.
    pub peer: Vec<(&'static str, toml::Value)>,
    /// Leave out roles in which the daemon lacks this.
    pub feature: Option<Feature>,
    /// Only in this role.
    pub only: Option<usize>,
}

/// One daemon in one role.
pub struct Case {
    /// Place among the roles.
    pub number: usize,
    /// Its machine.
    pub nva: Nva,
    /// The daemon; away where it could not be started or was killed.
    pub daemon: Option<Box<dyn Daemon>>,
    /// How it was started.
    pub speaker: Speaker,
    /// ROUTE-REFRESHes that the daemon had received at some time of the story.
    pub refreshes: usize,
    start: Start,
    behind: [Option<Feed>; 2],
    broken: Option<String>,
}

/// Daemons in all roles with one setting.
pub struct Act<'a> {
    /// The stage.
    pub stage: &'a mut Stage,
    /// The daemons.
    pub cases: Vec<Case>,
    matrix: &'a mut Matrix,
    lacks: &'static [Lack],
    setting: Setting,
}

impl Stage {
    /// Builds it, starts Waypost and the feed.
    ///
    /// # Errors
    /// Something does not start.
    pub fn build(lab: &Lab) -> Result<Self> {
        let gw = lab.host("gw")?;
        for address in INSTANCES.as_flattened() {
            gw.address("lo", address.parse::<IpAddr>()?.into())?;
        }
        let gateways = ["10.1.10.1", "fd00:1:0:a::1"];
        let feeder = Nva::attach(lab, &gw, "feed", FEED, gateways, Cable::Straight)?;
        let mut places = Vec::new();
        for (number, name) in NAMES.iter().enumerate() {
            let last = 11 + number;
            let own = [&*format!("10.1.10.{last}"), &format!("fd00:1:0:a::{last}")];
            let nva = Nva::attach(lab, &gw, name, own, gateways, Cable::Straight)?;
            for address in BEHIND {
                nva.host()
                    .address("lo", address.parse::<IpAddr>()?.into())?;
            }
            places.push(nva);
        }
        let mut config = configuration(&feeder, &places)?;
        *config.peers() = vec![feed_peer(&feeder)];
        let waypost = Waypost::start(&gw, config.clone())?;
        let feed = open_feed(&feeder)?;
        Ok(Self {
            gw,
            waypost,
            feed,
            feeder,
            places,
            config,
        })
    }

    /// Opens the feed's session once more: after Waypost was away.
    ///
    /// # Errors
    /// Waypost does not take it.
    pub fn feed_again(&mut self) -> Result<()> {
        self.feed = open_feed(&self.feeder)?;
        Ok(())
    }

    /// Plays an act: daemons in all roles that are not left out, then `story`. What fails to come up
    /// fails in all features of the act.
    ///
    /// # Errors
    /// Waypost refuses the configuration, or the story has an error of its own.
    pub fn act<S: Subject>(
        &mut self,
        matrix: &mut Matrix,
        setting: Setting,
        story: impl FnOnce(&mut Act<'_>) -> Result<()>,
    ) -> Result<()> {
        let begun = std::time::Instant::now();
        let mut cases = Vec::new();
        for (number, nva) in self.places.iter().enumerate() {
            let lacks = setting
                .feature
                .is_some_and(|feature| lack(S::LACKS, feature, number).is_some());
            if lacks || setting.only.is_some_and(|only| only != number) {
                continue;
            }
            cases.push(Case {
                number,
                nva: nva.clone(),
                daemon: None,
                speaker: speaker(nva, number, &setting)?,
                refreshes: 0,
                start: S::start,
                behind: [None, None],
                broken: None,
            });
        }
        let feature = setting.feature;
        let mut act = Act {
            stage: self,
            cases,
            matrix,
            lacks: S::LACKS,
            setting,
        };
        act.reload(&[])?;
        act.every(Case::start);
        let outcome = story(&mut act);
        act.cases.clear();
        let mut config = self.config.clone();
        *config.peers() = vec![feed_peer(&self.feeder)];
        self.waypost.reload(config)?;
        let seconds = begun.elapsed().as_secs_f64();
        println!("{}: act {feature:?} took {seconds:.1} s", S::NAME);
        outcome
    }
}

impl Act<'_> {
    /// Gives Waypost the peers of this act, with further keys.
    ///
    /// # Errors
    /// It refuses them.
    pub fn reload(&mut self, more: &[(&'static str, toml::Value)]) -> Result<()> {
        let mut peers = vec![feed_peer(&self.stage.feeder)];
        for case in &self.cases {
            let (transport, connects) = ROLES[case.number];
            let address = case.nva.vm.addresses[usize::from(transport == Transport::Ipv6)];
            let mut peer = Peer::new(NAMES[case.number], address, case.speaker.asn);
            peer.passive = connects == Connects::Daemon;
            for (key, value) in self.setting.peer.iter().chain(more) {
                peer = peer.set(key, value.clone());
            }
            peers.push(peer);
        }
        let mut config = self.stage.config.clone();
        *config.peers() = peers;
        self.stage.waypost.reload(config)?;
        Ok(())
    }

    /// Does something in all roles at once. Who fails is broken for the rest of the act.
    pub fn every(&mut self, step: impl Fn(&mut Case, &Waypost) -> Result<()> + Sync) {
        let waypost = &self.stage.waypost;
        thread::scope(|scope| {
            for case in &mut self.cases {
                let step = &step;
                scope.spawn(move || {
                    if case.broken.is_none() {
                        case.broken = step(case, waypost).err().map(|error| format!("{error:#}"));
                    }
                });
            }
        });
    }

    /// Whether all cases are well.
    ///
    /// # Errors
    /// Why one is broken.
    pub fn outcome(&self) -> Result<()> {
        let mut broken = self.cases.iter().filter_map(|case| case.broken.as_ref());
        broken.next().map_or(Ok(()), |why| Err(anyhow!("{why}")))
    }

    /// Proves a feature in all roles at once.
    pub fn proves(
        &mut self,
        feature: Feature,
        step: impl Fn(&mut Case, &Waypost) -> Result<()> + Sync,
    ) {
        let begun = std::time::Instant::now();
        let (waypost, lacks) = (&self.stage.waypost, self.lacks);
        let cells: Vec<(usize, Cell)> = thread::scope(|scope| {
            let threads: Vec<_> = self
                .cases
                .iter_mut()
                .filter(|case| lack(lacks, feature, case.number).is_none())
                .map(|case| {
                    let step = &step;
                    scope.spawn(move || {
                        let outcome = match &case.broken {
                            Some(why) => Err(anyhow!("{why}")),
                            None => step(case, waypost),
                        };
                        let cell = match outcome {
                            Ok(()) => Cell::Ok,
                            Err(error) => Cell::Failed(format!("{error:#}")),
                        };
                        (case.number, cell)
                    })
                })
                .collect();
            let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
            joined
                .map(|cell| cell.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        for (number, cell) in cells {
            self.matrix.set(feature, number, cell);
        }
        self.lacking(feature);
        println!("   {feature:?} took {:.1} s", begun.elapsed().as_secs_f64());
    }

    /// Writes down in which roles the daemon lacks a feature.
    pub fn lacking(&mut self, feature: Feature) {
        for number in 0..ROLES.len() {
            if let Some(why) = lack(self.lacks, feature, number) {
                let cell = Cell::NotApplicable(why.to_owned());
                self.matrix.set(feature, number, cell);
            }
        }
    }
}

/// Why a feature is not there in a role.
fn lack(lacks: &'static [Lack], feature: Feature, number: usize) -> Option<&'static str> {
    let (transport, connects) = ROLES[number];
    let applies = |lack: &&Lack| {
        lack.feature == feature
            && lack.transport.is_none_or(|only| only == transport)
            && lack.connects.is_none_or(|only| only == connects)
    };
    lacks.iter().find(applies).map(|lack| lack.why)
}

impl Case {
    /// Starts the daemon and waits for its sessions with both instances.
    ///
    /// # Errors
    /// They do not come up.
    pub fn start(&mut self, waypost: &Waypost) -> Result<()> {
        self.launch()?;
        self.established(waypost)
    }

    /// Starts the daemon.
    ///
    /// # Errors
    /// It does not start.
    pub fn launch(&mut self) -> Result<()> {
        self.daemon = None;
        self.behind = [None, None];
        let daemon = (self.start)(self.nva.host(), self.speaker.clone())?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// It is gone already.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon()?.process().kill()?;
        self.behind = [None, None];
        self.daemon = None;
        Ok(())
    }

    /// Waits until both sides say that the sessions with both instances are established.
    ///
    /// # Errors
    /// They are not.
    pub fn established(&mut self, waypost: &Waypost) -> Result<()> {
        let instances = [self.instance(0)?, self.instance(1)?];
        self.daemon()?.established(&instances, PATIENCE)?;
        let expected = format!("Waypost has sessions with {}", self.name());
        until(&expected, PATIENCE, || {
            let rows = self.rows(waypost)?;
            let up = rows.iter().filter(|row| row["state"] == "Established");
            ensure!(up.count() == 2, "{rows:?}");
            Ok(())
        })
    }

    /// The daemon.
    ///
    /// # Errors
    /// It is not there.
    pub fn daemon(&mut self) -> Result<&mut (dyn Daemon + 'static)> {
        self.daemon.as_deref_mut().context("no daemon runs")
    }

    /// The peer's name in Waypost.
    #[must_use]
    pub fn name(&self) -> &'static str {
        NAMES[self.number]
    }

    /// Address of an instance, 0 or 1, as this case's sessions have it.
    ///
    /// # Errors
    /// Never: the texts are constant.
    pub fn instance(&self, number: usize) -> Result<IpAddr> {
        let (transport, _) = ROLES[self.number];
        Ok(INSTANCES[number][usize::from(transport == Transport::Ipv6)].parse()?)
    }

    /// Waypost's rows of this case's sessions, by instance.
    ///
    /// # Errors
    /// It does not answer.
    pub fn rows(&self, waypost: &Waypost) -> Result<Vec<Value>> {
        let mut rows = waypost.rows(&format!("peers --peer {}", self.name()))?;
        rows.sort_by_key(|row| row["instance"].as_u64());
        Ok(rows)
    }

    /// A prefix of this case's own, IPv4 or IPv6.
    ///
    /// # Errors
    /// Never.
    pub fn prefix(&self, number: u8, ipv4: bool) -> Result<IpNet> {
        let case = 100 + self.number;
        let text = if ipv4 {
            format!("10.{case}.{number}.0/24")
        } else {
            format!("fd00:{case}:{number}::/48")
        };
        Ok(text.parse()?)
    }

    /// A route of this case's own with attributes, announced through the daemon: Waypost sees
    /// the daemon's ASN before those given.
    ///
    /// # Errors
    /// The daemon refuses.
    pub fn announce(&mut self, announcement: &Announcement) -> Result<()> {
        if self.daemon()?.originate(announcement)? {
            return Ok(());
        }
        self.behind(0)?.announce(announcement)
    }

    /// Many IPv4 routes through the daemon.
    ///
    /// # Errors
    /// The daemon refuses.
    pub fn announce_many(&mut self, prefixes: &[IpNet]) -> Result<()> {
        if self.daemon()?.originate_many("announce", prefixes)? {
            return Ok(());
        }
        let like = super::many::like(self, prefixes[0]);
        self.behind(0)?.announce_all(&like, prefixes)
    }

    /// Withdraws them.
    ///
    /// # Errors
    /// The daemon refuses.
    pub fn withdraw_many(&mut self, prefixes: &[IpNet]) -> Result<()> {
        if self.daemon()?.originate_many("withdraw", prefixes)? {
            return Ok(());
        }
        self.behind(0)?.withdraw_all(prefixes)
    }

    /// How many routes the daemon has from the first speaker behind it, if there is a session.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub fn count_behind(&mut self) -> Result<Option<[usize; 2]>> {
        match self.behind[0] {
            Some(_) => Ok(Some(self.daemon()?.count(BEHIND[0].parse()?)?)),
            None => Ok(None),
        }
    }

    /// The session of a speaker behind the daemon, opened if it is not.
    ///
    /// # Errors
    /// The daemon does not take it.
    pub fn behind(&mut self, number: usize) -> Result<&mut Feed> {
        if self.behind[number].is_none() {
            let from = BEHIND[number].parse()?;
            let to = self.nva.vm.addresses[0];
            let (host, asn) = (self.nva.host(), BEHIND_ASNS[number]);
            let id = BEHIND[number].parse()?;
            let expected = format!("the daemon of {} takes a neighbour", self.name());
            let feed = until(&expected, PATIENCE, || Feed::open(host, from, to, asn, id))?;
            self.behind[number] = Some(feed);
        }
        self.behind[number].as_mut().context("no speaker behind")
    }

    /// A next hop that the daemon can resolve.
    #[must_use]
    pub fn gateway(&self, ipv4: bool) -> IpAddr {
        self.nva.vm.gateways[usize::from(!ipv4)]
    }

    /// Waits until Waypost shows this case's path to a prefix at instance 1 as it should be.
    ///
    /// # Errors
    /// It does not.
    pub fn learned(
        &self,
        waypost: &Waypost,
        prefix: IpNet,
        judge: impl Fn(&Value) -> Result<()>,
    ) -> Result<()> {
        let expected = format!("Waypost learns {prefix} from {}", self.name());
        until(&expected, PATIENCE, || {
            let rows = self.paths(waypost, prefix)?;
            ensure!(!rows.is_empty(), "no path");
            rows.iter().try_for_each(&judge)
        })
    }

    /// Waypost's paths of this case to a prefix at instance 1.
    ///
    /// # Errors
    /// It does not answer.
    pub fn paths(&self, waypost: &Waypost, prefix: IpNet) -> Result<Vec<Value>> {
        let what = format!(
            "learned --prefix {prefix} --peer {} --instance 1",
            self.name()
        );
        waypost.rows(&what)
    }

    /// Waits until Waypost has no path of this case to a prefix.
    ///
    /// # Errors
    /// It has.
    pub fn forgotten(&self, waypost: &Waypost, prefix: IpNet) -> Result<()> {
        let expected = format!("Waypost forgets {prefix} of {}", self.name());
        until(&expected, PATIENCE, || {
            let rows = self.paths(waypost, prefix)?;
            ensure!(rows.is_empty(), "{rows:?}");
            Ok(())
        })
    }

    /// Waits until the daemon has a route of instance 1 as it should be.
    ///
    /// # Errors
    /// It has not.
    pub fn hears(&mut self, prefix: IpNet, judge: impl Fn(&Route) -> Result<()>) -> Result<()> {
        let instance = self.instance(0)?;
        let daemon = self.daemon()?;
        let expected = format!("{} hears {prefix} from {instance}", daemon.title());
        until(&expected, PATIENCE, || {
            let routes = daemon.received(instance)?;
            let mut found = routes.iter().filter(|route| route.prefix == prefix);
            let route = found.next().context("not there")?;
            judge(route).with_context(|| route.to_string())
        })
    }

    /// Waits until the daemon's error text for instance 1 has these words.
    ///
    /// # Errors
    /// It has not.
    pub fn daemon_says(&mut self, words: &str) -> Result<()> {
        let instance = self.instance(0)?;
        let daemon = self.daemon()?;
        let expected = format!("{} says {words:?}", daemon.title());
        until(&expected, PATIENCE, || {
            let said = daemon.last_error(instance)?;
            ensure!(said.contains(words), "{said}");
            Ok(())
        })
    }

    /// Waits until Waypost's last error of the session with instance 1 has these words.
    ///
    /// # Errors
    /// It has not.
    pub fn waypost_says(&self, waypost: &Waypost, words: &str) -> Result<()> {
        let expected = format!("Waypost says {words:?} of {}", self.name());
        until(&expected, PATIENCE, || {
            let rows = self.rows(waypost)?;
            let said = rows[0]["last_error"].as_str().unwrap_or_default();
            ensure!(said.contains(words), "{said:?}");
            Ok(())
        })
    }
}

fn open_feed(feeder: &Nva) -> Result<Feed> {
    let (host, from) = (feeder.host(), feeder.vm.addresses[0]);
    let to = INSTANCES[0][0].parse()?;
    let id = FEED[0].parse()?;
    until("Waypost takes the feed", PATIENCE, || {
        Feed::open(host, from, to, FEED_ASN, id)
    })
}

fn feed_peer(feeder: &Nva) -> Peer {
    Peer {
        passive: true,
        max_prefixes: Some(4_000_000),
        ..Peer::new("feed", feeder.vm.addresses[0], FEED_ASN)
    }
}

fn speaker(nva: &Nva, number: usize, setting: &Setting) -> Result<Speaker> {
    let (transport, connects) = ROLES[number];
    let family = usize::from(transport == Transport::Ipv6);
    let [IpAddr::V4(router_id), _] = nva.vm.addresses else {
        return Err(anyhow!("the first address is the IPv4 one"));
    };
    let mut neighbors = Vec::new();
    for addresses in INSTANCES {
        neighbors.push(Neighbor {
            address: addresses[family].parse()?,
            local: nva.vm.addresses[family],
            asn: ROUTE_SERVER_ASN,
            passive: connects == Connects::Waypost,
            multihop: true,
            plain: false,
        });
    }
    for (address, asn) in BEHIND.iter().zip(BEHIND_ASNS) {
        neighbors.push(Neighbor {
            address: address.parse()?,
            local: nva.vm.addresses[0],
            asn,
            passive: true,
            multihop: true,
            plain: true,
        });
    }
    let underlay = prefixes_of(NETWORK)?.into_iter().zip(nva.vm.gateways);
    Ok(Speaker {
        asn: setting.asn + number as u32,
        router_id,
        addresses: nva.vm.addresses.to_vec(),
        neighbors,
        announce: Vec::new(),
        underlay: underlay.collect(),
        install: false,
        options: setting.options.clone(),
    })
}

fn configuration(feeder: &Nva, places: &[Nva]) -> Result<Config> {
    let ports = [feeder].into_iter().chain(places).map(Nva::port).collect();
    let subnet = |name: &str, prefixes: [&str; 2], port| -> Result<Subnet> {
        Ok(Subnet {
            name: name.to_owned(),
            prefixes: prefixes_of(prefixes)?,
            route_table: None,
            port,
        })
    };
    let servers = ["10.1.255.0/27", "fd00:1:0:ff::/64"];
    let mut instance = Vec::new();
    for (id, addresses) in (1..).zip(INSTANCES) {
        let addresses = addresses.iter().map(|address| address.parse());
        instance.push(Instance {
            id,
            addresses: addresses.collect::<Result<_, _>>()?,
        });
    }
    Ok(Config {
        daemon: config::Daemon {
            socket: "/run/waypost/waypost.sock".into(),
            stale_time: 20,
        },
        dataplane: [].into(),
        vnet: vec![Vnet {
            name: "hub".to_owned(),
            prefixes: prefixes_of(NETWORK)?,
            uplink: Vec::new(),
            peering: Vec::new(),
            subnet: vec![
                subnet("RouteServerSubnet", servers, vec![])?,
                subnet("nva", ["10.1.10.0/24", "fd00:1:0:a::/64"], ports)?,
            ],
        }],
        route_server: vec![RouteServer {
            name: "rs1".to_owned(),
            vnet: "hub".to_owned(),
            asn: ROUTE_SERVER_ASN,
            instance,
            peer: Vec::new(),
            gateway: Vec::new(),
            settings: [].into(),
        }],
        route_table: Vec::new(),
    })
}
