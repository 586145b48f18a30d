//! The server's own view: every packet that reaches its namespace, by destination port.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use crate::calls;

/// Packets that hide their port: fragments, tunnels, unknown protocols.
pub const NO_PORT: u16 = 0;

/// What arrived, by destination port; ping and neighbour discovery are not counted.
#[derive(Clone, Default)]
pub struct Seen {
    ports: Arc<Mutex<BTreeMap<u16, u64>>>,
}

impl Seen {
    /// Packets to that port since the start.
    #[must_use]
    pub fn at(&self, port: u16) -> u64 {
        let ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        ports.get(&port).copied().unwrap_or(0)
    }

    /// Every port below 60000 with packets: the server's answers to others are not among them.
    #[must_use]
    pub fn all(&self) -> BTreeMap<u16, u64> {
        let ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        ports.clone()
    }

    fn add(&self, port: u16) {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        *ports.entry(port).or_default() += 1;
    }
}

/// A packet socket in the calling thread's namespace that hears every device.
///
/// # Errors
/// As `socket(2)`.
pub fn open() -> io::Result<OwnedFd> {
    let all = i32::from(0x0003_u16.to_be());
    let socket = calls::socket(libc::AF_PACKET, libc::SOCK_RAW, all)?;
    // A burst of retransmissions must not push out the packet that counts.
    calls::set_int(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 8 << 20)?;
    Ok(socket)
}

/// Counts until the process ends.
pub fn count(socket: OwnedFd, v4: Ipv4Addr, v6: Ipv6Addr) -> Seen {
    let seen = Seen::default();
    let counted = seen.clone();
    std::thread::spawn(move || {
        let mut frame = [0; 2048];
        let file = std::fs::File::from(socket);
        while let Ok(count) = io::Read::read(&mut &file, &mut frame) {
            let frame = frame.get(..count).unwrap_or_default();
            if let Some((to, port)) = destination(frame)
                && (to == IpAddr::V4(v4) || to == IpAddr::V6(v6))
            {
                counted.add(port);
            }
        }
    });
    seen
}

/// Destination of a frame; `None` for what carries no IP, and for ping.
fn destination(frame: &[u8]) -> Option<(IpAddr, u16)> {
    let mut at = 12;
    let mut kind = u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?);
    while kind == 0x8100 || kind == 0x88a8 {
        at += 4;
        kind = u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?);
    }
    let packet = frame.get(at + 2..)?;
    match packet.first()? >> 4 {
        4 => {
            let mut to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            let header = usize::from(packet[0] & 15) * 4;
            // A source route (after one unused byte): its last address is where the packet goes.
            if header > 20 && matches!(packet.get(20..22)?, [1, 131 | 137]) {
                to = packet.get(header - 4..header)?.try_into().ok()?;
            }
            let fragment = u16::from_be_bytes([packet[6], packet[7]]) & 0x1fff;
            let protocol = if fragment == 0 { packet[9] } else { 255 };
            port(protocol, packet.get(header..)?).map(|port| (IpAddr::from(to), port))
        }
        6 => {
            let mut to: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            let (mut next, mut rest) = (packet[6], packet.get(40..)?);
            while matches!(next, 0 | 43 | 60) {
                let bytes = (usize::from(*rest.get(1)?) + 1) * 8;
                if next == 43 {
                    // The first segment in the header is the last one travelled to.
                    to = rest.get(8..24)?.try_into().ok()?;
                }
                next = rest[0];
                rest = rest.get(bytes..)?;
            }
            port(next, rest).map(|port| (IpAddr::from(to), port))
        }
        _ => None,
    }
}

fn port(protocol: u8, transport: &[u8]) -> Option<u16> {
    match protocol {
        1 | 2 | 58 => None,
        6 | 17 | 33 | 132 | 136 => Some(u16::from_be_bytes(transport.get(2..4)?.try_into().ok()?)),
        _ => Some(NO_PORT),
    }
}
