//! The one text form of a GUID that Weir takes: lower case, hyphenated.

/// Whether `text` is a GUID in lower-case 8-4-4-4-12 form.
pub(crate) fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// A GUID that names something: principal-less tokens carry none, or zeros.
pub(crate) fn is_nonzero_guid(text: &str) -> bool {
    is_guid(text) && text.bytes().any(|byte| byte != b'0' && byte != b'-')
}

#[cfg(test)]
mod tests {
    use super::{is_guid, is_nonzero_guid};

    #[test]
    fn only_the_canonical_form() {
        assert!(is_guid("7e000000-0000-4000-8000-000000000001"));
        assert!(!is_guid("7E000000-0000-4000-8000-000000000001"));
        assert!(!is_guid("7e0000000000400080000000000000010000"));
        assert!(!is_guid("{7e000000-0000-4000-8000-00000000001}"));
        assert!(!is_guid(""));
    }

    #[test]
    fn zero_names_nobody() {
        assert!(is_guid("00000000-0000-0000-0000-000000000000"));
        assert!(!is_nonzero_guid("00000000-0000-0000-0000-000000000000"));
    }
}
