//! Anchors that have left the node, against what is there now.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use clickhouse::Client;
use serde::Deserialize;
use weir_spool::SegmentId;

use super::{Report, name};
use crate::anchor::{Anchor, Mark};
use crate::hex::unhex;
use crate::keys::KeyHistory;
use crate::query::fetch;

/// Bytes of a line of a witness, and lines of this node.
const LINE_BYTES_MAX: u64 = 4096;
const LINES_MAX: usize = 4_000_000;

/// Of one node, by segment, in order of position.
#[derive(Clone, Debug, Default)]
pub struct Anchors {
    marks: BTreeMap<SegmentId, Vec<Mark>>,
    /// What cannot be read.
    problems: Vec<String>,
}

#[derive(Deserialize)]
struct AnchorRow {
    epoch: u32,
    segment: u64,
    position: u32,
    at_ms: i64,
    hash: String,
    signature: String,
}

impl Anchors {
    /// What a witness was given, one line of JSON for each anchor; those of other nodes are left out.
    ///
    /// # Errors
    /// The file cannot be read, or has more than 4,000,000 lines of this node.
    pub fn of_witness(file: &Path, node_id: u128) -> std::io::Result<Self> {
        let mut anchors = Self::default();
        let own = format!("{node_id:032x}");
        let mut lines = BufReader::new(File::open(file)?);
        let (mut number, mut kept) = (0_u64, 0);
        loop {
            let mut line = Vec::new();
            lines
                .by_ref()
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)?;
            number += 1;
            if line.is_empty() {
                break;
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match serde_json::from_slice::<Anchor>(&line) {
                Ok(anchor) if anchor.node_id != own => {}
                Ok(anchor) => {
                    anchors.put(anchor.id(), anchor.mark());
                    kept += 1;
                }
                // A last line may still be on its way.
                Err(_) if line.last() != Some(&b'\n') && lines.fill_buf()?.is_empty() => {}
                Err(_) => anchors.say(format!("witness: line {number} cannot be read")),
            }
            if kept > LINES_MAX {
                return Err(std::io::Error::other(
                    "more than 4,000,000 anchors of this node",
                ));
            }
        }
        anchors.sort();
        Ok(anchors)
    }

    /// The newest anchor of each segment in ClickHouse.
    ///
    /// # Errors
    /// ClickHouse's.
    pub async fn newest(client: &Client, node_id: u128) -> Result<Self, String> {
        let which = "ORDER BY epoch, segment, position DESC LIMIT 1 BY epoch, segment";
        Self::of_store(client, node_id, which).await
    }

    /// All of one segment in ClickHouse.
    pub(super) async fn of_segment(
        client: &Client,
        node_id: u128,
        id: SegmentId,
    ) -> Result<Vec<Mark>, String> {
        let which = format!(
            "AND epoch = {} AND segment = {} ORDER BY position LIMIT 1000000",
            id.epoch,
            id.packed()
        );
        let mut found = Self::of_store(client, node_id, &which).await?;
        Ok(found.marks.remove(&id).unwrap_or_default())
    }

    async fn of_store(client: &Client, node_id: u128, which: &str) -> Result<Self, String> {
        let sql = format!(
            "SELECT epoch, segment, position, toUnixTimestamp64Milli(at) AS at_ms, hash, signature \
             FROM anchor WHERE node_id = {{id:String}} {which}"
        );
        let query = client.query_raw(&sql);
        let rows: Vec<AnchorRow> = fetch(query.param("id", format!("{node_id:032x}"))).await?;
        let mut anchors = Self::default();
        for row in rows {
            let id = SegmentId::unpack(row.epoch, row.segment);
            let mark = unhex(&row.hash).zip(unhex(&row.signature));
            anchors.put(
                id,
                mark.map(|(hash, signature)| Mark {
                    position: row.position,
                    at_ms: row.at_ms,
                    hash,
                    signature,
                }),
            );
        }
        anchors.sort();
        Ok(anchors)
    }

    /// Both together.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for (id, marks) in other.marks {
            self.marks.entry(id).or_default().extend(marks);
        }
        self.problems.extend(other.problems);
        self.sort();
        self
    }

    fn put(&mut self, id: SegmentId, mark: Option<Mark>) {
        match mark {
            Some(mark) => self.marks.entry(id).or_default().push(mark),
            None => self.say(format!(
                "segment {}: an anchor of it cannot be read",
                name(id)
            )),
        }
    }

    fn say(&mut self, text: String) {
        if self.problems.len() < super::FINDINGS_MAX {
            self.problems.push(text);
        }
    }

    fn sort(&mut self) {
        for marks in self.marks.values_mut() {
            marks.sort_by_key(|mark| (mark.position, mark.at_ms));
        }
    }

    pub(super) fn of(&self, id: SegmentId) -> &[Mark] {
        self.marks.get(&id).map_or(&[], Vec::as_slice)
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = (SegmentId, &[Mark])> {
        self.marks.iter().map(|(id, marks)| (*id, marks.as_slice()))
    }

    pub(super) fn problems(&self) -> &[String] {
        &self.problems
    }
}

/// What is there of a segment.
pub(super) struct Present<'a> {
    pub(super) id: SegmentId,
    /// Position of the last fact that was looked at.
    pub(super) last: u32,
    /// Facts up to here may be on their way, so that nobody can say that they are missing.
    pub(super) coming: u32,
    /// Chain value at each block's end.
    pub(super) heads: &'a BTreeMap<u32, [u8; 32]>,
    /// A fault was found in it already: chain values behind that are not to be compared.
    pub(super) faulty: bool,
}

/// Says what contradicts an anchor; gives the newest one that holds.
pub(super) fn compare(
    report: &mut Report,
    keys: &KeyHistory,
    present: &Present<'_>,
    marks: &[Mark],
) -> Option<Mark> {
    let id = present.id;
    let mut proven: Option<Mark> = None;
    let mut gone = false;
    for mark in marks.iter().rev() {
        let (position, at) = (mark.position, mark.at_ms);
        let agrees = present.heads.get(&position) == Some(&mark.hash);
        let behind = position > present.last;
        if agrees && proven.is_some()
            || !agrees && !behind && present.faulty
            || behind && (gone || position <= present.coming)
        {
            continue;
        }
        if let Some(wrong) = keys.signer(id, |key| mark.is_signed(key)).wrong() {
            report.finding(format!(
                "segment {}: the signature of an anchor at position {position} {wrong}",
                name(id)
            ));
        } else if agrees {
            proven = Some(*mark);
        } else if behind {
            gone = true;
            report.finding(format!(
                "segment {}: cut off behind position {}, an anchor of {at} (milliseconds since 1970) has \
                 signed {position} facts",
                name(id),
                present.last
            ));
        } else {
            report.finding(format!(
                "segment {}: positions up to {position} are not those that an anchor of {at} (milliseconds \
                 since 1970) has signed",
                name(id)
            ));
        }
    }
    proven
}
