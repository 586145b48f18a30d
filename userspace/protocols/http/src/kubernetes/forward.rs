//! Forwarded ports: each is asked for when the agent first connects to it.

use std::collections::BTreeMap;

use bytes::Bytes;
use weir_govern::{OwnToClient, Reply};
use weir_kubernetes::Remote;
use weir_kubernetes::stream::{Codec, Event, Kind, Stream};
use weir_mask::Digest;

use super::remote::{to_agent, to_server};
use crate::dialogue::{Answer, OPENING, Step, Stopped};

/// Of all ports that wait for an answer: what their streams carry meanwhile.
const WAITING_BYTES_MAX: usize = 256 * 1024;
/// What one waiting event counts for besides its bytes.
const EVENT_BYTES: usize = 64;
/// Ports of one connection.
const PORTS_MAX: usize = 256;

/// The ports of one connection.
pub(super) struct Ports {
    remote: Remote,
    ports: BTreeMap<u16, Port>,
    /// Error streams that are open, for a word on why all ends.
    errors: BTreeMap<u32, Stream>,
    next_question: u32,
    waiting_bytes: usize,
    stopped: Option<Stopped>,
}

#[derive(Default)]
struct Port {
    question: Option<u32>,
    cleared: bool,
    reply: Reply,
    /// Of what the agent was sent.
    digest: Digest,
    /// Of streams that wait, in order.
    waiting: Vec<Event>,
}

impl Ports {
    /// `cleared`: ports that were asked for before the upgrade, as questions 1, 2, …
    pub(super) fn new(remote: Remote, cleared: &[u16]) -> Self {
        let mut ports: BTreeMap<u16, Port> = BTreeMap::new();
        let mut next_question = OPENING;
        for port in cleared {
            next_question += 1;
            ports.entry(*port).or_insert_with(|| Port {
                question: Some(next_question),
                cleared: true,
                ..Port::default()
            });
        }
        Self {
            remote,
            ports,
            errors: BTreeMap::new(),
            next_question: next_question + 1,
            waiting_bytes: 0,
            stopped: None,
        }
    }

    pub(super) const fn has_room(&self) -> bool {
        self.waiting_bytes < WAITING_BYTES_MAX
    }

    pub(super) fn agent(
        &mut self,
        codec: &mut Codec,
        event: Event,
        steps: &mut Vec<Step>,
    ) -> Result<(), Stopped> {
        let Some(stream) = of(&event) else {
            return to_server(codec, OPENING, &event, steps);
        };
        if let Event::Open { .. } = event {
            // The agent waits for this before it opens the next one, and not long.
            let taken = Event::Accepted { id: stream.id };
            to_agent(codec, &taken, OwnToClient::Status, steps)?;
            if stream.kind == Kind::PortError {
                self.errors.insert(stream.id, stream);
            }
        }
        if let Event::Reset { .. } = event {
            self.errors.remove(&stream.id);
        }
        if self.ports.len() >= PORTS_MAX && !self.ports.contains_key(&stream.port) {
            return Err(Stopped {
                text: "too many ports are forwarded over one connection",
                status: "limit",
            });
        }
        let port = self.ports.entry(stream.port).or_default();
        if port.cleared {
            return port.send(codec, &event, steps);
        }
        // An error stream comes first and asks for nothing: its data stream does.
        if port.question.is_none() && stream.kind == Kind::Port {
            port.question = Some(self.next_question);
            let request = self.remote.port(stream.port);
            steps.push(Step::Ask(self.next_question, request));
            self.next_question += 1;
        }
        self.waiting_bytes += size(&event);
        port.waiting.push(event);
        Ok(())
    }

    pub(super) fn answered(
        &mut self,
        codec: &mut Codec,
        question: u32,
        answer: &Answer,
        steps: &mut Vec<Step>,
    ) -> Result<(), Stopped> {
        let mut asked = self.ports.values_mut();
        let Some(port) = asked.find(|port| port.question == Some(question)) else {
            return Ok(());
        };
        let waiting = std::mem::take(&mut port.waiting);
        let freed: usize = waiting.iter().map(size).sum();
        self.waiting_bytes = self.waiting_bytes.saturating_sub(freed);
        match answer {
            Answer::Cleared => {
                port.cleared = true;
                for event in waiting {
                    port.send(codec, &event, steps)?;
                }
            }
            Answer::Refused(why) => {
                port.question = None;
                self.refuse(codec, waiting, why, steps)?;
            }
        }
        Ok(())
    }

    /// Ends the pairs of streams that wait; an error stream whose data stream is not there yet
    /// waits on.
    fn refuse(
        &mut self,
        codec: &mut Codec,
        waiting: Vec<Event>,
        why: &str,
        steps: &mut Vec<Step>,
    ) -> Result<(), Stopped> {
        let opened = |kind: Kind| {
            waiting.iter().filter_map(move |event| {
                let Event::Open {
                    stream, request, ..
                } = event
                else {
                    return None;
                };
                (stream.kind == kind).then_some((*request, *stream))
            })
        };
        let data: BTreeMap<u32, Stream> = opened(Kind::Port).collect();
        let errors: BTreeMap<u32, Stream> = opened(Kind::PortError).collect();
        let mut ended: Vec<u32> = Vec::new();
        for (request, stream) in &data {
            let text = Bytes::from(why.to_owned());
            let pair = errors.get(request).map(|error| (*error, text));
            for (stream, bytes) in pair.into_iter().chain([(*stream, Bytes::new())]) {
                let event = Event::Data {
                    stream,
                    bytes,
                    end: true,
                };
                to_agent(codec, &event, OwnToClient::Denial, steps)?;
                codec.forget(stream.id);
                self.errors.remove(&stream.id);
                ended.push(stream.id);
            }
        }
        for event in waiting {
            let Some(stream) = of(&event).filter(|stream| !ended.contains(&stream.id)) else {
                continue;
            };
            if let Some(port) = self.ports.get_mut(&stream.port) {
                self.waiting_bytes += size(&event);
                port.waiting.push(event);
            }
        }
        Ok(())
    }

    pub(super) fn server(
        &mut self,
        codec: &mut Codec,
        event: &Event,
        steps: &mut Vec<Step>,
    ) -> Result<(), Stopped> {
        if let Some(stream) = of(event)
            && let Some(port) = self.ports.get_mut(&stream.port)
        {
            if let Event::Data { bytes, .. } = event {
                port.reply.bytes_out += bytes.len() as u64;
                port.digest.add(bytes);
                if stream.kind == Kind::PortError && !bytes.is_empty() {
                    "error".clone_into(&mut port.reply.status);
                }
            }
            let over = match event {
                Event::Data { end, .. } => *end,
                Event::Reset { .. } => true,
                Event::Open { .. }
                | Event::Accepted { .. }
                | Event::Resize { .. }
                | Event::Beat(_)
                | Event::Bye { .. } => false,
            };
            if over {
                self.errors.remove(&stream.id);
            }
        }
        to_agent(codec, event, OwnToClient::Output, steps)
    }

    /// The reason, where a port's own failure would stand.
    pub(super) fn stop(&mut self, codec: &mut Codec, stopped: Stopped, steps: &mut Vec<Step>) {
        self.stopped = Some(stopped);
        for stream in std::mem::take(&mut self.errors).into_values() {
            let said = Event::Data {
                stream,
                bytes: Bytes::from(format!("weir: {}", stopped.text)),
                end: true,
            };
            // What cannot be said any more was on its way to an end in any case.
            let _said = to_agent(codec, &said, OwnToClient::Denial, steps);
        }
    }

    pub(super) fn replies(&mut self) -> Vec<(u32, Reply)> {
        let status = self.stopped.map_or("ok", |stopped| stopped.status);
        let opening = Reply {
            status: status.to_owned(),
            ..Reply::default()
        };
        let mut replies = vec![(OPENING, opening)];
        for port in self.ports.values_mut().filter(|port| port.cleared) {
            let mut reply = std::mem::take(&mut port.reply);
            reply.digest = std::mem::take(&mut port.digest).value();
            if reply.status.is_empty() {
                status.clone_into(&mut reply.status);
            }
            replies.extend(port.question.map(|question| (question, reply)));
        }
        replies
    }
}

impl Port {
    fn send(
        &mut self,
        codec: &mut Codec,
        event: &Event,
        steps: &mut Vec<Step>,
    ) -> Result<(), Stopped> {
        if let Event::Data { bytes, .. } = event {
            self.reply.bytes_in += bytes.len() as u64;
        }
        // Without its number nothing is permitted.
        let question = self.question.unwrap_or(u32::MAX);
        to_server(codec, question, event, steps)
    }
}

/// The stream that an event belongs to.
const fn of(event: &Event) -> Option<Stream> {
    match event {
        Event::Open { stream, .. }
        | Event::Data { stream, .. }
        | Event::Resize { stream, .. }
        | Event::Reset { stream, .. } => Some(*stream),
        Event::Accepted { .. } | Event::Beat(_) | Event::Bye { .. } => None,
    }
}

fn size(event: &Event) -> usize {
    let bytes = match event {
        Event::Data { bytes, .. } => bytes.len(),
        Event::Open { .. }
        | Event::Accepted { .. }
        | Event::Resize { .. }
        | Event::Reset { .. }
        | Event::Beat(_)
        | Event::Bye { .. } => 0,
    };
    bytes + EVENT_BYTES
}
