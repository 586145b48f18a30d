//! What is open, and what is waited for.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::sync::oneshot;
use weir_govern::{Gate, Reply};
use weir_mask::Digest;

use super::End;
use super::wire::{self, Answer, DATA_AT, Malformed};

/// Requests without an answer; OpenSSH keeps 64.
const PENDING_MAX: usize = 4096;
/// Handles that are open; OpenSSH's server allows fewer.
const HANDLES_MAX: usize = 1024;

/// What was opened, and how much went through it.
struct Open {
    seq: u32,
    writes: bool,
    /// The server was asked to close it, and may give its name to another.
    closing: bool,
    bytes_read: u64,
    /// Of what was read.
    digest: Digest,
    bytes_written: u64,
}

/// What an answer is waited for.
pub(super) enum Pending {
    /// The answer's number for the agent.
    Plain {
        id: u32,
    },
    /// Of an operation on a path, which is complete with the answer.
    Operation {
        id: u32,
        seq: u32,
    },
    Opening {
        id: u32,
        seq: u32,
        writes: bool,
    },
    Reading {
        id: u32,
        handle: Bytes,
    },
    Closing {
        id: u32,
        handle: Bytes,
    },
    /// A question of our own.
    RealPath(oneshot::Sender<Option<String>>),
}

/// An operation on something that was opened.
pub(super) struct OnHandle {
    pub(super) id: u32,
    pub(super) operation: &'static str,
    /// Bytes.
    pub(super) written: u64,
    pub(super) changes: bool,
}

/// Both directions' common knowledge.
#[derive(Default)]
pub(super) struct Desk {
    next_id: u32,
    pending: HashMap<u32, Pending>,
    handles: HashMap<Bytes, Open>,
}

impl Desk {
    /// `None` when too much waits already.
    pub(super) fn wait_for(&mut self, pending: Pending) -> Option<u32> {
        if self.pending.len() >= PENDING_MAX {
            return None;
        }
        loop {
            self.next_id = self.next_id.wrapping_add(1);
            if !self.pending.contains_key(&self.next_id) {
                self.pending.insert(self.next_id, pending);
                return Some(self.next_id);
            }
        }
    }

    /// `None` when one is not open, or not for that.
    pub(super) fn on_handle(&mut self, on: &OnHandle, handles: &[Bytes]) -> Option<Pending> {
        for handle in handles {
            let open = self.handles.get_mut(handle)?;
            if open.closing || (on.changes && !open.writes) {
                return None;
            }
            open.bytes_written += on.written;
            open.closing = on.operation == "close";
        }
        let (id, handle) = (on.id, handles.first()?.clone());
        Some(match on.operation {
            "close" => Pending::Closing { id, handle },
            "read" | "readdir" => Pending::Reading { id, handle },
            _ => Pending::Plain { id },
        })
    }

    /// What the agent gets of an answer.
    ///
    /// # Errors
    /// [`End`] when it belongs to nothing, or opens too much.
    pub(super) fn answered<G: Gate>(
        &mut self,
        packet: &Bytes,
        gate: &G,
    ) -> Result<Option<Bytes>, End> {
        let answer = wire::answer(packet).map_err(End::Malformed)?;
        let id = match &answer {
            Answer::Version(version) => return Ok(Some(version.clone())),
            Answer::Status { id, .. }
            | Answer::Handle { id, .. }
            | Answer::Data { id, .. }
            | Answer::Names { id, .. }
            | Answer::Other { id } => *id,
        };
        let Some(pending) = self.pending.remove(&id) else {
            return Err(End::Malformed(Malformed("an answer to no question")));
        };
        let id = match pending {
            Pending::RealPath(sender) => {
                let path = match answer {
                    Answer::Names {
                        count: 1, first, ..
                    } => String::from_utf8(first.to_vec()).ok(),
                    _ => None,
                };
                // The asker may have left.
                drop(sender.send(path));
                return Ok(None);
            }
            Pending::Plain { id } => id,
            Pending::Operation { id, seq } => {
                let mut digest = Digest::default();
                digest.add(packet);
                let reply = Reply {
                    status: status_of(&answer),
                    bytes_out: packet.len() as u64,
                    digest: digest.value(),
                    ..Reply::default()
                };
                gate.complete(seq, reply);
                id
            }
            Pending::Opening { id, seq, writes } => {
                self.opened(answer, seq, writes, gate)?;
                id
            }
            Pending::Reading { id, handle } => {
                self.read(&handle, &answer, packet, gate);
                id
            }
            Pending::Closing { id, handle } => {
                if let Some(open) = self.handles.remove(&handle) {
                    close(gate, open, &status_of(&answer));
                }
                id
            }
        };
        Ok(Some(wire::renumbered(packet, id)))
    }

    fn opened<G: Gate>(
        &mut self,
        answer: Answer,
        seq: u32,
        writes: bool,
        gate: &G,
    ) -> Result<(), End> {
        let open = Open {
            seq,
            writes,
            closing: false,
            bytes_read: 0,
            bytes_written: 0,
            digest: Digest::default(),
        };
        match answer {
            Answer::Handle { .. } if self.handles.len() >= HANDLES_MAX => return Err(End::TooMuch),
            Answer::Handle { handle, .. } => {
                if let Some(old) = self.handles.insert(handle, open) {
                    close(gate, old, "replaced");
                }
            }
            other => close(gate, open, &status_of(&other)),
        }
        Ok(())
    }

    fn read<G: Gate>(&mut self, handle: &Bytes, answer: &Answer, packet: &[u8], gate: &G) {
        if let Some(open) = self.handles.get_mut(handle) {
            let read = match answer {
                // Behind lengths, type and number.
                Answer::Data { .. } => packet.get(DATA_AT..).unwrap_or_default(),
                Answer::Names { .. } => packet,
                _ => &[],
            };
            open.bytes_read += read.len() as u64;
            open.digest.add(read);
            gate.first_byte(open.seq);
        }
    }

    /// The transfer is over.
    pub(super) fn close_all<G: Gate>(self, gate: &G) {
        for open in self.handles.into_values() {
            close(gate, open, "aborted");
        }
        for pending in self.pending.into_values() {
            if let Pending::Operation { seq, .. } | Pending::Opening { seq, .. } = pending {
                let reply = Reply {
                    status: "aborted".to_owned(),
                    ..Reply::default()
                };
                gate.complete(seq, reply);
            }
        }
    }
}

/// The operation that opened it is complete now.
fn close<G: Gate>(gate: &G, open: Open, status: &str) {
    let reply = Reply {
        status: status.to_owned(),
        bytes_out: open.bytes_read,
        bytes_in: open.bytes_written,
        digest: open.digest.value(),
        ..Reply::default()
    };
    gate.complete(open.seq, reply);
}

/// As the record has it: `ok`, or the protocol's code.
fn status_of(answer: &Answer) -> String {
    match answer {
        Answer::Status { code: 0, .. } => "ok".to_owned(),
        Answer::Status { code, .. } => format!("sftp:{code}"),
        _ => "ok".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Arc;

    use weir_govern::{Blocked, Cleared, Refusal};
    use weir_model::request::Request;

    use super::*;

    /// Keeps the ends that it is told.
    #[derive(Default)]
    struct Ends(RefCell<Vec<(u32, String)>>);

    impl Gate for Ends {
        async fn ask(&self, _: Request) -> Result<Cleared, Blocked> {
            Err(Blocked::NotRecorded)
        }

        fn refuse(&self, _: &'static str, _: &str, _: Arc<str>) -> Refusal {
            unreachable!("the desk refuses nothing")
        }

        fn first_byte(&self, _: u32) {}

        fn terminal(&self, _: u32, _: String) -> Result<(), Blocked> {
            Ok(())
        }

        fn complete(&self, seq: u32, reply: Reply) {
            self.0.borrow_mut().push((seq, reply.status));
        }
    }

    fn on(operation: &'static str, changes: bool) -> OnHandle {
        OnHandle {
            id: 1,
            operation,
            written: 0,
            changes,
        }
    }

    fn desk_with(handle: &Bytes, gate: &Ends) -> Desk {
        let mut desk = Desk::default();
        let answer = Answer::Handle {
            id: 1,
            handle: handle.clone(),
        };
        assert!(desk.opened(answer, 7, true, gate).is_ok());
        desk
    }

    #[test]
    fn a_handle_is_gone_once_its_close_was_sent() {
        let (gate, handle) = (Ends::default(), Bytes::from_static(b"h"));
        let mut desk = desk_with(&handle, &gate);
        let handles = [handle];
        assert!(desk.on_handle(&on("fsetstat", true), &handles).is_some());
        assert!(desk.on_handle(&on("close", false), &handles).is_some());
        // The server may give the name to what was opened for reading alone.
        assert!(desk.on_handle(&on("fsetstat", true), &handles).is_none());
        assert!(desk.on_handle(&on("close", false), &handles).is_none());
    }

    #[test]
    fn what_is_open_or_waited_for_ends_with_the_transfer() {
        let gate = Ends::default();
        let mut desk = desk_with(&Bytes::from_static(b"h"), &gate);
        desk.wait_for(Pending::Operation { id: 1, seq: 8 });
        desk.wait_for(Pending::Plain { id: 2 });
        desk.close_all(&gate);
        let ends = gate.0.into_inner();
        let aborted = |seq| (seq, "aborted".to_owned());
        assert_eq!(ends, [aborted(7), aborted(8)]);
    }
}
