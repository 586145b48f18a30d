//! Commands as child processes of this server, in a scratch directory per pod.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::spdy::{Frames, Opened};
use super::{ERROR, Piece, STDERR, STDIN, STDOUT};
use crate::reply::Failure;
use crate::resource::Target;
use crate::server::{Query, Server};

/// What is run, and with which streams.
pub(crate) struct Plan {
    command: Vec<String>,
    stdin: bool,
    tty: bool,
    home: PathBuf,
    /// Streams that a SPDY client opens, the one for resizing apart.
    streams: usize,
}

/// The running child and the tasks that copy its output.
struct Running {
    child: Child,
    output: Vec<JoinHandle<()>>,
}

impl Plan {
    pub(crate) fn new(server: &Server, target: &Target, query: &Query) -> Result<Plan, Failure> {
        let given = query.0.iter().filter(|(n, _)| n == "command");
        let mut command: Vec<String> = given.map(|(_, v)| v.clone()).collect();
        if target.sub.as_deref() == Some("attach") {
            let main = "echo attached; exec cat";
            command = ["sh", "-c", main].map(str::to_owned).to_vec();
        }
        if command.first().is_none_or(String::is_empty) {
            return Err(Failure::bad(
                "you must specify at least 1 command for the container",
            ));
        }
        if command.iter().any(|c| c.contains('\0')) {
            return Err(Failure::bad("a command with a NUL byte"));
        }
        let place = |text: &Option<String>| text.clone().unwrap_or_default();
        let folder = format!("{}.{}", place(&target.namespace), place(&target.name));
        let home = server.scratch.join(folder.replace('/', "_"));
        std::fs::create_dir_all(&home)
            .map_err(|e| Failure::new(500, "InternalError", e.to_string()))?;
        Ok(Plan {
            command,
            stdin: query.flag("stdin"),
            tty: query.flag("tty"),
            home,
            streams: 1
                + ["stdin", "stdout"].iter().filter(|n| query.flag(n)).count()
                + usize::from(query.flag("stderr") && !query.flag("tty")),
        })
    }

    /// Runs to the end; the last piece is the `Status` on the error channel.
    pub(crate) async fn run(self, input: mpsc::Receiver<Bytes>, output: mpsc::Sender<Piece>) {
        let started = if self.tty {
            self.terminal(input, &output)
        } else {
            self.pipes(input, &output)
        };
        let status = match started {
            Ok(mut running) => {
                let end = running.child.wait().await;
                for task in running.output {
                    // A task that was cancelled has nothing more to copy.
                    let _cancelled = task.await;
                }
                match end {
                    Ok(end) => outcome(end.code().unwrap_or(137)),
                    Err(error) => failed(&error.to_string()),
                }
            }
            Err(error) => failed(&error.to_string()),
        };
        let _left = output.send((ERROR, status.to_string().into())).await;
    }

    /// Runs once the client has opened the streams that the request names.
    pub(crate) async fn over_spdy(self, mut streams: mpsc::Receiver<Opened>, out: Frames) {
        let mut ids = BTreeMap::new();
        let mut input = None;
        let mut kept = Vec::new();
        while ids.len() < self.streams {
            let Some(stream) = streams.recv().await else {
                return;
            };
            let channel = match stream.headers.get("streamtype").map(String::as_str) {
                Some("stdin") => STDIN,
                Some("stdout") => STDOUT,
                Some("stderr") => STDERR,
                Some("error") => ERROR,
                _ => {
                    kept.push(stream);
                    continue;
                }
            };
            ids.insert(channel, stream.id);
            if channel == STDIN {
                input = Some(stream.input);
            }
        }
        let input = input.unwrap_or_else(|| mpsc::channel(1).1);
        let (output, mut pieces) = mpsc::channel(8);
        let running = self.run(input, output);
        let sending = async {
            while let Some((channel, data)) = pieces.recv().await {
                if let Some(id) = ids.get(&channel)
                    && !out.data(*id, false, &data).await
                {
                    return;
                }
            }
        };
        tokio::join!(running, sending);
        for id in ids.values() {
            out.data(*id, true, &[]).await;
        }
        // The client ends the connection; until then its streams stay known.
        while streams.recv().await.is_some() {}
    }

    fn pipes(
        &self,
        input: mpsc::Receiver<Bytes>,
        output: &mpsc::Sender<Piece>,
    ) -> std::io::Result<Running> {
        let stdin = if self.stdin {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        let (program, rest) = self
            .command
            .split_first()
            .ok_or(std::io::ErrorKind::NotFound)?;
        let mut child = Command::new(program)
            .args(rest)
            .current_dir(&self.home)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(to) = child.stdin.take() {
            tokio::spawn(feed(input, to, &[]));
        }
        let mut tasks = Vec::new();
        if let Some(from) = child.stdout.take() {
            tasks.push(tokio::spawn(drain(from, STDOUT, output.clone())));
        }
        if let Some(from) = child.stderr.take() {
            tasks.push(tokio::spawn(drain(from, STDERR, output.clone())));
        }
        Ok(Running {
            child,
            output: tasks,
        })
    }

    /// `setsid -c` makes the pseudo-terminal the controlling one, which this process may not do for a child
    /// without unsafe code.
    fn terminal(
        &self,
        input: mpsc::Receiver<Bytes>,
        output: &mpsc::Sender<Piece>,
    ) -> std::io::Result<Running> {
        let pair = nix::pty::openpty(None, None)?;
        let slave = |fd: &OwnedFd| fd.try_clone().map(Stdio::from);
        let child = Command::new("setsid")
            .args(["-c", "-w", "--"])
            .args(&self.command)
            .env("TERM", "xterm")
            .current_dir(&self.home)
            .stdin(slave(&pair.slave)?)
            .stdout(slave(&pair.slave)?)
            .stderr(slave(&pair.slave)?)
            .kill_on_drop(true)
            .spawn()?;
        drop(pair.slave);
        let writing = tokio::fs::File::from_std(File::from(pair.master.try_clone()?));
        let reading = tokio::fs::File::from_std(File::from(pair.master));
        if self.stdin {
            tokio::spawn(feed(input, writing, b"\x04"));
        }
        let task = tokio::spawn(drain(reading, STDOUT, output.clone()));
        Ok(Running {
            child,
            output: vec![task],
        })
    }
}

async fn feed<W: AsyncWrite + Unpin>(
    mut input: mpsc::Receiver<Bytes>,
    mut to: W,
    end: &'static [u8],
) {
    while let Some(data) = input.recv().await {
        if to.write_all(&data).await.is_err() || to.flush().await.is_err() {
            return;
        }
    }
    // The command may have ended before its input did.
    let _ended = to.write_all(end).await;
    let _ended = to.flush().await;
}

async fn drain<R: AsyncRead + Unpin>(mut from: R, channel: u8, output: mpsc::Sender<Piece>) {
    let mut buffer = vec![0; 32 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        let data = buffer.get(..read).unwrap_or_default();
        if data.is_empty()
            || output
                .send((channel, Bytes::copy_from_slice(data)))
                .await
                .is_err()
        {
            return;
        }
    }
}

fn outcome(code: i32) -> Value {
    if code == 0 {
        return json!({ "metadata": {}, "status": "Success" });
    }
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
    })
}

fn failed(message: &str) -> Value {
    json!({
        "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
        "message": format!("Internal error occurred: {message}"),
    })
}
