//! Carriers that were lost or found since the last look.
//!
//! In: interfaces. Out: those whose carrier changed. The kernel tells of a lost carrier with a delay of
//! up to a second (its `linkwatch` speaks once a second), which is too late for those whose packets go
//! there; but an interface counts its changes at once. The count is read from a sysfs of this network
//! namespace that is mounted nowhere; unlike a request to netlink this takes no lock.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::FileExt as _},
    path::Path,
    time::Duration,
};

use rustc_hash::{FxHashMap, FxHashSet};
use rustix::{
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
    process::{Resource, getrlimit},
};

use crate::names::InterfaceName;

/// How often it is looked.
pub(super) const INTERVAL: Duration = Duration::from_millis(10);

/// Interfaces that are looked at at once, the others next time: a fraction of a millisecond.
const AT_ONCE: usize = 256;

/// The counts of interfaces.
#[derive(Debug)]
pub(super) struct Carriers {
    /// `class/net` there has the interfaces of this network namespace.
    sysfs: OwnedFd,
    watched: FxHashMap<u32, Watched>,
    /// Files that may be open; of interfaces beyond these the kernel's events alone tell.
    most: usize,
    /// The interface that was looked at last.
    last: u32,
}

#[derive(Debug)]
struct Watched {
    name: InterfaceName,
    count: File,
    changes: Changes,
}

/// The digits of a count.
type Changes = [u8; 24];

impl Carriers {
    /// # Errors
    /// The kernel is older than 5.2, or CAP_SYS_ADMIN is missing.
    pub(super) fn open() -> io::Result<Self> {
        let context = fsopen("sysfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
        let sysfs = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        // Sessions need files as well.
        let files = getrlimit(Resource::Nofile).current;
        Ok(Self {
            sysfs,
            watched: FxHashMap::default(),
            most: files.map_or(usize::MAX, |files| {
                usize::try_from(files / 4).unwrap_or(usize::MAX)
            }),
            last: 0,
        })
    }

    /// Which of these interfaces have lost or found their carrier since they were looked at last; not
    /// those that have not been looked at before.
    pub(super) fn changed<'a>(
        &mut self,
        interfaces: impl Iterator<Item = (u32, &'a InterfaceName)>,
    ) -> Vec<u32> {
        let mut interfaces: Vec<_> = interfaces.collect();
        interfaces.sort_unstable();
        let there: FxHashSet<u32> = interfaces.iter().map(|(ifindex, _)| *ifindex).collect();
        self.watched.retain(|ifindex, _| there.contains(ifindex));
        let next = interfaces.partition_point(|(ifindex, _)| *ifindex <= self.last);
        interfaces.rotate_left(next);
        interfaces.truncate(AT_ONCE);
        if let Some((last, _)) = interfaces.last() {
            self.last = *last;
        }
        interfaces.retain(|(ifindex, name)| self.has_changed(*ifindex, name));
        interfaces.iter().map(|(ifindex, _)| *ifindex).collect()
    }

    fn has_changed(&mut self, ifindex: u32, name: &InterfaceName) -> bool {
        let Some(watched) = self.watched.get_mut(&ifindex) else {
            // One that is gone by now has no file.
            if self.watched.len() < self.most
                && let Ok(watched) = Watched::open(&self.sysfs, name)
            {
                self.watched.insert(ifindex, watched);
            }
            return false;
        };
        match read(&watched.count) {
            Ok(changes) if watched.name == *name => {
                let before = std::mem::replace(&mut watched.changes, changes);
                before != changes
            }
            _ => {
                self.watched.remove(&ifindex);
                false
            }
        }
    }
}

impl Watched {
    fn open(sysfs: &OwnedFd, name: &InterfaceName) -> io::Result<Self> {
        let folder = Path::new("class/net").join(name.as_str());
        let path = folder.join("carrier_changes");
        let count = File::from(rustix::fs::openat(
            sysfs,
            &path,
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?);
        Ok(Self {
            name: name.clone(),
            changes: read(&count)?,
            count,
        })
    }
}

fn read(count: &File) -> io::Result<Changes> {
    let mut digits = Changes::default();
    count.read_at(&mut digits, 0)?;
    Ok(digits)
}

#[cfg(test)]
mod tests {
    use std::{process::Command, thread};

    use super::*;

    fn ip(arguments: &str) {
        let status = Command::new("ip").args(arguments.split(' ')).status();
        assert!(status.unwrap().success(), "ip {arguments}");
    }

    /// On a thread of its own: the network namespace is that of the thread.
    fn in_a_namespace(body: impl FnOnce() + Send + 'static) {
        let done = thread::spawn(|| {
            // SAFETY: no memory is passed.
            match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
                0 => body(),
                _ => println!("skipped: a network namespace needs root"),
            }
        });
        done.join().unwrap();
    }

    #[test]
    fn a_lost_carrier_is_seen_at_the_next_look_and_told_once() {
        in_a_namespace(|| {
            ip("link add name a up type veth peer name b");
            ip("link set dev b up");
            let a = "a".into();
            let mut carriers = Carriers::open().unwrap();
            let mut look = || carriers.changed([(7, &a), (9, &"gone".into())].into_iter());
            assert_eq!(look(), [] as [u32; 0], "what was before is not known");
            assert_eq!(look(), [] as [u32; 0]);
            for state in ["down", "up", "down"] {
                ip(&format!("link set dev b {state}"));
                assert_eq!(look(), [7], "{state}");
                assert_eq!(look(), [] as [u32; 0], "{state}");
            }
            ip("link delete dev a");
            assert_eq!(look(), [] as [u32; 0], "of its end an event tells");
        });
    }

    #[test]
    fn of_many_interfaces_some_are_looked_at_each_time_and_all_in_turn() {
        in_a_namespace(|| {
            let lo = "lo".into();
            let mut carriers = Carriers::open().unwrap();
            carriers.most = usize::MAX;
            let many = u32::try_from(AT_ONCE).unwrap() * 2 + 10;
            for looks in 1..=3 {
                assert!(
                    carriers
                        .changed((1..=many).map(|ifindex| (ifindex, &lo)))
                        .is_empty()
                );
                let known = (AT_ONCE * looks).min(AT_ONCE * 2 + 10);
                assert_eq!(carriers.watched.len(), known);
            }
            assert!(carriers.changed([(1, &lo)].into_iter()).is_empty());
            assert_eq!(
                carriers.watched.len(),
                1,
                "of the others no file stays open"
            );
            carriers.most = 2;
            carriers.changed((1..=5).map(|ifindex| (ifindex, &lo)));
            assert_eq!(carriers.watched.len(), 2, "no more than there may be");
        });
    }
}
