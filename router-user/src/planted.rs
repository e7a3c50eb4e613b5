//! Faults that tests plant in the rules, one at a time, to see that they are caught. Only with the
//! feature `planted-faults`; a place where one is planted is one `planted!(Name)`.

use std::sync::atomic::{AtomicU8, Ordering};

/// A fault and, in its name, what goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Fault {
    // The decision process: steps that are left out, or applied where they are not to be.
    LearnedBeatsOriginated = 1,
    StaleCounts,
    ShutdownCounts,
    ClassDoesNotCount,
    LocalPrefDoesNotCount,
    AsPathDoesNotCount,
    OriginDoesNotCount,
    MedDoesNotCount,
    MedCountsAcrossNeighbours,
    MedNeverCountsAcrossNeighbours,
    MedCountsByPairs,
    NoMedIsHighest,
    NoLocalPrefIsLowest,
    ExternalBeatsInternalGateways,
    // Among equals.
    RouterIdDoesNotCount,
    OriginatorDoesNotCount,
    ClusterListDoesNotCount,
    PeerAddressDoesNotCount,
    OldestWins,
    // What comes of the equals.
    MorePathsThanMax,
    MembersAreBackups,
    NextHopsCountTwice,
    WeightsDoNotCount,
    DeadEndsVanish,
    // Who may learn what.
    AlwaysReflects,
    AlwaysBranchToBranch,
    BetweenExpressRoutes,
    BetweenVpns,
    BackToThePeerItCameFrom,
    ToTheNextHopItNames,
    // What is taken.
    OwnAsnIsTaken,
    OwnClusterIsTaken,
    AnyFirstAsIsTaken,
    OwnNextHopIsTaken,
    AnyNextHopIsReached,
    // Route maps, and routes given by hand.
    RulesNeverStop,
    RulesNeverContinue,
    FirstRuleOnly,
    DropPermits,
    KindBeatsPeer,
    NextHopStays,
    DefaultRouteIsWithheld,
    StaticRoutesAreOfAnotherClass,
    // Communities.
    NoAdvertiseIsSent,
    NoExportIsSent,
    BlackholeForwards,
    // How paths are sent.
    NoAsOverride,
    PrivateAsnsStay,
    TransparentPrepends,
    NoClusterListPrepended,
    NoOriginatorId,
    // What users of learned routes see.
    AnySourceIsSeen,
    AnyReachIsSeen,
    // Subnets.
    LearnedBeatsOwnSpace,
    LearnedBeatsPeeredSpace,
    LearnedBeatsUserDefined,
    SystemBeatsLearned,
    MarkIsNotInherited,
    PrivateRangesStay,
    OneSideIsAPeering,
    TransitIsNotAsked,
    GatewayPortsTakeAll,
    NobodyIsRestricted,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 63] = [
        Self::LearnedBeatsOriginated,
        Self::StaleCounts,
        Self::ShutdownCounts,
        Self::ClassDoesNotCount,
        Self::LocalPrefDoesNotCount,
        Self::AsPathDoesNotCount,
        Self::OriginDoesNotCount,
        Self::MedDoesNotCount,
        Self::MedCountsAcrossNeighbours,
        Self::MedNeverCountsAcrossNeighbours,
        Self::MedCountsByPairs,
        Self::NoMedIsHighest,
        Self::NoLocalPrefIsLowest,
        Self::ExternalBeatsInternalGateways,
        Self::RouterIdDoesNotCount,
        Self::OriginatorDoesNotCount,
        Self::ClusterListDoesNotCount,
        Self::PeerAddressDoesNotCount,
        Self::OldestWins,
        Self::MorePathsThanMax,
        Self::MembersAreBackups,
        Self::NextHopsCountTwice,
        Self::WeightsDoNotCount,
        Self::DeadEndsVanish,
        Self::AlwaysReflects,
        Self::AlwaysBranchToBranch,
        Self::BetweenExpressRoutes,
        Self::BetweenVpns,
        Self::BackToThePeerItCameFrom,
        Self::ToTheNextHopItNames,
        Self::OwnAsnIsTaken,
        Self::OwnClusterIsTaken,
        Self::AnyFirstAsIsTaken,
        Self::OwnNextHopIsTaken,
        Self::AnyNextHopIsReached,
        Self::RulesNeverStop,
        Self::RulesNeverContinue,
        Self::FirstRuleOnly,
        Self::DropPermits,
        Self::KindBeatsPeer,
        Self::NextHopStays,
        Self::DefaultRouteIsWithheld,
        Self::StaticRoutesAreOfAnotherClass,
        Self::NoAdvertiseIsSent,
        Self::NoExportIsSent,
        Self::BlackholeForwards,
        Self::NoAsOverride,
        Self::PrivateAsnsStay,
        Self::TransparentPrepends,
        Self::NoClusterListPrepended,
        Self::NoOriginatorId,
        Self::AnySourceIsSeen,
        Self::AnyReachIsSeen,
        Self::LearnedBeatsOwnSpace,
        Self::LearnedBeatsPeeredSpace,
        Self::LearnedBeatsUserDefined,
        Self::SystemBeatsLearned,
        Self::MarkIsNotInherited,
        Self::PrivateRangesStay,
        Self::OneSideIsAPeering,
        Self::TransitIsNotAsked,
        Self::GatewayPortsTakeAll,
        Self::NobodyIsRestricted,
    ];
}

/// The one that is planted; 0: none.
static PLANTED: AtomicU8 = AtomicU8::new(0);

/// Plants this fault in place of the one before.
pub fn plant(fault: Option<Fault>) {
    PLANTED.store(fault.map_or(0, |fault| fault as u8), Ordering::Relaxed);
}

pub(crate) fn is_planted(fault: Fault) -> bool {
    PLANTED.load(Ordering::Relaxed) == fault as u8
}
