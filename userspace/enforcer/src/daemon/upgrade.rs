//! One node process after another: sessions come from the one before, and leave to the next.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::pipe2;
use tokio::time::{Duration, Instant, interval};
use weir_broker::Passed;
use weir_broker::client::HandedOver;
use weir_govern::CancelKey;
use weir_model::ident::SessionId;
use weir_relay::{Moving, Node, SNAPSHOT_BYTES_MAX, WeakIntake};

/// Flows that were starting when the successor came are asked again this often.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Nothing of a snapshot changes once it is on its way.
const SEALS: SealFlag = SealFlag::F_SEAL_SEAL
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_WRITE);

/// Puts the snapshot into a sealed memory file. The second part is the ticket, for us: the answer
/// may get lost.
pub(super) fn handed_over(moving: Moving) -> Result<(HandedOver, OwnedFd)> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = memfd_create(c"weir-session", flags).context("a memory file")?;
    let mut file = File::from(file);
    file.write_all(&moving.snapshot).context("a memory file")?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS)).context("sealing a memory file")?;
    // One byte, and nobody who could write another.
    let (ticket, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).context("a ticket")?;
    nix::unistd::write(&write, &[1]).context("a ticket")?;
    let ours = ticket.try_clone().context("a ticket")?;
    let session = HandedOver {
        client: moving.client,
        server: moving.server,
        snapshot: OwnedFd::from(file),
        ticket,
    };
    Ok((session, ours))
}

/// Takes the session's ticket: true once, for one of the two processes.
pub(super) fn claim(ticket: &OwnedFd) -> bool {
    // Whatever was passed as one, nobody waits for it.
    let set = fcntl(ticket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    set.is_ok() && matches!(nix::unistd::read(ticket, &mut [0]), Ok(1))
}

fn moving(session: HandedOver) -> Result<Moving> {
    let found = fcntl(session.snapshot.as_fd(), FcntlArg::F_GET_SEALS).context("its seals")?;
    ensure!(found & SEALS.bits() == SEALS.bits(), "it is not sealed");
    let file = File::from(session.snapshot);
    let length = usize::try_from(file.metadata().context("its length")?.len())?;
    ensure!(length <= SNAPSHOT_BYTES_MAX, "it is too large");
    let mut snapshot = Vec::with_capacity(length);
    // Its offset is shared with the writer's, which stands at the end.
    let mut reader = Offset { file, at: 0 };
    reader.read_to_end(&mut snapshot).context("reading it")?;
    Ok(Moving {
        client: session.client,
        server: session.server,
        snapshot,
    })
}

/// Reads by position.
struct Offset {
    file: File,
    at: u64,
}

impl Read for Offset {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        use std::os::unix::fs::FileExt;
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Takes a session of the process before this one up.
pub(super) fn take_up(session: HandedOver, intake: &WeakIntake) {
    if !claim(&session.ticket) {
        tracing::info!("a session of the process before this one stayed there");
        return;
    }
    match moving(session) {
        Ok(moving) => {
            if !intake.take_up(moving) {
                tracing::error!("a session of the process before this one is closed");
            }
        }
        Err(error) => tracing::error!(%error, "a session of the process before this one is lost"),
    }
}

/// What the successor asks of the sessions that are still here.
pub(super) fn passed(node: &Node, passed: &Passed) {
    match passed {
        Passed::Kill { session } => {
            if let Some(session) = SessionId::parse(session) {
                tracing::info!(%session, outcome = ?node.kill(session), "kill, by the successor");
            }
        }
        Passed::Cancel {
            pid,
            secret,
            workload,
        } => {
            let key = CancelKey {
                pid: *pid,
                secret: secret.as_slice().into(),
            };
            let found = node.cancel(&key, workload);
            tracing::debug!(found, "cancel, by way of the successor");
        }
    }
}

/// Waits until no flow is left: those that can move do so, the others go on until they end. After
/// `limit_s` the rest is told to connect again.
pub(super) async fn drain(node: &Arc<Node>, moves: bool, limit_s: u32) {
    tracing::info!(
        moves,
        open = node.open_flows(),
        "a successor serves: draining"
    );
    let until = Instant::now() + Duration::from_secs(u64::from(limit_s));
    let mut looks = interval(LOOK_EVERY);
    // Flows that were accepted and have not begun are looked for twice.
    let mut empty = 0;
    while empty < 2 {
        looks.tick().await;
        if moves {
            node.move_all();
        }
        empty = if node.open_flows() == 0 { empty + 1 } else { 0 };
        if Instant::now() > until {
            tracing::warn!(
                open = node.open_flows(),
                "node.drain_s is over: the rest is told"
            );
            return;
        }
    }
    tracing::info!("every flow has moved or ended");
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client.into(), listener.accept().unwrap().0.into())
    }

    #[test]
    fn a_snapshot_arrives_as_it_was_sent() {
        let (client, server) = pair();
        let sent = Moving {
            client,
            server,
            snapshot: vec![7; 100_000],
        };
        let (session, ours) = handed_over(sent).unwrap();
        assert!(claim(&session.ticket), "nobody has taken it yet");
        assert!(!claim(&ours), "two processes have the session");
        let there = moving(session).unwrap();
        assert_eq!(there.snapshot, vec![7; 100_000]);
    }

    #[test]
    fn a_session_that_its_process_kept_is_not_taken_up() {
        let (client, server) = pair();
        let sent = Moving {
            client,
            server,
            snapshot: Vec::new(),
        };
        let (session, ours) = handed_over(sent).unwrap();
        assert!(claim(&ours));
        assert!(!claim(&session.ticket));
        // What is no ticket gives nothing away, and holds nobody up.
        let (read, _write) = nix::unistd::pipe().unwrap();
        assert!(!claim(&read));
    }

    #[test]
    fn a_file_that_may_still_change_is_refused() {
        let (client, server) = pair();
        let file = memfd_create(c"x", MFdFlags::MFD_ALLOW_SEALING).unwrap();
        let session = HandedOver {
            client,
            server,
            snapshot: file,
            ticket: nix::unistd::pipe().unwrap().0,
        };
        assert!(moving(session).unwrap_err().to_string().contains("sealed"));
    }
}
