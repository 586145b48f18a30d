//! A command or a container's terminal over an upgraded connection.

use bytes::Bytes;
use weir_govern::terminal::Cast;
use weir_govern::{ClientBytes, OutputMasking, OwnToClient, Reply};
use weir_kubernetes::Remote;
use weir_kubernetes::stream::{Codec, Event, Kind, Side, Stream};
use weir_mask::{Shown, without_secrets};
use weir_model::time::Now;

use super::exit::{self, Exit};
use super::output::Output;
use crate::dialogue::{OPENING, Step, Stopped};

/// Of output that is no terminal's, what the record keeps.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Size of a terminal whose client names none.
const SIZE: (u32, u32) = (80, 24);

/// Counts, records and gives on.
pub(super) struct Command {
    tty: bool,
    /// What it writes cannot be changed without breaking it.
    archive: bool,
    title: String,
    cast: Option<Cast>,
    stdout: Output,
    stderr: Output,
    exit: Exit,
    reply: Reply,
    shown: Shown,
    /// SPDY's numbers of the streams that tell the agent something.
    open: Vec<Stream>,
    stopped: bool,
}

impl Command {
    pub(super) fn new(remote: &Remote, masking: &OutputMasking) -> Self {
        let patterns = masking.wanted(remote.tty);
        Self {
            tty: remote.tty,
            archive: remote.is_archive(),
            // Secrets in a command are not for the record.
            title: without_secrets(&masking.patterns.command, &remote.command_line()),
            cast: None,
            stdout: Output::new(Kind::Stdout, patterns),
            stderr: Output::new(Kind::Stderr, patterns),
            exit: Exit::default(),
            reply: Reply {
                mask_rules: masking.rules.clone().into(),
                ..Reply::default()
            },
            shown: Shown::new(masking.keep, HEAD_BYTES_MAX),
            open: Vec::new(),
            stopped: false,
        }
    }

    pub(super) fn agent(
        &mut self,
        codec: &mut Codec,
        event: &Event,
        now: Now,
        steps: &mut Vec<Step>,
    ) -> Result<(), Stopped> {
        match event {
            Event::Open { stream, .. } => {
                self.open.push(*stream);
                let taken = Event::Accepted { id: stream.id };
                to_agent(codec, &taken, OwnToClient::Status, steps)?;
            }
            Event::Data { stream, bytes, .. } if stream.kind == Kind::Stdin => {
                self.reply.bytes_in += bytes.len() as u64;
                if self.tty {
                    let cast = self.cast(SIZE, now);
                    cast.input(bytes, now).map_err(too_long)?;
                    // What is typed is recorded before it is sent.
                    steps.extend(cast.rest().map(Step::Record));
                }
            }
            Event::Resize { width, height, .. } if self.tty => {
                let size = (u32::from(*width), u32::from(*height));
                let known = self.cast.is_some();
                let cast = self.cast(size, now);
                if known {
                    cast.resize(size.0, size.1, now).map_err(too_long)?;
                }
            }
            Event::Data { .. }
            | Event::Resize { .. }
            | Event::Accepted { .. }
            | Event::Reset { .. }
            | Event::Beat(_)
            | Event::Bye { .. } => {}
        }
        to_server(codec, OPENING, event, steps)
    }

    pub(super) fn server(
        &mut self,
        codec: &mut Codec,
        event: Event,
        now: Now,
        steps: &mut Vec<Step>,
    ) -> Result<(), Stopped> {
        match event {
            Event::Data { stream, bytes, end }
                if matches!(stream.kind, Kind::Stdout | Kind::Stderr) =>
            {
                let output = self.output(stream.kind);
                output.at(stream);
                let mut shown = output.push(&bytes);
                if end {
                    shown.extend_from_slice(&output.finish());
                }
                // An empty piece that came so is given on so: clients wait for it.
                if !shown.is_empty() || bytes.is_empty() || end {
                    self.show(codec, (stream, shown, end), now, steps)?;
                }
                Ok(())
            }
            other @ (Event::Data { .. }
            | Event::Open { .. }
            | Event::Accepted { .. }
            | Event::Resize { .. }
            | Event::Reset { .. }
            | Event::Beat(_)
            | Event::Bye { .. }) => {
                if let Event::Data { stream, bytes, .. } = &other
                    && stream.kind == Kind::Error
                {
                    self.exit.push(bytes);
                    self.flush(codec, now, steps)?;
                }
                if matches!(other, Event::Bye { .. }) {
                    self.flush(codec, now, steps)?;
                }
                to_agent(codec, &other, OwnToClient::ServerMessage, steps)
            }
        }
    }

    const fn output(&mut self, kind: Kind) -> &mut Output {
        if matches!(kind, Kind::Stderr) {
            &mut self.stderr
        } else {
            &mut self.stdout
        }
    }

    /// What was kept back for its pattern's sake is given out.
    pub(super) fn flush(
        &mut self,
        codec: &mut Codec,
        now: Now,
        steps: &mut Vec<Step>,
    ) -> Result<(), Stopped> {
        for kind in [Kind::Stdout, Kind::Stderr] {
            let output = self.output(kind);
            let kept = output.finish();
            if let (false, Some(stream)) = (kept.is_empty(), output.stream()) {
                self.show(codec, (stream, kept, false), now, steps)?;
            }
        }
        Ok(())
    }

    fn show(
        &mut self,
        codec: &mut Codec,
        (stream, shown, end): (Stream, Vec<u8>, bool),
        now: Now,
        steps: &mut Vec<Step>,
    ) -> Result<(), Stopped> {
        self.reply.masked_values = self.stdout.masked_values() + self.stderr.masked_values();
        if self.archive && self.reply.masked_values > 0 {
            return Err(Stopped {
                text: "a copied file holds what has to be masked, which would break the archive; \
                       look at it by cat",
                status: "withheld",
            });
        }
        if self.tty {
            let cast = self.cast(SIZE, now);
            cast.output(&shown, now).map_err(too_long)?;
            steps.extend(cast.due(now).map(Step::Record));
            self.shown.sent(&shown);
        } else {
            self.shown.add(&shown);
        }
        let bytes = Bytes::from(shown);
        let event = Event::Data { stream, bytes, end };
        to_agent(codec, &event, OwnToClient::Output, steps)
    }

    fn cast(&mut self, size: (u32, u32), now: Now) -> &mut Cast {
        let title = &self.title;
        self.cast
            .get_or_insert_with(|| Cast::new(size, "xterm", title, now))
    }

    pub(super) fn tick(
        &mut self,
        codec: &mut Codec,
        now: Now,
        steps: &mut Vec<Step>,
    ) -> Result<(), Stopped> {
        for kind in [Kind::Stdout, Kind::Stderr] {
            let output = self.output(kind);
            let kept = output.pause();
            if let (false, Some(stream)) = (kept.is_empty(), output.stream()) {
                self.show(codec, (stream, kept, false), now, steps)?;
            }
        }
        let due = self.cast.as_mut().and_then(|cast| cast.due(now));
        steps.extend(due.map(Step::Record));
        Ok(())
    }

    /// The reason, where the command's own end would stand.
    pub(super) fn stop(&mut self, codec: &mut Codec, stopped: Stopped, steps: &mut Vec<Step>) {
        self.reply.status = stopped.status.to_owned();
        self.stopped = true;
        let error = self.open.iter().find(|open| open.kind == Kind::Error);
        let stream = error.copied().unwrap_or(Stream {
            id: 3,
            kind: Kind::Error,
            port: 0,
        });
        let said = Event::Data {
            stream,
            bytes: Bytes::from(exit::status(&format!("weir: {}", stopped.text))),
            end: true,
        };
        // What cannot be said any more was on its way to an end in any case.
        let _said = to_agent(codec, &said, OwnToClient::Denial, steps);
        for stream in &self.open {
            if matches!(stream.kind, Kind::Stdout | Kind::Stderr) {
                let ended = Event::Data {
                    stream: *stream,
                    bytes: Bytes::new(),
                    end: true,
                };
                let _said = to_agent(codec, &ended, OwnToClient::Status, steps);
            }
        }
    }

    pub(super) fn reply(&mut self) -> (Option<String>, Reply) {
        let mut reply = std::mem::take(&mut self.reply);
        if !self.stopped {
            reply.status = self.exit.status();
        }
        let reply = reply.showing(std::mem::take(&mut self.shown), !self.tty);
        (self.cast.as_mut().and_then(Cast::rest), reply)
    }
}

fn too_long(_: weir_govern::terminal::TooLong) -> Stopped {
    Stopped {
        text: "the terminal is longer than what is recorded of one (64 MiB)",
        status: "limit",
    }
}

/// A side broke its protocol: the codec's text is ours.
pub(super) fn broken(broken: weir_kubernetes::stream::Broken) -> Stopped {
    tracing::info!(why = broken.0, "a stream is not what it should be");
    Stopped {
        text: broken.0,
        status: "malformed",
    }
}

pub(super) fn to_agent(
    codec: &mut Codec,
    event: &Event,
    kind: OwnToClient,
    steps: &mut Vec<Step>,
) -> Result<(), Stopped> {
    let mut out = Vec::new();
    codec.send(Side::Agent, event, &mut out).map_err(broken)?;
    if !out.is_empty() {
        steps.push(Step::ToAgent(ClientBytes::own(kind, Bytes::from(out))));
    }
    Ok(())
}

pub(super) fn to_server(
    codec: &mut Codec,
    question: u32,
    event: &Event,
    steps: &mut Vec<Step>,
) -> Result<(), Stopped> {
    let mut out = Vec::new();
    codec.send(Side::Server, event, &mut out).map_err(broken)?;
    if !out.is_empty() {
        steps.push(Step::ToServer(question, Bytes::from(out)));
    }
    Ok(())
}
