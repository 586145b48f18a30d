//! Packets by hand, cut anywhere, damaged everywhere.

use super::*;

struct Packet(BytesMut);

impl Packet {
    fn new(kind: u8, id: u32) -> Self {
        let mut body = BytesMut::new();
        body.put_u8(kind);
        body.put_u32(id);
        Self(body)
    }

    fn text(mut self, text: &str) -> Self {
        put_string(&mut self.0, text.as_bytes());
        self
    }

    fn u32(mut self, number: u32) -> Self {
        self.0.put_u32(number);
        self
    }

    fn u64(mut self, number: u64) -> Self {
        self.0.put_u64(number);
        self
    }

    fn done(self) -> Bytes {
        with_length(&self.0)
    }
}

fn samples() -> Vec<(Bytes, &'static str)> {
    vec![
        (
            Packet::new(3, 1).text("a").u32(1).u32(0).done(),
            "open a=readFile",
        ),
        (
            Packet::new(3, 1)
                .text("a")
                .u32(0x1a)
                .u32(4)
                .u32(0o644)
                .done(),
            "open a=writeFile",
        ),
        (
            Packet::new(3, 1).text("a").u32(3).u32(0).done(),
            "open a=readFile+writeFile",
        ),
        (Packet::new(7, 1).text("a").done(), "lstat a=statFile"),
        (
            Packet::new(9, 1).text("a").u32(0).done(),
            "setstat a=writeFile",
        ),
        (Packet::new(11, 1).text("a").done(), "opendir a=listFiles"),
        (Packet::new(13, 1).text("a").done(), "remove a=deleteFile"),
        (
            Packet::new(14, 1).text("a").u32(0).done(),
            "mkdir a=writeFile",
        ),
        (Packet::new(15, 1).text("a").done(), "rmdir a=deleteFile"),
        (Packet::new(16, 1).text("a").done(), "realpath a=statFile"),
        (Packet::new(17, 1).text("a").done(), "stat a=statFile"),
        (
            Packet::new(18, 1).text("a").text("b").done(),
            "rename a=readFile+deleteFile b=writeFile",
        ),
        (Packet::new(19, 1).text("a").done(), "readlink a=statFile"),
        (
            Packet::new(20, 1).text("to").text("link").done(),
            "symlink link=writeFile",
        ),
        (
            Packet::new(200, 1)
                .text("posix-rename@openssh.com")
                .text("a")
                .text("b")
                .done(),
            "posix-rename a=readFile+deleteFile b=writeFile",
        ),
        (
            Packet::new(200, 1)
                .text("hardlink@openssh.com")
                .text("a")
                .text("b")
                .done(),
            "hardlink a=readFile+writeFile b=writeFile",
        ),
        (Packet::new(4, 1).text("h").done(), "close"),
        (Packet::new(5, 1).text("h").u64(0).u32(10).done(), "read"),
        (
            Packet::new(6, 1).text("h").u64(0).text("data").done(),
            "write 4",
        ),
        (Packet::new(8, 1).text("h").done(), "fstat"),
        (
            Packet::new(10, 1).text("h").u32(1).u64(3).done(),
            "fsetstat",
        ),
        (Packet::new(12, 1).text("h").done(), "readdir"),
        (
            Packet::new(200, 1).text("limits@openssh.com").done(),
            "plain limits",
        ),
        (
            Packet::new(200, 1).text("copy-data").text("h").done(),
            "unsupported copy-data",
        ),
        (Packet::new(99, 1).done(), "unsupported packet type 99"),
    ]
}

fn say(asked: &Asked) -> String {
    match asked {
        Asked::Init => "init".to_owned(),
        Asked::Paths {
            operation, paths, ..
        } => {
            let mut out = (*operation).to_owned();
            for used in paths {
                out += &format!(" {}={}", used.path, used.actions.join("+"));
            }
            out
        }
        Asked::Handles {
            operation, written, ..
        } => {
            if *written > 0 {
                format!("{operation} {written}")
            } else {
                (*operation).to_owned()
            }
        }
        Asked::Plain { operation, .. } => format!("plain {operation}"),
        Asked::Unsupported { name, .. } => format!("unsupported {name}"),
    }
}

#[test]
fn every_operation_is_understood() {
    for (packet, expected) in samples() {
        assert_eq!(say(&asked(&packet).unwrap()), expected);
    }
    assert_eq!(asked(&init()), Ok(Asked::Init));
}

#[test]
fn what_is_cut_off_or_too_long_is_refused() {
    for (packet, expected) in samples() {
        if expected.starts_with("unsupported") {
            continue;
        }
        for length in 4..packet.len() {
            assert!(
                asked(&packet[..length]).is_err(),
                "{expected} cut to {length}"
            );
        }
        let mut longer = packet.to_vec();
        longer.push(0);
        assert!(asked(&longer).is_err(), "{expected} with a byte more");
    }
}

#[test]
fn hostile_packets_are_refused() {
    for packet in [
        Packet::new(3, 1).text("a\0b").u32(1).u32(0).done(),
        Packet::new(3, 1).text("a").u32(0).u32(0).done(),
        Packet::new(3, 1).text("a").u32(0x40).u32(0).done(),
        Packet::new(3, 1).text("a").u32(1).u32(0x10).done(),
        Packet::new(9, 1)
            .text("a")
            .u32(0x8000_0000)
            .u32(u32::MAX)
            .done(),
        Packet::new(4, 1).text(&"h".repeat(257)).done(),
        Packet::new(7, 1)
            .text(&"p".repeat(PATH_BYTES_MAX + 1))
            .done(),
    ] {
        assert!(asked(&packet).is_err(), "{packet:?}");
    }
    let mut not_utf8 = Packet::new(7, 1);
    put_string(&mut not_utf8.0, b"\xff");
    assert!(asked(&not_utf8.done()).is_err());
}

#[test]
fn packets_are_cut_from_pieces_of_any_size() {
    let stream: Vec<u8> = samples()
        .iter()
        .flat_map(|(packet, _)| packet.to_vec())
        .collect();
    for size in [1, 2, 3, 7, 64, stream.len()] {
        let mut packets = Packets::default();
        let mut seen = Vec::new();
        for piece in stream.chunks(size) {
            packets.push(piece);
            while let Some(packet) = packets.next().unwrap() {
                seen.push(packet);
            }
        }
        let expected: Vec<Bytes> = samples().into_iter().map(|(packet, _)| packet).collect();
        assert_eq!(seen, expected, "pieces of {size}");
    }
    for length in [0_u32, 256 * 1024 + 1, u32::MAX] {
        let mut packets = Packets::default();
        packets.push(&length.to_be_bytes());
        assert!(packets.next().is_err());
    }
}

#[test]
fn answers_are_read_and_extensions_kept_to_those_known() {
    let mut body = BytesMut::new();
    body.put_u8(2);
    body.put_u32(3);
    for (name, value) in [("limits@openssh.com", "1"), ("copy-data", "1")] {
        put_string(&mut body, name.as_bytes());
        put_string(&mut body, value.as_bytes());
    }
    let Answer::Version(version) = answer(&with_length(&body)).unwrap() else {
        panic!("no version");
    };
    let text = String::from_utf8_lossy(&version).into_owned();
    assert!(text.contains("limits@openssh.com") && !text.contains("copy-data"));
    assert_eq!(
        answer(&status(7, code::FAILURE, "no")),
        Ok(Answer::Status { id: 7, code: 4 })
    );
    let data = Packet::new(103, 9).text("12345").done();
    assert_eq!(answer(&data), Ok(Answer::Data { id: 9 }));
    assert_eq!(data.get(DATA_AT..), Some(&b"12345"[..]));
    let names = Packet::new(104, 9)
        .u32(1)
        .text("/home/x")
        .text("long")
        .u32(0)
        .done();
    let Ok(Answer::Names {
        count: 1, first, ..
    }) = answer(&names)
    else {
        panic!("no names");
    };
    assert_eq!(&first[..], b"/home/x");
    assert!(answer(&Packet::new(42, 1).done()).is_err());
}

#[test]
fn only_the_number_changes() {
    let packet = Packet::new(7, 1).text("a").done();
    let other = renumbered(&packet, 77);
    assert_eq!(asked(&other), asked(&Packet::new(7, 77).text("a").done()));
}
