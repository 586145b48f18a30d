//! Tells when to look: cgroups that appear, vanish or become populated.
//!
//! A cgroup's directory says by inotify that a child was made; its `cgroup.events` that the first
//! process came or the last one went (Linux `Documentation/admin-guide/cgroup-v2.rst`, "(Un)populated
//! Notification"). A process that changes its namespace says nothing, so somebody still has to look
//! now and then.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use crate::config::{BrokerError, system};

/// Watches on the cgroups below the governed roots.
pub(crate) struct Watch {
    inotify: Inotify,
    watched: HashMap<PathBuf, Vec<WatchDescriptor>>,
    /// Said once: the system's limit is reached, and looking now and then has to do.
    short: bool,
}

impl Watch {
    pub(crate) fn new() -> Result<Self, BrokerError> {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags).map_err(|source| system("inotify", source))?;
        Ok(Self {
            inotify,
            watched: HashMap::new(),
            short: false,
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Takes what was said; only that something was said matters.
    pub(crate) fn drain(&self) {
        while self
            .inotify
            .read_events()
            .is_ok_and(|events| !events.is_empty())
        {}
    }

    /// Watches exactly these directories. True when some are new: their children may have come
    /// before the watch did.
    pub(crate) fn follow(&mut self, directories: &[PathBuf]) -> bool {
        let inotify = &self.inotify;
        self.watched.retain(|path, descriptors| {
            let keep = directories.contains(path);
            if !keep {
                for descriptor in descriptors {
                    // Gone with its directory.
                    let _gone = inotify.rm_watch(*descriptor);
                }
            }
            keep
        });
        let mut new = false;
        for directory in directories {
            if self.watched.contains_key(directory) {
                continue;
            }
            match self.add(directory) {
                Ok(descriptors) => {
                    self.watched.insert(directory.clone(), descriptors);
                    new = true;
                }
                // It went between the walk and here.
                Err(nix::errno::Errno::ENOENT) => {}
                Err(error) if !self.short => {
                    tracing::warn!(%error, "cgroups cannot all be watched: looking once a second");
                    self.short = true;
                }
                Err(_said) => {}
            }
        }
        new
    }

    fn add(&self, directory: &Path) -> nix::Result<Vec<WatchDescriptor>> {
        let children = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR
            | AddWatchFlags::IN_DONT_FOLLOW;
        let first = self.inotify.add_watch(directory, children)?;
        let events = directory.join("cgroup.events");
        match self.inotify.add_watch(&events, AddWatchFlags::IN_MODIFY) {
            Ok(second) => Ok(vec![first, second]),
            // The root of the tree has none; a directory that is gone is dropped with the next walk.
            Err(nix::errno::Errno::ENOENT) => Ok(vec![first]),
            Err(error) => {
                let _gone = self.inotify.rm_watch(first);
                Err(error)
            }
        }
    }
}
