//! OpenBGPD holds sessions with both instances, with IPv4 and IPv6 routes in both directions.

tests::interop_scenarios!(tests::daemon::OpenBgpd);
