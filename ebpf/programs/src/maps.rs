//! Every map, with its capacity, its eviction and its memory; all are pinned.

use aya_ebpf::Global;
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf};
use weir_abi::{CLASSES_MAX, COUNTERS, Destination, FlowKey, Netns, Origin};

/// Origin of a client's socket; lives and dies with the socket.
#[btf_map]
pub(crate) static CLIENT: SkStorage<Origin> = SkStorage::new();

/// Origin of an accepted socket; read by fd from user space.
#[btf_map]
pub(crate) static ACCEPTED: SkStorage<Origin> = SkStorage::new();

/// From the client's SYN to the accepted socket. LRU, 8 MiB: a flood evicts flows that are still
/// being established, which closes them.
#[map]
pub(crate) static FLOWS: LruHashMap<FlowKey, Origin> = LruHashMap::pinned(65_536, 0);

/// (class, port, prefix). Memory only for what is inserted.
#[map]
pub(crate) static DESTINATIONS: LpmTrie<Destination, u32> = LpmTrie::pinned(65_536, 0);

/// cgroup id to class, governed roots (class 0) and exempt cgroups included; full means that the
/// workload cannot be registered.
#[map]
pub(crate) static CLASSES: HashMap<u64, u32> = HashMap::pinned(4096, 0);

/// Namespace cookie to its listeners; no entry means refuse.
#[map]
pub(crate) static NETNS: HashMap<u64, Netns> = HashMap::pinned(1024, 0);

/// Class to its listeners in the host's namespace.
#[map]
pub(crate) static HOSTS: HashMap<u32, Netns> = HashMap::pinned(CLASSES_MAX, 0);

/// Is the egress of a class listed: 0 or 1.
#[map]
pub(crate) static LISTED: Array<u32> = Array::pinned(CLASSES_MAX, 0);

/// What a listed class may reach beside its targets: (class, port, prefix).
#[map]
pub(crate) static ALLOWED: LpmTrie<Destination, u32> = LpmTrie::pinned(65_536, 0);

/// Bits of [`weir_abi::MARK_INBOUND`] and its like; lives and dies with the socket.
#[btf_map]
pub(crate) static MARKS: SkStorage<u32> = SkStorage::new();

/// Weir's own cgroups: the only ones whose packets reach a protected destination.
#[map]
pub(crate) static OWN_CGROUPS: HashMap<u64, u32> = HashMap::pinned(16, 0);

/// Index 0: `CLOCK_MONOTONIC` nanoseconds until which the enforcer is believed alive.
#[map]
pub(crate) static HEARTBEAT: Array<u64> = Array::pinned(1, 0);

/// 64 KiB per CPU.
#[map]
pub(crate) static COUNTS: PerCpuArray<u64> = PerCpuArray::pinned(CLASSES_MAX * COUNTERS, 0);

/// Index 0: when these counters began, by which user space tells them from later ones. No program
/// reads it.
#[map]
pub(crate) static BIRTH: Array<u64> = Array::pinned(1, 0);

/// Refusals; when full the newest is lost, the counters are not.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::pinned(262_144, 0);

// Distinct non-zero sentinels: LLVM merges equal constants, and overriding one would change both.
#[unsafe(no_mangle)]
pub(crate) static OFF_GROUP_LEADER: Global<u32> = Global::new(0x5701_0001);
#[unsafe(no_mangle)]
pub(crate) static OFF_START_BOOTTIME: Global<u32> = Global::new(0x5701_0002);
#[unsafe(no_mangle)]
pub(crate) static DEVICE_CLASS: Global<u32> = Global::new(0x5701_0003);
#[unsafe(no_mangle)]
pub(crate) static DEVICE_LINK_BYTES: Global<u32> = Global::new(0x5701_0004);
