//! WebSocket frames (RFC 6455) carrying `v4.channel.k8s.io` and `v5.channel.k8s.io`: the first byte of a
//! message is its channel; in v5, 255 followed by a channel closes that channel.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::exec::Plan;
use super::{Piece, STDIN};

/// Payload of one frame, at most.
const MAX_FRAME: u64 = 4 * 1024 * 1024;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const BINARY: u8 = 2;
/// A command starts no earlier, as on a real node: kubectl 1.32 drops what arrives before it has made
/// its streams ("Unknown stream id"), which it does after the upgrade.
const START_AFTER: Duration = Duration::from_millis(50);
/// Stands for a whole frame among the pieces: the pong that answers a ping.
const PONG_PIECE: u8 = 254;

/// `Sec-WebSocket-Accept` for a key.
pub(crate) fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    STANDARD.encode(hash.as_ref())
}

/// Runs the plan until the command has ended or the client has left.
pub(crate) async fn run<S: AsyncRead + AsyncWrite + Send + 'static>(io: S, plan: Plan) {
    let (reader, writer) = tokio::io::split(io);
    let (stdin, input) = mpsc::channel(8);
    let (output, pieces) = mpsc::channel(8);
    let pongs = output.clone();
    let reading = tokio::spawn(read(reader, stdin, pongs.downgrade()));
    drop(pongs);
    let running = tokio::spawn(async move {
        tokio::time::sleep(START_AFTER).await;
        plan.run(input, output).await;
    });
    write(writer, pieces).await;
    // The command may only run as long as somebody listens.
    running.abort();
    reading.abort();
}

/// Port-forwarding's SPDY connection inside binary messages.
pub(crate) async fn tunnel<S: AsyncRead + AsyncWrite + Send + 'static>(io: S) {
    let (mut reader, mut writer) = tokio::io::split(io);
    let (near, far) = tokio::io::duplex(64 * 1024);
    let inner = tokio::spawn(super::spdy::run(far, super::Session::Forward));
    let (mut from, mut to) = tokio::io::split(near);
    let reading = tokio::spawn(async move {
        while let Ok((_, opcode, payload)) = frame(&mut reader).await {
            let data = !matches!(opcode, CLOSE | PING | PONG);
            if opcode == CLOSE || (data && to.write_all(&payload).await.is_err()) {
                break;
            }
        }
        // The inner connection may have ended first.
        let _ended = to.shutdown().await;
    });
    let mut buffer = vec![0; 32 * 1024];
    while let Ok(count) = from.read(&mut buffer).await {
        let data = buffer.get(..count).unwrap_or_default();
        if data.is_empty() || put(&mut writer, BINARY, data).await.is_err() {
            break;
        }
    }
    reading.abort();
    inner.abort();
}

async fn read<R: AsyncRead + Unpin>(
    mut reader: R,
    stdin: mpsc::Sender<Bytes>,
    pongs: mpsc::WeakSender<Piece>,
) {
    let mut stdin = Some(stdin);
    let mut message = Vec::new();
    while let Ok((last, opcode, payload)) = frame(&mut reader).await {
        match opcode {
            CLOSE => return,
            PING => {
                let Some(sender) = pongs.upgrade() else {
                    return;
                };
                if sender.send((PONG_PIECE, payload.into())).await.is_err() {
                    return;
                }
                continue;
            }
            PONG => continue,
            _ => message.extend_from_slice(&payload),
        }
        if message.len() as u64 > MAX_FRAME {
            return;
        }
        if !last {
            continue;
        }
        let whole = std::mem::take(&mut message);
        match whole.split_first() {
            Some((&STDIN, data)) if !data.is_empty() => {
                if let Some(to) = &stdin
                    && to.send(Bytes::copy_from_slice(data)).await.is_err()
                {
                    // The command no longer reads; what the client writes is dropped, as by a real kubelet.
                    stdin = None;
                }
            }
            Some((&255, [STDIN])) => stdin = None,
            _ => {}
        }
    }
}

async fn frame<R: AsyncRead + Unpin>(reader: &mut R) -> std::io::Result<(bool, u8, Vec<u8>)> {
    let head = reader.read_u16().await?;
    let [first, second] = head.to_be_bytes();
    let length = match second & 0x7f {
        126 => u64::from(reader.read_u16().await?),
        127 => reader.read_u64().await?,
        short => u64::from(short),
    };
    if length > MAX_FRAME || second & 0x80 == 0 || first & 0x70 != 0 {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mask = reader.read_u32().await?.to_be_bytes();
    let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
    reader.read_exact(&mut payload).await?;
    for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    Ok((first & 0x80 != 0, first & 0x0f, payload))
}

async fn write<W: AsyncWrite + Unpin>(mut writer: W, mut pieces: mpsc::Receiver<Piece>) {
    while let Some((channel, data)) = pieces.recv().await {
        let sent = if channel == PONG_PIECE {
            put(&mut writer, PONG, &data).await
        } else {
            let mut message = vec![channel];
            message.extend_from_slice(&data);
            put(&mut writer, BINARY, &message).await
        };
        if sent.is_err() {
            return;
        }
    }
    // The client may have closed first.
    let _left = put(&mut writer, CLOSE, &1000_u16.to_be_bytes()).await;
    let _left = writer.shutdown().await;
}

async fn put<W: AsyncWrite + Unpin>(
    writer: &mut W,
    opcode: u8,
    data: &[u8],
) -> std::io::Result<()> {
    let mut head = vec![0x80 | opcode];
    match (u8::try_from(data.len()), u16::try_from(data.len())) {
        (Ok(length), _) if length < 126 => head.push(length),
        (_, Ok(length)) => {
            head.push(126);
            head.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            head.push(127);
            head.extend_from_slice(&(data.len() as u64).to_be_bytes());
        }
    }
    writer.write_all(&head).await?;
    writer.write_all(data).await?;
    writer.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_of_the_rfc() {
        assert_eq!(
            accept("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[tokio::test]
    async fn hostile_frames_are_errors() {
        for bytes in [
            &[0x82, 0x01, 0x00][..],
            &[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x82],
            &[0xf2, 0x80, 0, 0, 0, 0],
        ] {
            frame(&mut &*bytes).await.unwrap_err();
        }
    }
}
