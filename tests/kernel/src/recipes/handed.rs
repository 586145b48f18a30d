//! Sockets that were born outside: hooks follow the socket's cgroup, the device's list does not.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

use super::Expect::Dropped;
use super::datagrams::{datagram, sent};
use super::raw::syn4;
use super::streams::{begin, connected, stream_socket, use_connected};
use super::{Carry, Expect, Recipe, Scene};
use crate::calls::{self, Addr};
use crate::packets::{self, IPV4, SYN};

const DEVICE: Expect = Dropped(&["device_egress"]);

const fn handed(
    name: &'static str,
    tries: &'static str,
    before: super::Before,
    attack: super::Attack,
) -> Recipe {
    Recipe {
        name,
        tries,
        expect: DEVICE,
        before,
        attack,
    }
}

pub(super) const TABLE: &[Recipe] = &[
    handed(
        "early_socket_v4",
        "socket made before enrolment, connected after",
        |s| own(stream_socket(s.v4())?),
        |s, c| connected(socket(c)?, s.v4()),
    ),
    handed(
        "early_socket_v6",
        "socket made before enrolment, connected after",
        |s| own(stream_socket(s.v6())?),
        |s, c| connected(socket(c)?, s.v6()),
    ),
    handed(
        "early_connect_v4",
        "connected before enrolment, used after",
        |s| own(begin(s.v4())?),
        |_, c| use_connected(socket(c)?),
    ),
    handed(
        "early_connect_v6",
        "connected before enrolment, used after",
        |s| own(begin(s.v6())?),
        |_, c| use_connected(socket(c)?),
    ),
    handed(
        "early_udp_v4",
        "UDP socket made before enrolment",
        |s| own(datagram(s.v4(), 0)?),
        |s, c| sent(calls::send_to(&socket(c)?, b"data", 0, &Addr::of(s.v4()))),
    ),
    handed(
        "early_udp_v6",
        "UDP socket made before enrolment",
        |s| own(datagram(s.v6(), 0)?),
        |s, c| sent(calls::send_to(&socket(c)?, b"data", 0, &Addr::of(s.v6()))),
    ),
    handed(
        "early_raw_v4",
        "raw socket made before enrolment",
        |_| {
            own(calls::socket(
                libc::AF_INET,
                libc::SOCK_RAW,
                libc::IPPROTO_TCP,
            )?)
        },
        |s, c| {
            let segment = packets::segment(s, false, SYN, b"");
            sent(calls::send_to(
                &socket(c)?,
                &segment,
                0,
                &Addr::v4(s.server4, 0),
            ))
        },
    ),
    handed(
        "early_packet_v4",
        "packet socket made before enrolment",
        |_| own(calls::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?),
        |s, c| {
            let index = nix::net::if_::if_nametoindex(s.device)?;
            let to = Addr::link(index, IPV4, s.server_mac);
            let frame = packets::frame(s, &[], IPV4, &syn4(s, &[]));
            sent(calls::send_to(&socket(c)?, &frame, 0, &to))
        },
    ),
    handed(
        "passed_socket_v4",
        "SCM_RIGHTS, not connected",
        |s| donor(s, "socket4"),
        |s, c| connected(received(c)?, s.v4()),
    ),
    handed(
        "passed_socket_v6",
        "SCM_RIGHTS, not connected",
        |s| donor(s, "socket6"),
        |s, c| connected(received(c)?, s.v6()),
    ),
    handed(
        "passed_connected_v4",
        "SCM_RIGHTS, connected",
        |s| donor(s, "connect4"),
        |_, c| use_connected(received(c)?),
    ),
    handed(
        "passed_connected_v6",
        "SCM_RIGHTS, connected",
        |s| donor(s, "connect6"),
        |_, c| use_connected(received(c)?),
    ),
    handed(
        "taken_socket_v4",
        "pidfd_getfd, not connected",
        |s| donor(s, "socket4"),
        |s, c| connected(taken(c)?, s.v4()),
    ),
    handed(
        "taken_connected_v4",
        "pidfd_getfd, connected",
        |s| donor(s, "connect4"),
        |_, c| use_connected(taken(c)?),
    ),
];

fn own(socket: OwnedFd) -> io::Result<Carry> {
    Ok(Carry {
        socket: Some(socket),
        pid: None,
    })
}

fn socket(carry: Carry) -> io::Result<OwnedFd> {
    carry.socket.ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// An ungoverned process of the same namespace, with the same capabilities, that has a socket and
/// gives it away.
fn donor(scene: &Scene, what: &str) -> io::Result<Carry> {
    let (ours, theirs) = UnixStream::pair()?;
    let to = if what.ends_with('4') {
        scene.v4()
    } else {
        scene.v6()
    };
    let child = Command::new("/proc/self/exe")
        .args(["donor", what, &to.to_string()])
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .spawn()?;
    let pid = child.id();
    Ok(Carry {
        socket: Some(ours.into()),
        pid: Some(pid),
    })
}

/// The donor's side: makes the socket, passes it over standard input, and waits for the end.
///
/// # Errors
/// No socket could be made or passed.
pub fn give(what: &str, to: SocketAddr) -> io::Result<()> {
    crate::jail::drop_capabilities()?;
    let gift = if what.starts_with("connect") {
        begin(to)?
    } else {
        stream_socket(to)?
    };
    let raw = [gift.as_raw_fd()];
    // The number first: whoever takes the descriptor by pidfd needs it.
    let text = raw[0].to_ne_bytes();
    let stdin = io::stdin();
    sendmsg::<UnixAddr>(
        stdin.as_raw_fd(),
        &[IoSlice::new(&text)],
        &[ControlMessage::ScmRights(&raw)],
        MsgFlags::empty(),
        None,
    )?;
    // Ends with the attempt, which holds the other side.
    io::copy(&mut stdin.lock(), &mut io::sink()).map(drop)
}

fn receive(carry: &Carry) -> io::Result<(i32, Option<OwnedFd>)> {
    let channel = carry.socket.as_ref().ok_or(io::ErrorKind::NotFound)?;
    let mut bytes = [0; 4];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut iov = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::empty();
    let message = recvmsg::<UnixAddr>(channel.as_raw_fd(), &mut iov, Some(&mut space), flags)?;
    let mut found = None;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            for fd in raw {
                found = Some(calls::adopt(i64::from(fd))?);
            }
        }
    }
    Ok((i32::from_ne_bytes(bytes), found))
}

fn received(carry: Carry) -> io::Result<OwnedFd> {
    let (_, found) = receive(&carry)?;
    found.ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn taken(carry: Carry) -> io::Result<OwnedFd> {
    let (number, passed) = receive(&carry)?;
    drop(passed);
    let pid = carry.pid.ok_or(io::ErrorKind::NotFound)?;
    let process = calls::plain(libc::SYS_pidfd_open, [i64::from(pid), 0, 0])?;
    let fd = calls::plain(libc::SYS_pidfd_getfd, [process, i64::from(number), 0])?;
    calls::adopt(fd)
}
