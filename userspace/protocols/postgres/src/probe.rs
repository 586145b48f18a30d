//! Questions of our own on the agent's backend connection: what only its session knows.
//!
//! `search_path` and role may be changed by any function; temporary tables and what the open
//! transaction made are seen by nobody else. The questions are asked in the extended protocol, so
//! that they fit between an agent's messages: they end neither its implicit transaction nor its
//! unnamed statement.

use bytes::{BufMut, BytesMut};
use weir_govern::{CloseReason, OwnToServer};
use weir_model::time::Now;

use crate::catalog::{CatalogRows, LIVE_QUERIES};
use crate::cursor;
use crate::pipeline::Expect;
use crate::session::PostgresSession;
use crate::wire::{Frame, backend, cstr, message};

/// Every question of Weir's own begins so: a server's log shows whose it is.
pub const MARK: &str = "/* weir */ ";
/// Name of our statement and portal at the server; closed at once.
const NAME: &str = "weir probe";
/// Names are qualified, so that no path can change what is asked. The second one gives the path that
/// is in effect, the temporary schema included.
const NAMES: [&str; 2] = [
    "select current_user::pg_catalog.text",
    "select pg_catalog.unnest(pg_catalog.current_schemas(true))::pg_catalog.text",
];
/// Transactions of this session begin read-only at the server, or no longer.
const READ_ONLY: [&str; 2] = [
    "select pg_catalog.set_config('default_transaction_read_only', 'off', false)",
    "select pg_catalog.set_config('default_transaction_read_only', 'on', false)",
];
/// All cells of the answers together; a larger catalog of one session is refused.
const BYTES_MAX: usize = 64 << 20;

/// A row of text.
pub(crate) type Row = Vec<Option<String>>;

/// Questions under way.
pub(crate) struct Probe {
    /// With the catalog, beside role and path.
    catalog: bool,
    /// Transactions are read-only from here on, or no longer.
    read_only: Option<bool>,
    /// A cursor that somebody else than the agent opened: its text is asked for last.
    cursor: Option<String>,
    /// Rows of the questions that are answered.
    answers: Vec<Vec<Row>>,
    rows: Vec<Row>,
    bytes: usize,
    /// CloseComplete messages still to come.
    closes: usize,
    /// ReadyForQuery ends the answer, not the last CloseComplete.
    synced: bool,
}

impl PostgresSession {
    /// Asks for role and path, and for the catalog as this session sees it; only when nothing else is
    /// under way and the transaction is not failed.
    pub(crate) fn ask_server(&mut self, catalog: bool) {
        self.ask_server_of(catalog, None);
    }

    /// As [`Self::ask_server`], and for the text of a cursor.
    pub(crate) fn ask_server_of(&mut self, catalog: bool, cursor: Option<String>) {
        self.waiting = true;
        // Within a batch a Sync would end the agent's implicit transaction.
        let synced = !self.batch_open;
        let texts = NAMES
            .into_iter()
            .chain(LIVE_QUERIES.iter().map(|query| query.sql))
            .take(if catalog { usize::MAX } else { NAMES.len() });
        let read_only = self.can_switch().then_some(self.only_reads);
        let texts = texts.chain(read_only.map(|on| READ_ONLY[usize::from(on)]));
        let of_cursor = cursor.as_deref().map(cursor::question);
        let mut closes = 0;
        let mut out = BytesMut::new();
        for text in texts.chain(of_cursor.as_deref()) {
            put_question(&mut out, text);
            closes += 2;
        }
        message(&mut out, if synced { b'S' } else { b'H' }, |_| {});
        self.own_to_server(OwnToServer::Probe, |to| to.extend_from_slice(&out));
        self.expected.push_back(Expect::Probe(Box::new(Probe {
            catalog,
            read_only,
            cursor,
            answers: Vec::new(),
            rows: Vec::new(),
            bytes: 0,
            closes,
            synced,
        })));
    }

    /// Whether a message belongs to our own questions; it is taken then.
    pub(crate) fn probe_frame(&mut self, frame: &Frame, now: Now) -> bool {
        let Some(Expect::Probe(probe)) = self.expected.front_mut() else {
            return false;
        };
        let mut done = false;
        match frame.tag {
            b'1' | b'2' => {}
            b'D' => {
                let mut row = Row::new();
                let read = backend::data_row(frame, |_, value| {
                    row.push(value.map(|bytes| String::from_utf8_lossy(bytes).into_owned()));
                });
                probe.bytes += frame.whole.len();
                if read.is_err() || probe.bytes > BYTES_MAX {
                    let text = "weir: the session's own catalog cannot be read";
                    self.fatal("XX000", text, CloseReason::UpstreamFailed);
                    return true;
                }
                probe.rows.push(row);
            }
            b'C' => {
                let rows = std::mem::take(&mut probe.rows);
                probe.answers.push(rows);
            }
            b'3' => {
                probe.closes = probe.closes.saturating_sub(1);
                done = probe.closes == 0 && !probe.synced;
            }
            b'Z' => {
                self.transaction = frame.body().first().copied().unwrap_or(0);
                done = true;
            }
            b'S' | b'A' | b'N' | b'E' => return false,
            _ => self.confused(),
        }
        if done && let Some(Expect::Probe(probe)) = self.expected.pop_front() {
            self.probed(*probe, now);
        }
        true
    }

    fn probed(&mut self, probe: Probe, now: Now) {
        let mut answers = probe.answers;
        let of_cursor = probe.cursor.as_ref().and_then(|_| answers.pop());
        let mut answers = answers.into_iter();
        let first = |row: Row| row.into_iter().next().flatten();
        let role = answers.next().into_iter().flatten().find_map(first);
        let path: Option<Vec<String>> =
            (answers.next()).map(|rows| rows.into_iter().filter_map(first).collect());
        let (Some(role), Some(path)) = (role, path) else {
            let text = "weir: the session's role cannot be read";
            return self.fatal("XX000", text, CloseReason::UpstreamFailed);
        };
        if let Some(read_only) = probe.read_only {
            self.names.read_only = read_only;
            // What was prepared is understood anew.
            self.epoch += 1;
        }
        if probe.catalog {
            let names = LIVE_QUERIES.iter().map(|query| query.name);
            let rows = CatalogRows(names.zip(answers).collect());
            let renewed = self.catalog.as_ref().map(|catalog| catalog.renewed(&rows));
            let Some(Ok(catalog)) = renewed else {
                let text = "weir: the catalog of this session cannot be understood";
                return self.fatal("XX000", text, CloseReason::UpstreamFailed);
            };
            self.set_catalog(std::sync::Arc::new(catalog));
            self.catalog_live = true;
            self.catalog_in_transaction |= self.transaction != b'I' || self.batch_open;
        }
        if let Some(name) = probe.cursor {
            let text = of_cursor
                .and_then(|rows| rows.into_iter().next())
                .and_then(first);
            self.cursor_said(name, text, now);
        }
        self.names_here(role, path, now);
    }

    /// Waits until the server has answered everything.
    pub(crate) fn drain(&mut self) {
        self.waiting = true;
        self.draining = true;
        self.flush_batch();
    }

    /// In a batch that no Sync has ended the server answers when it is asked to.
    pub(crate) fn flush_batch(&mut self) {
        if self.batch_open {
            self.flush();
        }
    }

    /// Asks the server for what it has answered so far, in order with the rest.
    pub(crate) fn flush(&mut self) {
        let mut out = BytesMut::new();
        message(&mut out, b'H', |_| {});
        let own = crate::pipeline::Staged::Own {
            kind: OwnToServer::Boundary,
            bytes: out.freeze(),
            expect: Vec::new(),
        };
        self.staged.push_back(own);
        self.release_recorded();
    }

    /// Everything was answered: what waited for that goes on.
    pub(crate) fn drained(&mut self, now: Now) {
        if self.draining && self.idle() {
            self.draining = false;
            self.resume(now);
        }
    }
}

fn put_question(out: &mut BytesMut, text: &str) {
    put_open(out, NAME, text);
    message(out, b'E', |out| {
        cstr(out, NAME);
        out.put_u32(0);
    });
    put_close(out, NAME);
}

/// A statement and a portal of this name for a question of ours.
pub(crate) fn put_open(out: &mut BytesMut, name: &str, text: &str) {
    message(out, b'P', |out| {
        cstr(out, name);
        out.put_slice(MARK.as_bytes());
        cstr(out, text);
        out.put_u16(0);
    });
    message(out, b'B', |out| {
        cstr(out, name);
        cstr(out, name);
        // No parameters, and everything as text.
        out.put_slice(&[0; 6]);
    });
}

/// Closes both; no error where there are none.
pub(crate) fn put_close(out: &mut BytesMut, name: &str) {
    for kind in [b'P', b'S'] {
        message(out, b'C', |out| {
            out.put_u8(kind);
            cstr(out, name);
        });
    }
}
