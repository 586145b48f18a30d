//! Addresses by hash and token: one form in text and in binary.

use std::collections::BTreeSet;

use super::*;
use crate::key::MaskKey;
use crate::plan::ValueKind;

fn masked(kind: MaskKind, value: ValueKind, format: Format, bytes: &[u8]) -> Option<Vec<u8>> {
    let key = MaskKey::new([7; 32]);
    let one = One {
        kind,
        value,
        format,
        domain: "t/db/s/t/address",
        key: &key,
    };
    let mut out = Vec::new();
    one.mask(bytes, &mut out).then_some(out)
}

fn text(kind: MaskKind, value: ValueKind, text: &str) -> Option<String> {
    let bytes = masked(kind, value, Format::Text, text.as_bytes())?;
    Some(String::from_utf8(bytes).expect("text"))
}

const INET: ValueKind = ValueKind::Network { only: false };
const CIDR: ValueKind = ValueKind::Network { only: true };

#[test]
fn both_formats_say_the_same_address() {
    let four: &[u8] = &[2, 32, 0, 4, 192, 168, 0, 1];
    let net: &[u8] = &[2, 20, 1, 4, 172, 16, 16, 0];
    let mut six = vec![3, 64, 0, 16, 0x20, 0x01, 0x0d, 0xb8];
    six.extend_from_slice(&[0; 12]);
    for kind in [MaskKind::Token, MaskKind::Hash] {
        for (value, said, sent) in [
            (INET, "192.168.0.1", four),
            (CIDR, "172.16.16.0/20", net),
            (INET, "2001:db8::/64", &six),
            (
                ValueKind::Device,
                "08:00:2b:01:02:03",
                &[8, 0, 0x2b, 1, 2, 3],
            ),
            (
                ValueKind::Device,
                "08:00:2b:01:02:03:04:05",
                &[8, 0, 0x2b, 1, 2, 3, 4, 5],
            ),
        ] {
            let shown = text(kind, value, said).expect("a form");
            assert_ne!(shown, said);
            let binary = masked(kind, value, Format::Binary, sent).expect("a form");
            let read = super::super::shown(value, false, &binary);
            assert_eq!(read.as_deref(), Some(&*shown), "{said}");
            assert_eq!(
                super::super::shown(value, false, sent).as_deref(),
                Some(said)
            );
        }
    }
}

#[test]
fn a_network_stays_one_and_tokens_differ() {
    let mut tokens = BTreeSet::new();
    for third in 0..=255 {
        let said = format!("10.20.{third}.0/24");
        let token = text(MaskKind::Token, CIDR, &said).expect("a form");
        let network = Network::parse(token.as_bytes(), true).expect("an address");
        assert_eq!((network.bits, network.bytes[3]), (24, 0), "{token}");
        tokens.insert(token);
    }
    assert_eq!(tokens.len(), 256);
}

#[test]
fn what_is_no_address_has_no_form() {
    for (value, said) in [
        (INET, "192.168.0"),
        (INET, "192.168.0.1/33"),
        (INET, "::1/-1"),
        (CIDR, "0.0.0.0/0"),
        (ValueKind::Device, "08:00:2b"),
        (ValueKind::Device, "08:00:2b:01:02:0g"),
    ] {
        assert_eq!(text(MaskKind::Token, value, said), None, "{said}");
    }
    let broken: [&[u8]; 6] = [
        &[],
        &[2, 32, 0, 4, 1, 2, 3],
        &[2, 33, 0, 4, 1, 2, 3, 4],
        &[2, 32, 2, 4, 1, 2, 3, 4],
        &[3, 32, 0, 4, 1, 2, 3, 4],
        &[9, 32, 0, 4, 1, 2, 3, 4],
    ];
    for bytes in broken {
        assert_eq!(
            masked(MaskKind::Token, INET, Format::Binary, bytes),
            None,
            "{bytes:?}"
        );
    }
    for kind in [MaskKind::Redact, MaskKind::Partial { keep_last: 2 }] {
        assert_eq!(text(kind, INET, "10.0.0.1"), None);
    }
}
