//! Why something was refused.

/// The reason of one refusal or drop; also the offset of its counter.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The heartbeat deadline has passed: no enforcer.
    NoHeartbeat = 1,
    /// The namespace has no listener of that family.
    NoListener = 2,
    /// Protected, but not a TCP stream.
    NotTcp = 3,
    /// A connect straight to Weir's listener.
    DirectToListener = 4,
    /// A bind of the listener's port.
    BindListener = 5,
    /// UDP to a protected destination.
    Datagram = 6,
    /// The process' workload is not the namespace's.
    WrongNamespace = 7,
    /// No memory for the origin.
    NoStorage = 8,
    /// A raw socket that could carry TCP or UDP.
    RawSocket = 9,
    /// A protocol that has no connect hook.
    Protocol = 10,
    /// Dropped at the cgroup's egress.
    CgroupEgress = 11,
    /// Dropped at the device.
    DeviceEgress = 12,
    /// A packet that could not be understood, dropped at the device.
    Unparsable = 13,
    /// A socket option that sends frames past the device's queue, where nothing of ours looks.
    QueueBypass = 14,
    /// The workload's egress is listed, and the destination is not on the list.
    Unlisted = 15,
}

impl Reason {
    pub const ALL: [Self; 15] = [
        Self::NoHeartbeat,
        Self::NoListener,
        Self::NotTcp,
        Self::DirectToListener,
        Self::BindListener,
        Self::Datagram,
        Self::WrongNamespace,
        Self::NoStorage,
        Self::RawSocket,
        Self::Protocol,
        Self::CgroupEgress,
        Self::DeviceEgress,
        Self::Unparsable,
        Self::QueueBypass,
        Self::Unlisted,
    ];

    /// Label for metrics and facts.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoHeartbeat => "no_heartbeat",
            Self::NoListener => "no_listener",
            Self::NotTcp => "not_tcp",
            Self::DirectToListener => "direct_to_listener",
            Self::BindListener => "bind_listener",
            Self::Datagram => "datagram",
            Self::WrongNamespace => "wrong_namespace",
            Self::NoStorage => "no_storage",
            Self::RawSocket => "raw_socket",
            Self::Protocol => "protocol",
            Self::CgroupEgress => "cgroup_egress",
            Self::DeviceEgress => "device_egress",
            Self::Unparsable => "unparsable",
            Self::QueueBypass => "queue_bypass",
            Self::Unlisted => "unlisted",
        }
    }
}

/// A number that is no reason of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownReason(pub u32);

impl TryFrom<u32> for Reason {
    type Error = UnknownReason;

    fn try_from(value: u32) -> Result<Self, UnknownReason> {
        let mut all = Self::ALL.into_iter();
        all.find(|reason| *reason as u32 == value)
            .ok_or(UnknownReason(value))
    }
}
