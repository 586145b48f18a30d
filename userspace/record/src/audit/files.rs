//! The spool's own files.

use std::collections::BTreeMap;
use std::path::Path;

use ed25519_dalek::VerifyingKey;
use weir_spool::{Inspection, ReadError, SegmentId, inspect_segment};

use super::anchors::{self, Anchors, Present};
use super::{Report, name};
use crate::directory::segments;
use crate::hex::unhex;
use crate::journal::{self, Told};
use crate::keys::KeyHistory;

/// The random number that a spool has for life.
///
/// # Errors
/// The file cannot be read or has another length.
pub fn node_id(directory: &Path) -> std::io::Result<u128> {
    let bytes = std::fs::read(directory.join("node.id"))?;
    let bytes: [u8; 16] = bytes
        .try_into()
        .map_err(|_| std::io::Error::other("node.id must hold exactly 16 bytes"))?;
    Ok(u128::from_le_bytes(bytes))
}

/// As [`verify_files_against`], without anything that has left the node.
///
/// # Errors
/// As there.
pub fn verify_files(directory: &Path, keys: &KeyHistory) -> std::io::Result<Report> {
    verify_files_against(directory, keys, &Anchors::default())
}

/// Verifies every segment of a spool directory, how they follow each other, that all that the
/// shipper wrote down is still there or was acknowledged, and that nothing contradicts an anchor. Anchors have to be
/// read before: a live node goes on writing.
///
/// # Errors
/// The directory cannot be read; what is wrong inside is in the report.
pub fn verify_files_against(
    directory: &Path,
    keys: &KeyHistory,
    anchors: &Anchors,
) -> std::io::Result<Report> {
    let mut report = Report::default();
    let told = match journal::look(&directory.join("batches")) {
        Ok(told) => told,
        Err(error) if error.kind() == std::io::ErrorKind::Other => {
            report.finding(format!("the shipper's journal: {error}"));
            Told::default()
        }
        Err(error) => return Err(error),
    };
    let node = match node_id(directory) {
        Ok(node) => Some(node),
        Err(error) => {
            report.finding(format!("node.id: {error}"));
            None
        }
    };
    let mut before: Option<Seen> = None;
    let mut present = Vec::new();
    for segment in segments(directory).map_err(std::io::Error::other)? {
        report.segments += 1;
        present.push(segment.id);
        let bytes = std::fs::read(&segment.path)?;
        let found = inspected(&mut report, segment.id, &bytes, keys);
        own_header(&mut report, segment.id, node, &found);
        if told
            .progress
            .get(&segment.id)
            .is_some_and(|progress| progress.end > bytes.len() as u64)
        {
            report.finding(format!(
                "segment {}: cut off, more of it was shipped than is in the file",
                name(segment.id)
            ));
        }
        follows(&mut report, segment.id, &found, before.as_ref(), &told);
        report.facts += u64::from(found.facts);
        let proven = anchored(&mut report, segment.id, &found, (keys, anchors));
        report.unproven += u64::from(found.facts - proven.min(found.facts));
        before = Some(Seen {
            id: segment.id,
            hash: found.hash,
            sealed: found.sealed,
        });
    }
    for problem in anchors.problems() {
        report.finding(problem.clone());
    }
    gone(&mut report, (keys, anchors), &told, &present);
    needed(&mut report, &told, &present);
    newest_removed(&mut report, &told, &present);
    Ok(report)
}

/// Position up to which a segment is proven.
fn anchored(
    report: &mut Report,
    id: SegmentId,
    found: &Inspection,
    (keys, anchors): (&KeyHistory, &Anchors),
) -> u32 {
    let present = Present {
        id,
        last: found.facts,
        coming: 0,
        heads: &found.heads.iter().copied().collect(),
        faulty: !found.errors.is_empty(),
    };
    let mark = anchors::compare(report, keys, &present, anchors.of(id));
    if let Some(mark) = mark {
        report.anchored(id, mark.at_ms);
    }
    if found.sealed {
        if mark.is_none() {
            report.anchored(id, 0);
        }
        found.facts
    } else {
        mark.map_or(0, |mark| mark.position)
    }
}

/// Segments that were anchored and are neither here nor shipped.
fn gone(
    report: &mut Report,
    (keys, anchors): (&KeyHistory, &Anchors),
    told: &Told,
    present: &[SegmentId],
) {
    for (id, marks) in anchors.segments() {
        if present.contains(&id) {
            continue;
        }
        let nothing = Present {
            id,
            last: told.progress.get(&id).map_or(0, |progress| progress.last),
            coming: 0,
            heads: &BTreeMap::new(),
            faulty: true,
        };
        anchors::compare(report, keys, &nothing, marks);
    }
}

/// What is in a segment; what is wrong is said.
fn inspected(report: &mut Report, id: SegmentId, bytes: &[u8], keys: &KeyHistory) -> Inspection {
    let by = |key: &VerifyingKey| inspect_segment(bytes, key);
    let Some(key) = keys.key_of(id) else {
        return Inspection::default();
    };
    let found = by(key);
    for error in &found.errors {
        let mut text = error.to_string();
        if *error == ReadError::Signature {
            let signer = keys.signer(id, |key| !by(key).errors.contains(&ReadError::Signature));
            if let Some(wrong) = signer.wrong() {
                text = format!("the signature of its end {wrong}");
            }
        }
        report.finding(format!("segment {}: {text}", name(id)));
    }
    found
}

/// Files that hold what is stored nowhere else.
fn needed(report: &mut Report, told: &Told, present: &[SegmentId]) {
    for batch in told
        .open
        .iter()
        .filter(|open| !present.contains(&open.segment))
    {
        report.finding(format!(
            "segment {}: removed, though its batch {} was never acknowledged",
            name(batch.segment),
            batch.number
        ));
    }
    for batch in &told.refused {
        if !present.contains(&batch.segment) {
            let name = name(batch.segment);
            report.finding(format!(
                "segment {name}: removed, though its batch {} is in quarantine",
                batch.number
            ));
        }
    }
}

struct Seen {
    id: SegmentId,
    hash: [u8; 32],
    sealed: bool,
}

fn own_header(report: &mut Report, id: SegmentId, node: Option<u128>, found: &Inspection) {
    let Some(header) = &found.header else { return };
    let named = (header.epoch, header.lane, header.number);
    if named != (id.epoch, id.lane, id.number) {
        report.finding(format!(
            "segment {}: its header names another segment",
            name(id)
        ));
    }
    if node.is_some_and(|node| node != header.node) {
        report.finding(format!(
            "segment {}: its header names another node",
            name(id)
        ));
    }
}

/// Checks a segment against the one before it in its lane.
fn follows(
    report: &mut Report,
    id: SegmentId,
    found: &Inspection,
    before: Option<&Seen>,
    told: &Told,
) {
    let Some(header) = &found.header else { return };
    let before = before.filter(|seen| (seen.id.epoch, seen.id.lane) == (id.epoch, id.lane));
    let first_absent = before.map_or(1, |seen| seen.id.number + 1);
    let absent = (first_absent..id.number).map(|number| SegmentId { number, ..id });
    for absent in absent {
        // Only segments that were shipped to their end are ever freed.
        if !told.progress.contains_key(&absent) {
            report.finding(format!(
                "segment {}: missing, and it was never shipped",
                name(absent)
            ));
        }
    }
    let expected = match id.number.checked_sub(1) {
        None | Some(0) => Some([0; 32]),
        Some(number) => match before.filter(|seen| seen.id.number == number) {
            Some(seen) => {
                if !seen.sealed {
                    report.finding(format!(
                        "segment {}: its signed end is gone, though {} follows",
                        name(seen.id),
                        name(id)
                    ));
                }
                Some(seen.hash)
            }
            None => told
                .progress
                .get(&SegmentId { number, ..id })
                .and_then(|progress| progress.hash.as_deref().and_then(unhex)),
        },
    };
    if expected.is_some_and(|expected| expected != header.previous) {
        report.finding(format!(
            "segment {}: does not follow the one before it",
            name(id)
        ));
    }
}

/// The newest segment of the newest epoch is never freed: it is still written.
fn newest_removed(report: &mut Report, told: &Told, present: &[SegmentId]) {
    let newest_epoch = told.progress.keys().map(|id| id.epoch).max();
    let newest_file = present.iter().map(|id| id.epoch).max();
    if newest_epoch < newest_file {
        return;
    }
    for id in told.progress.keys() {
        let newer = told.progress.keys().chain(present).any(|other| {
            other.epoch == id.epoch && other.lane == id.lane && other.number > id.number
        });
        if Some(id.epoch) == newest_epoch && !newer && !present.contains(id) {
            report.finding(format!(
                "segment {}: removed while it was the newest",
                name(*id)
            ));
        }
    }
}
