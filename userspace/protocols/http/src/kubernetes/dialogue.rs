//! Exec, attach and port-forward, once the server has agreed to them.

use weir_govern::{OutputMasking, OwnToClient, Reply};
use weir_kubernetes::stream::{Codec, Event, Protocol, Side};
use weir_model::time::Now;

use super::forward::Ports;
use super::remote::{Command, broken, to_agent, to_server};
use crate::dialogue::{Answer, Dialogue, OPENING, Step, Stopped};

/// One upgraded connection.
pub struct KubernetesDialogue {
    codec: Codec,
    websocket: bool,
    what: What,
    /// Nothing more is decoded.
    over: bool,
}

enum What {
    Command(Box<Command>),
    Ports(Box<Ports>),
}

impl KubernetesDialogue {
    /// `cleared`: ports that were asked for before the upgrade.
    pub(super) fn new(
        codec: Codec,
        protocol: Protocol,
        remote: &weir_kubernetes::Remote,
        cleared: &[u16],
        masking: &OutputMasking,
    ) -> Self {
        let what = if protocol.forwards() {
            What::Ports(Box::new(Ports::new(remote.clone(), cleared)))
        } else {
            What::Command(Box::new(Command::new(remote, masking)))
        };
        Self {
            codec,
            websocket: protocol.is_websocket(),
            what,
            over: false,
        }
    }

    fn bye(&self) -> Event {
        let status = if self.websocket { 1000 } else { 0 };
        Event::Bye { status }
    }
}

impl Dialogue for KubernetesDialogue {
    fn agent_said(&mut self, bytes: &[u8], now: Now, steps: &mut Vec<Step>) -> Result<(), Stopped> {
        if self.over {
            return Ok(());
        }
        let mut events = Vec::new();
        let read = self.codec.receive(Side::Agent, bytes, &mut events);
        for event in events {
            match &mut self.what {
                What::Command(command) => command.agent(&mut self.codec, &event, now, steps)?,
                What::Ports(ports) => ports.agent(&mut self.codec, event, steps)?,
            }
        }
        read.map_err(broken)
    }

    fn server_said(
        &mut self,
        bytes: &[u8],
        now: Now,
        steps: &mut Vec<Step>,
    ) -> Result<(), Stopped> {
        if self.over {
            return Ok(());
        }
        let mut events = Vec::new();
        let read = self.codec.receive(Side::Server, bytes, &mut events);
        for event in events {
            match &mut self.what {
                What::Command(command) => command.server(&mut self.codec, event, now, steps)?,
                What::Ports(ports) => ports.server(&mut self.codec, &event, steps)?,
            }
        }
        read.map_err(broken)
    }

    fn answered(
        &mut self,
        question: u32,
        answer: Answer,
        _now: Now,
        steps: &mut Vec<Step>,
    ) -> Result<(), Stopped> {
        match &mut self.what {
            What::Ports(ports) if !self.over => {
                ports.answered(&mut self.codec, question, &answer, steps)
            }
            What::Ports(_) | What::Command(_) => Ok(()),
        }
    }

    fn wants_agent(&self) -> bool {
        match &self.what {
            What::Command(_) => true,
            What::Ports(ports) => ports.has_room(),
        }
    }

    fn tick(&mut self, now: Now, steps: &mut Vec<Step>) -> Result<(), Stopped> {
        match &mut self.what {
            What::Command(command) if !self.over => command.tick(&mut self.codec, now, steps),
            What::Command(_) | What::Ports(_) => Ok(()),
        }
    }

    fn stop(&mut self, stopped: Stopped, now: Now, steps: &mut Vec<Step>) {
        self.over = true;
        match &mut self.what {
            What::Command(command) => {
                // What cannot be shown any more is not shown.
                let _shown = command.flush(&mut self.codec, now, steps);
                command.stop(&mut self.codec, stopped, steps);
            }
            What::Ports(ports) => ports.stop(&mut self.codec, stopped, steps),
        }
        let bye = self.bye();
        // Either side may be gone already.
        let _said = to_agent(&mut self.codec, &bye, OwnToClient::Status, steps);
        let _said = to_server(&mut self.codec, OPENING, &bye, steps);
    }

    fn server_left(&mut self, now: Now, steps: &mut Vec<Step>) {
        if let What::Command(command) = &mut self.what
            && !self.over
        {
            // The connection ends in any case.
            let _shown = command.flush(&mut self.codec, now, steps);
        }
    }

    fn replies(&mut self) -> (Option<String>, Vec<(u32, Reply)>) {
        match &mut self.what {
            What::Command(command) => {
                let (piece, reply) = command.reply();
                (piece, vec![(OPENING, reply)])
            }
            What::Ports(ports) => (None, ports.replies()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use weir_kubernetes::stream::{Kind, Stream};
    use weir_kubernetes::{Remote, question};
    use weir_mask::{Detector, MaskKey, OutputPatterns};

    use super::*;
    use weir_decide::Keep;

    const NOW: Now = Now {
        mono_us: 0,
        wall_us: 0,
    };

    fn remote(path: &str) -> Remote {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let path = format!("/api/v1/namespaces/shop/pods/web-0/{path}");
        let key = MaskKey::new([1; 32]);
        let target = "k".into();
        let uri = (path.as_str(), query);
        let question = question(&target, &http::Method::POST, uri, (&[], None), &key);
        question.unwrap().plan.remote.unwrap()
    }

    fn codec(protocol: Protocol) -> Codec {
        Codec::new(protocol, &[], Box::new(|| [1, 2, 3, 4])).unwrap()
    }

    fn dialogue(protocol: Protocol, path: &str) -> KubernetesDialogue {
        let masking = OutputMasking {
            patterns: OutputPatterns::new(&Detector::ALL, &[]).unwrap(),
            rules: vec!["mask-output".to_owned()],
            keep: Keep::default(),
        };
        KubernetesDialogue::new(codec(protocol), protocol, &remote(path), &[], &masking)
    }

    /// What a peer reads of all that goes to its side, and the other steps by name.
    fn read(protocol: Protocol, side: Side, steps: &[Step]) -> (Vec<Event>, Vec<String>) {
        let (mut peer, mut events, mut names) = (codec(protocol), Vec::new(), Vec::new());
        for step in steps {
            let from = match side {
                Side::Agent => Side::Server,
                Side::Server => Side::Agent,
            };
            // The agent opened its streams before; the reading peer has not seen that.
            let mut take = |bytes: &[u8]| peer.receive(from, bytes, &mut events).unwrap();
            match step {
                Step::ToAgent(bytes) => {
                    names.push("agent".to_owned());
                    if side == Side::Agent {
                        take(bytes.as_bytes());
                    }
                }
                Step::ToServer(question, bytes) => {
                    names.push(format!("server by {question}"));
                    if side == Side::Server {
                        take(bytes);
                    }
                }
                Step::Record(piece) => names.push(format!("record {piece}")),
                Step::Ask(question, request) => {
                    names.push(format!("ask {question} {}", request.statement));
                }
            }
        }
        (events, names)
    }

    fn said(peer: &mut Codec, to: Side, events: &[Event]) -> Vec<u8> {
        let mut out = Vec::new();
        for event in events {
            peer.send(to, event, &mut out).unwrap();
        }
        out
    }

    fn data(stream: Stream, bytes: &[u8], end: bool) -> Event {
        let bytes = Bytes::copy_from_slice(bytes);
        Event::Data { stream, bytes, end }
    }

    const fn stream(id: u32, kind: Kind, port: u16) -> Stream {
        Stream { id, kind, port }
    }

    /// One forwarded connection: an error stream, its data stream, and a first byte.
    fn connection(first: u32, request: u32, port: u16) -> Vec<Event> {
        let (error, port) = (
            stream(first, Kind::PortError, port),
            stream(first + 2, Kind::Port, port),
        );
        let open = |stream, end| Event::Open {
            stream,
            request,
            end,
        };
        vec![
            open(error, true),
            open(port, false),
            data(port, b"x", false),
        ]
    }

    #[test]
    fn what_is_typed_is_recorded_before_it_is_sent() {
        let protocol = Protocol::RemoteV5;
        let mut dialogue = dialogue(protocol, "exec?command=sh&stdin=1&tty=1");
        let mut agent = codec(protocol);
        let size = Event::Resize {
            stream: stream(4, Kind::Resize, 0),
            width: 99,
            height: 33,
        };
        let typed = data(stream(0, Kind::Stdin, 0), b"ls\r", false);
        let bytes = said(&mut agent, Side::Server, &[size.clone(), typed.clone()]);
        let mut steps = Vec::new();
        dialogue.agent_said(&bytes, NOW, &mut steps).unwrap();
        let (events, names) = read(protocol, Side::Server, &steps);
        assert_eq!(events, [size, typed]);
        let [resized, recorded, sent] = names.as_slice() else {
            panic!("{names:?}");
        };
        assert_eq!(
            (resized.as_str(), sent.as_str()),
            ("server by 0", "server by 0")
        );
        assert!(
            recorded.contains("\"width\":99,\"height\":33"),
            "{recorded}"
        );
        assert!(recorded.contains("\"i\",\"ls\\r\""), "{recorded}");
    }

    #[test]
    fn a_port_waits_for_its_answer_and_others_go_on() {
        let protocol = Protocol::ForwardSpdy;
        let mut dialogue = dialogue(protocol, "portforward");
        let mut agent = codec(protocol);
        let (mut steps, mut all) = (Vec::new(), Vec::new());
        let first = connection(1, 0, 80);
        let bytes = said(&mut agent, Side::Server, &first);
        dialogue.agent_said(&bytes, NOW, &mut steps).unwrap();
        let names = read(protocol, Side::Server, &[]).1;
        assert!(names.is_empty());
        let asked = steps.iter().any(
            |step| matches!(step, Step::Ask(1, request) if request.statement.ends_with(": 80")),
        );
        let sent = |steps: &[Step]| steps.iter().any(|step| matches!(step, Step::ToServer(..)));
        assert!(asked && !sent(&steps), "{steps:?}");
        // A second connection to it asks nothing; one to another port does.
        let mut more = connection(5, 1, 80);
        more.extend(connection(9, 2, 22));
        let bytes = said(&mut agent, Side::Server, &more);
        steps.clear();
        dialogue.agent_said(&bytes, NOW, &mut steps).unwrap();
        let asks = steps.iter().filter(|step| matches!(step, Step::Ask(..)));
        assert_eq!(asks.count(), 1);
        assert!(!sent(&steps));
        steps.clear();
        dialogue
            .answered(1, Answer::Cleared, NOW, &mut steps)
            .unwrap();
        let (events, names) = read(protocol, Side::Server, &steps);
        assert_eq!(events.len(), 6, "{events:?}");
        assert!(names.iter().all(|name| name == "server by 1"), "{names:?}");
        all.append(&mut steps);
        let refused = Answer::Refused("weir: no".to_owned());
        dialogue.answered(2, refused, NOW, &mut steps).unwrap();
        assert!(!sent(&steps), "{steps:?}");
        let text: Vec<u8> = steps
            .iter()
            .filter_map(|step| match step {
                Step::ToAgent(bytes) => Some(bytes.as_bytes().to_vec()),
                Step::Record(_) | Step::ToServer(..) | Step::Ask(..) => None,
            })
            .flatten()
            .collect();
        assert!(text.windows(8).any(|part| part == b"weir: no"));
        // Asked anew, since a refusal is not kept.
        let bytes = said(&mut agent, Side::Server, &connection(13, 3, 22));
        steps.clear();
        dialogue.agent_said(&bytes, NOW, &mut steps).unwrap();
        assert!(steps.iter().any(|step| matches!(step, Step::Ask(3, _))));
        let (_, replies) = dialogue.replies();
        let of: Vec<(u32, u64)> = replies
            .iter()
            .map(|(question, reply)| (*question, reply.bytes_in))
            .collect();
        assert_eq!(of, [(OPENING, 0), (1, 2)]);
    }

    #[test]
    fn what_waits_has_a_limit() {
        let protocol = Protocol::ForwardTunnel;
        let mut dialogue = dialogue(protocol, "portforward");
        let mut agent = codec(protocol);
        let mut steps = Vec::new();
        let bytes = said(&mut agent, Side::Server, &connection(1, 0, 80));
        dialogue.agent_said(&bytes, NOW, &mut steps).unwrap();
        let piece = data(stream(3, Kind::Port, 80), &[b'y'; 32 * 1024], false);
        let mut pieces = 0;
        while dialogue.wants_agent() {
            let bytes = said(&mut agent, Side::Server, std::slice::from_ref(&piece));
            dialogue.agent_said(&bytes, NOW, &mut steps).unwrap();
            pieces += 1;
        }
        assert!((4..=8).contains(&pieces), "{pieces}");
        dialogue
            .answered(1, Answer::Cleared, NOW, &mut steps)
            .unwrap();
        assert!(dialogue.wants_agent());
    }

    #[test]
    fn output_has_a_head_and_ends_have_a_status() {
        let protocol = Protocol::RemoteV4;
        let mut dialogue = dialogue(protocol, "exec?command=cat");
        let mut server = codec(protocol);
        let long = data(
            stream(1, Kind::Stdout, 0),
            "word ".repeat(20_000).as_bytes(),
            false,
        );
        let end =
            br#"{"status":"Failure","details":{"causes":[{"reason":"ExitCode","message":"9"}]}}"#;
        let end = data(stream(3, Kind::Error, 0), end, false);
        let bytes = said(&mut server, Side::Agent, &[long, end]);
        let mut steps = Vec::new();
        dialogue.server_said(&bytes, NOW, &mut steps).unwrap();
        let (piece, replies) = dialogue.replies();
        assert_eq!(piece, None);
        let (question, reply) = replies.first().unwrap();
        assert_eq!((*question, reply.status.as_str()), (OPENING, "exit:9"));
        assert_eq!((reply.bytes_out, reply.truncated), (100_000, true));
        assert_eq!(reply.response_masked.len(), 64 * 1024);
    }

    #[test]
    fn secrets_in_output_are_masked_and_break_a_copy() {
        let token = format!("ghp_{}", "a1B2".repeat(9));
        for (path, copied) in [
            ("exec?command=cat", false),
            ("exec?command=tar&command=cf", true),
        ] {
            let protocol = Protocol::RemoteV5;
            let mut dialogue = dialogue(protocol, path);
            let mut server = codec(protocol);
            let stdout = stream(1, Kind::Stdout, 0);
            let (head, tail) = token.split_at(11);
            let mut steps = Vec::new();
            let mut said_so = Ok(());
            for part in [head, tail, " and more\n"] {
                let piece = data(stdout, part.as_bytes(), false);
                let bytes = said(&mut server, Side::Agent, &[piece]);
                said_so = said_so.and(dialogue.server_said(&bytes, NOW, &mut steps));
            }
            dialogue.server_left(NOW, &mut steps);
            let (events, _) = read(protocol, Side::Agent, &steps);
            let shown = format!("{events:?}");
            assert!(!shown.contains("a1B2"), "{shown}");
            assert_eq!(said_so.is_err(), copied, "{said_so:?}");
            assert_eq!(shown.contains("and more"), !copied, "{shown}");
            let (_, replies) = dialogue.replies();
            assert_eq!(replies.first().unwrap().1.masked_values, 1);
        }
    }

    #[test]
    fn a_stop_is_said_on_the_error_channel() {
        for protocol in [Protocol::RemoteV5, Protocol::RemoteSpdy] {
            let mut dialogue = dialogue(protocol, "exec?command=cat");
            let mut agent = codec(protocol);
            let mut steps = Vec::new();
            if protocol == Protocol::RemoteSpdy {
                let open = Event::Open {
                    stream: stream(1, Kind::Error, 0),
                    request: 0,
                    end: false,
                };
                let bytes = said(&mut agent, Side::Server, &[open]);
                dialogue.agent_said(&bytes, NOW, &mut steps).unwrap();
                steps.clear();
            }
            let stopped = Stopped {
                text: "an operator ended this session",
                status: "killed",
            };
            dialogue.stop(stopped, NOW, &mut steps);
            let text: Vec<u8> = steps
                .iter()
                .filter_map(|step| match step {
                    Step::ToAgent(bytes) => Some(bytes.as_bytes().to_vec()),
                    Step::Record(_) | Step::ToServer(..) | Step::Ask(..) => None,
                })
                .flatten()
                .collect();
            let text = String::from_utf8_lossy(&text).into_owned();
            assert!(
                text.contains("weir: an operator ended this session"),
                "{text}"
            );
            let bytes = said(&mut agent, Side::Server, &[Event::Bye { status: 1000 }]);
            steps.clear();
            dialogue.agent_said(&bytes, NOW, &mut steps).unwrap();
            assert!(steps.is_empty(), "{steps:?}");
            let (_, replies) = dialogue.replies();
            assert_eq!(replies.first().unwrap().1.status, "killed");
        }
    }
}
