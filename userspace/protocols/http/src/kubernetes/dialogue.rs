//! Exec, attach and port-forward, once the server has agreed to them.

use weir_govern::{OwnToClient, Reply};
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
    ) -> Self {
        let what = if protocol.forwards() {
            What::Ports(Box::new(Ports::new(remote.clone(), cleared)))
        } else {
            What::Command(Box::new(Command::new(remote)))
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
        if let What::Command(command) = &mut self.what {
            command.tick(now, steps);
        }
        Ok(())
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
