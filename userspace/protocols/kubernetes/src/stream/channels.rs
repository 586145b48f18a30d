//! Messages whose first byte is a channel: `v4.channel.k8s.io` and `v5.channel.k8s.io`.

use bytes::Bytes;

use super::sizes::{self, Sizes};
use super::websocket::{self, BINARY};
use super::{Broken, Event, Kind, Side, Stream};

/// In v5, followed by a channel: that one is closed.
const CLOSE_CHANNEL: u8 = 255;

/// Both directions of one connection.
#[derive(Debug)]
pub(crate) struct Channels {
    /// Channels can be closed.
    closing: bool,
    /// Forwarded ports in the order of their channels; `None` for a command.
    ports: Option<Vec<Named>>,
    agent: Reading,
    server: Reading,
    sizes: Sizes,
}

/// A port, and what the server said of it on its two channels.
#[derive(Debug)]
struct Named {
    port: u16,
    said: [Vec<u8>; 2],
}

/// A message that is being read.
#[derive(Debug, Default)]
struct Reading {
    channel: Option<u8>,
    /// A piece of it was given on.
    told: bool,
    /// Of a message on the closing channel.
    close: Vec<u8>,
    /// Channels that this side has closed.
    closed: Vec<u8>,
}

impl Channels {
    pub(crate) fn remote(closing: bool) -> Self {
        Self {
            closing,
            ports: None,
            agent: Reading::default(),
            server: Reading::default(),
            sizes: Sizes::default(),
        }
    }

    pub(crate) fn forward(ports: &[u16]) -> Self {
        let named = |port: &u16| Named {
            port: *port,
            said: Default::default(),
        };
        Self {
            ports: Some(ports.iter().map(named).collect()),
            ..Self::remote(false)
        }
    }

    const fn reading(&mut self, side: Side) -> &mut Reading {
        match side {
            Side::Agent => &mut self.agent,
            Side::Server => &mut self.server,
        }
    }

    /// A piece of a message.
    pub(crate) fn receive(
        &mut self,
        from: Side,
        piece: &Bytes,
        last: bool,
        events: &mut Vec<Event>,
    ) -> Result<(), Broken> {
        let closing = self.closing;
        let reading = self.reading(from);
        let mut data = piece.clone();
        let channel = match (reading.channel, piece.first()) {
            (Some(channel), _) => channel,
            (None, Some(channel)) => {
                data = piece.slice(1..);
                reading.told = false;
                *channel
            }
            // A message without any byte says nothing.
            (None, None) => return Ok(()),
        };
        reading.channel = (!last).then_some(channel);
        if channel == CLOSE_CHANNEL && closing {
            return self.close(from, &data, last, events);
        }
        if reading.closed.contains(&channel) {
            return Err(Broken("data follow the end of their channel"));
        }
        // An empty message is given on as one: servers open their channels so.
        let nothing = data.is_empty() && (!last || reading.told);
        reading.told = true;
        if nothing {
            return Ok(());
        }
        self.data(from, channel, data, events)
    }

    fn data(
        &mut self,
        from: Side,
        channel: u8,
        mut bytes: Bytes,
        events: &mut Vec<Event>,
    ) -> Result<(), Broken> {
        let stream = self.stream(channel)?;
        let writes = match from {
            Side::Agent => matches!(stream.kind, Kind::Stdin | Kind::Resize | Kind::Port),
            Side::Server => !matches!(stream.kind, Kind::Stdin | Kind::Resize),
        };
        if !writes {
            return Err(Broken("data on a channel that is the other side's"));
        }
        if stream.kind == Kind::Resize {
            for (width, height) in self.sizes.receive(&bytes)? {
                events.push(Event::Resize {
                    stream,
                    width,
                    height,
                });
            }
            return Ok(());
        }
        if from == Side::Server && self.naming(channel, &mut bytes)? {
            events.push(Event::Open {
                stream,
                request: u32::from(channel / 2),
                end: false,
            });
            if bytes.is_empty() {
                return Ok(());
            }
        }
        events.push(Event::Data {
            stream,
            bytes,
            end: false,
        });
        Ok(())
    }

    /// Takes the two bytes by which the server names a channel's port; true once they are whole.
    fn naming(&mut self, channel: u8, bytes: &mut Bytes) -> Result<bool, Broken> {
        let place = self
            .ports
            .as_mut()
            .and_then(|ports| ports.get_mut(usize::from(channel / 2)));
        let Some(Named { port, said }) = place else {
            return Ok(false);
        };
        let Some(said) = said.get_mut(usize::from(channel % 2)) else {
            return Ok(false);
        };
        if said.len() == 2 {
            return Ok(false);
        }
        let head = bytes.split_to(bytes.len().min(2 - said.len()));
        said.extend_from_slice(&head);
        match said.as_slice() {
            [low, high] if u16::from_le_bytes([*low, *high]) == *port => Ok(true),
            [_, _] => Err(Broken("the server names another port than was asked for")),
            _ => Ok(false),
        }
    }

    fn close(
        &mut self,
        from: Side,
        data: &[u8],
        last: bool,
        events: &mut Vec<Event>,
    ) -> Result<(), Broken> {
        let reading = self.reading(from);
        reading.close.extend_from_slice(data);
        if reading.close.len() > 1 {
            return Err(Broken("a message closes more than one channel"));
        }
        if !last {
            return Ok(());
        }
        let Some(channel) = reading.close.pop() else {
            return Err(Broken("a message closes no channel"));
        };
        if reading.closed.contains(&channel) {
            return Ok(());
        }
        reading.closed.push(channel);
        let stream = self.stream(channel)?;
        events.push(Event::Data {
            stream,
            bytes: Bytes::new(),
            end: true,
        });
        Ok(())
    }

    fn stream(&self, channel: u8) -> Result<Stream, Broken> {
        const UNKNOWN: Broken = Broken("data on a channel that is not known");
        let (kind, port) = match &self.ports {
            None => match channel {
                0 => (Kind::Stdin, 0),
                1 => (Kind::Stdout, 0),
                2 => (Kind::Stderr, 0),
                3 => (Kind::Error, 0),
                4 => (Kind::Resize, 0),
                _ => return Err(UNKNOWN),
            },
            Some(ports) => {
                let named = ports.get(usize::from(channel / 2)).ok_or(UNKNOWN)?;
                if channel.is_multiple_of(2) {
                    (Kind::Port, named.port)
                } else {
                    (Kind::PortError, named.port)
                }
            }
        };
        Ok(Stream {
            id: u32::from(channel),
            kind,
            port,
        })
    }

    /// One event as messages; `key` masks those to the server. Clients do not know the closing of a
    /// channel, servers do.
    pub(crate) fn send(
        &self,
        to: Side,
        event: &Event,
        key: &mut dyn FnMut() -> Option<[u8; 4]>,
        out: &mut Vec<u8>,
    ) {
        let mut message = |id: u32, payload: &[u8]| {
            let channel = u8::try_from(id).unwrap_or(CLOSE_CHANNEL);
            websocket::write(BINARY, &[channel], payload, key(), out);
        };
        match event {
            Event::Data { stream, bytes, end } => {
                if !bytes.is_empty() || !end {
                    message(stream.id, bytes);
                }
                if *end && self.closing && to == Side::Server {
                    let channel = u8::try_from(stream.id).unwrap_or(CLOSE_CHANNEL);
                    message(u32::from(CLOSE_CHANNEL), &[channel]);
                }
            }
            Event::Resize {
                stream,
                width,
                height,
            } => message(stream.id, &sizes::write(*width, *height)),
            Event::Open { stream, .. } => message(stream.id, &stream.port.to_le_bytes()),
            // Streams are neither opened nor reset here; the rest is the frames' business.
            Event::Accepted { .. } | Event::Reset { .. } | Event::Beat(_) | Event::Bye { .. } => {}
        }
    }
}
