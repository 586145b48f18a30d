//! Upgraded connections: the same events however bytes are cut, and what is hostile refused.

use bytes::Bytes;
use proptest::prelude::*;
use weir_kubernetes::stream::{Beat, Broken, Codec, Event, Kind, Protocol, Side, Stream};

fn codec(protocol: Protocol) -> Codec {
    let mut next = 0x5a17_c0de_u32;
    let keys = move || {
        next = next.wrapping_mul(0x9e37_79b1).wrapping_add(1);
        next.to_be_bytes()
    };
    Codec::new(protocol, &[80, 5432], Box::new(keys)).unwrap()
}

/// Reads `bytes` cut at `cuts`; pieces of one stream are joined.
fn read(codec: &mut Codec, from: Side, bytes: &[u8], cuts: &[usize]) -> Result<Vec<Event>, Broken> {
    let mut events = Vec::new();
    let mut at = 0;
    for cut in cuts
        .iter()
        .map(|cut| cut % (bytes.len() + 1))
        .chain([bytes.len()])
    {
        if cut > at {
            codec.receive(from, &bytes[at..cut], &mut events)?;
            at = cut;
        }
    }
    Ok(joined(events))
}

fn joined(events: Vec<Event>) -> Vec<Event> {
    let mut all: Vec<Event> = Vec::new();
    for event in events {
        if let (
            Some(Event::Data {
                stream: last,
                bytes: before,
                end: end_before,
            }),
            Event::Data { stream, bytes, end },
        ) = (all.last_mut(), &event)
            && last == stream
            && !*end_before
        {
            *before = Bytes::from([before.as_ref(), bytes.as_ref()].concat());
            *end_before = *end;
            continue;
        }
        all.push(event);
    }
    all
}

/// Bytes as `from` would send them; the peer's own codec sees what comes before.
fn written(peer: &mut Codec, to: Side, events: &[Event]) -> Vec<u8> {
    let mut out = Vec::new();
    for event in events {
        peer.send(to, event, &mut out).unwrap();
    }
    out
}

fn stream(id: u32, kind: Kind, port: u16) -> Stream {
    Stream { id, kind, port }
}

fn data(stream: Stream, bytes: &[u8], end: bool) -> Event {
    let bytes = Bytes::copy_from_slice(bytes);
    Event::Data { stream, bytes, end }
}

fn open(stream: Stream, request: u32, end: bool) -> Event {
    Event::Open {
        stream,
        request,
        end,
    }
}

/// What an agent says over each protocol.
fn agent_says(protocol: Protocol, text: &[u8]) -> Vec<Event> {
    let ping = Event::Beat(Beat::Ping(Bytes::from_static(b"there?")));
    let size = |id| Event::Resize {
        stream: stream(id, Kind::Resize, 0),
        width: 80,
        height: 24,
    };
    match protocol {
        Protocol::RemoteV5 | Protocol::RemoteV4 => {
            let stdin = stream(0, Kind::Stdin, 0);
            let v5 = protocol == Protocol::RemoteV5;
            let mut said = vec![size(4), data(stdin, text, false), ping, size(4)];
            said.push(data(stdin, b"more", v5));
            said.push(Event::Bye { status: 1000 });
            said
        }
        Protocol::RemoteSpdy => {
            let (stdin, resize) = (stream(3, Kind::Stdin, 0), stream(5, Kind::Resize, 0));
            vec![
                open(stream(1, Kind::Error, 0), 0, false),
                open(stdin, 0, false),
                open(resize, 0, false),
                Event::Beat(Beat::Spdy(1)),
                data(stdin, text, false),
                size(5),
                data(stdin, b"more", true),
                Event::Bye { status: 0 },
            ]
        }
        Protocol::ForwardTunnel | Protocol::ForwardSpdy => {
            let (error, port) = (stream(1, Kind::PortError, 80), stream(3, Kind::Port, 80));
            vec![
                open(error, 7, true),
                open(port, 7, false),
                data(port, text, false),
                Event::Beat(Beat::Spdy(3)),
                Event::Reset {
                    stream: port,
                    status: 5,
                },
            ]
        }
        Protocol::ForwardPlain => vec![
            data(stream(0, Kind::Port, 80), text, false),
            data(stream(2, Kind::Port, 5432), b"more", false),
            ping,
        ],
    }
}

const ALL: [Protocol; 6] = [
    Protocol::RemoteV5,
    Protocol::RemoteV4,
    Protocol::RemoteSpdy,
    Protocol::ForwardTunnel,
    Protocol::ForwardPlain,
    Protocol::ForwardSpdy,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cuts_change_nothing(
        protocol in prop::sample::select(ALL.to_vec()),
        text in prop::collection::vec(any::<u8>(), 1..70_000),
        mut cuts in prop::collection::vec(any::<usize>(), 0..40),
    ) {
        let said = agent_says(protocol, &text);
        // What the agent sends is encoded as Weir encodes it towards the server.
        let bytes = written(&mut codec(protocol), Side::Server, &said);
        cuts.iter_mut().for_each(|cut| *cut %= bytes.len() + 1);
        cuts.sort_unstable();
        let mut weir = codec(protocol);
        let seen = read(&mut weir, Side::Agent, &bytes, &cuts).unwrap();
        prop_assert_eq!(&seen, &said);
        // And written anew, the server reads the same.
        let anew = written(&mut weir, Side::Server, &seen);
        let again = read(&mut codec(protocol), Side::Agent, &anew, &[]).unwrap();
        prop_assert_eq!(&again, &said);
    }

    #[test]
    fn noise_is_read_or_refused_and_never_grows(
        protocol in prop::sample::select(ALL.to_vec()),
        from in prop::sample::select(vec![Side::Agent, Side::Server]),
        noise in prop::collection::vec(any::<u8>(), 0..4096),
        good in any::<bool>(),
        at in any::<prop::sample::Index>(),
    ) {
        let mut bytes = noise;
        if good {
            bytes = written(&mut codec(protocol), Side::Server, &agent_says(protocol, &bytes));
            let at = at.index(bytes.len());
            bytes[at] ^= 0x41;
        }
        let mut events = Vec::new();
        let _refused = codec(protocol).receive(from, &bytes, &mut events);
        let carried: usize = events.iter().map(|event| match event {
            Event::Data { bytes, .. } => bytes.len(),
            Event::Open { .. } | Event::Accepted { .. } | Event::Resize { .. } | Event::Reset { .. }
            | Event::Beat(_) | Event::Bye { .. } => 0,
        }).sum();
        prop_assert!(carried <= bytes.len());
    }
}

#[test]
fn the_server_answers_and_names_ports() {
    let said = [
        data(stream(1, Kind::Stdout, 0), b"", false),
        data(stream(1, Kind::Stdout, 0), b"out", false),
        data(stream(2, Kind::Stderr, 0), b"err", false),
        data(
            stream(3, Kind::Error, 0),
            b"{\"status\":\"Success\"}",
            false,
        ),
        Event::Bye { status: 1000 },
    ];
    let bytes = written(&mut codec(Protocol::RemoteV4), Side::Agent, &said);
    let seen = read(&mut codec(Protocol::RemoteV4), Side::Server, &bytes, &[]).unwrap();
    assert_eq!(seen[1..], said[2..]);
    assert_eq!(seen[0], said[1], "joined with the empty one");
    // Frames of a golden transcript: final binary message, not masked, channel 1.
    assert!(bytes.starts_with(b"\x82\x01\x01\x82\x04\x01out\x82\x04\x02err"));
    let ports = b"\x82\x03\x00\x50\x00\x82\x03\x01\x50\x00\x82\x04\x02\x38\x15x";
    let seen = read(&mut codec(Protocol::ForwardPlain), Side::Server, ports, &[]).unwrap();
    let postgres = stream(2, Kind::Port, 5432);
    assert_eq!(
        seen,
        [
            open(stream(0, Kind::Port, 80), 0, false),
            open(stream(1, Kind::PortError, 80), 0, false),
            open(postgres, 1, false),
            data(postgres, b"x", false),
        ]
    );
    let other = b"\x82\x03\x00\x51\x00";
    read(&mut codec(Protocol::ForwardPlain), Side::Server, other, &[]).unwrap_err();
}

#[test]
fn sides_write_only_their_own_streams() {
    for (from, frames) in [
        // The agent writes output; the server writes input; unknown channels.
        (Side::Agent, &b"\x82\x82\0\0\0\0\x01x"[..]),
        (Side::Agent, b"\x82\x82\0\0\0\0\x03x"),
        (Side::Agent, b"\x82\x82\0\0\0\0\x09x"),
        (Side::Server, b"\x82\x02\x00x"),
        (Side::Server, b"\x82\x02\x04x"),
        // A size that is none; a close of nothing, and of two channels; data behind the end.
        (Side::Agent, b"\x82\x83\0\0\0\0\x04{}"),
        (Side::Agent, b"\x82\x81\0\0\0\0\xff"),
        (Side::Agent, b"\x82\x83\0\0\0\0\xff\x00\x01"),
        (
            Side::Agent,
            b"\x82\x82\0\0\0\0\xff\x00\x82\x82\0\0\0\0\x00x",
        ),
    ] {
        let refused = read(&mut codec(Protocol::RemoteV5), from, frames, &[]);
        assert!(refused.is_err(), "{frames:x?}: {refused:?}");
    }
    // A server of v4 does not know the closing channel.
    let close = b"\x82\x82\0\0\0\0\xff\x00";
    assert!(read(&mut codec(Protocol::RemoteV4), Side::Agent, close, &[]).is_err());
}

#[test]
fn hostile_spdy_is_refused() {
    let stdin = |id| stream(id, Kind::Stdin, 0);
    let said = |events: &[Event]| {
        let bytes = written(&mut codec(Protocol::RemoteSpdy), Side::Server, events);
        read(&mut codec(Protocol::RemoteSpdy), Side::Agent, &bytes, &[])
    };
    let first = open(stdin(3), 0, false);
    for (events, why) in [
        (vec![open(stdin(2), 0, false)], "even"),
        (vec![first.clone(), open(stdin(5), 0, false)], "twice"),
        (
            vec![first.clone(), open(stream(1, Kind::Error, 0), 0, false)],
            "an old number",
        ),
        (vec![data(stdin(3), b"x", false)], "never opened"),
        (
            vec![
                first,
                data(stdin(3), b"x", true),
                data(stdin(3), b"y", false),
            ],
            "behind the end",
        ),
        (
            vec![
                open(stream(1, Kind::Stdout, 0), 0, false),
                data(stream(1, Kind::Stdout, 0), b"x", false),
            ],
            "output from the agent",
        ),
    ] {
        assert!(said(&events).is_err(), "{why}");
    }
    for raw in [
        // Another version, an unknown frame, a large control frame, a short ping.
        &b"\x80\x02\0\x06\0\0\0\x04\0\0\0\x01"[..],
        b"\x80\x03\0\x63\0\0\0\x00",
        b"\x80\x03\0\x04\0\x02\0\x00",
        b"\x80\x03\0\x06\0\0\0\x02\0\0",
        // A stream without a head, one that is no zlib, and one opened by the server.
        b"\x80\x03\0\x01\0\0\0\x04\0\0\0\x01",
        b"\x80\x03\0\x01\0\0\0\x0c\0\0\0\x01\0\0\0\0\0\0xx",
    ] {
        let read = read(&mut codec(Protocol::RemoteSpdy), Side::Agent, raw, &[]);
        assert!(read.is_err(), "{raw:x?}: {read:?}");
    }
    let opened = written(
        &mut codec(Protocol::RemoteSpdy),
        Side::Server,
        &[open(stdin(1), 0, false)],
    );
    assert!(read(&mut codec(Protocol::RemoteSpdy), Side::Server, &opened, &[]).is_err());
}

#[test]
fn streams_have_a_limit_and_are_forgotten_once_they_end() {
    let stream = |id| stream(id, Kind::Port, 80);
    let (mut peer, mut weir) = (codec(Protocol::ForwardSpdy), codec(Protocol::ForwardSpdy));
    let mut says = |event: &Event| {
        let bytes = written(&mut peer, Side::Server, std::slice::from_ref(event));
        read(&mut weir, Side::Agent, &bytes, &[])
    };
    // Each is reset again, so that any number may follow.
    for index in 0..1500 {
        let stream = stream(index * 2 + 1);
        says(&open(stream, index, false)).unwrap();
        says(&Event::Reset { stream, status: 5 }).unwrap();
        // Underway meanwhile.
        assert_eq!(says(&data(stream, b"late", false)), Ok(Vec::new()));
    }
    let refused =
        (1500..3000).any(|index| says(&open(stream(index * 2 + 1), index, false)).is_err());
    assert!(refused);
}
