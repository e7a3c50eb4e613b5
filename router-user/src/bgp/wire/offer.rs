//! What one side of a session announces about itself alone: graceful restart (RFC 4724, RFC 8538),
//! long-lived graceful restart (RFC 9494) and its role (RFC 9234). In: an OPEN. Out: an [`Offer`];
//! the stages behind judge both sides' together.

use super::{Capability, Family, Open, Role};

/// What one side announced about itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Offer {
    /// RFC 4724; `None`: not announced.
    pub graceful_restart: Option<GracefulRestart>,
    /// RFC 9494; it counts only beside graceful restart (§4.5).
    pub long_lived: Vec<LongLivedFamily>,
    /// RFC 9234; `None`: not announced, or of a value that is not assigned.
    pub role: Option<Role>,
    /// All that it announced, in its order, for display.
    pub capabilities: Vec<Capability>,
}

/// Graceful restart, as one side announced it (RFC 4724 §3, RFC 8538 §2).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GracefulRestart {
    /// R bit: has just restarted, and is not to be waited for with End-of-RIB.
    pub restarted: bool,
    /// N bit: its routes are kept also after a NOTIFICATION and after the hold time (RFC 8538). In
    /// force where both sides set it.
    pub notification: bool,
    /// Seconds that a restart may take until the session is up again, 0 to 4095.
    pub restart_time: u16,
    /// Families whose routes may be kept; a family named twice counts as named last.
    pub families: Vec<RestartFamily>,
}

/// A family of [`GracefulRestart`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RestartFamily {
    /// The family.
    pub family: Family,
    /// F bit: forwarding went on through the restart before this session.
    pub forwarding: bool,
}

/// A family whose stale routes may be kept for long (RFC 9494 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LongLivedFamily {
    /// The family.
    pub family: Family,
    /// F bit: forwarding went on through the restart before this session.
    pub forwarding: bool,
    /// Seconds that stale routes may be kept after the restart time, 0 to 16,777,215.
    pub stale_time: u32,
}

impl Offer {
    /// What `open` announces.
    #[must_use]
    pub fn of(open: &Open) -> Self {
        let graceful_restart = graceful_restart(open);
        let long_lived = match graceful_restart {
            Some(_) => long_lived(open),
            None => Vec::new(),
        };
        Self {
            graceful_restart,
            long_lived,
            role: open.roles().find_map(Role::from_code),
            capabilities: open.capabilities.clone(),
        }
    }

    /// Whether graceful restart covers `family`.
    #[must_use]
    pub fn restarts(&self, family: Family) -> bool {
        self.restart_family(family).is_some()
    }

    /// What graceful restart says of `family`, if it covers it.
    #[must_use]
    pub fn restart_family(&self, family: Family) -> Option<&RestartFamily> {
        let families = &self.graceful_restart.as_ref()?.families;
        families.iter().find(|entry| entry.family == family)
    }

    /// Whether it knows long-lived graceful restart, also if it keeps no routes of its own for long:
    /// the capability then names no family.
    #[must_use]
    pub fn knows_long_lived(&self) -> bool {
        let named =
            |capability: &Capability| matches!(capability, Capability::LongLivedGracefulRestart(_));
        let announced = self.capabilities.iter().any(named);
        !self.long_lived.is_empty() || announced && self.graceful_restart.is_some()
    }

    /// What long-lived graceful restart says of `family`, if it covers it.
    #[must_use]
    pub fn long_lived_family(&self, family: Family) -> Option<&LongLivedFamily> {
        self.long_lived.iter().find(|entry| entry.family == family)
    }
}

/// Top bit of a family's flags octet.
const FORWARDING: u8 = 0x80;

/// Bits of the graceful restart capability's first four.
const RESTARTED: u8 = 0b1000;
const NOTIFICATION: u8 = 0b0100;

/// RFC 4724 §3: of several capabilities, the last counts.
fn graceful_restart(open: &Open) -> Option<GracefulRestart> {
    open.capabilities
        .iter()
        .rev()
        .find_map(|capability| match capability {
            Capability::GracefulRestart {
                flags,
                restart_time,
                families,
            } => Some(GracefulRestart {
                restarted: flags & RESTARTED != 0,
                notification: flags & NOTIFICATION != 0,
                restart_time: *restart_time,
                families: last_of_each(
                    families.iter().filter_map(|(afi, safi, flags)| {
                        Some(RestartFamily {
                            family: Family::from_identifiers(*afi, *safi)?,
                            forwarding: flags & FORWARDING != 0,
                        })
                    }),
                    |entry| entry.family,
                ),
            }),
            _ => None,
        })
}

fn long_lived(open: &Open) -> Vec<LongLivedFamily> {
    let entries = open
        .capabilities
        .iter()
        .rev()
        .find_map(|capability| match capability {
            Capability::LongLivedGracefulRestart(entries) => Some(entries.as_slice()),
            _ => None,
        });
    last_of_each(
        entries
            .unwrap_or_default()
            .iter()
            .filter_map(|(afi, safi, flags, stale_time)| {
                Some(LongLivedFamily {
                    family: Family::from_identifiers(*afi, *safi)?,
                    forwarding: flags & FORWARDING != 0,
                    stale_time: *stale_time,
                })
            }),
        |entry| entry.family,
    )
}

/// One entry a family, in the order in which the families were first named.
fn last_of_each<T>(entries: impl Iterator<Item = T>, family: impl Fn(&T) -> Family) -> Vec<T> {
    let mut kept: Vec<T> = Vec::new();
    for entry in entries {
        match kept
            .iter_mut()
            .find(|other| family(other) == family(&entry))
        {
            Some(other) => *other = entry,
            None => kept.push(entry),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const V4: Family = Family::Ipv4Unicast;
    const V6: Family = Family::Ipv6Unicast;

    #[test]
    fn rfc4724_3_the_last_graceful_restart_capability_counts_with_its_flags() {
        let restart = |flags, restart_time| Capability::GracefulRestart {
            flags,
            restart_time,
            families: vec![(1, 1, 0x80), (1, 128, 0), (2, 1, 0x7f)],
        };
        let families = vec![
            RestartFamily {
                family: V4,
                forwarding: true,
            },
            RestartFamily {
                family: V6,
                forwarding: false,
            },
        ];
        for (flags, restarted, notification) in [
            (0b0000, false, false),
            (0b1000, true, false),
            (0b0100, false, true),
            (0b1111, true, true),
        ] {
            let offer = offer(vec![restart(!flags & 15, 100), restart(flags, 200)]);
            assert_eq!(
                offer.graceful_restart,
                Some(GracefulRestart {
                    restarted,
                    notification,
                    restart_time: 200,
                    families: families.clone(),
                }),
                "flags {flags:#06b}"
            );
            assert!(offer.restarts(V4) && offer.restarts(V6));
            assert!(!offer.restart_family(V6).expect("named").forwarding);
        }
    }

    #[test]
    fn rfc4724_3_a_capability_without_families_promises_end_of_rib_only() {
        let offer = offer(vec![Capability::GracefulRestart {
            flags: 0,
            restart_time: 120,
            families: vec![],
        }]);
        assert!(offer.graceful_restart.is_some() && !offer.restarts(V4));
    }

    #[test]
    fn rfc9494_4_5_long_lived_families_count_only_beside_graceful_restart() {
        let long_lived = Capability::LongLivedGracefulRestart(vec![
            (1, 1, 0x80, 86_400),
            (25, 70, 0, 1),
            (2, 1, 0, 1),
            (2, 1, 0x40, 0x00ff_ffff),
        ]);
        assert_eq!(offer(vec![long_lived.clone()]).long_lived, []);
        let restart = Capability::GracefulRestart {
            flags: 0,
            restart_time: 0,
            families: vec![],
        };
        let offer = offer(vec![long_lived, restart]);
        let entry = |family, forwarding, stale_time| LongLivedFamily {
            family,
            forwarding,
            stale_time,
        };
        assert_eq!(
            offer.long_lived,
            [entry(V4, true, 86_400), entry(V6, false, 0x00ff_ffff)]
        );
        assert_eq!(offer.long_lived_family(V4), Some(&entry(V4, true, 86_400)));
    }

    #[test]
    fn rfc9494_4_3_a_speaker_that_names_no_family_may_still_be_sent_stale_routes() {
        let restart = Capability::GracefulRestart {
            flags: 0,
            restart_time: 0,
            families: vec![],
        };
        let long_lived = Capability::LongLivedGracefulRestart(vec![]);
        assert!(offer(vec![restart.clone(), long_lived.clone()]).knows_long_lived());
        assert!(!offer(vec![long_lived]).knows_long_lived(), "§4.5");
        assert!(!offer(vec![restart]).knows_long_lived());
    }

    #[test]
    fn rfc9234_4_1_a_role_is_one_of_five() {
        assert_eq!(offer(vec![]).role, None);
        assert_eq!(offer(vec![Capability::Role(5)]).role, None);
        assert_eq!(
            offer(vec![Capability::Role(2)]).role,
            Some(Role::RouteServerClient)
        );
    }

    fn offer(capabilities: Vec<Capability>) -> Offer {
        Offer::of(&Open {
            asn: 65010,
            hold_time: 180,
            router_id: Ipv4Addr::new(10, 1, 255, 4),
            capabilities,
        })
    }
}
