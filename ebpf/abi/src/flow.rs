//! What a connect hook saw, and how it reaches the accepted socket.

/// One connect to a protected destination; value of the `CLIENT`, `FLOWS` and `ACCEPTED` maps.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Original destination in network byte order; IPv4 as `::ffff:a.b.c.d`.
    pub addr: [u32; 4],
    /// Original destination port, host order.
    pub port: u32,
    /// Family of the client's socket: 2 or 10 (an IPv4-mapped destination arrives as 10).
    pub family: u32,
    /// Thread group id, thread id and uid in the initial namespaces.
    pub pid: u32,
    pub tid: u32,
    pub uid: u32,
    pub class: u32,
    /// cgroup of the task that called connect.
    pub cgroup_id: u64,
    pub netns_cookie: u64,
    pub socket_cookie: u64,
    /// Of the thread group leader.
    pub start_boottime_ns: u64,
    /// `CLOCK_MONOTONIC` at the connect.
    pub ktime_ns: u64,
    pub comm: [u8; 16],
}

/// Key of `FLOWS`: the client's end as both ends of a local connection see it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    pub netns_cookie: u64,
    /// IPv4 as `::ffff:a.b.c.d`, network byte order.
    pub src: [u32; 4],
    /// Client's port and listener's port, host order.
    pub sport: u32,
    pub lport: u32,
}

/// One refusal or drop, as the ring buffer carries it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub addr: [u32; 4],
    pub port: u32,
    /// A [`crate::Reason`].
    pub reason: u32,
    /// 0 in packet programs, where the current task means nothing.
    pub pid: u32,
    pub uid: u32,
    pub class: u32,
    pub protocol: u32,
    pub cgroup_id: u64,
    pub ktime_ns: u64,
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<Origin>() == 96);
const _: () = assert!(size_of::<FlowKey>() == 32);
const _: () = assert!(size_of::<Event>() == 72);
