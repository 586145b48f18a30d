//! Questions of our own around a write whose effect is approved, in either protocol, and the answers.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use super::look::CASCADES;
use crate::probe::{MARK, put_close, put_open};
use crate::wire::backend::{self, Field};
use crate::wire::{Frame, cstr, message};

/// Bytes of the rows of one answer that are kept.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Name of a statement and portal of ours that are closed at once.
const NAME: &str = "weir effect";

/// One question.
pub(super) enum Question {
    Ask(String),
    /// A cursor for a query, opened and not read yet: it sees what was there at this time.
    Open {
        cursor: String,
        query: String,
    },
    /// So many rows of a cursor.
    Fetch {
        cursor: String,
        rows: usize,
    },
    Close(String),
}

/// The answer to one question.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) fields: Vec<Field>,
    pub(super) rows: Vec<Frame>,
    /// Rows that came, kept or not.
    pub(super) count: usize,
    bytes: usize,
    pub(super) tag: String,
    /// SQLSTATE.
    pub(super) failed: Option<String>,
}

impl Answer {
    fn row(&mut self, frame: &Frame) {
        self.count += 1;
        self.bytes += frame.whole.len();
        if self.bytes <= ANSWER_BYTES_MAX {
            self.rows.push(Frame {
                tag: frame.tag,
                whole: frame.whole.clone(),
            });
        }
    }

    /// Of the question about foreign keys: there are some that act.
    pub(super) fn cascades(&self) -> bool {
        self.fields
            .first()
            .is_some_and(|field| field.name == CASCADES)
            && !self.rows.is_empty()
    }
}

/// What ends the answer to a question.
#[derive(Clone, Copy)]
enum End {
    /// Of a simple query.
    Ready,
    /// So many CloseComplete.
    Closed(u8),
    Bound,
    /// CommandComplete, or PortalSuspended.
    Ran,
}

/// Questions of one step, answered one after the other.
pub(crate) struct Asked {
    pub(super) answers: Vec<Answer>,
    open: Answer,
    ends: VecDeque<End>,
    in_batch: bool,
}

impl Asked {
    /// Each is a message of its own, whose answer ends with ReadyForQuery.
    pub(super) fn simple(questions: &[Question]) -> (Bytes, Self) {
        let mut out = BytesMut::new();
        for question in questions {
            let text = match question {
                Question::Ask(text) => text.clone(),
                Question::Open { cursor, query } => {
                    format!("declare \"{cursor}\" no scroll cursor without hold for {query}")
                }
                Question::Fetch { cursor, rows } => format!("fetch {rows} from \"{cursor}\""),
                Question::Close(cursor) => format!("close \"{cursor}\""),
            };
            message(&mut out, b'Q', |out| {
                out.put_slice(MARK.as_bytes());
                cstr(out, &text);
            });
        }
        let ends = questions.iter().map(|_| End::Ready).collect();
        (out.freeze(), Self::expecting(ends, false))
    }

    /// In the extended protocol, with Flush at the end: neither the agent's implicit transaction nor
    /// its unnamed statement and portal are touched.
    pub(super) fn in_batch(questions: &[Question]) -> (Bytes, Self) {
        let mut out = BytesMut::new();
        let mut ends = VecDeque::new();
        for question in questions {
            ends.push_back(match question {
                Question::Ask(text) => {
                    put_open(&mut out, NAME, text);
                    put_run(&mut out, NAME, 0);
                    put_close(&mut out, NAME);
                    End::Closed(2)
                }
                Question::Open { cursor, query } => {
                    // Of a batch that failed it may be there still.
                    put_close(&mut out, cursor);
                    put_open(&mut out, cursor, query);
                    End::Bound
                }
                Question::Fetch { cursor, rows } => {
                    put_run(&mut out, cursor, *rows);
                    End::Ran
                }
                Question::Close(cursor) => {
                    put_close(&mut out, cursor);
                    End::Closed(2)
                }
            });
        }
        message(&mut out, b'H', |_| {});
        (out.freeze(), Self::expecting(ends, true))
    }

    fn expecting(ends: VecDeque<End>, in_batch: bool) -> Self {
        Self {
            answers: Vec::new(),
            open: Answer::default(),
            ends,
            in_batch,
        }
    }

    /// Takes a message; true when it was the last one. `None`: it is no answer.
    pub(super) fn take(&mut self, frame: &Frame) -> Option<bool> {
        match frame.tag {
            b'T' => self.open.fields = backend::row_description(frame).ok()?,
            b'D' => self.open.row(frame),
            b'C' => self.open.tag = backend::command_tag(frame),
            b'E' => {
                self.open.failed = Some(backend::sqlstate(frame));
                // The server skips the rest of a batch, up to its end.
                if self.in_batch {
                    self.answers.push(std::mem::take(&mut self.open));
                    return Some(true);
                }
            }
            b'1' | b'2' | b'3' | b'n' | b's' if self.in_batch => {}
            b'Z' if !self.in_batch => {}
            b'N' => return Some(false),
            _ => return None,
        }
        let ended = match (self.ends.front_mut()?, frame.tag) {
            (End::Ready, b'Z') | (End::Bound, b'2') | (End::Ran, b'C' | b's') => true,
            (End::Closed(left), b'3') => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            (End::Ready | End::Bound | End::Ran | End::Closed(_), _) => false,
        };
        if ended {
            self.ends.pop_front();
            self.answers.push(std::mem::take(&mut self.open));
        }
        Some(self.ends.is_empty())
    }
}

/// Describes a portal and runs it up to so many rows; 0 is all.
fn put_run(out: &mut BytesMut, name: &str, rows: usize) {
    message(out, b'D', |out| {
        out.put_u8(b'P');
        cstr(out, name);
    });
    message(out, b'E', |out| {
        cstr(out, name);
        out.put_u32(u32::try_from(rows).unwrap_or(0));
    });
}
