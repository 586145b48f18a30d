//! Sizes of a terminal: JSON documents, one behind the other.

use serde::Deserialize;

use super::Broken;

/// Of one document, which has two numbers.
const DOCUMENT_BYTES_MAX: usize = 1024;

#[derive(Deserialize)]
struct Size {
    #[serde(rename = "Width")]
    width: u16,
    #[serde(rename = "Height")]
    height: u16,
}

/// Documents that are cut anywhere.
#[derive(Debug, Default)]
pub(crate) struct Sizes(Vec<u8>);

impl Sizes {
    /// The sizes that are whole by now.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<Vec<(u16, u16)>, Broken> {
        const NO_SIZE: Broken = Broken("the size of a terminal is not a size");
        let mut sizes = Vec::new();
        // A document ends with its brace; no size has one within.
        for byte in bytes {
            if self.0.is_empty() && byte.is_ascii_whitespace() {
                continue;
            }
            self.0.push(*byte);
            if *byte == b'}' {
                let size: Size = serde_json::from_slice(&self.0).map_err(|_| NO_SIZE)?;
                sizes.push((size.width, size.height));
                self.0.clear();
            } else if self.0.len() > DOCUMENT_BYTES_MAX {
                return Err(NO_SIZE);
            }
        }
        Ok(sizes)
    }
}

/// As `encoding/json` writes it.
pub(crate) fn write(width: u16, height: u16) -> Vec<u8> {
    format!("{{\"Width\":{width},\"Height\":{height}}}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_come_whole_wherever_they_are_cut() {
        let text = b"{\"Width\":80,\"Height\":24}\n{\"Height\":25,\"Width\":81}\n";
        for cut in 0..text.len() {
            let mut sizes = Sizes::default();
            let mut seen = sizes.receive(&text[..cut]).unwrap();
            seen.extend(sizes.receive(&text[cut..]).unwrap());
            assert_eq!(seen, [(80, 24), (81, 25)], "cut at {cut}");
        }
        let written = write(80, 24);
        assert_eq!(Sizes::default().receive(&written), Ok(vec![(80, 24)]));
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for hostile in [
            &b"{\"Width\":-1,\"Height\":24}"[..],
            b"{}",
            b"}",
            &[b'{'; DOCUMENT_BYTES_MAX + 2],
        ] {
            assert!(Sizes::default().receive(hostile).is_err());
        }
    }
}
