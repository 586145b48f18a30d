//! TCP by every way a program can ask for it.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Expect::{Impossible, Redirected, Refused};
use super::raw::ROUTED;
use super::{Carry, Recipe, Scene, recipe};
use crate::calls::{self, Addr};
use crate::packets::OPEN4;
use crate::uring;

const WAIT_MS: u16 = 400;
const MPTCP: i32 = 262;

pub(super) const TABLE: &[Recipe] = &[
    recipe("connect_v4", "connect(2)", Redirected, |s, _| reach(s.v4())),
    recipe("connect_v6", "connect(2)", Redirected, |s, _| reach(s.v6())),
    recipe(
        "connect_mapped",
        "IPv4 in an IPv6 socket",
        Redirected,
        |s, _| reach(s.mapped()),
    ),
    recipe("nonblocking_v4", "O_NONBLOCK", Redirected, |s, _| {
        nonblocking(s.v4())
    }),
    recipe("nonblocking_v6", "O_NONBLOCK", Redirected, |s, _| {
        nonblocking(s.v6())
    }),
    recipe("nonblocking_mapped", "O_NONBLOCK", Redirected, |s, _| {
        nonblocking(s.mapped())
    }),
    recipe("thread_v4", "from another thread", Redirected, |s, _| {
        thread(s.v4())
    }),
    recipe("child_v4", "from a child process", Redirected, |_, _| {
        child("connect_v4")
    }),
    recipe(
        "orphan_v6",
        "from an orphaned grandchild",
        Redirected,
        |_, _| orphan("connect_v6"),
    ),
    recipe(
        "unspec_v4",
        "elsewhere, AF_UNSPEC, then there",
        Redirected,
        |s, _| unspec(s.open4(), s.v4()),
    ),
    recipe(
        "unspec_v6",
        "elsewhere, AF_UNSPEC, then there",
        Redirected,
        |s, _| unspec(s.open6(), s.v6()),
    ),
    recipe(
        "unspec_mapped",
        "IPv6 first, AF_UNSPEC, then mapped",
        Redirected,
        |s, _| unspec(s.open6(), s.mapped()),
    ),
    recipe(
        "unspec_again_v4",
        "there, AF_UNSPEC, there again",
        Redirected,
        |s, _| unspec(s.v4(), s.v4()),
    ),
    recipe(
        "connect_twice_v4",
        "connect again while connected",
        Redirected,
        |s, _| twice(s.v4()),
    ),
    recipe(
        "source_bound_v4",
        "bound source address",
        Redirected,
        |s, _| from(SocketAddr::new(s.own4.into(), 0), s.v4()),
    ),
    recipe(
        "source_bound_v6",
        "bound source address",
        Redirected,
        |s, _| from(SocketAddr::new(s.own6.into(), 0), s.v6()),
    ),
    recipe("source_port_v4", "bound source port", Redirected, |s, _| {
        from(SocketAddr::new(s.own4.into(), 45_000), s.v4())
    }),
    recipe(
        "port_reuse_v4",
        "one source port, over and over",
        Redirected,
        |s, _| reuse(s),
    ),
    recipe(
        "bind_no_port_v4",
        "IP_BIND_ADDRESS_NO_PORT",
        Redirected,
        |s, _| {
            optioned(
                s.v4(),
                libc::IPPROTO_IP,
                libc::IP_BIND_ADDRESS_NO_PORT,
                &1_i32.to_ne_bytes(),
            )
        },
    ),
    recipe(
        "bind_to_device_v4",
        "SO_BINDTODEVICE",
        Redirected,
        |s, _| {
            optioned(
                s.v4(),
                libc::SOL_SOCKET,
                libc::SO_BINDTODEVICE,
                s.device.as_bytes(),
            )
        },
    ),
    recipe(
        "bind_to_device_v6",
        "SO_BINDTODEVICE",
        Redirected,
        |s, _| {
            optioned(
                s.v6(),
                libc::SOL_SOCKET,
                libc::SO_BINDTODEVICE,
                s.device.as_bytes(),
            )
        },
    ),
    recipe("unicast_if_v4", "IP_UNICAST_IF", Redirected, |s, _| {
        let index = nix::net::if_::if_nametoindex(s.device)?;
        optioned(
            s.v4(),
            libc::IPPROTO_IP,
            libc::IP_UNICAST_IF,
            &index.to_be_bytes(),
        )
    }),
    recipe("mark_v4", "SO_MARK", Redirected, |s, _| {
        optioned(
            s.v4(),
            libc::SOL_SOCKET,
            libc::SO_MARK,
            &7_i32.to_ne_bytes(),
        )
    }),
    recipe("dontroute_v4", "SO_DONTROUTE", Redirected, |s, _| {
        optioned(
            s.v4(),
            libc::SOL_SOCKET,
            libc::SO_DONTROUTE,
            &1_i32.to_ne_bytes(),
        )
    }),
    recipe(
        "transparent_v4",
        "IP_TRANSPARENT, own address",
        Redirected,
        |s, _| {
            optioned(
                s.v4(),
                libc::IPPROTO_IP,
                libc::IP_TRANSPARENT,
                &1_i32.to_ne_bytes(),
            )
        },
    ),
    recipe(
        "source_route_v4",
        "IP_OPTIONS with a loose route",
        ROUTED,
        source_route,
    ),
    recipe("fastopen_message_v4", "MSG_FASTOPEN", Redirected, |s, _| {
        fastopen(s.v4())
    }),
    recipe("fastopen_message_v6", "MSG_FASTOPEN", Redirected, |s, _| {
        fastopen(s.v6())
    }),
    recipe(
        "fastopen_message_mapped",
        "MSG_FASTOPEN",
        Redirected,
        |s, _| fastopen(s.mapped()),
    ),
    recipe(
        "fastopen_connect_v4",
        "TCP_FASTOPEN_CONNECT",
        Redirected,
        |s, _| fastopen_connect(s.v4()),
    ),
    recipe(
        "fastopen_connect_v6",
        "TCP_FASTOPEN_CONNECT",
        Redirected,
        |s, _| fastopen_connect(s.v6()),
    ),
    recipe("mptcp_v4", "IPPROTO_MPTCP", Redirected, |s, _| {
        by_protocol(s.v4(), MPTCP)
    }),
    recipe("mptcp_v6", "IPPROTO_MPTCP", Redirected, |s, _| {
        by_protocol(s.v6(), MPTCP)
    }),
    recipe("mptcp_mapped", "IPPROTO_MPTCP", Redirected, |s, _| {
        by_protocol(s.mapped(), MPTCP)
    }),
    recipe("smc_v4", "AF_SMC over TCP", Redirected, |s, _| {
        let socket = calls::socket(43, libc::SOCK_STREAM, 0)?;
        connected(socket, s.v4())
    }),
    recipe("sctp_v4", "IPPROTO_SCTP", Refused(&["protocol"]), |s, _| {
        by_protocol(s.v4(), 132)
    }),
    recipe("dccp_v4", "IPPROTO_DCCP", Refused(&["protocol"]), |s, _| {
        let socket = calls::socket(libc::AF_INET, 6, 33)?;
        connected(socket, s.v4())
    }),
    recipe("ia32_v4", "int 0x80", Redirected, |s, _| ia32(s.v4())),
    recipe("ia32_v6", "int 0x80", Redirected, |s, _| ia32(s.v6())),
    recipe("x32_v4", "the x32 call table", Redirected, |s, _| {
        let socket = stream_socket(s.v4())?;
        calls::connect_numbered(0x4000_0000 | libc::SYS_connect, &socket, &Addr::of(s.v4()))?;
        exchange(socket)
    }),
    recipe(
        "uring_connect_v4",
        "IORING_OP_CONNECT",
        Redirected,
        |s, _| uring_connect(s.v4(), 0),
    ),
    recipe(
        "uring_connect_v6",
        "IORING_OP_CONNECT",
        Redirected,
        |s, _| uring_connect(s.v6(), 0),
    ),
    recipe(
        "uring_socket_v4",
        "IORING_OP_SOCKET, then CONNECT",
        Redirected,
        |s, _| {
            let mut ring = uring::Ring::new(0)?;
            let socket = ring.socket(libc::AF_INET, libc::SOCK_STREAM)?;
            ring.connect(&socket, &Addr::of(s.v4()))?;
            exchange(socket)
        },
    ),
    recipe(
        "uring_sqpoll_v4",
        "IORING_SETUP_SQPOLL",
        Redirected,
        |s, _| uring_connect(s.v4(), uring::SQPOLL),
    ),
    recipe(
        "mptcp_fastopen_v4",
        "IPPROTO_MPTCP, MSG_FASTOPEN",
        Redirected,
        |s, _| mptcp_fastopen(s.v4()),
    ),
    recipe(
        "mptcp_fastopen_v6",
        "IPPROTO_MPTCP, MSG_FASTOPEN",
        Redirected,
        |s, _| mptcp_fastopen(s.v6()),
    ),
    recipe(
        "accepted_v4",
        "an accepted socket, dissolved and connected",
        Redirected,
        |s, _| accepted(s),
    ),
    recipe(
        "ulp_v4",
        "TCP_ULP before the connect",
        Redirected,
        |s, _| {
            let socket = stream_socket(s.v4())?;
            // Refused before a connect; what matters is what the socket does then.
            let _refused = calls::set(&socket, libc::IPPROTO_TCP, libc::TCP_ULP, b"tls");
            connected(socket, s.v4())
        },
    ),
    recipe(
        "repair_v4",
        "TCP_REPAIR, a connection out of nothing",
        Impossible,
        |s, _| {
            optioned(
                s.v4(),
                libc::IPPROTO_TCP,
                libc::TCP_REPAIR,
                &1_i32.to_ne_bytes(),
            )
        },
    ),
];

fn family(to: SocketAddr) -> i32 {
    if to.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    }
}

pub(super) fn stream_socket(to: SocketAddr) -> io::Result<OwnedFd> {
    let socket = calls::socket(family(to), libc::SOCK_STREAM, 0)?;
    timeouts(&socket)?;
    Ok(socket)
}

fn timeouts(socket: &OwnedFd) -> io::Result<()> {
    let mut time = [0; 16];
    time[8..].copy_from_slice(&(i64::from(WAIT_MS) * 1000).to_ne_bytes());
    calls::set(socket, libc::SOL_SOCKET, libc::SO_SNDTIMEO, &time)?;
    calls::set(socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &time)
}

/// Plain connect, and what the other side says.
///
/// # Errors
/// It was refused, or nobody answered.
pub fn reach(to: SocketAddr) -> io::Result<String> {
    connected(stream_socket(to)?, to)
}

pub(super) fn connected(socket: OwnedFd, to: SocketAddr) -> io::Result<String> {
    timeouts(&socket)?;
    calls::connect(&socket, &Addr::of(to))?;
    exchange(socket)
}

/// Reads the greeting, sends something, and says what `getpeername` says.
///
/// # Errors
/// Nobody answered.
pub fn exchange(socket: OwnedFd) -> io::Result<String> {
    timeouts(&socket)?;
    let peer = calls::name_of(&socket, true);
    let own = calls::name_of(&socket, false)?;
    let mut stream = TcpStream::from(socket);
    let mut bytes = [0; 256];
    let count = stream.read(&mut bytes)?;
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // A far end that has said all it had to say may be gone.
    let _gone = io::Write::write_all(&mut stream, b"data");
    let text = String::from_utf8_lossy(bytes.get(..count).unwrap_or_default()).into_owned();
    let peer = peer.map_or_else(|error| error.to_string(), |peer| peer.to_string());
    Ok(format!("{} self={} peer={peer}", text.trim(), own.ip()))
}

fn nonblocking(to: SocketAddr) -> io::Result<String> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK;
    let socket = calls::socket(family(to), kind, 0)?;
    match calls::connect(&socket, &Addr::of(to)) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        other => other?,
    }
    finish(socket)
}

/// Waits for a connect under way, and for the greeting.
fn finish(socket: OwnedFd) -> io::Result<String> {
    ready(&socket, PollFlags::POLLOUT)?;
    ready(&socket, PollFlags::POLLIN)?;
    exchange(socket)
}

fn ready(socket: &OwnedFd, flags: PollFlags) -> io::Result<()> {
    let mut fds = [PollFd::new(socket.as_fd(), flags)];
    if poll(&mut fds, PollTimeout::from(WAIT_MS))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(())
}

fn thread(to: SocketAddr) -> io::Result<String> {
    let thread = std::thread::spawn(move || reach(to));
    thread.join().map_err(|_| io::Error::other("panicked"))?
}

/// Another process does the attempt of that name with our arguments.
fn attempt(name: &str) -> io::Result<Command> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    for (at, value) in ["attack", name].into_iter().enumerate() {
        *arguments.get_mut(at).ok_or(io::ErrorKind::InvalidInput)? = value.to_owned();
    }
    let mut command = Command::new("/proc/self/exe");
    command.args(arguments).stderr(Stdio::inherit());
    Ok(command)
}

fn child(name: &str) -> io::Result<String> {
    let output = attempt(name)?.output()?;
    answered(&output.stdout)
}

fn answered(output: &[u8]) -> io::Result<String> {
    let text = String::from_utf8_lossy(output);
    match text.trim().strip_prefix("said ") {
        Some(said) => Ok(said.to_owned()),
        None => {
            let number = text.split(' ').nth(1).and_then(|word| word.parse().ok());
            Err(number.map_or_else(
                || io::Error::other(text.trim().to_owned()),
                io::Error::from_raw_os_error,
            ))
        }
    }
}

/// The parent ends at once, so that init adopts whoever connects.
fn orphan(name: &str) -> io::Result<String> {
    let mut middle = Command::new("sh");
    middle.args(["-c", "\"$@\" & exit 0", "sh"]);
    let inner = attempt(name)?;
    middle.arg(std::env::current_exe()?).args(inner.get_args());
    answered(&middle.output()?.stdout)
}

fn unspec(first: SocketAddr, then: SocketAddr) -> io::Result<String> {
    let socket = stream_socket(then)?;
    calls::connect(&socket, &Addr::of(first))?;
    calls::connect(&socket, &Addr::unspecified())?;
    connected(socket, then)
}

fn twice(to: SocketAddr) -> io::Result<String> {
    let socket = stream_socket(to)?;
    calls::connect(&socket, &Addr::of(to))?;
    match calls::connect(&socket, &Addr::of(to)) {
        Err(error) if error.raw_os_error() == Some(libc::EISCONN) => exchange(socket),
        other => Err(io::Error::other(format!("the second connect: {other:?}"))),
    }
}

fn from(source: SocketAddr, to: SocketAddr) -> io::Result<String> {
    let socket = stream_socket(to)?;
    calls::set_int(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    calls::bind(&socket, &Addr::of(source))?;
    connected(socket, to)
}

/// Connects, resets and connects again from one port, alternating with an open destination.
fn reuse(scene: &Scene) -> io::Result<String> {
    let source = SocketAddr::new(scene.own4.into(), 45_100);
    let mut said = Err(io::ErrorKind::NotFound.into());
    for round in 0..40 {
        let to = if round % 2 == 0 {
            scene.open4()
        } else {
            scene.v4()
        };
        let socket = stream_socket(to)?;
        calls::set_int(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        // Zero linger: a reset, which frees the port at once.
        let linger = [1_i32.to_ne_bytes(), 0_i32.to_ne_bytes()].concat();
        calls::set(&socket, libc::SOL_SOCKET, libc::SO_LINGER, &linger)?;
        calls::bind(&socket, &Addr::of(source))?;
        let answer = connected(socket, to);
        if to == scene.v4() {
            let answer = match answer {
                // The other side had not seen the reset yet: TCP asks again later than we wait.
                Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => continue,
                answer => answer?,
            };
            if let Ok(before) = &said
                && before != &answer
            {
                return Err(io::Error::other(format!("{before} became {answer}")));
            }
            said = Ok(answer);
        }
    }
    said
}

fn optioned(to: SocketAddr, level: i32, name: i32, value: &[u8]) -> io::Result<String> {
    let socket = stream_socket(to)?;
    calls::set(&socket, level, name, value)?;
    connected(socket, to)
}

/// The wire carries the server's open address, and where to go from there as an option.
fn source_route(scene: &Scene, _: Carry) -> io::Result<String> {
    let mut option = vec![1, 131, 7, 4];
    option.extend(OPEN4.octets());
    optioned(scene.v4(), libc::IPPROTO_IP, libc::IP_OPTIONS, &option)
}

fn fastopen(to: SocketAddr) -> io::Result<String> {
    let socket = stream_socket(to)?;
    calls::send_to(&socket, b"early", libc::MSG_FASTOPEN, &Addr::of(to))?;
    exchange(socket)
}

fn mptcp_fastopen(to: SocketAddr) -> io::Result<String> {
    let socket = calls::socket(family(to), libc::SOCK_STREAM, MPTCP)?;
    timeouts(&socket)?;
    calls::send_to(&socket, b"early", libc::MSG_FASTOPEN, &Addr::of(to))?;
    exchange(socket)
}

/// A socket that came out of a listener of the workload's own.
fn accepted(scene: &Scene) -> io::Result<String> {
    // Its local address stays: loopback could not leave the host.
    let listener = std::net::TcpListener::bind((scene.own4, 0))?;
    let _client = TcpStream::connect(listener.local_addr()?)?;
    let socket = OwnedFd::from(listener.accept()?.0);
    calls::connect(&socket, &Addr::unspecified())?;
    connected(socket, scene.v4())
}

fn fastopen_connect(to: SocketAddr) -> io::Result<String> {
    let socket = stream_socket(to)?;
    calls::set_int(&socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, 1)?;
    calls::connect(&socket, &Addr::of(to))?;
    nix::unistd::write(&socket, b"early")?;
    exchange(socket)
}

fn by_protocol(to: SocketAddr, protocol: i32) -> io::Result<String> {
    let socket = calls::socket(family(to), libc::SOCK_STREAM, protocol)?;
    connected(socket, to)
}

#[cfg(target_arch = "x86_64")]
fn ia32(to: SocketAddr) -> io::Result<String> {
    let socket = stream_socket(to)?;
    calls::connect_ia32(&socket, &Addr::of(to))?;
    exchange(socket)
}

#[cfg(not(target_arch = "x86_64"))]
fn ia32(_: SocketAddr) -> io::Result<String> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

fn uring_connect(to: SocketAddr, flags: u32) -> io::Result<String> {
    let socket = stream_socket(to)?;
    let mut ring = uring::Ring::new(flags)?;
    ring.connect(&socket, &Addr::of(to))?;
    exchange(socket)
}

/// Begins a connect and waits a moment for it; the socket comes back either way.
pub(super) fn begin(to: SocketAddr) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK;
    let socket = calls::socket(family(to), kind, 0)?;
    match calls::connect(&socket, &Addr::of(to)) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        other => other?,
    }
    // Under Weir it never completes.
    let _late = ready(&socket, PollFlags::POLLOUT);
    Ok(socket)
}

/// Uses a socket that somebody else connected.
pub(super) fn use_connected(socket: OwnedFd) -> io::Result<String> {
    finish(socket)
}
