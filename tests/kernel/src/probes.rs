//! Small things done inside a workload that are no attempts to get around: what must still work,
//! and what must be refused with a plain answer.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::calls::{self, Addr};
use crate::recipes::{exchange, reach};

/// Does one of them; what it says is for the test that asked.
///
/// # Errors
/// It was refused, or there is no such probe.
pub fn run(kind: &str, to: SocketAddr, other: Option<SocketAddr>) -> io::Result<String> {
    let other = other.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput));
    match kind {
        "reach" => reach(to),
        "reach_from" => from(other?, to),
        "bind" => bind(to, None),
        "bind_reuse_port" => bind(to, Some(libc::SO_REUSEPORT)),
        "bind_reuse_address" => bind(to, Some(libc::SO_REUSEADDR)),
        "forge" => forge(to, other?),
        "back" => back(to, other?),
        "udp" => {
            let any: SocketAddr = if to.is_ipv4() {
                ([0, 0, 0, 0], 0).into()
            } else {
                ([0_u16; 8], 0).into()
            };
            UdpSocket::bind(any)?.send_to(b"data", to)?;
            Ok("sent".to_owned())
        }
        "hold" => hold(to),
        "serve" => serve(to),
        "raw" => {
            drop(calls::socket(
                libc::AF_INET,
                libc::SOCK_RAW,
                libc::IPPROTO_TCP,
            )?);
            Ok("made".to_owned())
        }
        "ping" => ping(to),
        "filter" => filter(to),
        "loop" => Ok(repeat(to)),
        "mixed" => Ok(mixed(to)),
        "queue" => queue(to),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// 1,000 connects: served, given up while under way, left at once, and datagrams that are refused.
fn mixed(to: SocketAddr) -> String {
    let (mut served, mut left, mut failed, mut refused) = (0, 0, 0, 0);
    for round in 0..1000 {
        let outcome = match round % 4 {
            0 => reach(to).map(|said| served += u32::from(said.starts_with("weir"))),
            1 => give_up(to).map(|()| left += 1),
            2 => leave(to).map(|()| left += 1),
            _ => {
                let any: SocketAddr = ([0, 0, 0, 0], 0).into();
                let sent = UdpSocket::bind(any).and_then(|socket| socket.send_to(b"data", to));
                refused += u32::from(sent.is_err());
                Ok(())
            }
        };
        failed += u32::from(outcome.is_err());
    }
    format!("served={served} left={left} failed={failed} refused={refused}")
}

/// A connect that is reset before anybody waits for it.
fn give_up(to: SocketAddr) -> io::Result<()> {
    let socket = calls::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0)?;
    let linger = [1_i32.to_ne_bytes(), 0_i32.to_ne_bytes()].concat();
    calls::set(&socket, libc::SOL_SOCKET, libc::SO_LINGER, &linger)?;
    match calls::connect(&socket, &Addr::of(to)) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(()),
    }
}

fn leave(to: SocketAddr) -> io::Result<()> {
    calls::connect(&stream(to)?, &Addr::of(to)).map(drop)
}

/// Connections that stay until standard input ends.
fn queue(to: SocketAddr) -> io::Result<String> {
    crate::roles::say("STARTED");
    io::stdin().read_line(&mut String::new())?;
    let mut kept = Vec::new();
    for _ in 0..5 {
        let socket = stream(to)?;
        calls::connect(&socket, &Addr::of(to))?;
        kept.push(socket);
    }
    crate::roles::say("QUEUED");
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(format!("kept {}", kept.len()))
}

fn stream(to: SocketAddr) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    calls::socket(family, libc::SOCK_STREAM, 0)
}

fn from(source: SocketAddr, to: SocketAddr) -> io::Result<String> {
    let socket = stream(to)?;
    calls::set_int(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    calls::bind(&socket, &Addr::of(source))?;
    calls::connect(&socket, &Addr::of(to))?;
    exchange(socket)
}

fn bind(to: SocketAddr, option: Option<i32>) -> io::Result<String> {
    let socket = stream(to)?;
    if let Some(option) = option {
        calls::set_int(&socket, libc::SOL_SOCKET, option, 1)?;
    }
    calls::bind(&socket, &Addr::of(to))?;
    calls::listen(&socket)?;
    Ok("listening".to_owned())
}

/// Leaves an abandoned flow of one source port behind, then goes straight to the listener from it.
fn forge(listener: SocketAddr, protected: SocketAddr) -> io::Result<String> {
    let mut said = Err(io::ErrorKind::NotFound.into());
    for round in 0..50_u16 {
        let first = calls::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0)?;
        let linger = [1_i32.to_ne_bytes(), 0_i32.to_ne_bytes()].concat();
        calls::set(&first, libc::SOL_SOCKET, libc::SO_LINGER, &linger)?;
        calls::set_int(&first, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
        let own: SocketAddr = ([10, 99, 0, 21], 47_000 + round).into();
        calls::bind(&first, &Addr::of(own))?;
        // Under way or done: both leave something.
        let _begun = calls::connect(&first, &Addr::of(protected));
        drop(first);
        said = from(own, listener);
        if said.is_ok() {
            return said;
        }
    }
    said
}

/// To a protected place, and with the same socket to an open one: the name has to follow.
fn back(protected: SocketAddr, open: SocketAddr) -> io::Result<String> {
    let socket = stream(protected)?;
    calls::connect(&socket, &Addr::of(protected))?;
    calls::connect(&socket, &Addr::unspecified())?;
    calls::connect(&socket, &Addr::of(open))?;
    exchange(socket)
}

/// A connection that is older than whatever its parent does before it closes standard input.
fn hold(to: SocketAddr) -> io::Result<String> {
    let socket = stream(to)?;
    calls::connect(&socket, &Addr::of(to))?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    let written = nix::unistd::write(&socket, b"late data")?;
    Ok(format!("wrote {written}"))
}

/// Greets one client, as a service of the workload's own; ends when its parent says so.
fn serve(at: SocketAddr) -> io::Result<String> {
    let listener = std::net::TcpListener::bind(at)?;
    let (mut client, from) = listener.accept()?;
    io::Write::write_all(&mut client, b"service\n")?;
    drop(client);
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(format!("served {from}"))
}

/// One echo request by a raw ICMP socket, and its answer.
fn ping(to: SocketAddr) -> io::Result<String> {
    let socket = calls::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)?;
    let mut time = [0; 16];
    time[0] = 1;
    calls::set(&socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &time)?;
    // Type 8; the checksum of an otherwise zero message is the complement of its first word.
    let request = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    calls::send_to(&socket, &request, 0, &Addr::of(to))?;
    let mut answer = [0; 128];
    let count = nix::unistd::read(&socket, &mut answer)?;
    match answer.get(..count).and_then(|packet| packet.get(20)) {
        Some(0) => Ok("answered".to_owned()),
        other => Err(io::Error::other(format!("{other:?}"))),
    }
}

/// An option larger than a page, which programs on options can spoil.
fn filter(to: SocketAddr) -> io::Result<String> {
    let socket = stream(to)?;
    calls::set(&socket, libc::IPPROTO_TCP, libc::TCP_CONGESTION, b"reno")?;
    // Longer than any option: taken by its start, as without Weir.
    let long = [1_i32.to_ne_bytes().as_slice(), &vec![0; 8192]].concat();
    calls::set(&socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, &long)?;
    calls::connect(&socket, &Addr::of(to))?;
    exchange(socket)
}

/// Longer than any use of it, on an emulated machine too.
const REPEAT_MAX: Duration = Duration::from_secs(300);

/// Connects without a pause until its parent closes standard input.
fn repeat(to: SocketAddr) -> String {
    let stop = std::thread::spawn(|| io::copy(&mut io::stdin(), &mut io::sink()));
    let limit = Instant::now() + REPEAT_MAX;
    let (mut weir, mut refused, mut server, mut other) = (0, 0, 0, 0);
    while !stop.is_finished() && Instant::now() < limit {
        match reach(to) {
            Ok(text) if text.starts_with("weir") => weir += 1,
            Ok(_) => server += 1,
            Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) => refused += 1,
            Err(_) => other += 1,
        }
    }
    format!("weir={weir} refused={refused} server={server} other={other}")
}
