//! The object is as open to `bpftool` as to the daemon: it loads, and its maps print fields.

use std::{fs, process::Command};

use router_user::dataplane::object;

#[test]
fn bpftool_loads_the_object_and_prints_the_maps_with_their_field_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("waypost.bpf.o");
    fs::write(&file, object::WAYPOST).expect("the object is written");
    let script = format!(
        "set -e
         mount -t bpf bpf /sys/fs/bpf
         mkdir /sys/fs/bpf/maps
         bpftool prog load {} /sys/fs/bpf/program pinmaps /sys/fs/bpf/maps
         ls /sys/fs/bpf/maps
         bpftool map update pinned /sys/fs/bpf/maps/routes_v4 \
             key hex 30 00 00 00 11 00 00 00 0a fa 00 00 value hex 2a 00 00 00 10 02 00 00
         bpftool map dump pinned /sys/fs/bpf/maps/routes_v4
         bpftool map lookup pinned /sys/fs/bpf/maps/next_hops key 1 0 0 0
         bpftool map update pinned /sys/fs/bpf/maps/restricted \
             key hex 03 00 00 00 05 00 00 00 value hex 01 00 00 00
         bpftool map dump pinned /sys/fs/bpf/maps/restricted
         bpftool map lookup pinned /sys/fs/bpf/maps/ports key 1 0 0 0
         bpftool map lookup pinned /sys/fs/bpf/maps/port_counters key 1 0 0 0",
        file.display()
    );
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .output()
        .expect("unshare starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for name in MAPS {
        assert!(
            said.lines().any(|line| line == *name),
            "no map {name}:\n{said}"
        );
    }
    for field in FIELDS {
        assert!(said.contains(field), "no {field}:\n{said}");
    }
}

/// The maps that others read and write by name.
const MAPS: &[&str] = &[
    "routes_v4",
    "routes_v6",
    "groups",
    "buckets",
    "next_hops",
    "neighbors",
    "hosts",
    "restricted",
    "ports",
    "port_by_ifindex",
    "dev_map",
    "port_counters",
    "nh_counters",
    "settings",
    "names",
];

const FIELDS: &[&str] = &[
    "\"prefix_len\": 48",
    "\"table\": 17",
    "\"address\"",
    "\"group\": 42",
    "\"precedence\": 2",
    "\"neighbor\": 0",
    "\"set\": 3",
    "\"vnet\": 5",
    "\"own_table\": 0",
    "\"restricted\": 0",
    "\"no_route\": 0",
];
