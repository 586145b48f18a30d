//! SPDY/3.1 as Kubernetes speaks it: the agent opens streams, each says by headers what it is.
//!
//! Source: draft-mbelshe-httpbis-spdy-00. Windows are not kept, as no server or client of
//! Kubernetes keeps them; what is slow is slowed by TCP.

mod frame;

use std::collections::BTreeMap;

use bytes::Bytes;

use self::frame::{Frame, Half, control, data};
use super::sizes::{self, Sizes};
use super::{Beat, Broken, Event, Kind, Side, Stream};

/// Streams of one connection that are open at a time.
const STREAMS_MAX: usize = 1000;
const FLAG_FIN: u8 = 1;
const FLAG_UNIDIRECTIONAL: u8 = 2;
const SYN_STREAM: u32 = 1;
const SYN_REPLY: u32 = 2;
const RST_STREAM: u32 = 3;
const SETTINGS: u32 = 4;
const PING: u32 = 6;
const GOAWAY: u32 = 7;
const HEADERS: u32 = 8;
const WINDOW_UPDATE: u32 = 9;

/// Both directions of one connection.
#[derive(Debug)]
pub(crate) struct Spdy {
    /// Ports are forwarded; else a command runs.
    forward: bool,
    agent: Half,
    server: Half,
    streams: BTreeMap<u32, Open>,
    last_id: u32,
    sizes: Sizes,
}

#[derive(Debug)]
struct Open {
    stream: Stream,
    agent_ended: bool,
    server_ended: bool,
}

impl Spdy {
    pub(crate) fn new(forward: bool) -> Result<Self, Broken> {
        Ok(Self {
            forward,
            agent: Half::new()?,
            server: Half::new()?,
            streams: BTreeMap::new(),
            last_id: 0,
            sizes: Sizes::default(),
        })
    }

    const fn half(&mut self, side: Side) -> &mut Half {
        match side {
            Side::Agent => &mut self.agent,
            Side::Server => &mut self.server,
        }
    }

    /// Reads what arrived.
    pub(crate) fn receive(
        &mut self,
        from: Side,
        mut bytes: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), Broken> {
        loop {
            let half = self.half(from);
            if half.frame.is_none() {
                bytes = half.read_head(bytes)?;
            }
            let Some(frame) = &mut half.frame else {
                return Ok(());
            };
            if bytes.is_empty() && frame.left > 0 {
                return Ok(());
            }
            let (piece, rest) = bytes.split_at(frame.left.min(bytes.len()));
            bytes = rest;
            frame.left -= piece.len();
            let frame = *frame;
            if frame.left == 0 {
                half.frame = None;
            }
            if frame.control {
                half.control.extend_from_slice(piece);
                if frame.left == 0 {
                    let body = std::mem::take(&mut half.control);
                    self.control(from, frame, &body, events)?;
                }
            } else {
                self.data(from, frame, piece, events)?;
            }
        }
    }

    fn data(
        &mut self,
        from: Side,
        frame: Frame,
        piece: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), Broken> {
        let id = frame.number;
        if id == 0 || id > self.last_id {
            return Err(Broken("data on a stream that was never opened"));
        }
        let end = frame.left == 0 && frame.flags & FLAG_FIN != 0;
        let Some(open) = self.streams.get_mut(&id) else {
            // Underway while the stream was given up.
            return Ok(());
        };
        let ended = match from {
            Side::Agent => &mut open.agent_ended,
            Side::Server => &mut open.server_ended,
        };
        if *ended {
            return Err(Broken("data follow the end of their stream"));
        }
        *ended = end;
        let stream = open.stream;
        if open.agent_ended && open.server_ended {
            self.streams.remove(&id);
        }
        if stream.kind == Kind::Resize && from == Side::Agent {
            for (width, height) in self.sizes.receive(piece)? {
                events.push(Event::Resize {
                    stream,
                    width,
                    height,
                });
            }
        } else {
            check_writer(from, stream.kind, piece.is_empty())?;
            if !piece.is_empty() {
                events.push(Event::Data {
                    stream,
                    bytes: Bytes::copy_from_slice(piece),
                    end: false,
                });
            }
        }
        if end {
            ended_by(stream, events);
        }
        Ok(())
    }

    fn control(
        &mut self,
        from: Side,
        frame: Frame,
        body: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), Broken> {
        const SHORT: Broken = Broken("a SPDY frame is too short or too long");
        match frame.number {
            SYN_STREAM => self.open(from, frame.flags, body, events),
            SYN_REPLY | HEADERS => {
                let (_, block) = body.split_first_chunk::<4>().ok_or(SHORT)?;
                // Read, since later blocks build on it. Nothing in it is needed.
                self.half(from).blocks.read(block).map(drop)
            }
            RST_STREAM => {
                let (id, status) = two(body).ok_or(SHORT)?;
                if let Some(open) = self.streams.remove(&id) {
                    let stream = open.stream;
                    events.push(Event::Reset { stream, status });
                }
                Ok(())
            }
            PING => {
                let id = u32::from_be_bytes(*body.as_array::<4>().ok_or(SHORT)?);
                events.push(Event::Beat(Beat::Spdy(id)));
                Ok(())
            }
            GOAWAY => {
                let (_, status) = two(body).ok_or(SHORT)?;
                self.half(from).gone = true;
                events.push(Event::Bye { status });
                Ok(())
            }
            // How the other side would like to be treated; both are treated as they come.
            SETTINGS | WINDOW_UPDATE => Ok(()),
            _ => Err(Broken("a SPDY frame is not known")),
        }
    }

    fn open(
        &mut self,
        from: Side,
        flags: u8,
        body: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), Broken> {
        let Some((fixed, block)) = body.split_first_chunk::<10>() else {
            return Err(Broken("a SPDY stream is opened without a head"));
        };
        let headers = self.half(from).blocks.read(block)?;
        if from == Side::Server || self.agent.gone {
            return Err(Broken("a SPDY stream is opened by who may not"));
        }
        let [a, b, c, d, ..] = *fixed;
        let id = u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff;
        if id % 2 == 0 || id <= self.last_id {
            return Err(Broken("a SPDY stream's number is not a new one"));
        }
        if flags & FLAG_UNIDIRECTIONAL != 0 {
            return Err(Broken("a SPDY stream is for one direction only"));
        }
        if self.streams.len() >= STREAMS_MAX {
            return Err(Broken("too many SPDY streams are open"));
        }
        let (stream, request) = self.purpose(id, &headers)?;
        self.last_id = id;
        let end = flags & FLAG_FIN != 0;
        self.streams.insert(
            id,
            Open {
                stream,
                agent_ended: end,
                server_ended: false,
            },
        );
        events.push(Event::Open {
            stream,
            request,
            end,
        });
        Ok(())
    }

    /// What a stream is for, by its headers.
    fn purpose(&self, id: u32, headers: &[(String, String)]) -> Result<(Stream, u32), Broken> {
        let value = |name: &str| {
            let found = headers.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.as_str())
        };
        let kind = match (value("streamtype"), self.forward) {
            (Some("stdin"), false) => Kind::Stdin,
            (Some("stdout"), false) => Kind::Stdout,
            (Some("stderr"), false) => Kind::Stderr,
            (Some("error"), false) => Kind::Error,
            (Some("resize"), false) => Kind::Resize,
            (Some("data"), true) => Kind::Port,
            (Some("error"), true) => Kind::PortError,
            _ => return Err(Broken("a SPDY stream says not what it is for")),
        };
        if !self.forward {
            if self.streams.values().any(|open| open.stream.kind == kind) {
                return Err(Broken("a SPDY stream is there twice"));
            }
            let port = 0;
            return Ok((Stream { id, kind, port }, 0));
        }
        const NO_PORT: Broken = Broken("a SPDY stream names no port");
        let port = value("port").and_then(|port| port.parse::<u16>().ok());
        let port = port.filter(|port| *port != 0).ok_or(NO_PORT)?;
        let request = value("requestid").and_then(|number| number.parse().ok());
        let request = request.ok_or(Broken("a SPDY stream names no request"))?;
        Ok((Stream { id, kind, port }, request))
    }

    /// One event as frames.
    pub(crate) fn send(
        &mut self,
        to: Side,
        event: &Event,
        out: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        match event {
            Event::Open {
                stream,
                request,
                end,
            } => {
                let mut body = stream.id.to_be_bytes().to_vec();
                body.extend_from_slice(&[0; 6]);
                let (port, request) = (stream.port.to_string(), request.to_string());
                let mut headers = vec![("streamtype", name(stream.kind))];
                if self.forward {
                    headers.push(("port", &port));
                    headers.push(("requestid", &request));
                }
                body.extend_from_slice(&self.half(to).writer.write(&headers)?);
                control(SYN_STREAM, u8::from(*end), &body, out);
            }
            Event::Accepted { id } => {
                let mut body = id.to_be_bytes().to_vec();
                body.extend_from_slice(&self.half(to).writer.write(&[])?);
                control(SYN_REPLY, 0, &body, out);
            }
            Event::Data { stream, bytes, end } => data(stream.id, *end, bytes, out),
            Event::Resize {
                stream,
                width,
                height,
            } => data(stream.id, false, &sizes::write(*width, *height), out),
            Event::Reset { stream, status } => {
                let mut body = stream.id.to_be_bytes().to_vec();
                body.extend_from_slice(&status.to_be_bytes());
                control(RST_STREAM, 0, &body, out);
            }
            Event::Beat(Beat::Spdy(id)) => control(PING, 0, &id.to_be_bytes(), out),
            Event::Bye { status } => {
                // The agent's last stream, as far as the server is concerned it opened none.
                let last = match to {
                    Side::Agent => self.last_id,
                    Side::Server => 0,
                };
                let mut body = last.to_be_bytes().to_vec();
                body.extend_from_slice(&status.to_be_bytes());
                control(GOAWAY, 0, &body, out);
            }
            Event::Beat(Beat::Ping(_) | Beat::Pong(_)) => {}
        }
        Ok(())
    }

    /// A stream that was refused: what is underway on it is dropped.
    pub(crate) fn forget(&mut self, id: u32) {
        self.streams.remove(&id);
    }
}

/// Ends of streams are events of their own: a piece of a frame cannot know that it is the last.
fn ended_by(stream: Stream, events: &mut Vec<Event>) {
    if let Some(Event::Data {
        stream: last, end, ..
    }) = events.last_mut()
        && last.id == stream.id
    {
        *end = true;
        return;
    }
    events.push(Event::Data {
        stream,
        bytes: Bytes::new(),
        end: true,
    });
}

fn check_writer(from: Side, kind: Kind, nothing: bool) -> Result<(), Broken> {
    let writes = match from {
        Side::Agent => matches!(kind, Kind::Stdin | Kind::Port),
        Side::Server => !matches!(kind, Kind::Stdin | Kind::Resize),
    };
    if writes || nothing {
        Ok(())
    } else {
        Err(Broken("data on a stream that is the other side's"))
    }
}

const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Stdin => "stdin",
        Kind::Stdout => "stdout",
        Kind::Stderr => "stderr",
        Kind::Error | Kind::PortError => "error",
        Kind::Resize => "resize",
        Kind::Port => "data",
    }
}

fn two(body: &[u8]) -> Option<(u32, u32)> {
    let [a, b, c, d, e, f, g, h] = *body.as_array::<8>()?;
    Some((
        u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff,
        u32::from_be_bytes([e, f, g, h]),
    ))
}
