//! A small authoritative DNS server: addresses of names, as the test says.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

/// Time to live of every answer, seconds.
const TTL_S: u32 = 1;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const NO_SUCH_NAME: u8 = 3;

type Zone = BTreeMap<String, Vec<IpAddr>>;

/// Answers until the process ends.
#[derive(Clone, Default)]
pub struct Dns(Arc<Mutex<Zone>>);

impl Dns {
    /// # Errors
    /// The address is taken.
    pub fn start(at: SocketAddr) -> io::Result<Self> {
        let dns = Self::default();
        let socket = UdpSocket::bind(at)?;
        let zone = Arc::clone(&dns.0);
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((count, from)) = socket.recv_from(&mut question) {
                let zone = zone.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(answer) = answer(question.get(..count).unwrap_or_default(), &zone) {
                    // A resolver that is gone asks no more.
                    let _gone = socket.send_to(&answer, from);
                }
            }
        });
        Ok(dns)
    }

    /// From here on the name has these addresses, and no others.
    pub fn set(&self, name: &str, addresses: &[IpAddr]) {
        let mut zone = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        zone.insert(name.to_owned(), addresses.to_vec());
    }
}

/// RFC 1035, section 4: the question comes back with its answers; names are those of the question.
fn answer(question: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*question.get(at)?);
        if length == 0 {
            break;
        }
        let label = question.get(at + 1..at + 1 + length)?;
        labels.push(String::from_utf8_lossy(label).to_lowercase());
        at += 1 + length;
    }
    let kind = u16::from_be_bytes(question.get(at + 1..at + 3)?.try_into().ok()?);
    let known = zone.get(&labels.join("."));
    let mut data: Vec<Vec<u8>> = Vec::new();
    for address in known.into_iter().flatten() {
        match (address, kind) {
            (IpAddr::V4(address), TYPE_A) => data.push(address.octets().to_vec()),
            (IpAddr::V6(address), TYPE_AAAA) => data.push(address.octets().to_vec()),
            (IpAddr::V4(_) | IpAddr::V6(_), _) => {}
        }
    }
    let code = if known.is_some() { 0 } else { NO_SUCH_NAME };
    let mut reply = question.get(..2)?.to_vec();
    // A reply, authoritative; one question, no authority, nothing additional.
    reply.extend([0x84, code, 0, 1]);
    reply.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
    reply.extend([0, 0, 0, 0]);
    reply.extend(question.get(12..at + 5)?);
    for bytes in data {
        // The name of the question, by pointer.
        reply.extend([0xc0, 12]);
        reply.extend(kind.to_be_bytes());
        reply.extend(1_u16.to_be_bytes());
        reply.extend(TTL_S.to_be_bytes());
        reply.extend(u16::try_from(bytes.len()).ok()?.to_be_bytes());
        reply.extend(bytes);
    }
    Some(reply)
}
