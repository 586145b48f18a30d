//! SPDY/3.1 as kubectl speaks it: streams opened by the client, no flow control, headers compressed with
//! the protocol's own dictionary (`spdy3.dictionary`, from the SPDY/3 draft).

use std::collections::BTreeMap;

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf};
use tokio::sync::mpsc;

use super::Session;

const DICTIONARY: &[u8] = include_bytes!("spdy3.dictionary");
/// Payload of one frame, at most.
const MAX_FRAME: usize = 1024 * 1024;
/// A block of headers after decompression, at most.
const MAX_HEADERS: usize = 64 * 1024;
/// Streams of one connection that are open at a time.
const MAX_STREAMS: usize = 1000;
const FIN: u8 = 1;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

/// Frames on their way to the client.
#[derive(Clone)]
pub(crate) struct Frames(mpsc::Sender<Vec<u8>>);

impl Frames {
    /// Data of a stream; `false` when the client has left.
    pub(crate) async fn data(&self, stream: u32, fin: bool, data: &[u8]) -> bool {
        let mut frame = stream.to_be_bytes().to_vec();
        frame.extend_from_slice(&head(u8::from(fin), data.len()));
        frame.extend_from_slice(data);
        self.0.send(frame).await.is_ok()
    }

    async fn control(&self, kind: u16, body: &[u8]) -> bool {
        let mut frame = (0x8003_0000 | u32::from(kind)).to_be_bytes().to_vec();
        frame.extend_from_slice(&head(0, body.len()));
        frame.extend_from_slice(body);
        self.0.send(frame).await.is_ok()
    }
}

fn head(flags: u8, length: usize) -> [u8; 4] {
    let length = u32::try_from(length).unwrap_or_default() & 0x00ff_ffff;
    (u32::from(flags) << 24 | length).to_be_bytes()
}

/// A stream that the client has opened.
pub(crate) struct Opened {
    pub(crate) id: u32,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) input: mpsc::Receiver<Bytes>,
}

/// Serves one connection until either side has ended it.
pub(crate) async fn run<S: AsyncRead + AsyncWrite + Send + 'static>(io: S, session: Session) {
    let (reader, mut writer) = tokio::io::split(io);
    let (sender, mut frames) = mpsc::channel::<Vec<u8>>(16);
    let (opened, streams) = mpsc::channel(16);
    let out = Frames(sender);
    let serving = tokio::spawn(session.serve(streams, out.clone()));
    // A malformed frame ends the connection, as a real server does.
    let reading = tokio::spawn(async move { read(reader, opened, out).await.is_some() });
    while let Some(frame) = frames.recv().await {
        if writer.write_all(&frame).await.is_err() || writer.flush().await.is_err() {
            break;
        }
        if serving.is_finished() && frames.is_empty() {
            break;
        }
    }
    serving.abort();
    reading.abort();
    let _left = writer.shutdown().await;
}

async fn read<S: AsyncRead>(
    mut reader: ReadHalf<S>,
    opened: mpsc::Sender<Opened>,
    out: Frames,
) -> Option<()> {
    let mut inflate = Decompress::new(true);
    let mut deflate = Compress::new(Compression::default(), true);
    deflate.set_dictionary(DICTIONARY).ok()?;
    let mut inputs: BTreeMap<u32, mpsc::Sender<Bytes>> = BTreeMap::new();
    loop {
        let first = reader.read_u32().await.ok()?;
        let second = reader.read_u32().await.ok()?;
        let [flags, ..] = second.to_be_bytes();
        let length = usize::try_from(second & 0x00ff_ffff)
            .ok()
            .filter(|l| *l <= MAX_FRAME)?;
        let mut body = vec![0; length];
        reader.read_exact(&mut body).await.ok()?;
        let fin = flags & FIN != 0;
        if first & 0x8000_0000 == 0 {
            if let Some(input) = inputs.get(&first).filter(|_| !body.is_empty())
                && input.send(body.into()).await.is_err()
            {
                inputs.remove(&first);
            }
            if fin {
                inputs.remove(&first);
            }
            continue;
        }
        match u16::try_from(first & 0xffff).ok()? {
            SYN_STREAM => {
                let (fixed, block) = body.split_at_checked(10)?;
                let id = number(fixed)? & 0x7fff_ffff;
                let headers = pairs(&expand(&mut inflate, block)?)?;
                if inputs.len() >= MAX_STREAMS {
                    return None;
                }
                let (sender, input) = mpsc::channel(8);
                if !fin {
                    inputs.insert(id, sender);
                }
                let mut reply = id.to_be_bytes().to_vec();
                reply.extend_from_slice(&shrink(&mut deflate)?);
                if !out.control(SYN_REPLY, &reply).await {
                    return None;
                }
                opened.send(Opened { id, headers, input }).await.ok()?;
            }
            HEADERS => drop(expand(&mut inflate, body.get(4..)?)?),
            RST_STREAM => drop(inputs.remove(&number(&body)?)),
            PING if !out.control(PING, &body).await => return None,
            GOAWAY => return Some(()),
            _ => {}
        }
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.first_chunk()?))
}

fn expand(inflate: &mut Decompress, mut block: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(MAX_HEADERS);
    loop {
        let before = inflate.total_in();
        let end = inflate.decompress_vec(block, &mut out, FlushDecompress::Sync);
        let read = usize::try_from(inflate.total_in() - before).ok()?;
        block = block.get(read..)?;
        match end {
            Err(error) if error.needs_dictionary().is_some() => {
                inflate.set_dictionary(DICTIONARY).ok()?;
            }
            Err(_) => return None,
            Ok(_) if block.is_empty() => return Some(out),
            Ok(_) if read == 0 => return None,
            Ok(_) => {}
        }
    }
}

/// No headers at all, compressed.
fn shrink(deflate: &mut Compress) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(256);
    deflate
        .compress_vec(&0_u32.to_be_bytes(), &mut out, FlushCompress::Sync)
        .ok()?;
    Some(out)
}

fn pairs(mut block: &[u8]) -> Option<BTreeMap<String, String>> {
    let mut take = |length: usize| {
        let (head, rest) = block.split_at_checked(length)?;
        block = rest;
        Some(head)
    };
    let count = number(take(4)?)?;
    let mut text = || {
        let length = usize::try_from(number(take(4)?)?).ok()?;
        String::from_utf8(take(length)?.to_vec()).ok()
    };
    let mut all = BTreeMap::new();
    for _ in 0..count {
        all.insert(text()?.to_lowercase(), text()?);
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip_and_hostile_blocks_are_refused() {
        let mut deflate = Compress::new(Compression::default(), true);
        deflate.set_dictionary(DICTIONARY).unwrap();
        let block = shrink(&mut deflate).unwrap();
        let plain = expand(&mut Decompress::new(true), &block).unwrap();
        assert_eq!(pairs(&plain), Some(BTreeMap::new()));
        assert_eq!(expand(&mut Decompress::new(true), b"no zlib at all"), None);
        for hostile in [
            &[0, 0, 0, 1][..],
            &[0xff; 12],
            &[0, 0, 0, 1, 0, 0, 0, 9, b'x'],
            &[],
        ] {
            assert_eq!(pairs(hostile), None);
        }
    }
}
