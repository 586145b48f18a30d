//! Header blocks of SPDY/3.1: names and values behind zlib, whose state lasts a connection.
//!
//! Source: draft-mbelshe-httpbis-spdy-00, 2.6.10. The dictionary is that of SPDY/3, which 3.1 kept.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::Broken;

const DICTIONARY: &[u8] = include_bytes!("spdy3.dictionary");
/// Of a block after decompression.
const BLOCK_BYTES_MAX: usize = 64 * 1024;
/// Names in a block.
const HEADERS_MAX: u32 = 64;

/// Reads the blocks of one direction.
#[derive(Debug)]
pub(crate) struct Reader {
    inflate: Decompress,
    out: Vec<u8>,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self {
            inflate: Decompress::new(true),
            out: Vec::new(),
        }
    }

    /// Names in lower case, and values.
    pub(crate) fn read(&mut self, block: &[u8]) -> Result<Vec<(String, String)>, Broken> {
        self.expand(block)?;
        let pairs = pairs(&self.out);
        self.out = Vec::new();
        pairs.ok_or(Broken("a header block of SPDY cannot be read"))
    }

    fn expand(&mut self, mut block: &[u8]) -> Result<(), Broken> {
        const UNREADABLE: Broken = Broken("a header block of SPDY cannot be decompressed");
        self.out.reserve_exact(BLOCK_BYTES_MAX);
        loop {
            let before = self.inflate.total_in();
            let end = self
                .inflate
                .decompress_vec(block, &mut self.out, FlushDecompress::Sync);
            let read = usize::try_from(self.inflate.total_in() - before).unwrap_or(usize::MAX);
            block = block.get(read..).ok_or(UNREADABLE)?;
            // A full buffer may have more behind it.
            if self.out.len() >= BLOCK_BYTES_MAX {
                return Err(Broken("a header block of SPDY is too large"));
            }
            match end {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.inflate
                        .set_dictionary(DICTIONARY)
                        .map_err(|_| UNREADABLE)?;
                }
                Err(_) => return Err(UNREADABLE),
                Ok(_) if block.is_empty() => return Ok(()),
                Ok(_) if read == 0 => return Err(UNREADABLE),
                Ok(_) => {}
            }
        }
    }
}

/// Writes the blocks of one direction.
#[derive(Debug)]
pub(crate) struct Writer(Compress);

impl Writer {
    pub(crate) fn new() -> Result<Self, Broken> {
        let mut deflate = Compress::new(Compression::default(), true);
        deflate
            .set_dictionary(DICTIONARY)
            .map_err(|_| Broken("SPDY's dictionary is not taken"))?;
        Ok(Self(deflate))
    }

    pub(crate) fn write(&mut self, headers: &[(&str, &str)]) -> Result<Vec<u8>, Broken> {
        const TOO_LARGE: Broken = Broken("a header block of SPDY cannot be written");
        let mut plain = Vec::new();
        let number = |length: usize| u32::try_from(length).map(u32::to_be_bytes);
        let count = number(headers.len()).map_err(|_| TOO_LARGE)?;
        plain.extend_from_slice(&count);
        for (name, value) in headers {
            for text in [name, value] {
                let length = number(text.len()).map_err(|_| TOO_LARGE)?;
                plain.extend_from_slice(&length);
                plain.extend_from_slice(text.as_bytes());
            }
        }
        let mut out = Vec::with_capacity(plain.len() + 256);
        let before = self.0.total_in();
        self.0
            .compress_vec(&plain, &mut out, FlushCompress::Sync)
            .map_err(|_| TOO_LARGE)?;
        // All of it was taken, and the flush was not cut off.
        if self.0.total_in() - before != plain.len() as u64 || out.len() == out.capacity() {
            return Err(TOO_LARGE);
        }
        Ok(out)
    }
}

fn pairs(block: &[u8]) -> Option<Vec<(String, String)>> {
    let mut rest = block;
    let number = |rest: &mut &[u8]| {
        let (head, behind) = rest.split_first_chunk::<4>()?;
        *rest = behind;
        Some(u32::from_be_bytes(*head))
    };
    let count = number(&mut rest)?;
    if count > HEADERS_MAX {
        return None;
    }
    let text = |rest: &mut &[u8]| {
        let length = usize::try_from(number(rest)?).ok()?;
        let (head, behind) = rest.split_at_checked(length)?;
        *rest = behind;
        String::from_utf8(head.to_vec()).ok()
    };
    let mut all: Vec<(String, String)> = Vec::new();
    for _ in 0..count {
        let (name, value) = (text(&mut rest)?.to_ascii_lowercase(), text(&mut rest)?);
        // A name is there once; several values of it are separated by NUL.
        if name.is_empty() || value.contains('\0') || all.iter().any(|(known, _)| *known == name) {
            return None;
        }
        all.push((name, value));
    }
    rest.is_empty().then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_round_trip_with_state() {
        let (mut writer, mut reader) = (Writer::new().unwrap(), Reader::new());
        let mut lengths = Vec::new();
        for port in ["80", "443", "80"] {
            let block = writer
                .write(&[("streamtype", "data"), ("port", port)])
                .unwrap();
            lengths.push(block.len());
            let read = reader.read(&block).unwrap();
            let expected = [("streamtype", "data"), ("port", port)];
            let expected: Vec<(String, String)> = expected
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect();
            assert_eq!(read, expected);
        }
        assert!(lengths[2] < lengths[0], "no state: {lengths:?}");
        assert!(reader.read(&writer.write(&[]).unwrap()).unwrap().is_empty());
    }

    #[test]
    fn hostile_blocks_are_refused() {
        assert!(Reader::new().read(b"no zlib at all").is_err());
        for hostile in [
            &[][..],
            &[0, 0, 0, 1],
            &[0xff; 12],
            &[0, 0, 0, 1, 0, 0, 0, 9, b'x'],
            // Twice the same name, an empty name, two values, bytes behind the end.
            &[
                0, 0, 0, 2, 0, 0, 0, 1, b'a', 0, 0, 0, 0, 0, 0, 0, 1, b'A', 0, 0, 0, 0,
            ],
            &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 1, 0, 0, 0, 1, b'a', 0, 0, 0, 1, 0],
            &[0, 0, 0, 0, 0],
        ] {
            assert_eq!(pairs(hostile), None, "{hostile:?}");
        }
    }

    #[test]
    fn a_block_that_grows_is_refused() {
        let long = "a".repeat(1024 * 1024);
        let mut deflate = Compress::new(Compression::default(), true);
        deflate.set_dictionary(DICTIONARY).unwrap();
        let mut block = Vec::with_capacity(64 * 1024);
        deflate
            .compress_vec(long.as_bytes(), &mut block, FlushCompress::Sync)
            .unwrap();
        assert!(block.len() < 8 * 1024);
        assert_eq!(
            Reader::new().read(&block),
            Err(Broken("a header block of SPDY is too large"))
        );
    }
}
