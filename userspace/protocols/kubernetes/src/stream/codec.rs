//! Both directions of an upgraded connection, from bytes to events and back.

use super::channels::Channels;
use super::spdy::Spdy;
use super::websocket::{self, Frames, Part};
use super::{Beat, Broken, Event, Protocol, Side};

/// A source of masking keys, which nobody may foresee (RFC 6455, 5.3).
pub type Keys = Box<dyn FnMut() -> [u8; 4]>;

/// Decodes what either side sends and encodes what either side gets.
pub struct Codec {
    frames: Option<(Frames, Frames)>,
    inner: Inner,
    keys: Keys,
}

enum Inner {
    Channels(Channels),
    Spdy(Box<Spdy>),
}

impl Codec {
    /// `ports`: those of a plain forward, in order; they come from the request.
    ///
    /// # Errors
    /// When the compression cannot be set up.
    pub fn new(protocol: Protocol, ports: &[u16], keys: Keys) -> Result<Self, Broken> {
        let inner = match protocol {
            Protocol::RemoteV5 => Inner::Channels(Channels::remote(true)),
            Protocol::RemoteV4 => Inner::Channels(Channels::remote(false)),
            Protocol::ForwardPlain => Inner::Channels(Channels::forward(ports)),
            Protocol::RemoteSpdy => Inner::Spdy(Box::new(Spdy::new(false)?)),
            Protocol::ForwardTunnel | Protocol::ForwardSpdy => {
                Inner::Spdy(Box::new(Spdy::new(true)?))
            }
        };
        Ok(Self {
            frames: protocol
                .is_websocket()
                .then(|| (Frames::new(true), Frames::new(false))),
            inner,
            keys,
        })
    }

    /// Decodes bytes of one side, cut anywhere.
    ///
    /// # Errors
    /// [`Broken`]: the connection cannot go on. Events before it are there.
    pub fn receive(
        &mut self,
        from: Side,
        bytes: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), Broken> {
        let frames = match (&mut self.frames, &mut self.inner) {
            (Some((agent, _)), _) if from == Side::Agent => agent,
            (Some((_, server)), _) => server,
            (None, Inner::Spdy(spdy)) => return spdy.receive(from, bytes, events),
            (None, Inner::Channels(_)) => return Err(Broken("channels without WebSocket frames")),
        };
        let mut parts = Vec::new();
        let read = frames.receive(bytes, &mut parts);
        for part in parts {
            match part {
                Part::Data { bytes, last } => match &mut self.inner {
                    Inner::Channels(channels) => channels.receive(from, &bytes, last, events)?,
                    // A byte stream: where messages end means nothing.
                    Inner::Spdy(spdy) => spdy.receive(from, &bytes, events)?,
                },
                Part::Ping(bytes) => events.push(Event::Beat(Beat::Ping(bytes))),
                Part::Pong(bytes) => events.push(Event::Beat(Beat::Pong(bytes))),
                Part::Close(status) => events.push(Event::Bye {
                    status: u32::from(status),
                }),
            }
        }
        read
    }

    /// Encodes one event for a side.
    ///
    /// # Errors
    /// When a header block cannot be written.
    pub fn send(&mut self, to: Side, event: &Event, out: &mut Vec<u8>) -> Result<(), Broken> {
        let websocket = self.frames.is_some();
        let keys = &mut self.keys;
        let mut key = || (to == Side::Server).then(&mut *keys);
        if websocket {
            match event {
                Event::Beat(Beat::Ping(bytes)) => {
                    websocket::write(websocket::PING, &[], bytes, key(), out);
                    return Ok(());
                }
                Event::Beat(Beat::Pong(bytes)) => {
                    websocket::write(websocket::PONG, &[], bytes, key(), out);
                    return Ok(());
                }
                Event::Bye { status } if *status >= 1000 => {
                    websocket::write_close(*status, key(), out);
                    return Ok(());
                }
                Event::Bye { .. }
                | Event::Open { .. }
                | Event::Accepted { .. }
                | Event::Data { .. }
                | Event::Resize { .. }
                | Event::Reset { .. }
                | Event::Beat(Beat::Spdy(_)) => {}
            }
        }
        match &mut self.inner {
            Inner::Channels(channels) => channels.send(to, event, &mut key, out),
            Inner::Spdy(spdy) if websocket => {
                let mut frames = Vec::new();
                spdy.send(to, event, &mut frames)?;
                if !frames.is_empty() {
                    websocket::write(websocket::BINARY, &[], &frames, key(), out);
                }
            }
            Inner::Spdy(spdy) => spdy.send(to, event, out)?,
        }
        Ok(())
    }

    /// A stream that was refused: what is underway on it is dropped.
    pub fn forget(&mut self, id: u32) {
        if let Inner::Spdy(spdy) = &mut self.inner {
            spdy.forget(id);
        }
    }
}
