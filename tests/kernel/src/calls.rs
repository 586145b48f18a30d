//! Socket calls as numbers and bytes: what recipes need is what typed wrappers rule out.

#![expect(
    unsafe_code,
    reason = "system calls with families, protocols and flags that no safe wrapper names"
)]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A `sockaddr` as bytes.
#[derive(Clone, Debug)]
pub struct Addr(pub Vec<u8>);

impl Addr {
    #[must_use]
    pub fn v4(ip: Ipv4Addr, port: u16) -> Self {
        let mut bytes = vec![0; 16];
        bytes[..2].copy_from_slice(&2_u16.to_ne_bytes());
        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        bytes[4..8].copy_from_slice(&ip.octets());
        Self(bytes)
    }

    #[must_use]
    pub fn v6(ip: Ipv6Addr, port: u16) -> Self {
        let mut bytes = vec![0; 28];
        bytes[..2].copy_from_slice(&10_u16.to_ne_bytes());
        bytes[2..4].copy_from_slice(&port.to_be_bytes());
        bytes[8..24].copy_from_slice(&ip.octets());
        Self(bytes)
    }

    #[must_use]
    pub fn of(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(addr) => Self::v4(*addr.ip(), addr.port()),
            SocketAddr::V6(addr) => Self::v6(*addr.ip(), addr.port()),
        }
    }

    /// `AF_UNSPEC`, which dissolves an association.
    #[must_use]
    pub fn unspecified() -> Self {
        Self(vec![0; 16])
    }

    /// `sockaddr_ll` (Linux `if_packet.h`).
    #[must_use]
    pub fn link(ifindex: u32, ethertype: u16, mac: [u8; 6]) -> Self {
        let mut bytes = vec![0; 20];
        bytes[..2].copy_from_slice(&17_u16.to_ne_bytes());
        bytes[2..4].copy_from_slice(&ethertype.to_be_bytes());
        bytes[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        bytes[11] = 6;
        bytes[12..18].copy_from_slice(&mac);
        Self(bytes)
    }

    /// `sockaddr_xdp` (Linux `if_xdp.h`), queue 0.
    #[must_use]
    pub fn xdp(ifindex: u32) -> Self {
        let mut bytes = vec![0; 16];
        bytes[..2].copy_from_slice(&44_u16.to_ne_bytes());
        bytes[4..8].copy_from_slice(&ifindex.to_ne_bytes());
        Self(bytes)
    }
}

fn checked(code: libc::c_int) -> io::Result<libc::c_int> {
    if code < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(code)
    }
}

fn sized(code: isize) -> io::Result<usize> {
    usize::try_from(code).map_err(|_| io::Error::last_os_error())
}

/// # Errors
/// As `socket(2)`.
pub fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the new descriptor belongs to nobody else.
    unsafe {
        let fd = checked(libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// # Errors
/// As `connect(2)`.
pub fn connect(fd: &impl AsRawFd, addr: &Addr) -> io::Result<()> {
    // SAFETY: the address is as long as said.
    let code = unsafe { libc::connect(fd.as_raw_fd(), addr.0.as_ptr().cast(), length(addr)) };
    checked(code).map(drop)
}

/// # Errors
/// As `bind(2)`.
pub fn bind(fd: &impl AsRawFd, addr: &Addr) -> io::Result<()> {
    // SAFETY: as above.
    let code = unsafe { libc::bind(fd.as_raw_fd(), addr.0.as_ptr().cast(), length(addr)) };
    checked(code).map(drop)
}

/// # Errors
/// As `listen(2)`.
pub fn listen(fd: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: no pointers.
    checked(unsafe { libc::listen(fd.as_raw_fd(), 16) }).map(drop)
}

/// # Errors
/// As `sendto(2)`.
pub fn send_to(fd: &impl AsRawFd, bytes: &[u8], flags: i32, to: &Addr) -> io::Result<usize> {
    // SAFETY: both buffers are as long as said.
    sized(unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            flags | libc::MSG_NOSIGNAL,
            to.0.as_ptr().cast(),
            length(to),
        )
    })
}

/// # Errors
/// As `sendmsg(2)`.
pub fn send_message(fd: &impl AsRawFd, bytes: &[u8], to: &Addr) -> io::Result<usize> {
    let mut iov = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: a message header of zeroes is valid; the pointers outlive the call.
    sized(unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_name = to.0.as_ptr().cast_mut().cast();
        header.msg_namelen = length(to);
        header.msg_iov = &raw mut iov;
        header.msg_iovlen = 1;
        libc::sendmsg(fd.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL)
    })
}

/// One datagram by `sendmmsg(2)`.
///
/// # Errors
/// As the call.
pub fn send_many(fd: &impl AsRawFd, bytes: &[u8], to: &Addr) -> io::Result<()> {
    let mut iov = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: as above.
    checked(unsafe {
        let mut header: libc::mmsghdr = std::mem::zeroed();
        header.msg_hdr.msg_name = to.0.as_ptr().cast_mut().cast();
        header.msg_hdr.msg_namelen = length(to);
        header.msg_hdr.msg_iov = &raw mut iov;
        header.msg_hdr.msg_iovlen = 1;
        libc::sendmmsg(fd.as_raw_fd(), &raw mut header, 1, libc::MSG_NOSIGNAL)
    })
    .map(drop)
}

/// # Errors
/// As `setsockopt(2)`.
pub fn set(fd: &impl AsRawFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the value is as long as said.
    let code =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), length) };
    checked(code).map(drop)
}

/// # Errors
/// As `setsockopt(2)`.
pub fn set_int(fd: &impl AsRawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    set(fd, level, name, &value.to_ne_bytes())
}

/// A system call by number with plain values; only for calls that touch no memory of ours.
///
/// # Errors
/// As the call.
pub fn plain(number: libc::c_long, arguments: [libc::c_long; 3]) -> io::Result<libc::c_long> {
    let [first, second, third] = arguments;
    // SAFETY: the callers pass descriptors, pids and flags.
    let code = unsafe { libc::syscall(number, first, second, third) };
    if code < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(code)
    }
}

/// `connect(2)` by a system call number of one's own (x32 has others).
///
/// # Errors
/// As the call.
pub fn connect_numbered(number: libc::c_long, fd: &impl AsRawFd, addr: &Addr) -> io::Result<()> {
    // SAFETY: the address is as long as said.
    let code = unsafe {
        libc::syscall(
            number,
            libc::c_long::from(fd.as_raw_fd()),
            addr.0.as_ptr(),
            libc::c_long::from(length(addr)),
        )
    };
    if code < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// `connect(2)` of the 32-bit call table, entered by `int 0x80`.
///
/// # Errors
/// As the call; `ENOSYS` where the kernel has no 32-bit calls.
#[cfg(target_arch = "x86_64")]
pub fn connect_ia32(fd: &impl AsRawFd, addr: &Addr) -> io::Result<()> {
    const CONNECT: i64 = 362;
    // SAFETY: the page is ours and below 4 GiB, as 32-bit calls need; the registers that the entry
    // overwrites are declared.
    let code = unsafe {
        let page = libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
            -1,
            0,
        );
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        std::ptr::copy_nonoverlapping(addr.0.as_ptr(), page.cast(), addr.0.len());
        let mut code = CONNECT;
        std::arch::asm!(
            "xchg {fd}, rbx",
            "int 0x80",
            "xchg {fd}, rbx",
            fd = inout(reg) i64::from(fd.as_raw_fd()) => _,
            inout("rax") code,
            in("rcx") page,
            in("rdx") u64::from(length(addr)),
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
        libc::munmap(page, 4096);
        code as i32
    };
    if code < 0 {
        Err(io::Error::from_raw_os_error(-code))
    } else {
        Ok(())
    }
}

/// `PTRACE_ATTACH`.
///
/// # Errors
/// As the call.
pub fn ptrace_attach(pid: i32) -> io::Result<()> {
    // SAFETY: no memory of ours is passed.
    let code = unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid, 0, 0) };
    if code < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Adopts a descriptor that was inherited or that a call just returned.
///
/// # Errors
/// Negative numbers are no descriptors.
pub fn adopt(fd: i64) -> io::Result<OwnedFd> {
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    checked(fd)?;
    // SAFETY: the caller was just given it, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `getpeername(2)` or `getsockname(2)`.
///
/// # Errors
/// As the call.
pub fn name_of(fd: &impl AsRawFd, peer: bool) -> io::Result<SocketAddr> {
    let mut bytes = [0_u8; 28];
    let mut length: libc::socklen_t = 28;
    // SAFETY: the kernel writes at most `length` bytes.
    let code = unsafe {
        let at = bytes.as_mut_ptr().cast();
        if peer {
            libc::getpeername(fd.as_raw_fd(), at, &raw mut length)
        } else {
            libc::getsockname(fd.as_raw_fd(), at, &raw mut length)
        }
    };
    checked(code)?;
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    if bytes[0] == 2 {
        let ip = Ipv4Addr::new(bytes[4], bytes[5], bytes[6], bytes[7]);
        return Ok(SocketAddr::new(ip.into(), port));
    }
    let mut ip = [0; 16];
    ip.copy_from_slice(&bytes[8..24]);
    Ok(SocketAddr::new(Ipv6Addr::from(ip).into(), port))
}

fn length(addr: &Addr) -> libc::socklen_t {
    u32::try_from(addr.0.len()).unwrap_or(0)
}

/// A shared mapping of a descriptor, unmapped with the process.
///
/// # Errors
/// As `mmap(2)`.
pub fn map_shared(fd: &impl AsRawFd, bytes: usize, offset: i64) -> io::Result<*mut u8> {
    // SAFETY: a new mapping; the callers stay within `bytes`.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            fd.as_raw_fd(),
            offset,
        )
    };
    if at == libc::MAP_FAILED {
        Err(io::Error::last_os_error())
    } else {
        Ok(at.cast())
    }
}

/// The first id of a kind of BPF object (`BPF_*_GET_NEXT_ID`).
///
/// # Errors
/// As `bpf(2)`: `EPERM` without the right to look.
pub fn bpf_ids(command: libc::c_long) -> io::Result<()> {
    let attr = [0_u32; 16];
    // SAFETY: the attributes are 64 bytes and outlive the call.
    let code = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_ptr(), 64) };
    if code < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
