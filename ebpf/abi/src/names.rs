//! Names of programs, maps and globals in the object.

pub const CONNECT4: &str = "weir_connect4";
pub const CONNECT6: &str = "weir_connect6";
pub const GETPEERNAME4: &str = "weir_peername4";
pub const GETPEERNAME6: &str = "weir_peername6";
pub const SENDMSG4: &str = "weir_sendmsg4";
pub const SENDMSG6: &str = "weir_sendmsg6";
pub const BIND4: &str = "weir_bind4";
pub const BIND6: &str = "weir_bind6";
pub const SOCK_CREATE: &str = "weir_create";
pub const SETSOCKOPT: &str = "weir_setopt";
pub const GOVERNED_OPS: &str = "weir_gov_ops";
pub const OWN_OPS: &str = "weir_own_ops";
pub const CGROUP_EGRESS: &str = "weir_egress";
pub const DEVICE_EGRESS: &str = "weir_device";

pub const CLIENT: &str = "CLIENT";
pub const ACCEPTED: &str = "ACCEPTED";
pub const FLOWS: &str = "FLOWS";
pub const DESTINATIONS: &str = "DESTINATIONS";
pub const CLASSES: &str = "CLASSES";
pub const NETNS: &str = "NETNS";
pub const HOSTS: &str = "HOSTS";
pub const LISTED: &str = "LISTED";
pub const ALLOWED: &str = "ALLOWED";
pub const MARKS: &str = "MARKS";
pub const OWN_CGROUPS: &str = "OWN_CGROUPS";
pub const HEARTBEAT: &str = "HEARTBEAT";
pub const COUNTS: &str = "COUNTS";
pub const EVENTS: &str = "EVENTS";
pub const BIRTH: &str = "BIRTH";

/// Offset of `group_leader` in `task_struct`.
pub const OFF_GROUP_LEADER: &str = "OFF_GROUP_LEADER";
/// Offset of `start_boottime` in `task_struct`.
pub const OFF_START_BOOTTIME: &str = "OFF_START_BOOTTIME";
/// Class of the workload whose device the packet program sits on.
pub const DEVICE_CLASS: &str = "DEVICE_CLASS";
/// Bytes before the network header on that device: 14, or 0 without a link header.
pub const DEVICE_LINK_BYTES: &str = "DEVICE_LINK_BYTES";
