//! A conversation that moves to the next node process, open transaction, COPY, portals and all.
//!
//! MessagePack with named fields, behind a version. What several places share (a prepared
//! statement, a cursor, the description of a result) stands once in a table and is referred to by
//! its number, so that it is shared again afterwards. What can be had anew is left out: catalog,
//! cache of understood texts, receipt.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weir_decide::{Bound, Inherited, Permit, SavedPermit, Spending};
use weir_govern::{CatalogNeeded, CatalogRequest, Hold, Output, SavedGovernor, Snapshot};
use weir_mask::Sample;
use weir_model::fact::FactKind;
use weir_model::ident::ApprovalId;
use weir_model::request::Recorded;
use weir_model::time::Now;

use crate::copy_out::CopyOut;
use crate::expect_query::{Held, QueryJob, Then};
use crate::limits;
use crate::objects::{Cursor, Open, Opened, Portal, Prepared, Referred, Undo};
use crate::pipeline::{Described, Expect, Flow, Running};
use crate::plan::{FieldsCell, Masking, Reach};
use crate::reply;
use crate::session::{Names, PostgresConfig, PostgresSession, State};
use crate::understand::{Changes, Statement};
use crate::wire::backend::Field;

/// Of the form below. Another version is not read: the session stays where it is until it ends.
pub const SNAPSHOT_VERSION: u32 = 2;

/// A session with more than this stays where it is.
const SNAPSHOT_BYTES_MAX: usize = 16 << 20;

/// Why a snapshot is not taken up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    #[error("the snapshot is of version {0}, this program reads {SNAPSHOT_VERSION}")]
    Version(u32),
    #[error("the snapshot cannot be decoded: {0}")]
    Undecodable(String),
    #[error("the snapshot refers to something that it does not hold")]
    Dangling,
}

#[derive(Serialize, Deserialize)]
struct Whole {
    version: u32,
    session: SavedSession,
}

#[derive(Serialize, Deserialize)]
struct SavedSession {
    governor: SavedGovernor,
    tables: Tables,
    catalog: Option<u64>,
    parameters: Vec<(String, String)>,
    database: Arc<str>,
    server_key: Option<(i32, Box<[u8]>)>,
    names: Names,
    transaction: u8,
    prepared: Vec<(String, usize)>,
    open: Vec<(String, SavedOpened)>,
    batches: (u64, u64),
    epoch: u64,
    expected: Vec<SavedExpect>,
    held: Option<SavedHeld>,
    skipping: bool,
    waits_idle: bool,
    copying_in: bool,
    copy_permit: Option<SavedPermit>,
    unseen_in_transaction: bool,
    batch_open: bool,
    names_touched: bool,
    early_syncs: u32,
    /// What is asked for anew is the catalog of everybody, so the session's own has to be asked again.
    catalog_live: bool,
    fail_transaction: bool,
}

/// What is shared, by number.
#[derive(Default, Serialize, Deserialize)]
struct Tables {
    fields: Vec<Option<Vec<Field>>>,
    prepared: Vec<SavedPrepared>,
    cursors: Vec<SavedCursor>,
}

#[derive(Serialize, Deserialize)]
struct SavedPrepared {
    statement: Arc<Statement>,
    effects: Arc<[String]>,
    objects: Arc<[String]>,
    #[serde(default = "unknown")]
    asked: Arc<str>,
    shown: Arc<str>,
    secret: Vec<(usize, String)>,
    permit: SavedPermit,
    types: Vec<u32>,
    fields: usize,
    bytes: u64,
    text: Arc<str>,
    wrapped: bool,
    epoch: u64,
}

fn unknown() -> Arc<str> {
    Arc::from("")
}

#[derive(Serialize, Deserialize)]
struct SavedCursor {
    reach: Reach,
    permit: SavedPermit,
    changes: Changes,
}

#[derive(Serialize, Deserialize)]
enum SavedReferred {
    Statement(usize),
    Cursor(usize),
}

#[derive(Serialize, Deserialize)]
enum SavedOpen {
    Portal {
        prepared: usize,
        referred: Option<SavedReferred>,
        parameters: String,
        formats: Vec<i16>,
        bytes: u64,
        fields: usize,
        described: bool,
    },
    Cursor {
        cursor: usize,
        hold: bool,
    },
}

#[derive(Serialize, Deserialize)]
struct SavedOpened {
    open: SavedOpen,
    batch: u64,
}

#[derive(Serialize, Deserialize)]
enum SavedUndo {
    Prepared(String, Option<usize>),
    Open(String, Option<Box<SavedOpened>>),
    AllPrepared(Vec<(String, usize)>),
}

#[derive(Serialize, Deserialize)]
struct SavedRunning {
    seq: u32,
    reach: Reach,
    kind: Flow,
    changes: Changes,
    undo: Option<SavedUndo>,
    fields: usize,
    formats: Vec<i16>,
    prepared: Option<usize>,
    masking: Option<Arc<Masking>>,
    rows: u64,
    bytes_out: u64,
    masked_values: u64,
    sample: Sample,
    first_byte: bool,
    copy: Option<CopyOut>,
    cut_off: bool,
}

#[derive(Serialize, Deserialize)]
struct SavedDescribed {
    clear: bool,
    unseen: bool,
    portal: Option<usize>,
    statement: Option<usize>,
}

#[derive(Serialize, Deserialize)]
enum SavedExpect {
    Statement(Box<SavedRunning>),
    QueryEnd,
    ParseDone {
        undo: SavedUndo,
        clear: bool,
        unseen: bool,
    },
    BindDone {
        undo: SavedUndo,
        clear: bool,
        unseen: bool,
    },
    CloseDone(SavedUndo),
    Describe {
        hidden: bool,
        what: SavedDescribed,
    },
    Execute(Box<SavedRunning>),
    Sync,
    Local(Vec<u8>),
    HiddenError,
    HiddenQueryError(Vec<u8>),
}

#[derive(Serialize, Deserialize)]
enum SavedThen {
    Query {
        frame: Vec<u8>,
        text: Arc<str>,
        statements: Vec<Arc<Statement>>,
        permits: Vec<SavedPermit>,
    },
    Execute {
        portal: String,
        frame: Vec<u8>,
    },
}

#[derive(Serialize, Deserialize)]
struct SavedHeld {
    hold: Hold,
    approval: ApprovalId,
    then: SavedThen,
}

/// Numbers of what was seen already, by address.
#[derive(Default)]
struct Saver {
    tables: Tables,
    fields: HashMap<*const OnceLock<Vec<Field>>, usize>,
    prepared: HashMap<*const Prepared, usize>,
    cursors: HashMap<*const Cursor, usize>,
}

impl Saver {
    fn fields(&mut self, cell: &FieldsCell) -> usize {
        let known = &mut self.tables.fields;
        *self.fields.entry(Arc::as_ptr(cell)).or_insert_with(|| {
            known.push(cell.get().cloned());
            known.len() - 1
        })
    }

    fn prepared(&mut self, prepared: &Arc<Prepared>) -> usize {
        if let Some(number) = self.prepared.get(&Arc::as_ptr(prepared)) {
            return *number;
        }
        let fields = self.fields(&prepared.fields);
        let Recorded {
            effects,
            objects,
            asked,
        } = prepared.recorded.clone();
        self.tables.prepared.push(SavedPrepared {
            statement: Arc::clone(&prepared.statement),
            effects,
            objects,
            asked,
            shown: Arc::clone(&prepared.shown),
            secret: prepared.secret.clone(),
            permit: SavedPermit::of(&prepared.permit),
            types: prepared.types.known().to_vec(),
            fields,
            bytes: prepared.bytes,
            text: Arc::clone(&prepared.text),
            wrapped: prepared.wrapped,
            epoch: prepared.epoch,
        });
        let number = self.tables.prepared.len() - 1;
        self.prepared.insert(Arc::as_ptr(prepared), number);
        number
    }

    fn cursor(&mut self, cursor: &Arc<Cursor>) -> usize {
        let known = &mut self.tables.cursors;
        *self.cursors.entry(Arc::as_ptr(cursor)).or_insert_with(|| {
            known.push(SavedCursor {
                reach: cursor.reach.clone(),
                permit: SavedPermit::of(&cursor.permit),
                changes: cursor.changes,
            });
            known.len() - 1
        })
    }

    fn opened(&mut self, opened: &Opened) -> SavedOpened {
        let open = match &opened.open {
            Open::Portal(portal) => SavedOpen::Portal {
                prepared: self.prepared(&portal.prepared),
                referred: portal.referred.as_ref().map(|referred| match referred {
                    Referred::Statement(prepared) => {
                        SavedReferred::Statement(self.prepared(prepared))
                    }
                    Referred::Cursor(cursor) => SavedReferred::Cursor(self.cursor(cursor)),
                }),
                parameters: portal.parameters.clone(),
                formats: portal.formats.clone(),
                bytes: portal.bytes,
                fields: self.fields(&portal.fields),
                described: portal.described,
            },
            Open::Cursor { cursor, hold } => SavedOpen::Cursor {
                cursor: self.cursor(cursor),
                hold: *hold,
            },
        };
        SavedOpened {
            open,
            batch: opened.batch,
        }
    }

    fn all_prepared(&mut self, all: &HashMap<String, Arc<Prepared>>) -> Vec<(String, usize)> {
        all.iter()
            .map(|(name, prepared)| (name.clone(), self.prepared(prepared)))
            .collect()
    }

    fn undo(&mut self, undo: &Undo) -> SavedUndo {
        match undo {
            Undo::Prepared(name, before) => SavedUndo::Prepared(
                name.clone(),
                before.as_ref().map(|before| self.prepared(before)),
            ),
            Undo::Open(name, before) => SavedUndo::Open(
                name.clone(),
                before.as_ref().map(|before| Box::new(self.opened(before))),
            ),
            Undo::AllPrepared(all) => SavedUndo::AllPrepared(self.all_prepared(all)),
        }
    }

    fn running(&mut self, running: &Running) -> Box<SavedRunning> {
        Box::new(SavedRunning {
            seq: running.seq,
            reach: running.reach.clone(),
            kind: running.kind,
            changes: running.changes,
            undo: running.undo.as_ref().map(|undo| self.undo(undo)),
            fields: self.fields(&running.fields),
            formats: running.formats.clone(),
            prepared: running.prepared.as_ref().map(|one| self.prepared(one)),
            masking: running.masking.clone(),
            rows: running.rows,
            bytes_out: running.bytes_out,
            masked_values: running.masked_values,
            sample: running.sample.clone(),
            first_byte: running.first_byte,
            copy: running.copy.clone(),
            cut_off: running.cut_off.is_some(),
        })
    }

    /// `None` for the answer to a question of our own, which is soon here.
    fn expect(&mut self, expect: &Expect) -> Option<SavedExpect> {
        Some(match expect {
            Expect::Statement(running) => SavedExpect::Statement(self.running(running)),
            Expect::QueryEnd => SavedExpect::QueryEnd,
            Expect::ParseDone {
                undo,
                clear,
                unseen,
            } => SavedExpect::ParseDone {
                undo: self.undo(undo),
                clear: *clear,
                unseen: *unseen,
            },
            Expect::BindDone {
                undo,
                clear,
                unseen,
            } => SavedExpect::BindDone {
                undo: self.undo(undo),
                clear: *clear,
                unseen: *unseen,
            },
            Expect::CloseDone(undo) => SavedExpect::CloseDone(self.undo(undo)),
            Expect::Describe { hidden, what } => SavedExpect::Describe {
                hidden: *hidden,
                what: SavedDescribed {
                    clear: what.clear,
                    unseen: what.unseen,
                    portal: what.portal.as_ref().map(|cell| self.fields(cell)),
                    statement: what.statement.as_ref().map(|cell| self.fields(cell)),
                },
            },
            Expect::Execute(running) => SavedExpect::Execute(self.running(running)),
            Expect::Sync => SavedExpect::Sync,
            Expect::Local(bytes) => SavedExpect::Local(bytes.to_vec()),
            Expect::HiddenError => SavedExpect::HiddenError,
            Expect::HiddenQueryError(bytes) => SavedExpect::HiddenQueryError(bytes.to_vec()),
            Expect::Probe(_) | Expect::Doubt(_) | Expect::Effect(_) => return None,
        })
    }
}

fn saved_held(held: &Held) -> Option<SavedHeld> {
    let then = match &held.then {
        Then::Query(job) => SavedThen::Query {
            frame: job.frame.to_vec(),
            text: Arc::clone(&job.text),
            statements: job.statements.clone(),
            permits: job
                .permits
                .iter()
                .map(|permit| SavedPermit::of(permit))
                .collect(),
        },
        Then::Execute { portal, frame } => SavedThen::Execute {
            portal: portal.clone(),
            frame: frame.to_vec(),
        },
        Then::Effect => return None,
    };
    Some(SavedHeld {
        hold: held.hold.clone(),
        // Not stored yet: its number is soon here.
        approval: held.approval?,
        then,
    })
}

impl PostgresSession {
    /// See [`weir_govern::Session::snapshot`].
    pub(crate) fn save(&self) -> Option<Snapshot> {
        let quiet = matches!(self.state, State::Query)
            && self.catalog.is_some()
            && !self.waiting
            && self.parked.is_none()
            && self.staged.is_empty()
            && self.outputs.is_empty()
            // A transaction of ours waits at this process.
            && self.effect.is_none();
        let governor = self
            .governor
            .as_ref()
            .filter(|one| quiet && !one.has_facts())?;
        let mut saver = Saver::default();
        let expected = self
            .expected
            .iter()
            .map(|expect| saver.expect(expect))
            .collect::<Option<Vec<_>>>()?;
        let held = match &self.held {
            Some(held) => Some(saved_held(held)?),
            None => None,
        };
        let approval = held.as_ref().map(|held| held.approval);
        let session = SavedSession {
            governor: governor.save(),
            catalog: self.catalog.as_ref().map(|catalog| catalog.generation()),
            parameters: self.parameters.clone(),
            database: Arc::clone(&self.database),
            server_key: self.server_key.clone(),
            names: self.names.clone(),
            transaction: self.transaction,
            prepared: saver.all_prepared(&self.prepared),
            open: self
                .open
                .iter()
                .map(|(name, opened)| (name.clone(), saver.opened(opened)))
                .collect(),
            batches: (self.batches_sent, self.batches_done),
            epoch: self.epoch,
            expected,
            held,
            skipping: self.skipping,
            waits_idle: self.waits_idle,
            copying_in: self.copying_in,
            copy_permit: self.copy_permit.as_deref().map(SavedPermit::of),
            unseen_in_transaction: self.unseen_in_transaction,
            batch_open: self.batch_open,
            names_touched: self.names_touched,
            early_syncs: self.early_syncs,
            catalog_live: self.catalog_live || self.catalog_stale || self.catalog_shared,
            fail_transaction: self.fail_transaction,
            tables: saver.tables,
        };
        let whole = Whole {
            version: SNAPSHOT_VERSION,
            session,
        };
        let bytes = rmp_serde::to_vec_named(&whole).ok()?;
        (bytes.len() <= SNAPSHOT_BYTES_MAX).then_some(Snapshot {
            bytes,
            held: approval,
        })
    }

    /// Goes on with a conversation of the process before this one. It asks for the catalog first,
    /// and notes the move, whose fact is to be made durable before anything else happens.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn restore(
        config: PostgresConfig,
        bytes: &[u8],
        bound: Box<Bound>,
        (witness, now): (&Inherited, Now),
    ) -> Result<Self, SnapshotError> {
        let undecodable =
            |error: rmp_serde::decode::Error| SnapshotError::Undecodable(error.to_string());
        let Version { version } = rmp_serde::from_slice(bytes).map_err(undecodable)?;
        if version != SNAPSHOT_VERSION {
            return Err(SnapshotError::Version(version));
        }
        let whole: Whole = rmp_serde::from_slice(bytes).map_err(undecodable)?;
        let saved = whole.session;
        let loader = Loader::of(saved.tables, witness)?;
        let mut session = Self::new(config);
        let mut governor = saved.governor.restore(bound, reply::REFUSED);
        governor.timed_by(session.config.clock);
        // Also what brings the first receipt here: it covers all that was recorded before.
        governor.note(FactKind::Flow, "moved", "", now);
        session.governor = Some(Box::new(governor));
        session.state = State::Restored {
            catalog: saved.catalog,
            again_us: None,
            failures: 0,
        };
        session.parameters = saved.parameters;
        session.database = saved.database;
        session.server_key = saved.server_key;
        session.names = saved.names;
        session.transaction = saved.transaction;
        session.prepared = loader.all_prepared(saved.prepared)?;
        for (name, opened) in saved.open {
            session.open.insert(name, loader.opened(opened)?);
        }
        (session.batches_sent, session.batches_done) = saved.batches;
        session.epoch = saved.epoch;
        for expect in saved.expected {
            let mut expect = loader.expect(expect)?;
            if let Expect::Statement(running) | Expect::Execute(running) = &mut expect
                && let Some(governor) = &mut session.governor
            {
                running.spending = governor.spending(running.seq);
            }
            session.expected.push_back(expect);
        }
        session.worked = saved.transaction == b'T';
        session.held = saved.held.map(|held| Box::new(loader.held(held)));
        session.skipping = saved.skipping;
        session.waits_idle = saved.waits_idle;
        session.copying_in = saved.copying_in;
        session.copy_permit = saved.copy_permit.map(|permit| loader.permit(permit));
        session.unseen_in_transaction = saved.unseen_in_transaction;
        session.batch_open = saved.batch_open;
        (session.names_touched, session.path_moved) = (saved.names_touched, saved.names_touched);
        session.early_syncs = saved.early_syncs;
        session.catalog_live = saved.catalog_live;
        session.fail_transaction = saved.fail_transaction;
        let request = CatalogRequest {
            database: Arc::clone(&session.database),
            needed: CatalogNeeded::Recent,
        };
        session.outputs.push_back(Output::Catalog(request));
        Ok(session)
    }
}

/// Read first, since nothing else may be assumed of another version.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// The tables, live again.
struct Loader<'a> {
    witness: &'a Inherited,
    fields: Vec<FieldsCell>,
    prepared: Vec<Arc<Prepared>>,
    cursors: Vec<Arc<Cursor>>,
}

/// The entry of that number.
fn shared<T>(table: &[Arc<T>], number: usize) -> Result<Arc<T>, SnapshotError> {
    table
        .get(number)
        .map(Arc::clone)
        .ok_or(SnapshotError::Dangling)
}

impl<'a> Loader<'a> {
    fn of(tables: Tables, witness: &'a Inherited) -> Result<Self, SnapshotError> {
        let mut loader = Self {
            witness,
            fields: Vec::new(),
            prepared: Vec::new(),
            cursors: Vec::new(),
        };
        for fields in tables.fields {
            let cell = fields.map_or_else(OnceLock::new, OnceLock::from);
            loader.fields.push(Arc::new(cell));
        }
        for saved in tables.prepared {
            let prepared = Prepared {
                statement: saved.statement,
                recorded: Recorded {
                    effects: saved.effects,
                    objects: saved.objects,
                    asked: saved.asked,
                },
                shown: saved.shown,
                secret: saved.secret,
                permit: loader.permit(saved.permit),
                types: saved.types.into(),
                fields: shared(&loader.fields, saved.fields)?,
                plan: OnceLock::new(),
                bytes: saved.bytes,
                text: saved.text,
                wrapped: saved.wrapped,
                epoch: saved.epoch,
            };
            loader.prepared.push(Arc::new(prepared));
        }
        for saved in tables.cursors {
            let cursor = Cursor {
                reach: saved.reach,
                permit: loader.permit(saved.permit),
                changes: saved.changes,
            };
            loader.cursors.push(Arc::new(cursor));
        }
        Ok(loader)
    }

    fn permit(&self, saved: SavedPermit) -> Arc<Permit> {
        Arc::new(saved.restore(self.witness))
    }

    fn all_prepared(
        &self,
        saved: Vec<(String, usize)>,
    ) -> Result<HashMap<String, Arc<Prepared>>, SnapshotError> {
        saved
            .into_iter()
            .map(|(name, number)| Ok((name, shared(&self.prepared, number)?)))
            .collect()
    }

    fn opened(&self, saved: SavedOpened) -> Result<Opened, SnapshotError> {
        let open = match saved.open {
            SavedOpen::Portal {
                prepared,
                referred,
                parameters,
                formats,
                bytes,
                fields,
                described,
            } => Open::Portal(Portal {
                prepared: shared(&self.prepared, prepared)?,
                referred: match referred {
                    Some(SavedReferred::Statement(number)) => {
                        Some(Referred::Statement(shared(&self.prepared, number)?))
                    }
                    Some(SavedReferred::Cursor(number)) => {
                        Some(Referred::Cursor(shared(&self.cursors, number)?))
                    }
                    None => None,
                },
                parameters,
                formats,
                bytes,
                fields: shared(&self.fields, fields)?,
                described,
            }),
            SavedOpen::Cursor { cursor, hold } => Open::Cursor {
                cursor: shared(&self.cursors, cursor)?,
                hold,
            },
        };
        Ok(Opened {
            open,
            batch: saved.batch,
        })
    }

    fn undo(&self, saved: SavedUndo) -> Result<Undo, SnapshotError> {
        Ok(match saved {
            SavedUndo::Prepared(name, before) => Undo::Prepared(
                name,
                before
                    .map(|number| shared(&self.prepared, number))
                    .transpose()?,
            ),
            SavedUndo::Open(name, before) => {
                Undo::Open(name, before.map(|before| self.opened(*before)).transpose()?)
            }
            SavedUndo::AllPrepared(all) => Undo::AllPrepared(self.all_prepared(all)?),
        })
    }

    fn running(&self, saved: SavedRunning) -> Result<Box<Running>, SnapshotError> {
        Ok(Box::new(Running {
            seq: saved.seq,
            reach: saved.reach,
            kind: saved.kind,
            changes: saved.changes,
            undo: saved.undo.map(|undo| self.undo(undo)).transpose()?,
            fields: shared(&self.fields, saved.fields)?,
            formats: saved.formats,
            prepared: saved
                .prepared
                .map(|number| shared(&self.prepared, number))
                .transpose()?,
            masking: saved.masking,
            rows: saved.rows,
            bytes_out: saved.bytes_out,
            masked_values: saved.masked_values,
            sample: saved.sample,
            first_byte: saved.first_byte,
            copy: saved.copy,
            cut_off: saved.cut_off.then_some(limits::CODE),
            mask_us: 0,
            spending: Spending::default(),
        }))
    }

    fn expect(&self, saved: SavedExpect) -> Result<Expect, SnapshotError> {
        let cell = |number: Option<usize>| {
            number
                .map(|number| shared(&self.fields, number))
                .transpose()
        };
        Ok(match saved {
            SavedExpect::Statement(running) => Expect::Statement(self.running(*running)?),
            SavedExpect::QueryEnd => Expect::QueryEnd,
            SavedExpect::ParseDone {
                undo,
                clear,
                unseen,
            } => Expect::ParseDone {
                undo: self.undo(undo)?,
                clear,
                unseen,
            },
            SavedExpect::BindDone {
                undo,
                clear,
                unseen,
            } => Expect::BindDone {
                undo: self.undo(undo)?,
                clear,
                unseen,
            },
            SavedExpect::CloseDone(undo) => Expect::CloseDone(self.undo(undo)?),
            SavedExpect::Describe { hidden, what } => Expect::Describe {
                hidden,
                what: Described {
                    clear: what.clear,
                    unseen: what.unseen,
                    portal: cell(what.portal)?,
                    statement: cell(what.statement)?,
                    parameters: None,
                },
            },
            SavedExpect::Execute(running) => Expect::Execute(self.running(*running)?),
            SavedExpect::Sync => Expect::Sync,
            SavedExpect::Local(bytes) => Expect::Local(Bytes::from(bytes)),
            SavedExpect::HiddenError => Expect::HiddenError,
            SavedExpect::HiddenQueryError(bytes) => Expect::HiddenQueryError(Bytes::from(bytes)),
        })
    }

    fn held(&self, saved: SavedHeld) -> Held {
        let then = match saved.then {
            SavedThen::Query {
                frame,
                text,
                statements,
                permits,
            } => Then::Query(QueryJob {
                frame: Bytes::from(frame),
                text,
                statements,
                permits: permits
                    .into_iter()
                    .map(|permit| self.permit(permit))
                    .collect(),
            }),
            SavedThen::Execute { portal, frame } => Then::Execute {
                portal,
                frame: Bytes::from(frame),
            },
        };
        Held {
            hold: saved.hold,
            approval: Some(saved.approval),
            then,
        }
    }
}
