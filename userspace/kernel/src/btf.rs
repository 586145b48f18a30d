//! Offsets of kernel struct members, from `/sys/kernel/btf/vmlinux`.
//!
//! Source: kernel documentation, "BPF Type Format". Only what is needed to find a member; every
//! read is bounded, since a parser that panics stops the node.

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;

struct Blob<'a> {
    types: &'a [u8],
    strings: &'a [u8],
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes: [u8; 4] = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
    Some(u32::from_ne_bytes(bytes))
}

fn blob(bytes: &[u8]) -> Option<Blob<'_>> {
    let magic: [u8; 2] = bytes.get(..2)?.try_into().ok()?;
    if u16::from_ne_bytes(magic) != MAGIC {
        return None;
    }
    let header = word(bytes, 4)? as usize;
    let (type_off, type_len) = (word(bytes, 8)? as usize, word(bytes, 12)? as usize);
    let (str_off, str_len) = (word(bytes, 16)? as usize, word(bytes, 20)? as usize);
    Some(Blob {
        types: bytes.get(header + type_off..header + type_off + type_len)?,
        strings: bytes.get(header + str_off..header + str_off + str_len)?,
    })
}

impl<'a> Blob<'a> {
    fn name(&self, offset: u32) -> Option<&'a [u8]> {
        let rest = self.strings.get(offset as usize..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        rest.get(..end)
    }

    /// Starts of all types; type ids count from 1.
    fn index(&self) -> Option<Vec<usize>> {
        let mut starts = Vec::with_capacity(200_000);
        let mut at = 0;
        while at < self.types.len() {
            starts.push(at);
            let info = word(self.types, at + 4)?;
            let count = (info & 0xffff) as usize;
            let extra = match (info >> 24) & 31 {
                1 | 14 | 17 => 4,
                3 => 12,
                KIND_STRUCT | KIND_UNION | 15 | 19 => 12 * count,
                6 | 13 => 8 * count,
                _ => 0,
            };
            at += 12 + extra;
        }
        Some(starts)
    }

    /// Byte offset of a member, anonymous structs and unions opened.
    fn member(&self, starts: &[usize], at: usize, wanted: &[u8], depth: u32) -> Option<u32> {
        if depth > 8 {
            return None;
        }
        let info = word(self.types, at + 4)?;
        let kind = (info >> 24) & 31;
        if kind != KIND_STRUCT && kind != KIND_UNION {
            return None;
        }
        let bitfields = info >> 31 == 1;
        for index in 0..(info & 0xffff) as usize {
            let member = at + 12 + index * 12;
            let name = word(self.types, member)?;
            let bits = word(self.types, member + 8)?;
            let bits = if bitfields { bits & 0x00ff_ffff } else { bits };
            if self.name(name)? == wanted {
                return Some(bits / 8);
            }
            if name == 0 {
                let inner = (word(self.types, member + 4)? as usize).checked_sub(1)?;
                let inner = *starts.get(inner)?;
                if let Some(offset) = self.member(starts, inner, wanted, depth + 1) {
                    return Some(bits / 8 + offset);
                }
            }
        }
        None
    }
}

/// Types of a kernel, indexed once for many questions.
pub(crate) struct Types<'a> {
    blob: Blob<'a>,
    starts: Vec<usize>,
}

impl<'a> Types<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let blob = blob(bytes)?;
        let starts = blob.index()?;
        Some(Self { blob, starts })
    }

    /// Offset of `member` in `struct name`.
    pub(crate) fn offset(&self, name: &str, member: &str) -> Option<u32> {
        let blob = &self.blob;
        for at in &self.starts {
            let info = word(blob.types, at + 4)?;
            let is_struct = (info >> 24) & 31 == KIND_STRUCT;
            if is_struct && blob.name(word(blob.types, *at)?)? == name.as_bytes() {
                return blob.member(&self.starts, *at, member.as_bytes(), 0);
            }
        }
        None
    }
}

/// Offset of `member` in `struct name`.
pub(crate) fn offset(bytes: &[u8], name: &str, member: &str) -> Option<u32> {
    Types::read(bytes)?.offset(name, member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_has_the_members_that_attribution_needs() {
        let bytes = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
        assert!(offset(&bytes, "task_struct", "group_leader").unwrap() > 0);
        assert!(offset(&bytes, "task_struct", "start_boottime").unwrap() > 0);
        assert_eq!(offset(&bytes, "task_struct", "no_such_member"), None);
        assert_eq!(offset(&bytes, "no_such_struct", "pid"), None);
    }

    #[test]
    fn truncated_input_is_no_offset_and_no_panic() {
        let bytes = std::fs::read("/sys/kernel/btf/vmlinux").unwrap();
        for length in [0, 1, 7, 23, 24, 100, 5000, bytes.len() / 2] {
            let _none = offset(&bytes[..length], "task_struct", "group_leader");
        }
    }
}
