//! The `bpf(2)` commands that aya does not offer: links of cgroups and devices created, replaced
//! and pinned by descriptor, and a look-up in socket storage.
//!
//! Source: Linux `include/uapi/linux/bpf.h`, `union bpf_attr`.

#![expect(
    unsafe_code,
    reason = "one system call with attributes laid out by the kernel"
)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const OBJ_PIN: libc::c_long = 6;
const OBJ_GET: libc::c_long = 7;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const LINK_CREATE: libc::c_long = 28;
const LINK_UPDATE: libc::c_long = 29;

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum AttachType {
    CgroupEgress = 1,
    SockCreate = 2,
    SockOps = 3,
    Bind4 = 8,
    Bind6 = 9,
    Connect4 = 10,
    Connect6 = 11,
    SendMsg4 = 14,
    SendMsg6 = 15,
    SetSockOpt = 22,
    GetPeerName4 = 29,
    GetPeerName6 = 30,
    TcxEgress = 47,
}

fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<RawFd> {
    // SAFETY: `attr` is a prefix of `union bpf_attr` for this command and outlives the call.
    let code = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attr),
            size_of::<T>(),
        )
    };
    if code < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(code as RawFd)
    }
}

fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    rest: [u64; 6],
}

/// Attaches to a cgroup; the link lives as long as a descriptor or pin does.
pub(crate) fn link_cgroup(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: AttachType,
) -> io::Result<OwnedFd> {
    create(program, cgroup.as_raw_fd() as u32, attach_type)
}

/// Attaches to a device of the calling thread's network namespace.
pub(crate) fn link_device(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    create(program, ifindex, AttachType::TcxEgress)
}

fn create(program: BorrowedFd<'_>, target: u32, kind: AttachType) -> io::Result<OwnedFd> {
    let attr = LinkCreate {
        prog_fd: program.as_raw_fd() as u32,
        target,
        attach_type: kind as u32,
        flags: 0,
        rest: [0; 6],
    };
    bpf(LINK_CREATE, &attr).map(owned)
}

#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// Replaces the program of a link without a gap.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attr = LinkUpdate {
        link_fd: link.as_raw_fd() as u32,
        new_prog_fd: program.as_raw_fd() as u32,
        flags: 0,
        old_prog_fd: 0,
    };
    bpf(LINK_UPDATE, &attr).map(drop)
}

#[repr(C)]
struct Obj {
    path: u64,
    fd: u32,
    flags: u32,
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

pub(crate) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let attr = Obj {
        path: path.as_ptr() as u64,
        fd: fd.as_raw_fd() as u32,
        flags: 0,
    };
    bpf(OBJ_PIN, &attr).map(drop)
}

pub(crate) fn get(path: &Path) -> io::Result<OwnedFd> {
    get_for(path, Access::Full)
}

/// What a descriptor of a map is good for, whoever holds it: `BPF_F_RDONLY` and `BPF_F_WRONLY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Access {
    Full = 0,
    Read = 1 << 3,
    Write = 1 << 4,
}

pub(crate) fn get_for(path: &Path, access: Access) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let attr = Obj {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: access as u32,
    };
    bpf(OBJ_GET, &attr).map(owned)
}

#[repr(C)]
struct InfoByFd {
    fd: u32,
    length: u32,
    info: u64,
}

/// Head of `struct bpf_link_info`, as it is for tcx links.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    pad: u32,
    ifindex: u32,
    attach_type: u32,
    rest: [u64; 4],
}

/// The device that a tcx link sits on; 0 once that is gone.
pub(crate) fn link_device_index(link: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = LinkInfo::default();
    let attr = InfoByFd {
        fd: link.as_raw_fd() as u32,
        length: size_of::<LinkInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &attr)?;
    Ok(info.ifindex)
}

#[repr(C)]
struct Elem {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The value of a socket in a storage map; `None` when it has none.
pub(crate) fn socket_value<T: aya::Pod>(
    map: BorrowedFd<'_>,
    socket: BorrowedFd<'_>,
) -> io::Result<Option<T>> {
    value(map, &socket.as_raw_fd())
}

/// The value of a key; `None` when it has none. `K` and `T` are the map's own types.
pub(crate) fn value<K: aya::Pod, T: aya::Pod>(
    map: BorrowedFd<'_>,
    key: &K,
) -> io::Result<Option<T>> {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    let attr = Elem {
        map_fd: map.as_raw_fd() as u32,
        pad: 0,
        key: std::ptr::from_ref(key) as u64,
        value: value.as_mut_ptr() as u64,
        flags: 0,
    };
    match bpf(MAP_LOOKUP_ELEM, &attr) {
        // SAFETY: the kernel wrote a whole value; `Pod` types are valid for any bytes.
        Ok(_) => Ok(Some(unsafe { value.assume_init() })),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes the value of a key. `K` and `T` are the map's own types.
pub(crate) fn set_value<K: aya::Pod, T: aya::Pod>(
    map: BorrowedFd<'_>,
    key: &K,
    value: &T,
) -> io::Result<()> {
    let attr = Elem {
        map_fd: map.as_raw_fd() as u32,
        pad: 0,
        key: std::ptr::from_ref(key) as u64,
        value: std::ptr::from_ref(value) as u64,
        flags: 0,
    };
    bpf(MAP_UPDATE_ELEM, &attr).map(drop)
}

/// `SO_NETNS_COOKIE` of the namespace that a socket was made in (Linux 5.14).
///
/// # Errors
/// The kernel does not know the option.
pub fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let mut cookie = 0_u64;
    let mut length = 8;
    // SAFETY: the kernel writes at most `length` bytes into `cookie`.
    let code = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if code == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Whether devices take tcx links (Linux 6.6): asked for at a device that cannot exist, where a
/// kernel that knows them says so.
pub(crate) fn has_tcx(program: BorrowedFd<'_>) -> bool {
    const NO_DEVICE: u32 = i32::MAX as u32;
    let asked = link_device(program, NO_DEVICE);
    asked.is_err_and(|error| error.raw_os_error() == Some(libc::ENODEV))
}

/// What is read of `struct bpf_prog_info`.
#[derive(Clone, Debug)]
pub(crate) struct ProgramInfo {
    pub(crate) id: u32,
    pub(crate) name: String,
    pub(crate) ns: u64,
    pub(crate) runs: u64,
    pub(crate) verified: u32,
}

#[repr(C)]
struct InfoOf {
    fd: u32,
    bytes: u32,
    info: u64,
}

/// The first bytes of an object's info; what an older kernel does not know stays zero.
fn info<const N: usize>(fd: BorrowedFd<'_>) -> io::Result<[u8; N]> {
    const GET_INFO: libc::c_long = 15;
    let mut bytes = [0_u8; N];
    let attr = InfoOf {
        fd: fd.as_raw_fd() as u32,
        bytes: N as u32,
        info: bytes.as_mut_ptr() as u64,
    };
    bpf(GET_INFO, &attr)?;
    Ok(bytes)
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let found = bytes.get(at..at + N).and_then(|part| part.try_into().ok());
    found.unwrap_or([0; N])
}

pub(crate) fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    let bytes = info::<224>(program)?;
    let name: [u8; 16] = number(&bytes, 64);
    let name = String::from_utf8_lossy(&name);
    Ok(ProgramInfo {
        id: u32::from_ne_bytes(number(&bytes, 4)),
        name: name.trim_end_matches('\0').to_owned(),
        ns: u64::from_ne_bytes(number(&bytes, 192)),
        runs: u64::from_ne_bytes(number(&bytes, 200)),
        verified: u32::from_ne_bytes(number(&bytes, 216)),
    })
}

/// The program that a link has at the moment.
pub(crate) fn program_of_link(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const PROG_BY_ID: libc::c_long = 13;
    // Of `struct bpf_link_info`: type, id, program.
    let bytes = info::<16>(link)?;
    let attr = [u32::from_ne_bytes(number(&bytes, 8)), 0, 0];
    bpf(PROG_BY_ID, &attr).map(owned)
}

/// Connections that wait in a listener's queue.
///
/// Source: `tcp_get_info`, which gives `sk_ack_backlog` as `tcpi_unacked` of a listening socket.
///
/// # Errors
/// Not a TCP socket.
pub fn accept_queue(listener: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `info`, which zeroes are valid for.
    let (code, info) = unsafe {
        let code = libc::getsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        );
        (code, info.assume_init())
    };
    if code == 0 {
        Ok(info.tcpi_unacked)
    } else {
        Err(io::Error::last_os_error())
    }
}
