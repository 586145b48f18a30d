//! One segment's stored rows, in order of position, against its batches.

use std::collections::BTreeMap;

use weir_spool::{SegmentId, chain_rows};

use super::row::Row;
use super::store::BatchRow;
use super::{Report, name};
use crate::hex::unhex;

/// Walks the rows; keeps those of one batch.
pub(super) struct Walk<'a> {
    report: &'a mut Report,
    id: SegmentId,
    batches: Vec<&'a BatchRow>,
    /// Rows as they were written, where the spool still has them.
    written: BTreeMap<u32, Vec<u8>>,
    /// Index of the batch that rows are collected for.
    batch: usize,
    rows: Vec<Row>,
    /// Something was said of this batch already.
    named: bool,
    last: Option<Row>,
    facts: u64,
    /// Chain value at each block's end, of batches that are whole.
    heads: BTreeMap<u32, [u8; 32]>,
}

/// What the rows of a segment came to.
pub(super) struct Walked {
    pub(super) facts: u64,
    pub(super) heads: BTreeMap<u32, [u8; 32]>,
}

impl<'a> Walk<'a> {
    /// Checks the batches themselves first.
    pub(super) fn new(
        report: &'a mut Report,
        id: SegmentId,
        node: &str,
        batches: &'a [BatchRow],
        written: BTreeMap<u32, Vec<u8>>,
    ) -> Self {
        let mut walk = Self {
            report,
            id,
            batches: Vec::new(),
            written,
            batch: 0,
            rows: Vec::new(),
            named: false,
            last: None,
            facts: 0,
            heads: BTreeMap::new(),
        };
        let mut before: Option<&BatchRow> = None;
        for row in batches {
            if row.node != node {
                walk.say(format!(
                    "batch {}: its node was changed to {}",
                    row.batch, row.node
                ));
            }
            let expected = before.map_or(1, |before| before.batch + 1);
            if row.batch < expected {
                walk.say(format!("batch {}: doubled", row.batch));
                continue;
            }
            if row.batch > expected {
                walk.say(format!("batches {expected} to {}: missing", row.batch - 1));
            } else {
                walk.joins(row, before);
            }
            let blocks: u64 = row.blocks.iter().map(|count| u64::from(*count)).sum();
            let facts = u64::from(row.last_position) + 1;
            let facts = facts.checked_sub(u64::from(row.first_position));
            if facts != Some(u64::from(row.facts)) || facts != Some(blocks) {
                walk.say(format!("batch {}: its counts do not agree", row.batch));
            }
            walk.batches.push(row);
            before = Some(row);
        }
        walk
    }

    fn say(&mut self, text: String) {
        self.report
            .finding(format!("segment {} {text}", name(self.id)));
    }

    fn joins(&mut self, row: &BatchRow, before: Option<&BatchRow>) {
        let first = before.map_or(1, |before| before.last_position.saturating_add(1));
        let chained = before.is_none_or(|before| before.hash == row.previous_hash);
        if row.first_position != first || !chained {
            self.say(format!(
                "batch {}: does not follow the one before it",
                row.batch
            ));
        }
    }

    /// The next stored row; rows come in order of position.
    pub(super) fn row(&mut self, row: Row) {
        self.facts += 1;
        let position = row.position();
        while let Some(batch) = self.batches.get(self.batch) {
            if position <= batch.last_position {
                break;
            }
            self.batch_ends();
        }
        let Some(batch) = self.batches.get(self.batch) else {
            // A batch's own row is stored after its facts: what the spool has as well is on its way.
            if self.written.get(&position) != Some(&row.bytes) || self.is_last(position) {
                let place = row.place();
                self.say(format!(
                    "position {position} ({place}): inserted, it is in no batch"
                ));
            }
            self.last = Some(row);
            return;
        };
        if position < batch.first_position {
            let place = row.place();
            self.named = true;
            self.say(format!(
                "position {position} ({place}): inserted, it is in no batch"
            ));
            return;
        }
        if self.is_last(position) {
            self.doubled(&row);
            return;
        }
        let expected = self.expected();
        if position > expected {
            self.missing(expected, position - 1);
        }
        self.check(&row);
        self.last = Some(row.clone());
        self.rows.push(row);
    }

    fn is_last(&self, position: u32) -> bool {
        self.last
            .as_ref()
            .is_some_and(|last| last.position() == position)
    }

    /// The position that comes next in the present batch.
    fn expected(&self) -> u32 {
        let first = self
            .batches
            .get(self.batch)
            .map_or(1, |batch| batch.first_position);
        self.rows
            .last()
            .map_or(first, |row| row.position().saturating_add(1))
    }

    fn missing(&mut self, from: u32, to: u32) {
        self.named = true;
        self.say(if from == to {
            format!("position {from}: missing")
        } else {
            format!("positions {from} to {to}: missing")
        });
    }

    fn doubled(&mut self, row: &Row) {
        self.named = true;
        let same = self.last.as_ref().is_some_and(|last| last == row);
        let (position, place) = (row.position(), row.place());
        self.say(if same {
            format!("position {position} ({place}): doubled")
        } else {
            format!("position {position} ({place}): a second row was inserted or moved here")
        });
        if !same {
            self.check(row);
        }
    }

    fn check(&mut self, row: &Row) {
        let (position, place) = (row.position(), row.place());
        let written = self
            .written
            .get(&position)
            .and_then(|bytes| Row::new(bytes).ok());
        if let Some(written) = written {
            let columns = row.differs(&written);
            if !columns.is_empty() {
                self.named = true;
                let columns = columns.join(", ");
                self.say(format!("position {position} ({place}): changed: {columns}"));
                return;
            }
        }
        if !row.digest_fits() {
            self.named = true;
            self.say(format!(
                "position {position} ({place}): changed, its digest is of other columns"
            ));
        }
    }

    fn batch_ends(&mut self) {
        if let Some(batch) = self.batches.get(self.batch).copied() {
            let expected = self.expected();
            if expected <= batch.last_position {
                self.missing(expected, batch.last_position);
            }
            let heads = self.heads_of(batch);
            if let Some(heads) = heads {
                self.heads.extend(heads);
            } else if !self.named {
                self.say(format!(
                    "batch {}, positions {} to {}: rows do not give its hash: changed together \
                     with their digests",
                    batch.batch, batch.first_position, batch.last_position
                ));
            }
        }
        self.batch += 1;
        self.rows.clear();
        self.named = false;
    }

    /// Chain value at the end of each block; `None` when they do not lead to the batch's own.
    fn heads_of(&self, batch: &BatchRow) -> Option<Vec<(u32, [u8; 32])>> {
        let mut chain = unhex::<32>(&batch.previous_hash)?;
        let end = unhex::<32>(&batch.hash)?;
        let mut heads = Vec::with_capacity(batch.blocks.len().min(self.rows.len()));
        let rows: Vec<&[u8]> = self.rows.iter().map(|row| row.bytes.as_slice()).collect();
        let mut rest = rows.as_slice();
        let mut first = batch.first_position;
        for count in &batch.blocks {
            let (block, after) = rest.split_at_checked(*count as usize)?;
            chain = chain_rows(&chain, first, block);
            first = first.saturating_add(*count);
            heads.push((first.saturating_sub(1), chain));
            rest = after;
        }
        (rest.is_empty() && chain == end).then_some(heads)
    }

    /// All rows were seen.
    pub(super) fn end(mut self) -> Walked {
        while self.batch < self.batches.len() {
            self.batch_ends();
        }
        Walked {
            facts: self.facts,
            heads: self.heads,
        }
    }
}
