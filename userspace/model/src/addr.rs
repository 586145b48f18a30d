//! Addresses and kernel ids, one type per role, so that they cannot be swapped by mistake.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Where the agent wanted to go: the destination of its `connect(2)`, before the redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OrigDst(pub SocketAddr);

/// The agent's own end of the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientAddr(pub SocketAddr);

/// Where Weir connects on the agent's behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamAddr(pub SocketAddr);

/// `SO_COOKIE` of a socket; unique for the life of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SocketCookie(pub u64);

/// cgroup v2 id: the inode number of its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CgroupId(pub u64);

/// `SO_NETNS_COOKIE` of a network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NetnsCookie(pub u64);
