//! What ClickHouse holds of one node, row by row.
//!
//! Each stored row's digest is computed from its columns, the chain from the rows of each batch,
//! and the chain's end is compared with the node's signature. Where the spool still has the
//! segment, the row is compared with the one that was written first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use clickhouse::Client;
use serde::Deserialize;

use weir_spool::{BlockReader, Next, SegmentId, chain_start, end_is_signed, read_header, schema};

use super::anchors::{self, Anchors, Present};
use super::row::{self, Row};
use super::segment::{Walk, Walked};
use super::{Report, name};
use super::{changes, ledger};
use crate::anchor::Mark;
use crate::bundle::Anchor;
use crate::directory::segments;
use crate::hex::unhex;
use crate::journal;
use crate::keys::{KeyHistory, Signer};
use crate::query::fetch;

/// Facts are deleted by the table's TTL after so many days; batches are kept.
const RETENTION_DAYS: i64 = 400;
const DAY_S: i64 = 86_400;

/// Whose record is verified, and by what.
pub struct Scope<'a> {
    /// The spool's number for life.
    pub node_id: u128,
    /// Name under which the node's facts are stored.
    pub node: &'a str,
    pub keys: &'a KeyHistory,
    /// The spool, where it is at hand.
    pub spool: Option<&'a Path>,
    /// Present time, seconds since 1970.
    pub now_s: i64,
    /// On a live node facts, their batch and its acknowledgement become visible one after the other:
    /// what is wrong is looked at again after this. Zero for a store that nobody writes to.
    pub on_its_way: Duration,
}

/// A row of `batch`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct BatchRow {
    pub(super) node: String,
    epoch: u32,
    segment: u64,
    pub(super) batch: u32,
    sealed_s: i64,
    pub(super) first_position: u32,
    pub(super) last_position: u32,
    pub(super) facts: u32,
    pub(super) previous_hash: String,
    pub(super) hash: String,
    pub(super) blocks: Vec<u32>,
    pub(super) signature: String,
}

#[derive(Deserialize)]
struct Count {
    epoch: u32,
    segment: u64,
    n: u64,
}

#[derive(Deserialize)]
struct What {
    what: String,
}

const fn unpack(epoch: u32, segment: u64) -> SegmentId {
    SegmentId::unpack(epoch, segment)
}

/// Verifies all facts and batches of one node. What is wrong is looked at twice, so that what a live
/// node is just shipping is no finding.
///
/// # Errors
/// ClickHouse's, or the spool's files cannot be read; what is wrong inside is in the report.
pub async fn verify_store(client: &Client, scope: &Scope<'_>) -> Result<Report, String> {
    let first = look(client, scope).await?;
    if first.findings.is_empty() || scope.on_its_way.is_zero() {
        return Ok(first);
    }
    tokio::time::sleep(scope.on_its_way).await;
    let mut second = look(client, scope).await?;
    if first.more_findings == 0 {
        second
            .findings
            .retain(|finding| first.findings.contains(finding));
    }
    Ok(second)
}

async fn look(client: &Client, scope: &Scope<'_>) -> Result<Report, String> {
    let mut report = Report::default();
    strangers(client, &mut report).await?;
    changes::verify(client, scope, &mut report).await?;
    ledger::verify(client, scope, &mut report).await?;
    let anchors = Anchors::newest(client, scope.node_id).await?;
    let batches = batches(client, scope).await?;
    acknowledged(&mut report, scope, &batches)?;
    let mut counts = counts(client, scope).await?;
    let mut before: Option<Before> = None;
    for (id, rows) in &batches {
        report.segments += 1;
        previous(&mut report, scope, *id, rows, before.as_ref());
        let stored = counts.remove(id).unwrap_or(0);
        before = Some(segment(client, &mut report, scope, (*id, rows, stored)).await?);
    }
    for problem in anchors.problems() {
        report.finding(problem.clone());
    }
    for (id, _) in anchors.segments() {
        // Of the others it is said where their facts are looked at.
        if !batches.contains_key(&id) && !counts.contains_key(&id) {
            segment(client, &mut report, scope, (id, &[], 0)).await?;
        }
    }
    for (id, stored) in counts {
        if scope
            .spool
            .is_some_and(|spool| written(spool, id).is_ok_and(|rows| !rows.is_empty()))
        {
            segment(client, &mut report, scope, (id, &[], stored)).await?;
            continue;
        }
        report.finding(format!(
            "segment {}: {stored} facts of no batch: inserted, or their batches were deleted",
            name(id)
        ));
    }
    Ok(report)
}

/// What is known of the segments that hold facts of one session.
#[derive(Debug, Default)]
pub struct SessionProof {
    pub report: Report,
    pub anchors: Vec<Anchor>,
}

/// Verifies only the segments of one session, and gives their signed ends.
///
/// # Errors
/// As [`verify_store`].
pub async fn verify_session(
    client: &Client,
    scope: &Scope<'_>,
    session: u128,
) -> Result<SessionProof, String> {
    let sql = "SELECT epoch, segment, count() AS n FROM fact WHERE node = {node:String} \
        AND session_id = toUInt128({session:String}) GROUP BY epoch, segment";
    let query = client.query_raw(sql).param("node", scope.node);
    let query = query.param("session", session.to_string());
    let rows: Vec<Count> = fetch(query).await?;
    let batches = batches(client, scope).await?;
    let mut proof = SessionProof::default();
    for row in rows {
        let id = unpack(row.epoch, row.segment);
        let rows = batches.get(&id).map_or(&[][..], Vec::as_slice);
        let seen = segment(client, &mut proof.report, scope, (id, rows, row.n)).await?;
        if let (false, Some(mark)) = (seen.sealed, seen.proven) {
            proof.anchors.push(Anchor::open(id, &mark));
        }
        let last = rows.last().filter(|last| !last.signature.is_empty());
        proof.anchors.extend(last.map(|last| Anchor {
            epoch: id.epoch,
            lane: id.lane,
            number: id.number,
            facts: last.last_position,
            hash: last.hash.clone(),
            signature: last.signature.clone(),
            sealed_s: last.sealed_s,
            at_ms: 0,
        }));
    }
    Ok(proof)
}

/// Facts under a node's name that never shipped a batch.
async fn strangers(client: &Client, report: &mut Report) -> Result<(), String> {
    let sql = "SELECT concat('node ', node, ': ', toString(count()), \
        ' facts, but no batch: inserted, or the column was changed') AS what FROM fact \
        WHERE node NOT IN (SELECT node FROM batch) GROUP BY node ORDER BY node LIMIT 100";
    let found: Vec<What> = fetch(client.query_raw(sql)).await?;
    found.into_iter().for_each(|row| report.finding(row.what));
    let sql = "SELECT concat('node ', node, ': several spools shipped under this name, their facts \
        cannot be told apart') AS what FROM batch GROUP BY node HAVING uniqExact(node_id) > 1 \
        ORDER BY node LIMIT 100";
    let found: Vec<What> = fetch(client.query_raw(sql)).await?;
    found.into_iter().for_each(|row| report.finding(row.what));
    Ok(())
}

type Batches = BTreeMap<SegmentId, Vec<BatchRow>>;

async fn batches(client: &Client, scope: &Scope<'_>) -> Result<Batches, String> {
    let sql = "SELECT node, epoch, segment, batch, toInt64(toUnixTimestamp(sealed_at)) AS sealed_s, \
        first_position, last_position, facts, previous_hash, hash, blocks, signature FROM batch \
        WHERE node_id = {id:String} ORDER BY epoch, segment, batch";
    let id = format!("{:032x}", scope.node_id);
    let rows: Vec<BatchRow> = fetch(client.query_raw(sql).param("id", id)).await?;
    let mut sorted = Batches::new();
    for row in rows {
        let id = unpack(row.epoch, row.segment);
        sorted.entry(id).or_default().push(row);
    }
    Ok(sorted)
}

async fn counts(client: &Client, scope: &Scope<'_>) -> Result<BTreeMap<SegmentId, u64>, String> {
    let sql = "SELECT epoch, segment, count() AS n FROM fact WHERE node = {node:String} \
        GROUP BY epoch, segment ORDER BY epoch, segment";
    let rows: Vec<Count> = fetch(client.query_raw(sql).param("node", scope.node)).await?;
    Ok(rows
        .into_iter()
        .map(|row| (unpack(row.epoch, row.segment), row.n))
        .collect())
}

/// What the shipper wrote down as acknowledged must be stored.
fn acknowledged(report: &mut Report, scope: &Scope<'_>, stored: &Batches) -> Result<(), String> {
    let Some(spool) = scope.spool else {
        return Ok(());
    };
    let told = journal::look(&spool.join("batches")).map_err(|error| error.to_string())?;
    let open: BTreeSet<_> = told.open.iter().map(|b| (b.segment, b.number)).collect();
    for batch in &told.refused {
        report.finding(format!(
            "segment {} batch {}: in quarantine, ClickHouse could not take it",
            name(batch.segment),
            batch.number
        ));
    }
    let refused: BTreeSet<_> = told.refused.iter().map(|b| (b.segment, b.number)).collect();
    for (id, progress) in &told.progress {
        for number in 1..=progress.batches {
            if refused.contains(&(*id, number)) {
                continue;
            }
            let found = stored
                .get(id)
                .is_some_and(|rows| rows.iter().any(|row| row.batch == number));
            if !found && !open.contains(&(*id, number)) {
                report.finding(format!(
                    "segment {} batch {number}: deleted, it was acknowledged and is not in ClickHouse",
                    name(*id)
                ));
            }
        }
    }
    Ok(())
}

struct Before {
    id: SegmentId,
    hash: String,
    sealed: bool,
    /// The newest anchor that holds.
    proven: Option<Mark>,
}

/// Checks a segment's first chain value against the end of the one before it.
fn previous(
    report: &mut Report,
    scope: &Scope<'_>,
    id: SegmentId,
    rows: &[BatchRow],
    before: Option<&Before>,
) {
    let before = before.filter(|seen| (seen.id.epoch, seen.id.lane) == (id.epoch, id.lane));
    let last = before.map_or(0, |seen| seen.id.number);
    if last + 1 < id.number {
        report.finding(format!(
            "segment {}: missing between {last} and {} of its lane",
            name(SegmentId {
                number: last + 1,
                ..id
            }),
            id.number
        ));
        return;
    }
    if let Some(seen) = before.filter(|seen| !seen.sealed) {
        report.finding(format!(
            "segment {}: its signed end is gone, though {} follows",
            name(seen.id),
            name(id)
        ));
    }
    let hash = before.map_or(Some([0; 32]), |seen| unhex(&seen.hash));
    let expected = hash.map(|hash| chain_start(scope.node_id, id, &hash));
    let found = rows.first().and_then(|row| unhex::<32>(&row.previous_hash));
    if expected != found && rows.first().is_some_and(|row| row.batch == 1) {
        report.finding(format!(
            "segment {}: does not follow the one before it (or has columns of another version)",
            name(id)
        ));
    }
}

/// Verifies one segment; gives what the next one must follow.
async fn segment(
    client: &Client,
    report: &mut Report,
    scope: &Scope<'_>,
    (id, rows, stored): (SegmentId, &[BatchRow], u64),
) -> Result<Before, String> {
    let last = rows.last();
    let mut before = Before {
        id,
        hash: last.map(|row| row.hash.clone()).unwrap_or_default(),
        sealed: last.is_some_and(|row| !row.signature.is_empty()),
        proven: None,
    };
    let signed = signed_end(report, scope, id, rows);
    let expired = last.is_some_and(|row| {
        scope.now_s - row.sealed_s > (RETENTION_DAYS - 1) * DAY_S && stored == 0
    });
    if expired {
        return Ok(before);
    }
    let marks = Anchors::of_segment(client, scope.node_id, id).await?;
    let spool = scope
        .spool
        .map(|spool| written(spool, id))
        .transpose()
        .map_err(|error| format!("reading the spool: {error}"))?;
    let found_before = report.findings.len();
    let spool = spool.unwrap_or_default();
    let coming = spool.last_key_value().map_or(0, |(position, _)| *position);
    let walk = Walk::new(report, id, scope.node, rows, spool);
    let walked = walked(client, scope, id, walk).await?;
    report.facts += walked.facts;
    let present = Present {
        id,
        last: last.map_or(0, |row| row.last_position),
        coming,
        heads: &walked.heads,
        faulty: report.findings.len() > found_before,
    };
    before.proven = anchors::compare(report, scope.keys, &present, &marks);
    let good = report.findings.len() == found_before;
    let proven = match &before.proven {
        Some(mark) if good => {
            report.anchored(id, mark.at_ms);
            u64::from(mark.position)
        }
        Some(_) | None => 0,
    };
    if signed && good {
        report.anchored(id, last.map_or(0, |row| row.sealed_s.saturating_mul(1000)));
    } else {
        report.unproven += walked.facts.saturating_sub(proven);
    }
    Ok(before)
}

/// All stored rows of a segment, as they come.
async fn walked(
    client: &Client,
    scope: &Scope<'_>,
    id: SegmentId,
    mut walk: Walk<'_>,
) -> Result<Walked, String> {
    let sql = format!(
        "SELECT {} FROM fact WHERE node = {{node:String}} AND epoch = {{epoch:UInt32}} AND \
         segment = {{segment:UInt64}} ORDER BY position, row_digest",
        schema::names()
    );
    let query = client
        .query_raw(&sql)
        .param("node", scope.node)
        .param("epoch", id.epoch)
        .param("segment", id.packed());
    let mut cursor = query.fetch_bytes("RowBinary").map_err(|e| e.to_string())?;
    let mut rest: Vec<u8> = Vec::new();
    while let Some(chunk) = cursor.next().await.map_err(|error| error.to_string())? {
        rest.extend_from_slice(&chunk);
        let mut at = 0;
        while let Some(len) =
            row::ends(rest.get(at..).unwrap_or(&[]))?.and_then(|e| e.last().copied())
        {
            walk.row(Row::new(rest.get(at..at + len).unwrap_or(&[]))?);
            at += len;
        }
        rest.drain(..at);
    }
    if !rest.is_empty() {
        return Err("ClickHouse's answer ends within a row".to_owned());
    }
    Ok(walk.end())
}

/// The last batch of a sealed segment carries the signature of its end.
fn signed_end(report: &mut Report, scope: &Scope<'_>, id: SegmentId, rows: &[BatchRow]) -> bool {
    let mut good = false;
    for (index, row) in rows.iter().enumerate() {
        if row.signature.is_empty() {
            continue;
        }
        let signer = match (unhex::<32>(&row.hash), unhex::<64>(&row.signature)) {
            (Some(hash), Some(signature)) => scope.keys.signer(id, |key| {
                end_is_signed(row.last_position, &hash, &signature, key)
            }),
            _ => Signer::Unknown,
        };
        let holds = signer == Signer::Valid;
        if let Some(wrong) = signer.wrong() {
            report.finding(format!(
                "segment {} batch {}: the signature of its end {wrong}",
                name(id),
                row.batch
            ));
        } else if index + 1 < rows.len() {
            report.finding(format!(
                "segment {} batch {}: batches follow the signed end",
                name(id),
                row.batch
            ));
        }
        good = holds;
    }
    good
}

/// The rows of a segment as they were written, by position; empty when the file was freed.
fn written(spool: &Path, id: SegmentId) -> std::io::Result<BTreeMap<u32, Vec<u8>>> {
    let all = segments(spool).map_err(std::io::Error::other)?;
    let Some(segment) = all.into_iter().find(|segment| segment.id == id) else {
        return Ok(BTreeMap::new());
    };
    let bytes = std::fs::read(&segment.path)?;
    let mut rows = BTreeMap::new();
    let Ok(header) = read_header(&bytes) else {
        return Ok(rows);
    };
    let mut reader = BlockReader::new(&header);
    let mut at = header.len;
    // What is wrong with the file itself is said by `verify_files`.
    while let Ok(Next::Block(block, len)) = reader.next(bytes.get(at..).unwrap_or(&[])) {
        for (position, row) in (block.first..).zip(block.rows().flatten()) {
            rows.insert(position, row.to_vec());
        }
        at += len;
    }
    Ok(rows)
}
