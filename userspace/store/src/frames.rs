//! ClickHouse's compressed frames, as clients send them with `decompress=1`.
//!
//! checksum(16) method(1) compressed size incl. these 9 bytes (u32) raw size (u32) payload; the
//! checksum is CityHash128 1.0.2 over all that follows it. Source: ClickHouse "Compression"
//! (`CompressedReadBufferBase`).

use bytes::{Buf, Bytes, BytesMut};

/// Largest frame, on the wire and unpacked.
pub(crate) const FRAME_BYTES_MAX: usize = 256 * 1024 * 1024;
const HEAD: usize = 16 + 9;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a compressed frame is larger than 256 MiB")]
    TooLarge,
    #[error("a compressed frame has impossible sizes")]
    Sizes,
    #[error("a compressed frame has a wrong checksum")]
    Checksum,
    #[error("a compressed frame has an unknown method")]
    Method,
    #[error("a compressed frame does not unpack to its stated size")]
    Payload,
    #[error("the compressed body ends within a frame: {0} bytes are left over")]
    Truncated(usize),
}

/// Collects pieces of a body and gives whole frames' contents.
#[derive(Default)]
pub(crate) struct Frames(BytesMut);

impl Frames {
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    /// The next frame's contents; `None` until all of it is there.
    ///
    /// # Errors
    /// See [`FrameError`]; nothing after it can be read.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(mut head) = self.0.get(..HEAD) else {
            return Ok(None);
        };
        let checksum = (head.get_u64_le(), head.get_u64_le());
        let method = head.get_u8();
        let packed = head.get_u32_le() as usize;
        let raw = head.get_u32_le() as usize;
        if packed > FRAME_BYTES_MAX || raw > FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge);
        }
        if packed < 9 {
            return Err(FrameError::Sizes);
        }
        if self.0.len() < 16 + packed {
            return Ok(None);
        }
        let frame = self.0.split_to(16 + packed).freeze();
        let hash = cityhash_rs::cityhash_102_128(frame.get(16..).unwrap_or(&[]));
        if checksum != ((hash >> 64) as u64, hash as u64) {
            return Err(FrameError::Checksum);
        }
        unpack(method, frame.slice(HEAD..), raw).map(Some)
    }

    /// # Errors
    /// [`FrameError::Truncated`] when bytes are left over.
    pub(crate) fn end(&self) -> Result<(), FrameError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(FrameError::Truncated(self.0.len()))
        }
    }
}

fn unpack(method: u8, payload: Bytes, raw: usize) -> Result<Bytes, FrameError> {
    let out = match method {
        0x02 => payload,
        0x82 => lz4_flex::block::decompress(&payload, raw)
            .map_err(|_| FrameError::Payload)?
            .into(),
        0x90 => zstd::bulk::decompress(&payload, raw)
            .map_err(|_| FrameError::Payload)?
            .into(),
        _ => return Err(FrameError::Method),
    };
    if out.len() == raw {
        Ok(out)
    } else {
        Err(FrameError::Payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(method: u8, payload: &[u8], raw: u32) -> Vec<u8> {
        let mut body = vec![method];
        body.extend_from_slice(&(payload.len() as u32 + 9).to_le_bytes());
        body.extend_from_slice(&raw.to_le_bytes());
        body.extend_from_slice(payload);
        let hash = cityhash_rs::cityhash_102_128(&body);
        let mut out = ((hash >> 64) as u64).to_le_bytes().to_vec();
        out.extend_from_slice(&(hash as u64).to_le_bytes());
        out.extend_from_slice(&body);
        out
    }

    fn lz4(text: &[u8]) -> Vec<u8> {
        frame(0x82, &lz4_flex::block::compress(text), text.len() as u32)
    }

    #[test]
    fn frames_are_read_from_pieces_of_any_size() {
        let text = b"facts ".repeat(1000);
        let wire = [lz4(&text), frame(0x02, b"plain", 5)].concat();
        for piece in [1, 7, 4096, wire.len()] {
            let mut frames = Frames::default();
            let mut got = Vec::new();
            for part in wire.chunks(piece) {
                frames.push(part);
                while let Some(out) = frames.next().unwrap() {
                    got.extend_from_slice(&out);
                }
            }
            frames.end().unwrap();
            assert_eq!(got, [text.as_slice(), b"plain"].concat());
        }
    }

    #[test]
    fn a_truncated_body_is_an_error_at_every_length() {
        let wire = lz4(&b"facts ".repeat(100));
        for length in 1..wire.len() {
            let mut frames = Frames::default();
            frames.push(&wire[..length]);
            assert_eq!(frames.next(), Ok(None));
            assert_eq!(frames.end(), Err(FrameError::Truncated(length)));
        }
    }

    #[test]
    fn every_flipped_byte_is_refused() {
        let wire = lz4(&b"facts ".repeat(100));
        for at in 0..wire.len() {
            let mut bad = wire.clone();
            bad[at] ^= 1;
            let mut frames = Frames::default();
            frames.push(&bad);
            let read = frames.next();
            assert!(!matches!(read, Ok(Some(_))), "byte {at}");
            assert!(read.is_err() || frames.end().is_err(), "byte {at}");
        }
    }

    #[test]
    fn short_and_huge_sizes_are_refused() {
        let mut small = Frames::default();
        small.push(&[0; 64]);
        assert_eq!(small.next(), Err(FrameError::Sizes));
        let mut huge = Frames::default();
        huge.push(&[0xff; 64]);
        assert_eq!(huge.next(), Err(FrameError::TooLarge));
    }
}
