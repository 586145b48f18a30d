//! `weir audit verify`: is anything missing, changed, doubled or out of order?

use std::path::Path;

use clickhouse::Client;
use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use weir_spool::verify_segment;

use crate::directory::segments;
use crate::query::fetch;

/// What was looked at and what is wrong.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub segments: usize,
    pub facts: u64,
    /// Facts of segments that are not sealed yet: their end is unproven.
    pub unproven: u64,
    /// Newest signed end, as `epoch-lane-number`; empty when nothing is sealed.
    pub last_anchor: String,
    pub findings: Vec<String>,
}

/// The public half of the node's key file.
///
/// # Errors
/// The file cannot be read or has another length.
pub fn verifying_key(key_file: &Path) -> std::io::Result<VerifyingKey> {
    let bytes = std::fs::read(key_file)?;
    let bytes: [u8; 32] = bytes
        .try_into()
        .map_err(|_| std::io::Error::other("the node key has a wrong length"))?;
    Ok(SigningKey::from_bytes(&bytes).verifying_key())
}

/// Verifies every segment of a spool directory and how they follow each other.
///
/// # Errors
/// The directory cannot be read; what is wrong inside is in the report.
pub fn verify_files(directory: &Path, key: &VerifyingKey) -> std::io::Result<Report> {
    let mut report = Report::default();
    let mut before: Option<(weir_spool::SegmentId, [u8; 32])> = None;
    for segment in segments(directory).map_err(std::io::Error::other)? {
        report.segments += 1;
        let name = format!(
            "{}-{}-{}",
            segment.id.epoch, segment.id.lane, segment.id.number
        );
        let bytes = std::fs::read(&segment.path)?;
        let verified = match verify_segment(&bytes, key) {
            Ok(verified) => verified,
            Err(error) => {
                report.findings.push(format!("segment {name}: {error}"));
                before = None;
                continue;
            }
        };
        let header = &verified.header;
        if (header.epoch, header.lane, header.number)
            != (segment.id.epoch, segment.id.lane, segment.id.number)
        {
            report
                .findings
                .push(format!("segment {name}: its header names another segment"));
        }
        let follows = before.is_some_and(|(id, _)| {
            id.epoch == segment.id.epoch
                && id.lane == segment.id.lane
                && id.number + 1 == segment.id.number
        });
        if follows && before.is_some_and(|(_, hash)| hash != header.previous) {
            report
                .findings
                .push(format!("segment {name}: does not follow the one before it"));
        }
        report.facts += u64::from(verified.facts);
        if verified.sealed {
            report.last_anchor = name;
        } else {
            report.unproven += u64::from(verified.facts);
        }
        before = Some((segment.id, verified.hash));
    }
    Ok(report)
}

#[derive(Deserialize)]
struct Hole {
    what: String,
}

/// Checks the tables: doubled facts, gaps in sessions, batches that do not follow each other,
/// batches whose facts are not all there.
///
/// # Errors
/// ClickHouse's.
pub async fn verify_store(client: &Client) -> Result<Vec<String>, String> {
    let mut findings = Vec::new();
    for sql in QUESTIONS {
        let holes: Vec<Hole> = fetch(client.query_raw(sql)).await?;
        findings.extend(holes.into_iter().map(|hole| hole.what));
    }
    Ok(findings)
}

const QUESTIONS: &[&str] = &[
    "SELECT concat('fact doubled: session ', toString(session_id), ' seq ', toString(seq), ', ', \
     toString(count()), ' times') AS what FROM fact WHERE session_id != 0 GROUP BY session_id, seq \
     HAVING count() > 1 LIMIT 100",
    "SELECT concat('facts missing: session ', toString(session_id), ' has ', \
     toString(uniqExact(seq)), ' of ', toString(max(seq))) AS what FROM fact WHERE session_id != 0 \
     GROUP BY session_id HAVING uniqExact(seq) != max(seq) LIMIT 100",
    "SELECT concat('batch hashes do not follow: ', node_id, ' epoch ', toString(epoch), ' segment ', \
     toString(segment), ' batch ', toString(batch)) AS what FROM (SELECT node_id, epoch, segment, \
     batch, previous_hash, lagInFrame(hash) OVER w AS before, lagInFrame(batch) OVER w AS earlier \
     FROM batch WINDOW w AS (PARTITION BY node_id, epoch, segment ORDER BY batch)) \
     WHERE (earlier = 0 AND batch != 1) OR (earlier != 0 AND (batch != earlier + 1 OR \
     previous_hash != before)) LIMIT 100",
    "SELECT concat('batch incomplete: epoch ', toString(b.epoch), ' segment ', \
     toString(b.segment), ' has ', toString(f.stored), ' of ', toString(b.sealed), ' facts') AS what \
     FROM (SELECT epoch, segment, sum(facts) AS sealed FROM batch GROUP BY epoch, segment) AS b \
     LEFT JOIN (SELECT epoch, segment, count() AS stored FROM fact GROUP BY epoch, segment) AS f \
     ON b.epoch = f.epoch AND b.segment = f.segment WHERE f.stored != b.sealed LIMIT 100",
];
