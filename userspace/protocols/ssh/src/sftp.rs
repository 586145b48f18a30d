//! File transfer: every operation on a path decided by the path's real name, everything on a
//! handle by what it was opened for.
//!
//! The real name is asked of the server (`SSH_FXP_REALPATH`), which resolves `..` and symbolic
//! links; what does not exist yet is resolved up to its folder. Between question and operation
//! somebody else on the server may change a link, and so may the agent by another channel or a
//! command; not through this channel, whose operations are taken one after another.

mod desk;
mod wire;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use russh::{ChannelMsg, ChannelWriteHalf};
use tokio::sync::oneshot;
use weir_govern::{Cleared, ClientBytes, Gate, OwnToClient};

use self::desk::{Desk, OnHandle, Pending};
use self::wire::{Asked, Links, Malformed, Packets, PathUse, code};
use crate::agent::AgentChannel;
use crate::inputs::Inputs;
use crate::noted::Noted;
use crate::path;
use crate::question::{FileAccess, Place};
use crate::serve::{Connect, Flow};
use crate::session::{Refused, ask};
use crate::throttle::Throttle;
use crate::upstream::ServerChannel;

/// How long what the server said of a path is believed.
const ANSWER_AGE_MAX_US: u64 = 50_000;

/// Why a transfer ends.
pub(crate) enum End {
    Left,
    ServerLeft,
    Malformed(Malformed),
    TooMuch,
}

/// Serves the file transfer subsystem on one channel.
pub(crate) async fn run<G, C>(flow: &Rc<Flow<G, C>>, agent: &mut AgentChannel, place: &Place)
where
    G: Gate + 'static,
    C: Connect,
{
    let cleared = match ask(&flow.gate, place.sftp(), &mut agent.inputs).await {
        Ok(cleared) => cleared,
        Err(Refused::Left) => return,
        Err(Refused::Said(text)) => return say(agent, &text).await,
    };
    let noted = Noted::new(&flow.gate, cleared.seq());
    let mut server = match flow.server_session(place).await {
        Ok(server) => server,
        Err(text) => {
            noted.end("unreachable");
            return say(agent, text).await;
        }
    };
    if !begin(&mut server).await {
        noted.end("refused-by-server");
        return say(agent, "weir: the server has no file transfer").await;
    }
    let ServerChannel {
        write,
        inputs: from_server,
        throttle,
    } = server;
    let desk = RefCell::new(Desk::default());
    let closing = Closing {
        gate: &flow.gate,
        desk: &desk,
    };
    let end = {
        let transfer = Transfer {
            gate: &flow.gate,
            place,
            cleared: &cleared,
            desk: &desk,
            to_agent: &agent.write,
            to_server: &write,
        };
        let agent_throttle = agent.inputs.throttle();
        tokio::select! {
            end = transfer.agent_to_server(&mut agent.inputs, &throttle) => end,
            end = transfer.server_to_agent(from_server, &agent_throttle) => end,
        }
    };
    drop(write.close().await);
    drop(closing);
    let (status, told) = finish(&flow.gate, end);
    noted.end(status);
    match told {
        Some(text) => say(agent, &text).await,
        // The agent may be gone.
        None => drop(agent.write.exit_status(0).await),
    }
}

/// Notes the end of whatever is open when the transfer ends, by itself or not.
struct Closing<'a, G: Gate> {
    gate: &'a G,
    desk: &'a RefCell<Desk>,
}

impl<G: Gate> Drop for Closing<'_, G> {
    fn drop(&mut self) {
        self.desk.take().close_all(self.gate);
    }
}

/// Status of the transfer, and what the agent is told of its end.
fn finish<G: Gate>(gate: &G, end: End) -> (&'static str, Option<String>) {
    let (rule, reason) = match end {
        End::Left | End::ServerLeft => return ("ok", None),
        End::Malformed(problem) => ("weir:undecodable", format!("weir: {problem}")),
        End::TooMuch => (
            "weir:too-large",
            "weir: too many requests or open files at once".to_owned(),
        ),
    };
    gate.refuse(rule, &reason, Arc::from("sftp"));
    ("withheld", Some(reason))
}

async fn begin(server: &mut ServerChannel) -> bool {
    if server.write.request_subsystem(true, "sftp").await.is_err() {
        return false;
    }
    loop {
        match server.inputs.next().await {
            Some(ChannelMsg::Success) => return true,
            Some(ChannelMsg::WindowAdjusted { .. }) => {}
            Some(_) | None => return false,
        }
    }
}

/// The client prints what comes on standard error. It may be gone.
async fn say(agent: &AgentChannel, text: &str) {
    let text = Bytes::from(format!("{text}\r\n"));
    drop(agent.write.extended_data_bytes(1, text).await);
    drop(agent.write.exit_status(1).await);
    drop(agent.write.eof().await);
}

/// An operation on paths.
struct OnPaths<'a> {
    id: u32,
    operation: &'static str,
    paths: &'a [PathUse],
    /// It gives a handle.
    opens: bool,
}

struct Transfer<'a, G> {
    gate: &'a G,
    place: &'a Place,
    cleared: &'a Cleared,
    desk: &'a RefCell<Desk>,
    to_agent: &'a ChannelWriteHalf<russh::server::Msg>,
    to_server: &'a ChannelWriteHalf<russh::client::Msg>,
}

impl<G: Gate> Transfer<'_, G> {
    async fn agent_to_server(&self, inputs: &mut Inputs, throttle: &Throttle) -> End {
        let mut packets = Packets::default();
        loop {
            let packet = match packets.next() {
                Ok(Some(packet)) => packet,
                Ok(None) => match inputs.next().await {
                    Some(ChannelMsg::Data { data }) => {
                        packets.push(&data);
                        continue;
                    }
                    Some(ChannelMsg::Eof) => {
                        drop(self.to_server.eof().await);
                        continue;
                    }
                    Some(_) => continue,
                    None => return End::Left,
                },
                Err(problem) => return End::Malformed(problem),
            };
            let asked = match wire::asked(&packet) {
                Ok(asked) => asked,
                Err(problem) => return End::Malformed(problem),
            };
            let _writing = throttle.writing();
            if let Err(end) = self.asked(asked, packet, inputs).await {
                return end;
            }
        }
    }

    async fn asked(&self, asked: Asked, packet: Bytes, inputs: &mut Inputs) -> Result<(), End> {
        match asked {
            Asked::Init => self.send(self.cleared, wire::init()).await,
            Asked::Plain { id, operation: _ } => {
                self.forward(self.cleared, packet, Pending::Plain { id })
                    .await
            }
            Asked::Unsupported { id, name } => {
                let reason = format!("weir: {name} is not supported");
                let statement = Arc::from(format!("sftp {name}"));
                self.gate.refuse("weir:unsupported", &reason, statement);
                self.answer(id, code::UNSUPPORTED, &reason).await
            }
            Asked::Handles {
                id,
                operation,
                handles,
                written,
                changes,
            } => {
                let on = OnHandle {
                    id,
                    operation,
                    written,
                    changes,
                };
                let Some(pending) = self.desk.borrow_mut().on_handle(&on, &handles) else {
                    let reason = "weir: this is not open for that";
                    self.gate.refuse(
                        "weir:unknown-handle",
                        reason,
                        Arc::from(format!("sftp {operation}")),
                    );
                    return self.answer(id, code::FAILURE, reason).await;
                };
                self.forward(self.cleared, packet, pending).await
            }
            Asked::Paths {
                id,
                operation,
                paths,
                opens,
            } => {
                let on = OnPaths {
                    id,
                    operation,
                    paths: &paths,
                    opens,
                };
                self.on_paths(&on, packet, inputs).await
            }
        }
    }

    async fn on_paths(
        &self,
        on: &OnPaths<'_>,
        packet: Bytes,
        inputs: &mut Inputs,
    ) -> Result<(), End> {
        let files = self.files(on.paths).await?;
        let asked = weir_clock::now().mono_us;
        let request = self.place.file(on.operation, &files, packet.len() as u64);
        let cleared = match ask(self.gate, request, inputs).await {
            Ok(cleared) => cleared,
            Err(Refused::Left) => return Err(End::Left),
            Err(Refused::Said(text)) => {
                return self.answer(on.id, code::PERMISSION_DENIED, &text).await;
            }
        };
        let (id, seq) = (on.id, cleared.seq());
        // Reviewers take their time, in which a link may have been changed.
        let noted = Noted::new(self.gate, seq);
        let age = weir_clock::now().mono_us.saturating_sub(asked);
        if age > ANSWER_AGE_MAX_US && self.files(on.paths).await? != files {
            noted.end("withheld");
            let reason = "weir: the path leads elsewhere by now";
            return self.answer(id, code::PERMISSION_DENIED, reason).await;
        }
        noted.hand_over();
        let writes = files.iter().any(|file| file.action == "writeFile");
        let pending = if on.opens {
            Pending::Opening { id, seq, writes }
        } else {
            Pending::Operation { id, seq }
        };
        self.forward(&cleared, packet, pending).await
    }

    /// The paths by their real names.
    async fn files(&self, paths: &[PathUse]) -> Result<Vec<FileAccess>, End> {
        let mut files = Vec::with_capacity(paths.len() * 2);
        for used in paths {
            let real: Arc<str> = Arc::from(self.real_path(used).await?);
            for action in &used.actions {
                files.push(FileAccess {
                    action,
                    path: Arc::clone(&real),
                });
            }
        }
        Ok(files)
    }

    async fn real_path(&self, used: &PathUse) -> Result<String, End> {
        let (asked, rest) = match used.links {
            Links::Followed => (used.path.as_str(), None),
            Links::Kept => path::split(&used.path),
        };
        if let Some(real) = self.ask_real_path(asked).await? {
            return Ok(path::join(&real, rest));
        }
        // It is not there; where it would be is known by its folder.
        let (folder, name) = path::split(asked);
        if let Some(name) = name
            && let Some(real) = self.ask_real_path(folder).await?
        {
            return Ok(path::join(&path::join(&real, Some(name)), rest));
        }
        let home = self
            .ask_real_path(".")
            .await?
            .unwrap_or_else(|| "/".to_owned());
        Ok(path::normal(&home, &used.path))
    }

    async fn ask_real_path(&self, path: &str) -> Result<Option<String>, End> {
        let (sender, receiver) = oneshot::channel();
        let id = self
            .desk
            .borrow_mut()
            .wait_for(Pending::RealPath(sender))
            .ok_or(End::TooMuch)?;
        let path = if path.is_empty() { "." } else { path };
        self.send(self.cleared, wire::realpath(id, path)).await?;
        // Without an answer the other direction ends the transfer.
        receiver.await.map_err(|_| End::ServerLeft)
    }

    async fn forward(&self, cleared: &Cleared, packet: Bytes, pending: Pending) -> Result<(), End> {
        let id = self.desk.borrow_mut().wait_for(pending);
        let id = id.ok_or(End::TooMuch)?;
        self.send(cleared, wire::renumbered(&packet, id)).await
    }

    async fn send(&self, cleared: &Cleared, packet: Bytes) -> Result<(), End> {
        let packet = cleared.forward(packet).into_inner();
        let sent = self.to_server.data_bytes(packet).await;
        sent.map_err(|_| End::ServerLeft)
    }

    async fn answer(&self, id: u32, code: u32, text: &str) -> Result<(), End> {
        let packet = ClientBytes::own(OwnToClient::Denial, wire::status(id, code, text));
        self.show(packet).await
    }

    async fn show(&self, packet: ClientBytes) -> Result<(), End> {
        let sent = self.to_agent.data_bytes(packet.into_bytes()).await;
        sent.map_err(|_| End::Left)
    }

    async fn server_to_agent(&self, mut inputs: Inputs, throttle: &Throttle) -> End {
        let mut packets = Packets::default();
        loop {
            match packets.next() {
                Ok(Some(packet)) => {
                    let answered = self.desk.borrow_mut().answered(&packet, self.gate);
                    let shown = match answered {
                        Ok(shown) => shown,
                        Err(end) => return end,
                    };
                    if let Some(shown) = shown {
                        let _writing = throttle.writing();
                        let shown = ClientBytes::own(OwnToClient::Output, shown);
                        if let Err(end) = self.show(shown).await {
                            return end;
                        }
                    }
                }
                Ok(None) => match inputs.next().await {
                    Some(ChannelMsg::Data { data }) => packets.push(&data),
                    Some(_) => {}
                    None => return End::ServerLeft,
                },
                Err(problem) => return End::Malformed(problem),
            }
        }
    }
}
