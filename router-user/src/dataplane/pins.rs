//! Where maps and links are pinned, and who may use them.
//!
//! ```text
//! <bpffs>/waypost/<instance>/<layout>/<map>      layout: hash of all map definitions
//! <bpffs>/waypost/<instance>/links/<interface>   a port has one link, whichever build made it
//! ```
//!
//! The instance's folder is locked while a daemon runs: two on the same pins would give out the
//! same numbers twice.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::{fd::AsRawFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use aya::maps::MapInfo;
use aya_obj::Object;

use super::{bpf, numbers::fnv1a};
use crate::{config::DataplaneConfig, names::InterfaceName};

const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
const BPF_F_RDONLY_PROG: u32 = 1 << 7;
const MAP_TYPE_DEVMAP: u32 = 14;
const LINKS: &str = "links";

/// Why pins cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// No bpffs.
    #[error(
        "{path} is no bpffs: mount one with `mount -t bpf bpf {path}`, or set `bpffs` in \
         [dataplane]",
        path = .0.display()
    )]
    NoBpffs(PathBuf),
    /// A name that bpffs does not take.
    #[error("instance \"{0}\" in [dataplane]: write letters, digits, \"-\" and \"_\" only")]
    Instance(String),
    /// Another daemon is running.
    #[error(
        "another waypost daemon uses {path}: stop it with `waypost stop`, or give this one an \
         `instance` of its own in [dataplane]",
        path = .0.display()
    )]
    Locked(PathBuf),
    /// A pinned map is not what its folder says.
    #[error(
        "{path} is not the map that its folder names ({what}): remove the pins with \
         `waypost stop --flush`",
        path = .path.display()
    )]
    Foreign {
        /// The pin.
        path: PathBuf,
        /// What differs.
        what: String,
    },
}

/// A map as the object defines it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Definition {
    pub(super) name: String,
    kind: u32,
    key: u32,
    value: u32,
    size: u32,
    flags: u32,
}

/// The definitions of the object's maps, with the configured sizes, sorted by name.
///
/// # Errors
/// The object cannot be parsed.
pub(super) fn definitions(object: &[u8], config: &DataplaneConfig) -> Result<Vec<Definition>> {
    let object = Object::parse(object).context("the XDP object cannot be parsed")?;
    let mut definitions: Vec<_> = object
        .maps
        .iter()
        // Sections of constants are maps without a name of their own.
        .filter(|(name, _)| !name.starts_with('.'))
        .map(|(name, map)| Definition {
            name: name.clone(),
            kind: map.map_type(),
            key: map.key_size(),
            value: map.value_size(),
            size: configured_size(name, config).unwrap_or_else(|| map.max_entries()),
            flags: map.map_flags(),
        })
        .collect();
    definitions.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(definitions)
}

/// Sizes that the configuration sets.
pub(super) fn configured_size(map: &str, config: &DataplaneConfig) -> Option<u32> {
    match map {
        "routes_v4" => Some(config.max_routes_v4),
        "routes_v6" => Some(config.max_routes_v6),
        _ => None,
    }
}

/// Name of a layout: a hash of all definitions.
pub(super) fn layout(definitions: &[Definition]) -> String {
    format!("{:016x}", fnv1a(format!("{definitions:?}").as_bytes()))
}

/// The locked folder of an instance.
#[derive(Debug)]
pub(super) struct Pins {
    root: PathBuf,
    lock: File,
}

impl Pins {
    /// Checks the bpffs, makes the instance's folder and locks it.
    ///
    /// # Errors
    /// [`PinError`], or the file system refuses.
    pub(super) fn open(config: &DataplaneConfig) -> Result<Self> {
        let root = root(config)?;
        fs::create_dir_all(root.join(LINKS))
            .with_context(|| format!("{} cannot be made", root.display()))?;
        Self::lock(root)
    }

    /// As [`open`](Self::open), if there is such a folder.
    pub(super) fn open_existing(config: &DataplaneConfig) -> Result<Option<Self>> {
        let root = root(config)?;
        if root.is_dir() {
            Self::lock(root).map(Some)
        } else {
            Ok(None)
        }
    }

    fn lock(root: PathBuf) -> Result<Self> {
        let folder =
            File::open(&root).with_context(|| format!("{} cannot be opened", root.display()))?;
        // SAFETY: a descriptor that is open, and no memory.
        if unsafe { libc::flock(folder.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::WouldBlock {
                bail!(PinError::Locked(root));
            }
            return Err(error).with_context(|| format!("{} cannot be locked", root.display()));
        }
        Ok(Self { root, lock: folder })
    }

    /// The folder of a layout, made if it is not there.
    pub(super) fn layout(&self, layout: &str) -> Result<PathBuf> {
        let folder = self.root.join(layout);
        fs::create_dir_all(&folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
        Ok(folder)
    }

    /// Folders of other layouts: an older or newer build's.
    pub(super) fn other_layouts(&self, layout: &str) -> Vec<PathBuf> {
        folders(&self.root)
            .into_iter()
            .filter(|folder| {
                folder
                    .file_name()
                    .is_some_and(|name| name != LINKS && name != layout)
            })
            .collect()
    }

    /// Where a port's link is pinned.
    pub(super) fn link(&self, interface: &InterfaceName) -> PathBuf {
        self.root.join(LINKS).join(escape(interface.as_str()))
    }

    /// Interfaces with a pinned link.
    pub(super) fn links(&self) -> Vec<InterfaceName> {
        entries(&self.root.join(LINKS))
            .iter()
            .filter_map(|path| Some(unescape(path.file_name()?.to_str()?).into()))
            .collect()
    }

    /// Detaches every link and removes every pin of the instance; what was removed.
    pub(super) fn remove_all(self) -> Result<Vec<PathBuf>> {
        let mut removed = Vec::new();
        for path in entries(&self.root.join(LINKS)) {
            remove_link(&path)?;
            removed.push(path);
        }
        for folder in folders(&self.root) {
            removed.extend(remove_folder(&folder)?);
        }
        fs::remove_dir(&self.root)
            .with_context(|| format!("{} cannot be removed", self.root.display()))?;
        removed.push(self.root.clone());
        // Other instances may live beside it.
        if let Some(parent) = self.root.parent() {
            let _ = fs::remove_dir(parent);
        }
        Ok(removed)
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // Closing is not enough while a child between fork and exec holds the descriptor too.
        // SAFETY: a descriptor that is open, and no memory.
        unsafe { libc::flock(self.lock.as_raw_fd(), libc::LOCK_UN) };
    }
}

/// Checks each map that is pinned in a layout's folder.
///
/// # Errors
/// [`PinError::Foreign`].
pub(super) fn check(folder: &Path, definitions: &[Definition]) -> Result<()> {
    for wanted in definitions {
        let path = folder.join(&wanted.name);
        if !path.exists() {
            continue;
        }
        let info = MapInfo::from_pin(&path)
            .with_context(|| format!("{} cannot be opened", path.display()))?;
        let devmap = wanted.kind == MAP_TYPE_DEVMAP;
        let held = Definition {
            name: wanted.name.clone(),
            kind: info.map_type().map_or(u32::MAX, |kind| kind as u32),
            key: info.key_size(),
            // A device map's values differ by kernel version, not by build.
            value: if devmap {
                wanted.value
            } else {
                info.value_size()
            },
            size: info.max_entries(),
            // The kernel adds this flag to device maps.
            flags: info.map_flags() & !if devmap { BPF_F_RDONLY_PROG } else { 0 },
        };
        if held != *wanted {
            bail!(PinError::Foreign {
                path,
                what: format!("{held:?} instead of {wanted:?}"),
            });
        }
    }
    Ok(())
}

/// Detaches and unpins a link.
pub(super) fn remove_link(path: &Path) -> Result<()> {
    if let Ok(link) = bpf::open_pin(path) {
        use std::os::fd::AsFd;
        // A link whose interface is gone cannot be detached any more.
        let _ = bpf::link_detach(link.as_fd());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a folder of pins; what was removed.
pub(super) fn remove_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut removed = entries(folder);
    for path in &removed {
        fs::remove_file(path).with_context(|| format!("{} cannot be removed", path.display()))?;
    }
    fs::remove_dir(folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
    removed.push(folder.to_owned());
    Ok(removed)
}

fn root(config: &DataplaneConfig) -> Result<PathBuf, PinError> {
    if !is_bpffs(&config.bpffs) {
        return Err(PinError::NoBpffs(config.bpffs.clone()));
    }
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if config.instance.is_empty() || !config.instance.bytes().all(valid) {
        return Err(PinError::Instance(config.instance.clone()));
    }
    Ok(config.bpffs.join("waypost").join(&config.instance))
}

fn is_bpffs(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: plain data, valid for any bytes.
    let mut info: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: a NUL-terminated path and a structure to fill.
    let result = unsafe { libc::statfs(path.as_ptr(), &raw mut info) };
    result == 0 && info.f_type as u64 & 0xffff_ffff == BPF_FS_MAGIC
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    entries(folder)
        .into_iter()
        .filter(|path| path.is_dir())
        .collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    entries.sort_unstable();
    entries
}

/// bpffs takes no dots in names, interfaces may have them.
fn escape(name: &str) -> String {
    name.replace('%', "%25").replace('.', "%2e")
}

fn unescape(name: &str) -> String {
    name.replace("%2e", ".").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::{Definition, escape, layout, unescape};

    #[test]
    fn an_interface_name_survives_bpffs() {
        for name in ["eth0", "eth0.100", "a%2eb", "%25"] {
            assert!(!escape(name).contains('.'));
            assert_eq!(unescape(&escape(name)), name);
        }
    }

    #[test]
    fn another_size_of_a_map_is_another_layout() {
        let routes = |size| Definition {
            name: "routes_v4".into(),
            kind: 11,
            key: 12,
            value: 8,
            size,
            flags: 1,
        };
        assert_eq!(layout(&[routes(10)]), layout(&[routes(10)]));
        assert_ne!(layout(&[routes(10)]), layout(&[routes(11)]));
    }
}
