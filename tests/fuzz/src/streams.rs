//! SPDY, WebSocket and channels of Kubernetes; packets of SFTP.

use weir_kubernetes::stream::{Codec, Keys, Protocol, Side};

const PROTOCOLS: [Protocol; 6] = [
    Protocol::RemoteV5,
    Protocol::RemoteV4,
    Protocol::RemoteSpdy,
    Protocol::ForwardTunnel,
    Protocol::ForwardPlain,
    Protocol::ForwardSpdy,
];

/// Two bytes choose the protocol and how it is cut; what was decoded is encoded again.
pub(crate) fn codec(data: &[u8]) {
    let Some(([protocol, cut], bytes)) = data.split_first_chunk::<2>() else {
        return;
    };
    let protocol = PROTOCOLS[usize::from(*protocol) % PROTOCOLS.len()];
    let keys = || -> Keys { Box::new(|| [1, 2, 3, 4]) };
    let (Ok(mut reader), Ok(mut writer)) = (
        Codec::new(protocol, &[80], keys()),
        Codec::new(protocol, &[80], keys()),
    ) else {
        panic!("no codec");
    };
    for (at, chunk) in bytes.chunks(usize::from(*cut).max(1)).enumerate() {
        let side = if at % 2 == 0 { Side::Agent } else { Side::Server };
        let mut events = Vec::new();
        let read = reader.receive(side, chunk, &mut events);
        let mut out = Vec::new();
        for event in &events {
            let _sent = writer.send(side, event, &mut out);
        }
        if read.is_err() {
            return;
        }
    }
}

pub(crate) fn sftp(data: &[u8]) {
    let mut packets = crate::sftp::Packets::default();
    packets.push(data);
    while let Ok(Some(packet)) = packets.next() {
        let _asked = crate::sftp::asked(&packet);
        let _answer = crate::sftp::answer(&packet);
    }
}
