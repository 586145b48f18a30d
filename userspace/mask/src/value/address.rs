//! Addresses of networks and devices: hashed or permuted within their family and length.

use std::net::IpAddr;

use weir_decide::MaskKind;

use super::{One, hex_bytes, low, push_hex, token};
use crate::plan::Format;

/// `PGSQL_AF_INET` and `PGSQL_AF_INET6`, with the bytes of an address.
const FAMILIES: [(u8, usize); 2] = [(2, 4), (3, 16)];

/// An address, and how many of its bits belong to the network.
struct Network {
    /// 4 or 16.
    bytes: Vec<u8>,
    bits: u8,
    /// `cidr`: nothing stands behind the network's bits.
    only: bool,
}

impl Network {
    /// `inet_out`: a single host has no length behind it, a `cidr` always has.
    fn parse(value: &[u8], only: bool) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
            None => (text, None),
        };
        let bytes = match address.parse().ok()? {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let most = u8::try_from(bytes.len() * 8).ok()?;
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { bytes, bits, only })
    }

    /// `inet_send`: family, bits, whether it is a `cidr`, length, address.
    fn parse_binary(value: &[u8]) -> Option<Self> {
        let ([family, bits, only, length], bytes) = value.split_first_chunk::<4>()?;
        let known = FAMILIES.contains(&(*family, bytes.len()));
        let fits = known && usize::from(*length) == bytes.len() && *only <= 1;
        (fits && usize::from(*bits) <= bytes.len() * 8).then(|| Self {
            bytes: bytes.to_vec(),
            bits: *bits,
            only: *only == 1,
        })
    }

    fn text(&self) -> Option<String> {
        let address = match (
            <[u8; 4]>::try_from(&*self.bytes),
            <[u8; 16]>::try_from(&*self.bytes),
        ) {
            (Ok(four), _) => IpAddr::from(four),
            (_, Ok(sixteen)) => IpAddr::from(sixteen),
            _ => return None,
        };
        if !self.only && usize::from(self.bits) == self.bytes.len() * 8 {
            return Some(address.to_string());
        }
        Some(format!("{address}/{}", self.bits))
    }

    fn binary(&self, out: &mut Vec<u8>) -> Option<()> {
        let length = self.bytes.len();
        let (family, _) = FAMILIES.iter().find(|(_, bytes)| *bytes == length)?;
        let length = u8::try_from(length).ok()?;
        out.extend_from_slice(&[*family, self.bits, u8::from(self.only), length]);
        out.extend_from_slice(&self.bytes);
        Some(())
    }

    /// Changes the bits that may be set.
    fn mask(&mut self, one: &One<'_>) -> bool {
        let changed = if self.only {
            usize::from(self.bits)
        } else {
            self.bytes.len() * 8
        };
        let form = format!("network {} {changed}", self.bytes.len());
        mask_bits(one, form.as_bytes(), changed, &mut self.bytes)
    }
}

/// `inet` and `cidr`.
pub(super) fn network(one: &One<'_>, only: bool, value: &[u8], out: &mut Vec<u8>) -> bool {
    let parsed = match one.format {
        Format::Text => Network::parse(value, only),
        Format::Binary => Network::parse_binary(value),
    };
    let Some(mut network) = parsed else {
        return false;
    };
    if !network.mask(one) {
        return false;
    }
    let written = match one.format {
        Format::Text => network.text().map(|text| out.extend(text.bytes())),
        Format::Binary => network.binary(out),
    };
    written.is_some()
}

/// An address of the binary format as text.
pub(super) fn network_text(value: &[u8]) -> Option<String> {
    Network::parse_binary(value)?.text()
}

/// An address of the binary format as text.
pub(super) fn device_text(value: &[u8]) -> Option<String> {
    let mut out = Vec::new();
    put_device(value, &mut out);
    matches!(value.len(), 6 | 8)
        .then(|| String::from_utf8(out).ok())
        .flatten()
}

fn put_device(bytes: &[u8], out: &mut Vec<u8>) {
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 {
            out.push(b':');
        }
        push_hex(*byte, out);
    }
}

/// `macaddr` and `macaddr8`: 6 or 8 bytes; hexadecimal with colons in text.
pub(super) fn device(one: &One<'_>, value: &[u8], out: &mut Vec<u8>) -> bool {
    let parsed = match one.format {
        Format::Text => hex_bytes(value.iter().copied().filter(|byte| *byte != b':')),
        Format::Binary => Some(value.to_vec()),
    };
    let Some(mut bytes) = parsed.filter(|bytes| matches!(bytes.len(), 6 | 8)) else {
        return false;
    };
    let form = format!("device {}", bytes.len());
    let bits = bytes.len() * 8;
    if !mask_bits(one, form.as_bytes(), bits, &mut bytes) {
        return false;
    }
    match one.format {
        Format::Binary => out.extend_from_slice(&bytes),
        Format::Text => put_device(&bytes, out),
    }
    true
}

/// Changes the first `count` bits; the others stay.
fn mask_bits(one: &One<'_>, form: &[u8], count: usize, bytes: &mut [u8]) -> bool {
    // Fewer have hardly another value.
    if count < 2 {
        return false;
    }
    let bit = |bytes: &[u8], at: usize| {
        bytes
            .get(at / 8)
            .map_or(0, |byte| u16::from(byte >> (7 - at % 8) & 1))
    };
    let mut symbols: Vec<u16> = (0..count).map(|at| bit(bytes, at)).collect();
    match one.kind {
        MaskKind::Token => token::permute(one.key, form, &vec![2; count], &mut symbols),
        MaskKind::Hash => {
            let digest = one.digest(bytes);
            symbols = (0..count).map(|at| bit(&digest, at)).collect();
        }
        MaskKind::Null | MaskKind::Redact | MaskKind::Range(_) | MaskKind::Partial { .. } => {
            return false;
        }
    }
    for (at, symbol) in symbols.iter().enumerate() {
        if let Some(byte) = bytes.get_mut(at / 8) {
            let place = 7 - at % 8;
            *byte = *byte & !(1 << place) | low(Some(symbol)) << place;
        }
    }
    true
}

#[cfg(test)]
mod tests;
