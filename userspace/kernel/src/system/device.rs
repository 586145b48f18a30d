//! The allow-list on devices: tcx where the kernel has it, else clsact.
//!
//! A tcx link is a pin, and nobody in the namespace can take it away. A clsact filter can be
//! removed by whoever has `CAP_NET_ADMIN` over the namespace, so every look asks whether it still
//! stands; the pin of its program tells `uninstall` where it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::maps::{LpmTrie, MapData};
use aya::programs::tc::SchedClassifier;
use weir_abi::{ABI_VERSION, Destination, names};

use super::{ClassId, KernelError, System, file, load_object, remove_pins, take_over};
use crate::{clsact, places, sys};

/// Of pins: `clsact_KEY_IFINDEX`, and at its end whether the discipline is Weir's as well.
const FILTER: &str = "clsact_";
const WITH_DISCIPLINE: &str = "_d";

/// What is known of devices while the broker runs.
#[derive(Default)]
pub(super) struct Devices {
    /// By class and bytes of the link header.
    programs: Mutex<BTreeMap<(u32, u32), Arc<OwnedFd>>>,
    /// Ids of programs of clsact filters, by namespace's key and device.
    filters: Mutex<BTreeMap<(String, u32), u32>>,
}

/// Each is changed in one step, so one that a panic left behind is whole.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl System {
    /// Puts the allow-list on a device of the calling thread's network namespace.
    ///
    /// # Errors
    /// See [`KernelError`].
    #[expect(clippy::too_many_arguments, reason = "what a device is attached with")]
    pub fn attach_device(
        &self,
        class: ClassId,
        key: &str,
        device: &str,
        ifindex: u32,
        link_bytes: u32,
    ) -> Result<(), KernelError> {
        let failed = |source: io::Error| KernelError::Attach {
            name: device.to_owned(),
            source,
        };
        let program = self.device_program((class.0, link_bytes))?;
        let program = program.as_fd();
        if sys::has_tcx(program) {
            let pin = self.pins.join(format!("device_{key}_{ifindex}"));
            return take_over(&pin, program, || sys::link_device(program, ifindex)).map_err(failed);
        }
        tracing::info!(device, "no tcx on this kernel: clsact");
        self.attach_filter(key, ifindex, program).map_err(failed)
    }

    /// Loads the device program of a class ahead of its first device: loading takes some
    /// milliseconds, attaching almost nothing.
    ///
    /// # Errors
    /// See [`KernelError`].
    pub fn warm_device(&self, class: ClassId, link_bytes: u32) -> Result<(), KernelError> {
        self.device_program((class.0, link_bytes)).map(drop)
    }

    /// One for all devices of a class and kind: loading takes longer than attaching.
    fn device_program(&self, device: (u32, u32)) -> Result<Arc<OwnedFd>, KernelError> {
        let mut programs = held(&self.devices.programs);
        if let Some(program) = programs.get(&device) {
            return Ok(Arc::clone(program));
        }
        let program = Arc::new(load_device(&self.pins, self, device)?);
        programs.insert(device, Arc::clone(&program));
        Ok(program)
    }

    fn attach_filter(&self, key: &str, ifindex: u32, program: BorrowedFd<'_>) -> io::Result<()> {
        let made = clsact::put(ifindex, program)?;
        let plain = self.pins.join(format!("{FILTER}{key}_{ifindex}"));
        let with = self
            .pins
            .join(format!("{FILTER}{key}_{ifindex}{WITH_DISCIPLINE}"));
        let pin = if made || with.exists() { &with } else { &plain };
        for earlier in [&plain, &with] {
            match fs::remove_file(earlier) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        sys::pin(program, pin)?;
        let id = sys::program_info(program)?.id;
        held(&self.devices.filters).insert((key.to_owned(), ifindex), id);
        Ok(())
    }

    /// Whether the allow-list is still the first to see a device's frames. Call in its namespace.
    ///
    /// # Errors
    /// The kernel cannot be asked; the device may be gone.
    pub fn device_stands(&self, key: &str, ifindex: u32) -> io::Result<bool> {
        let place = (key.to_owned(), ifindex);
        let Some(program) = held(&self.devices.filters).get(&place).copied() else {
            // A link: nobody can take it away.
            return Ok(true);
        };
        let first = clsact::first(ifindex)?;
        Ok(first.is_some_and(|filter| filter.program == program))
    }

    /// Takes the allow-lists of one namespace away. Call inside it.
    ///
    /// # Errors
    /// The pin directory cannot be read, or the kernel refuses.
    pub fn detach_devices(&self, key: &str) -> Result<(), KernelError> {
        let pins = filter_pins(&self.pins).map_err(|source| file(&self.pins, source))?;
        for pin in pins.iter().filter(|pin| pin.key == key) {
            let removed = clsact::remove(pin.ifindex, pin.discipline);
            removed.map_err(|source| KernelError::Attach {
                name: format!("nothing to device {}", pin.ifindex),
                source,
            })?;
        }
        held(&self.devices.filters).retain(|(place, _), _| place != key);
        let (links, filters) = (format!("device_{key}_"), format!("{FILTER}{key}_"));
        remove_pins(&self.pins, |name| {
            name.starts_with(&links) || name.starts_with(&filters)
        })
    }
}

fn load_device(pins: &Path, system: &System, device: (u32, u32)) -> Result<OwnedFd, KernelError> {
    let mut ebpf = load_object(Some(pins), system.offsets, device)?;
    let name = names::DEVICE_EGRESS;
    let failed = |source| KernelError::Program { name, source };
    let program: &mut SchedClassifier = ebpf
        .program_mut(name)
        .ok_or(KernelError::Missing(name))?
        .try_into()
        .map_err(failed)?;
    program.load().map_err(failed)?;
    let fd = program.fd().map_err(failed)?.as_fd().try_clone_to_owned();
    fd.map_err(|source| KernelError::Attach {
        name: name.to_owned(),
        source,
    })
}

/// One clsact filter, by the pin of its program.
struct FilterPin {
    key: String,
    ifindex: u32,
    discipline: bool,
}

fn filter_pins(pins: &Path) -> io::Result<Vec<FilterPin>> {
    let entries = match fs::read_dir(pins) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        found.extend(
            parse_pin(&name).map(|(key, ifindex, discipline)| FilterPin {
                key,
                ifindex,
                discipline,
            }),
        );
    }
    Ok(found)
}

fn parse_pin(name: &str) -> Option<(String, u32, bool)> {
    let rest = name.strip_prefix(FILTER)?;
    let (rest, discipline) = match rest.strip_suffix(WITH_DISCIPLINE) {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let (key, ifindex) = rest.rsplit_once('_')?;
    Some((key.to_owned(), ifindex.parse().ok()?, discipline))
}

/// Removes clsact filters from every namespace that can be found. What only an open descriptor
/// keeps cannot be: the destinations are forgotten first, so that such a filter protects nothing.
pub(super) fn uninstall_filters(versioned: &Path) -> Result<(), KernelError> {
    let pins = filter_pins(versioned).map_err(|source| file(versioned, source))?;
    if pins.is_empty() {
        return Ok(());
    }
    forget_destinations(versioned)?;
    let mut by_key: BTreeMap<&str, Vec<&FilterPin>> = BTreeMap::new();
    for pin in &pins {
        by_key.entry(&pin.key).or_default().push(pin);
    }
    let removed = places::each_namespace(|cookie| {
        for pin in by_key
            .get(cookie.to_string().as_str())
            .into_iter()
            .flatten()
        {
            clsact::remove(pin.ifindex, pin.discipline)?;
        }
        Ok(())
    });
    removed.map_err(|source| KernelError::Attach {
        name: "nothing to devices".to_owned(),
        source,
    })
}

/// Forgets the pins of filters whose namespace is gone, and the filters with it. Of namespaces that
/// cannot be found but live on (an open descriptor), only the name is lost.
pub(super) fn sweep_filters(pins: &Path, kept: &impl Fn(&str) -> bool) -> Result<(), KernelError> {
    let found = filter_pins(pins).map_err(|source| file(pins, source))?;
    if found.iter().all(|pin| kept(&pin.key)) {
        return Ok(());
    }
    let living = Mutex::new(BTreeSet::new());
    let looked = places::each_namespace(|cookie| {
        held(&living).insert(cookie.to_string());
        Ok(())
    });
    looked.map_err(|source| KernelError::Attach {
        name: "nothing to devices".to_owned(),
        source,
    })?;
    let living = held(&living);
    remove_pins(pins, |name| {
        parse_pin(name).is_some_and(|(key, _, _)| !kept(&key) && !living.contains(&key))
    })
}

fn forget_destinations(versioned: &Path) -> Result<(), KernelError> {
    let name = names::DESTINATIONS;
    let failed = |source| KernelError::Map { name, source };
    let path = versioned.join(name);
    if !path.exists() {
        return Ok(());
    }
    let data = MapData::from_pin(&path).map_err(failed)?;
    let mut map: LpmTrie<MapData, Destination, u32> =
        LpmTrie::try_from(aya::maps::Map::LpmTrie(data)).map_err(failed)?;
    for key in map.keys().flatten().collect::<Vec<_>>() {
        map.remove(&key).map_err(failed)?;
    }
    Ok(())
}

/// Where the pins of this version are.
pub(crate) fn versioned(pins: &Path) -> PathBuf {
    pins.join(format!("v{ABI_VERSION}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pins_are_read_back() {
        assert_eq!(parse_pin("clsact_12_3"), Some(("12".to_owned(), 3, false)));
        assert_eq!(parse_pin("clsact_12_3_d"), Some(("12".to_owned(), 3, true)));
        for other in ["device_12_3", "clsact_12", "clsact_12_x", "link_weir_bind4"] {
            assert_eq!(parse_pin(other), None, "{other}");
        }
    }
}
