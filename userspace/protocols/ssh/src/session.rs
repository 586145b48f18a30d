//! A session channel (RFC 4254, 6): set up, asked for, and carried both ways.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::server::Handle;
use russh::{ChannelMsg, Pty};
use tokio::time::sleep;
use weir_govern::terminal::Cast;
use weir_govern::{Blocked, Cleared, Gate};
use weir_mask::without_secrets;
use weir_model::request::Request;

use crate::agent::AgentChannel;
use crate::carry::{Exit, carry};
use crate::inputs::Inputs;
use crate::noted::Noted;
use crate::output::Output;
use crate::question::Place;
use crate::serve::{Connect, Flow};
use crate::sftp;
use crate::upstream::ServerChannel;

/// The shell's own code for "found, but cannot be run".
const EXIT_REFUSED: u32 = 126;
/// As `ssh` says it when there is no connection.
const EXIT_FAILED: u32 = 255;
/// How long a request may take before the agent is told that a reviewer is asked.
const NOTICE_AFTER: Duration = Duration::from_millis(250);
/// Of environment variables and their values, per channel.
const ENVIRONMENT_BYTES_MAX: usize = 16 * 1024;
/// Of the name of a terminal, and of what is recorded of a subsystem's.
const NAME_BYTES_MAX: usize = 256;
/// Of a command line.
const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// Variables that are passed on: what a server usually takes, nothing that steers a program
/// loader or a shell.
pub(crate) fn passes(name: &str) -> bool {
    name.starts_with("LC_")
        || [
            "LANG",
            "TERM",
            "COLORTERM",
            "NO_COLOR",
            "GIT_PROTOCOL",
            "TZ",
        ]
        .contains(&name)
}

struct Terminal {
    term: String,
    size: (u32, u32),
    pixels: (u32, u32),
    modes: Vec<(Pty, u32)>,
}

#[derive(Default)]
struct Setup {
    terminal: Option<Terminal>,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// What goes to the server with the command, as the record and reviewers see it.
    fn parameters(&self) -> String {
        let variables: Vec<String> = self
            .environment
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let variables: Vec<&str> = variables.iter().map(String::as_str).collect();
        weir_shell::join(&variables)
    }
}

enum Start {
    Exec(Vec<u8>),
    Shell,
    Subsystem(String),
}

/// Why a channel does not go on.
pub(crate) enum Refused {
    /// The agent left.
    Left,
    /// Text for the agent.
    Said(String),
}

/// Asks the gate; an agent that leaves meanwhile takes its request back.
pub(crate) async fn ask<G: Gate>(
    gate: &G,
    request: Request,
    inputs: &mut Inputs,
) -> Result<Cleared, Refused> {
    let outcome = tokio::select! {
        outcome = gate.ask(request) => outcome,
        () = inputs.left() => return Err(Refused::Left),
    };
    outcome.map_err(|blocked| {
        Refused::Said(match blocked {
            Blocked::Refused(refusal) => refusal.text(),
            Blocked::NotRecorded => {
                "weir: this cannot be recorded at the moment, so it is not done".to_owned()
            }
        })
    })
}

/// Serves one session channel until it is closed.
pub(crate) async fn run<G, C>(
    flow: Rc<Flow<G, C>>,
    mut channel: AgentChannel,
    place: Place,
    handle: Handle,
) where
    G: Gate + 'static,
    C: Connect,
{
    let Some((setup, start)) = set_up(&mut channel.inputs).await else {
        return;
    };
    let mut session = Session {
        flow: &flow,
        channel: &mut channel,
        place: &place,
        handle: &handle,
    };
    session.serve(setup, start).await;
    // The agent may have left already.
    drop(channel.write.close().await);
}

async fn set_up(inputs: &mut Inputs) -> Option<(Setup, Start)> {
    let mut setup = Setup::default();
    let mut room = ENVIRONMENT_BYTES_MAX;
    loop {
        match inputs.next().await? {
            ChannelMsg::RequestPty {
                term,
                col_width,
                row_height,
                pix_width,
                pix_height,
                terminal_modes,
                ..
            } => {
                setup.terminal = Some(Terminal {
                    term: if term.len() > NAME_BYTES_MAX {
                        "dumb".to_owned()
                    } else {
                        term
                    },
                    size: (col_width, row_height),
                    pixels: (pix_width, pix_height),
                    modes: terminal_modes,
                });
            }
            ChannelMsg::SetEnv {
                variable_name,
                variable_value,
                ..
            } => {
                let size = variable_name.len() + variable_value.len();
                if passes(&variable_name) && size <= room {
                    room -= size;
                    setup.environment.push((variable_name, variable_value));
                }
            }
            ChannelMsg::WindowChange {
                col_width,
                row_height,
                ..
            } => {
                if let Some(terminal) = &mut setup.terminal {
                    terminal.size = (col_width, row_height);
                }
            }
            ChannelMsg::Exec { command, .. } => return Some((setup, Start::Exec(command))),
            ChannelMsg::RequestShell { .. } => return Some((setup, Start::Shell)),
            ChannelMsg::RequestSubsystem { name, .. } => {
                return Some((setup, Start::Subsystem(name)));
            }
            _ => {}
        }
    }
}

struct Session<'a, G, C> {
    flow: &'a Rc<Flow<G, C>>,
    channel: &'a mut AgentChannel,
    place: &'a Place,
    handle: &'a Handle,
}

impl<G: Gate + 'static, C: Connect> Session<'_, G, C> {
    async fn serve(&mut self, setup: Setup, start: Start) {
        let terminal = setup.terminal.is_some();
        let (mut request, command) = match start {
            Start::Subsystem(name) if name == "sftp" => {
                return sftp::run(self.flow, self.channel, self.place).await;
            }
            Start::Subsystem(mut name) => {
                name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
                let reason = format!("weir: the subsystem {name} is not supported");
                return self.refuse("weir:unsupported", &reason, &name).await;
            }
            Start::Shell => (self.place.shell(terminal), None),
            Start::Exec(command) => match String::from_utf8(command) {
                Ok(command) if command.len() > COMMAND_BYTES_MAX => {
                    let reason = "weir: the command line is longer than 64 KiB";
                    return self.refuse("weir:too-large", reason, "exec").await;
                }
                Ok(command) => (self.place.exec(&command, terminal), Some(command)),
                Err(_) => {
                    let reason = "weir: the command line is not UTF-8";
                    return self.refuse("weir:undecodable", reason, "exec").await;
                }
            },
        };
        // Policy sees the command as it is; the record and reviewers without what is secret in it.
        let patterns = &self.flow.patterns().command;
        request.statement = Arc::from(without_secrets(patterns, &request.statement));
        request.parameters = without_secrets(patterns, &setup.parameters());
        match self.ask(request).await {
            Ok(cleared) => self.start(&cleared, setup, command).await,
            Err(Refused::Left) => {}
            Err(Refused::Said(text)) => self.say(&text, EXIT_REFUSED).await,
        }
    }

    /// Asks, and tells the agent when that takes long.
    async fn ask(&mut self, request: Request) -> Result<Cleared, Refused> {
        let write = &self.channel.write;
        let asking = ask(&self.flow.gate, request, &mut self.channel.inputs);
        tokio::pin!(asking);
        tokio::select! {
            outcome = &mut asking => return outcome,
            () = sleep(NOTICE_AFTER) => {}
        }
        let notice = "weir: this waits for a reviewer; it goes on once it is approved\r\n";
        drop(
            write
                .extended_data_bytes(1, Bytes::from_static(notice.as_bytes()))
                .await,
        );
        asking.await
    }

    /// Records and tells what could not be asked.
    async fn refuse(&mut self, rule: &'static str, reason: &str, statement: &str) {
        let refusal = self.flow.gate.refuse(rule, reason, Arc::from(statement));
        self.say(&refusal.text(), EXIT_REFUSED).await;
    }

    /// Ends the channel as a command would that failed. The agent may be gone.
    async fn say(&mut self, text: &str, status: u32) {
        let write = &self.channel.write;
        let text = Bytes::from(format!("{text}\r\n"));
        drop(write.extended_data_bytes(1, text).await);
        drop(write.exit_status(status).await);
        drop(write.eof().await);
    }

    async fn start(&mut self, cleared: &Cleared, setup: Setup, command: Option<String>) {
        let noted = Noted::new(&self.flow.gate, cleared.seq());
        let mut server = match self.flow.server_session(self.place).await {
            Ok(server) => server,
            Err(text) => {
                noted.end("unreachable");
                return self.say(text, EXIT_FAILED).await;
            }
        };
        if !begin(&mut server, cleared, &setup, command.as_deref()).await {
            noted.end("refused-by-server");
            return self.say("weir: the server refused it", EXIT_FAILED).await;
        }
        let cast = setup.terminal.map(|terminal| {
            let title = command.as_deref().unwrap_or("");
            let title = without_secrets(&self.flow.patterns().command, title);
            Cast::new(terminal.size, &terminal.term, &title, weir_clock::now())
        });
        noted.hand_over();
        let output = Output::new(&self.flow.gate, cleared, cast, self.flow.patterns());
        let exit = carry(cleared, self.channel, server, &output).await;
        self.finish(exit, &output).await;
    }

    async fn finish(&self, exit: Exit, output: &Output<'_, G>) {
        let write = &self.channel.write;
        // The agent may be gone by now; the record has the end all the same.
        match exit {
            Exit::Status(0) => {
                output.end("ok");
                drop(write.exit_status(0).await);
            }
            Exit::Status(status) => {
                output.end(&format!("exit:{status}"));
                drop(write.exit_status(status).await);
            }
            Exit::Signal(signal) => {
                output.end(&format!("signal:{signal:?}"));
                let told = self.handle.exit_signal_request(
                    self.channel.id,
                    signal,
                    false,
                    String::new(),
                    String::new(),
                );
                if told.await.is_err() {
                    tracing::debug!("the agent left before its command ended");
                }
            }
            Exit::Silent => output.end("closed"),
            Exit::Left => output.end("client_left"),
            Exit::Cut(cut) => {
                output.end("withheld");
                let text = Bytes::from(format!("\r\n{cut}\r\n"));
                drop(write.extended_data_bytes(1, text).await);
                drop(write.exit_status(EXIT_FAILED).await);
            }
        }
        drop(write.eof().await);
    }
}

/// Sets the server's channel up and starts what was cleared.
async fn begin(
    server: &mut ServerChannel,
    cleared: &Cleared,
    setup: &Setup,
    command: Option<&str>,
) -> bool {
    let write = &server.write;
    let started = async {
        for (name, value) in &setup.environment {
            write.set_env(false, name, value).await?;
        }
        if let Some(terminal) = &setup.terminal {
            let ((columns, rows), (width, height)) = (terminal.size, terminal.pixels);
            write
                .request_pty(
                    false,
                    &terminal.term,
                    columns,
                    rows,
                    width,
                    height,
                    &terminal.modes,
                )
                .await?;
        }
        match cleared.forward(command).into_inner() {
            Some(command) => write.exec(true, command).await,
            None => write.request_shell(true).await,
        }
    };
    if started.await.is_err() {
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
