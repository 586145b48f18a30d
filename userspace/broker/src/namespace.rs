//! Short visits to network namespaces.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrIn,
    SockaddrIn6, bind, getsockname, listen, recv, setsockopt, socket, sockopt,
};

/// A network namespace, kept by descriptor.
pub(crate) struct Namespace {
    pub(crate) file: File,
    pub(crate) inode: u64,
}

/// What a visit for listening brought back.
pub(crate) struct Listening {
    pub(crate) v4: Option<(OwnedFd, SocketAddr, Ipv4Addr)>,
    pub(crate) v6: Option<(OwnedFd, SocketAddr, Ipv6Addr)>,
}

/// A device packets leave through.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) index: u32,
    /// 14 for Ethernet, 0 without a link header.
    pub(crate) link_bytes: u32,
}

impl Namespace {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        Ok(Self { file, inode })
    }

    /// Runs `work` on a thread that is inside the namespace and then ends.
    pub(crate) fn visit<T: Send>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        let file = self.file.as_fd();
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .name("weir-visit".to_owned())
                .spawn_scoped(scope, move || {
                    setns(file, CloneFlags::CLONE_NEWNET)?;
                    work()
                })?;
            thread
                .join()
                .map_err(|_| io::Error::other("a namespace visit panicked"))?
        })
    }
}

/// An unconnected, non-blocking TCP socket in the calling thread's namespace.
pub(crate) fn tcp_socket(ipv6: bool) -> io::Result<OwnedFd> {
    let family = if ipv6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(family, SockType::Stream, flags, None)?)
}

/// Listeners for both families, and the addresses they are reached by.
pub(crate) fn listen_here() -> io::Result<Listening> {
    listen_for((true, true))
}

/// Of IPv4 and IPv6 only those that are wanted.
pub(crate) fn listen_for((wants4, wants6): (bool, bool)) -> io::Result<Listening> {
    let (own4, own6) = own_addresses()?;
    let v4 = match own4.filter(|_| wants4) {
        Some(own) => Some(listen4(Ipv4Addr::UNSPECIFIED, own)?),
        None => None,
    };
    let v6 = match own6.filter(|_| wants6) {
        Some(own) => Some(listen6(Ipv6Addr::UNSPECIFIED, own)?),
        None => None,
    };
    Ok(Listening { v4, v6 })
}

/// The same on loopback alone: the host's own addresses are reached from elsewhere. A host without
/// IPv6 has one family.
pub(crate) fn listen_loopback() -> io::Result<Listening> {
    let (own4, own6) = (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
    Ok(Listening {
        v4: Some(listen4(own4, own4)?),
        v6: listen6(own6, own6).ok(),
    })
}

/// `SO_NETNS_COOKIE` of the calling thread's namespace.
pub(crate) fn cookie_here() -> io::Result<u64> {
    weir_kernel::netns_cookie(tcp_socket(false)?.as_fd())
}

/// A socket that says when a device or an address comes or goes (rtnetlink(7)).
pub(crate) fn links_here() -> io::Result<OwnedFd> {
    const RTMGRP_LINK: u32 = 1;
    const RTMGRP_IPV4_IFADDR: u32 = 0x10;
    const RTMGRP_IPV6_IFADDR: u32 = 0x100;
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkRoute,
    )?;
    let groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(socket)
}

/// Takes what it said; true when it said something. The contents do not matter, and what was lost
/// (`ENOBUFS`) counts as said.
pub(crate) fn drain_links(socket: &OwnedFd) -> bool {
    let mut bytes = [0; 4096];
    let mut told = false;
    loop {
        match recv(socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
            Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => told = true,
            Err(_empty) => return told,
        }
    }
}

fn listen4(at: Ipv4Addr, own: Ipv4Addr) -> io::Result<(OwnedFd, SocketAddr, Ipv4Addr)> {
    let socket = tcp_socket(false)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(
        socket.as_raw_fd(),
        &SockaddrIn::from(SocketAddrV4::new(at, 0)),
    )?;
    listen(&socket, backlog()?)?;
    let bound: SockaddrIn = getsockname(socket.as_raw_fd())?;
    let addr = SocketAddr::new(IpAddr::V4(own), bound.port());
    Ok((socket, addr, own))
}

fn listen6(at: Ipv6Addr, own: Ipv6Addr) -> io::Result<(OwnedFd, SocketAddr, Ipv6Addr)> {
    let socket = tcp_socket(true)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    let at = SocketAddrV6::new(at, 0, 0, 0);
    bind(socket.as_raw_fd(), &SockaddrIn6::from(at))?;
    listen(&socket, backlog()?)?;
    let bound: SockaddrIn6 = getsockname(socket.as_raw_fd())?;
    let addr = SocketAddr::new(IpAddr::V6(own), bound.port());
    Ok((socket, addr, own))
}

fn backlog() -> io::Result<Backlog> {
    Ok(Backlog::new(1024)?)
}

/// The namespace's own first global addresses.
fn own_addresses() -> io::Result<(Option<Ipv4Addr>, Option<Ipv6Addr>)> {
    let (mut v4, mut v6) = (None, None);
    for interface in getifaddrs()? {
        let Some(address) = interface.address else {
            continue;
        };
        if let Some(addr) = address.as_sockaddr_in() {
            let ip = addr.ip();
            if !ip.is_loopback() && !ip.is_link_local() && v4.is_none() {
                v4 = Some(ip);
            }
        }
        if let Some(addr) = address.as_sockaddr_in6() {
            let ip = addr.ip();
            if !ip.is_loopback() && !ip.is_unicast_link_local() && v6.is_none() {
                v6 = Some(ip);
            }
        }
    }
    Ok((v4, v6))
}

/// `ARPHRD_ETHER` (Linux `if_arp.h`): every other kind of device has no link header of 14 bytes.
const HARDWARE_ETHERNET: u16 = 1;

/// Every device but loopback.
pub(crate) fn devices_here() -> io::Result<Vec<Device>> {
    let mut devices: Vec<Device> = Vec::new();
    // Each device has one entry with its link address, which says what kind of device it is.
    for interface in getifaddrs()? {
        let name = interface.interface_name;
        let loopback = interface.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let link = interface
            .address
            .as_ref()
            .and_then(|address| address.as_link_addr().copied());
        let Some(link) = link.filter(|_| !loopback) else {
            continue;
        };
        if devices.iter().any(|device| device.name == name) {
            continue;
        }
        let index = if_nametoindex(name.as_str())?;
        let link_bytes = if link.hatype() == HARDWARE_ETHERNET {
            14
        } else {
            0
        };
        devices.push(Device {
            name,
            index,
            link_bytes,
        });
    }
    Ok(devices)
}
