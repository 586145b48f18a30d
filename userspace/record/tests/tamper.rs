//! Every way of tampering with the spool's files is named by `verify_files`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_model::fact::{Fact, FactContext, FactKind};
use weir_record::audit::{Report, Verdict, verify_files};
use weir_record::{Durability, SpoolConfig, SpoolDir};
use weir_spool::{BlockReader, Next, read_header};

struct Spool {
    root: PathBuf,
    dir: SpoolDir,
}

impl Drop for Spool {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.root).unwrap();
    }
}

const BLOCKS: u32 = 3;

/// Three segments of one lane: a new one is begun after an hour.
fn recorded(name: &str, close: bool) -> Spool {
    let root = std::env::temp_dir().join(format!("weir-tamper-{name}-{}", std::process::id()));
    let dir = SpoolDir::open(SpoolConfig {
        directory: root.join("spool"),
        key_file: root.join("node.key"),
        limit_bytes: 1 << 30,
        durability: Durability::Process,
    })
    .unwrap();
    let mut now = weir_clock::now();
    let mut lane = dir.lane(0, now).unwrap();
    let context = Arc::new(FactContext {
        session_id: 1,
        ..FactContext::default()
    });
    let mut seq = 0;
    for _ in 0..3 {
        for _ in 0..BLOCKS {
            for _ in 0..2 {
                seq += 1;
                let fact = Fact::new(Arc::clone(&context), FactKind::Request, seq, now.wall_us);
                lane.push(&fact).unwrap();
            }
            lane.commit(now).unwrap();
        }
        now.mono_us += 3_700_000_000;
        now.wall_us += 3_700_000_000;
    }
    if close {
        lane.close(now).unwrap();
    }
    Spool { root, dir }
}

impl Spool {
    fn path(&self, number: u32) -> PathBuf {
        self.dir
            .directory()
            .join(format!("00000001-000-{number:08}.seg"))
    }

    fn verify(&self) -> Report {
        verify_files(self.dir.directory(), &self.dir.history()).unwrap()
    }

    /// Verifies with other bytes in a segment, and puts the right ones back.
    fn with(&self, number: u32, bytes: &[u8]) -> Report {
        let path = self.path(number);
        let right = std::fs::read(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let report = self.verify();
        std::fs::write(&path, right).unwrap();
        report
    }
}

fn names(report: &Report, words: &[&str]) -> bool {
    report
        .findings
        .iter()
        .any(|finding| words.iter().all(|word| finding.contains(word)))
}

/// Header, blocks and trailer of a segment.
fn parts(path: &Path) -> (Vec<u8>, Vec<Vec<u8>>, Vec<u8>) {
    let bytes = std::fs::read(path).unwrap();
    let header = read_header(&bytes).unwrap();
    let mut reader = BlockReader::new(&header);
    let mut at = header.len;
    let mut blocks = Vec::new();
    while let Next::Block(_, len) = reader.next(&bytes[at..]).unwrap() {
        blocks.push(bytes[at..at + len].to_vec());
        at += len;
    }
    (bytes[..header.len].to_vec(), blocks, bytes[at..].to_vec())
}

fn joined(head: &[u8], blocks: &[&Vec<u8>], trailer: &[u8]) -> Vec<u8> {
    let mut bytes = head.to_vec();
    for block in blocks {
        bytes.extend_from_slice(block);
    }
    bytes.extend_from_slice(trailer);
    bytes
}

#[test]
fn an_untouched_spool_is_clean_and_an_open_one_unproven() {
    let spool = recorded("clean", true);
    let report = spool.verify();
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!(report.verdict(), Verdict::Clean);
    assert_eq!(report.unproven, 0);
    drop(spool);
    let spool = recorded("open", false);
    let (head, blocks, _) = parts(&spool.path(3));
    let report = spool.with(3, &joined(&head, &blocks.iter().collect::<Vec<_>>(), &[]));
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!(report.verdict(), Verdict::Unproven);
    assert_eq!((report.unproven, report.last_anchor.as_str()), (4, "1-0-2"));
}

#[test]
fn every_single_byte_matters() {
    let spool = recorded("bytes", true);
    let right = std::fs::read(spool.path(2)).unwrap();
    for at in 0..right.len() {
        let mut bytes = right.clone();
        bytes[at] ^= 1;
        let report = spool.with(2, &bytes);
        assert!(names(&report, &["segment 1-0-2"]), "byte {at}: {report:?}");
    }
}

#[test]
fn blocks_that_are_moved_are_named_by_position() {
    let spool = recorded("blocks", true);
    let (head, blocks, trailer) = parts(&spool.path(2));
    let [a, b, c] = &blocks[..] else {
        panic!("three blocks")
    };
    type Case<'a> = (&'a str, Vec<&'a Vec<u8>>, &'a [&'a str]);
    let cases: [Case<'_>; 5] = [
        ("removed", vec![a, c], &["1-0-2", "position 3 is missing"]),
        (
            "first removed",
            vec![b, c],
            &["1-0-2", "position 1 is missing"],
        ),
        (
            "swapped",
            vec![b, a, c],
            &["1-0-2", "positions 1 to 2", "moved"],
        ),
        (
            "doubled",
            vec![a, b, b, c],
            &["1-0-2", "positions 3 to 4", "doubled"],
        ),
        (
            "last removed",
            vec![a, b],
            &["1-0-2", "says 6 facts, there are 4"],
        ),
    ];
    for (what, blocks, says) in cases {
        let report = spool.with(2, &joined(&head, &blocks, &trailer));
        assert!(names(&report, says), "{what}: {:?}", report.findings);
    }
    let (_, foreign, _) = parts(&spool.path(1));
    let report = spool.with(2, &joined(&head, &[a, &foreign[1], c], &trailer));
    assert!(
        names(&report, &["1-0-2", "changed between position 3 and 4"]),
        "{:?}",
        report.findings
    );
}

#[test]
fn two_faults_of_one_segment_are_both_named() {
    let spool = recorded("two", true);
    let (head, mut blocks, trailer) = parts(&spool.path(2));
    let last = blocks[0].len() - 1;
    blocks[0][last] ^= 1;
    blocks[2][last] ^= 1;
    let report = spool.with(
        2,
        &joined(&head, &blocks.iter().collect::<Vec<_>>(), &trailer),
    );
    assert!(
        names(&report, &["position 1 and 2"]),
        "{:?}",
        report.findings
    );
    assert!(
        names(&report, &["position 5 and 6"]),
        "{:?}",
        report.findings
    );
}

#[test]
fn every_cut_of_a_sealed_segment_is_named() {
    let spool = recorded("cut", true);
    let right = std::fs::read(spool.path(2)).unwrap();
    for length in 0..right.len() {
        let report = spool.with(2, &right[..length]);
        assert!(names(&report, &["segment 1-0-2"]), "{length}: {report:?}");
    }
    let mut longer = right;
    longer.push(b'B');
    assert!(names(
        &spool.with(2, &longer),
        &["1-0-2", "follow the signed end"]
    ));
}

#[test]
fn segments_that_are_removed_or_exchanged_are_named() {
    let spool = recorded("segments", true);
    for number in [1, 2] {
        let path = spool.path(number);
        let right = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let report = spool.verify();
        let segment = format!("segment 1-0-{number}");
        assert!(
            names(&report, &[&segment, "missing"]),
            "{:?}",
            report.findings
        );
        std::fs::write(&path, right).unwrap();
    }
    let other = std::fs::read(spool.path(1)).unwrap();
    let report = spool.with(2, &other);
    assert!(
        names(&report, &["1-0-2", "names another segment"]),
        "{:?}",
        report.findings
    );
}
