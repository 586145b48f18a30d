//! A running command's bytes, both ways at once.

use std::time::Duration;

use russh::{ChannelMsg, Sig};
use tokio::time::{interval, sleep};
use weir_govern::{Cleared, ClientBytes, Gate};

use crate::agent::AgentChannel;
use crate::inputs::Inputs;
use crate::output::{Cut, Output, Stream};
use crate::throttle::Throttle;
use crate::upstream::ServerChannel;

/// After this long without output, what was kept back of it may be shown (see `OutputMasker`).
const PAUSE: Duration = Duration::from_millis(150);
/// How often a quiet terminal's last output is recorded.
const TICK: Duration = Duration::from_secs(1);

/// How a command ended.
pub(crate) enum Exit {
    Status(u32),
    Signal(Sig),
    /// The server closed the channel without a word.
    Silent,
    Cut(Cut),
    Left,
}

type AgentWrite = russh::ChannelWriteHalf<russh::server::Msg>;
type ServerWrite = russh::ChannelWriteHalf<russh::client::Msg>;

/// Until the command ends, or the agent leaves.
pub(crate) async fn carry<G: Gate>(
    cleared: &Cleared,
    agent: &mut AgentChannel,
    server: ServerChannel,
    output: &Output<'_, G>,
) -> Exit {
    let ServerChannel {
        write,
        inputs,
        throttle,
    } = server;
    let to_agent = ToAgent {
        write: &agent.write,
        throttle: &agent.inputs.throttle(),
        output,
    };
    let exit = tokio::select! {
        exit = to_agent.run(inputs) => exit,
        exit = to_server(cleared, &mut agent.inputs, (&write, &throttle), output) => exit,
    };
    // The server may have closed it.
    drop(write.close().await);
    exit
}

async fn to_server<G: Gate>(
    cleared: &Cleared,
    inputs: &mut Inputs,
    (write, throttle): (&ServerWrite, &Throttle),
    output: &Output<'_, G>,
) -> Exit {
    while let Some(message) = inputs.next().await {
        let recorded = match &message {
            ChannelMsg::Data { data } => output.typed(data),
            ChannelMsg::WindowChange {
                col_width,
                row_height,
                ..
            } => output.resized(*col_width, *row_height),
            _ => Ok(()),
        };
        if let Err(cut) = recorded {
            return Exit::Cut(cut);
        }
        let sent = match message {
            ChannelMsg::Data { data } => {
                let _writing = throttle.writing();
                write.data_bytes(cleared.forward(data).into_inner()).await
            }
            ChannelMsg::Eof => write.eof().await,
            // Others are texts of the agent's own.
            ChannelMsg::Signal { signal } if !matches!(signal, Sig::Custom(_)) => {
                write.signal(signal).await
            }
            ChannelMsg::WindowChange {
                col_width,
                row_height,
                pix_width,
                pix_height,
            } => {
                write
                    .window_change(col_width, row_height, pix_width, pix_height)
                    .await
            }
            _ => Ok(()),
        };
        if sent.is_err() {
            // The server's end of the channel tells how it ended.
            std::future::pending::<()>().await;
        }
    }
    Exit::Left
}

struct ToAgent<'a, 'o, G: Gate> {
    write: &'a AgentWrite,
    throttle: &'a Throttle,
    output: &'a Output<'o, G>,
}

impl<G: Gate> ToAgent<'_, '_, G> {
    async fn run(&self, mut inputs: Inputs) -> Exit {
        let mut exit = Exit::Silent;
        let mut tick = interval(TICK);
        loop {
            let message = tokio::select! {
                message = inputs.next() => message,
                () = sleep(PAUSE), if self.output.holds_back() => {
                    if let Err(end) = self.kept_back(false).await {
                        return end;
                    }
                    continue;
                }
                _ = tick.tick(), if self.output.has_terminal() => {
                    if let Err(cut) = self.output.tick() {
                        return Exit::Cut(cut);
                    }
                    continue;
                }
            };
            let (stream, data) = match message {
                Some(ChannelMsg::Data { data }) => (Stream::Output, data),
                Some(ChannelMsg::ExtendedData { data, ext: 1 }) => (Stream::Error, data),
                Some(ChannelMsg::ExitStatus { exit_status }) => {
                    exit = Exit::Status(exit_status);
                    continue;
                }
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => {
                    // Another's name is a text of the server, which is neither masked nor recorded.
                    exit = match signal_name {
                        Sig::Custom(_) => Exit::Silent,
                        known => Exit::Signal(known),
                    };
                    continue;
                }
                Some(_) => continue,
                None => return self.kept_back(true).await.err().unwrap_or(exit),
            };
            let shown = match self.output.show(stream, data) {
                Ok(shown) => shown,
                Err(cut) => return Exit::Cut(cut),
            };
            if let Err(end) = self.send(stream, shown).await {
                return end;
            }
        }
    }

    async fn kept_back(&self, last: bool) -> Result<(), Exit> {
        for stream in [Stream::Output, Stream::Error] {
            let kept = if last {
                self.output.finished(stream)
            } else {
                self.output.paused(stream)
            };
            if let Some(shown) = kept.map_err(Exit::Cut)? {
                self.send(stream, shown).await?;
            }
        }
        Ok(())
    }

    async fn send(&self, stream: Stream, shown: ClientBytes) -> Result<(), Exit> {
        let _writing = self.throttle.writing();
        let shown = shown.into_bytes();
        let sent = match stream {
            Stream::Output => self.write.data_bytes(shown).await,
            Stream::Error => self.write.extended_data_bytes(1, shown).await,
        };
        sent.map_err(|_| Exit::Left)
    }
}
