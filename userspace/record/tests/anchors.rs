//! Anchors that have left the node: what is taken away behind them is named, what nobody anchored is unproven.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use weir_model::fact::{Fact, FactContext, FactKind};
use weir_record::anchor::{AnchorConfig, AnchorMetrics, Anchoring, Witness};
use weir_record::audit::{Anchors, Report, Verdict, verify_files, verify_files_against};
use weir_record::{Durability, FileSegment, SpoolConfig, SpoolDir};
use weir_spool::{BlockReader, Lane, Next, read_header};

struct World {
    root: PathBuf,
    spool: SpoolDir,
    lane: Lane<FileSegment>,
    seq: u32,
}

impl Drop for World {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.root).unwrap();
    }
}

impl World {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("weir-anchors-{name}-{}", std::process::id()));
        Self::at(root)
    }

    fn at(root: PathBuf) -> Self {
        let spool = SpoolDir::open(SpoolConfig {
            directory: root.join("spool"),
            key_file: root.join("node.key"),
            limit_bytes: 1 << 30,
            durability: Durability::Process,
        })
        .unwrap();
        let lane = spool.lane(0, weir_clock::now()).unwrap();
        Self {
            root,
            spool,
            lane,
            seq: 0,
        }
    }

    fn write(&mut self, facts: u32) {
        let context = Arc::new(FactContext {
            session_id: 1,
            ..FactContext::default()
        });
        let now = weir_clock::now();
        for _ in 0..facts {
            self.seq += 1;
            let fact = Fact::new(Arc::clone(&context), FactKind::Request, self.seq, 1);
            self.lane.push(&fact).unwrap();
            self.lane.commit(now).unwrap();
        }
    }

    fn segment(&self, number: u32) -> PathBuf {
        self.spool
            .directory()
            .join(format!("00000001-000-{number:08}.seg"))
    }

    fn witness(&self) -> PathBuf {
        self.root.join("witness")
    }

    /// Gives away what is there now: a task that is told to stop does so once.
    async fn anchor(&self) {
        let file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.witness())
            .unwrap();
        let config = AnchorConfig {
            node_name: "n1".to_owned(),
            every: Duration::from_secs(3600),
            stores: Vec::new(),
            witness: Some(Witness::File(file)),
        };
        let metrics = AnchorMetrics::register(&prometheus::Registry::new()).unwrap();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        stop.send(true).unwrap();
        Anchoring::new(config, &self.spool, metrics)
            .run(stopped)
            .await;
    }

    fn verify(&self) -> Report {
        let anchors = Anchors::of_witness(&self.witness(), self.spool.node()).unwrap();
        verify_files_against(self.spool.directory(), &self.spool.history(), &anchors).unwrap()
    }

    /// Cuts the segment behind its `facts`th fact.
    fn cut(&self, number: u32, facts: u32) {
        let bytes = std::fs::read(self.segment(number)).unwrap();
        let header = read_header(&bytes).unwrap();
        let mut reader = BlockReader::new(&header);
        let mut at = header.len;
        while reader.position() < facts {
            let Next::Block(_, len) = reader.next(&bytes[at..]).unwrap() else {
                panic!("a block")
            };
            at += len;
        }
        std::fs::write(self.segment(number), &bytes[..at]).unwrap();
    }
}

fn names(report: &Report, words: &[&str]) -> bool {
    report
        .findings
        .iter()
        .any(|finding| words.iter().all(|word| finding.contains(word)))
}

#[tokio::test]
async fn what_is_cut_behind_an_anchor_is_named_and_without_one_it_is_unproven() {
    let mut world = World::new("cut");
    world.write(4);
    world.anchor().await;
    world.write(3);
    let whole = std::fs::read(world.segment(1)).unwrap();
    let report = world.verify();
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!((report.verdict(), report.unproven), (Verdict::Unproven, 3));
    assert_eq!(report.last_anchor, "1-0-1");
    assert!(report.last_anchor_ms > 0);
    // What nobody anchored may be gone without a trace.
    world.cut(1, 5);
    let report = world.verify();
    assert_eq!((report.findings.len(), report.unproven), (0, 1));
    world.cut(1, 3);
    let report = world.verify();
    assert!(names(
        &report,
        &["segment 1-0-1", "cut off behind position 3", "4 facts"]
    ));
    // The same cut, seen by somebody who has no anchor.
    let blind = verify_files(world.spool.directory(), &world.spool.history()).unwrap();
    assert_eq!(blind.findings, Vec::<String>::new());
    assert_eq!((blind.verdict(), blind.unproven), (Verdict::Unproven, 3));
    assert_eq!(blind.last_anchor, "");
    // All of it.
    std::fs::remove_file(world.segment(1)).unwrap();
    assert!(names(
        &world.verify(),
        &["segment 1-0-1", "cut off behind position 0"]
    ));
    std::fs::write(world.segment(1), &whole).unwrap();
    world.anchor().await;
    let report = world.verify();
    assert_eq!((report.findings, report.unproven), (Vec::new(), 0));
}

#[tokio::test]
async fn who_has_the_key_cannot_write_anew_what_was_anchored() {
    let mut world = World::new("anew");
    world.write(2);
    world.anchor().await;
    assert_eq!(world.verify().findings, Vec::<String>::new());
    // The same node, key and segment, other facts.
    let root = world.root.with_extension("again");
    std::fs::create_dir_all(root.join("spool")).unwrap();
    for file in ["node.key", "spool/node.id"] {
        std::fs::copy(world.root.join(file), root.join(file)).unwrap();
    }
    let mut again = World::at(root);
    again.seq = 5;
    again.write(2);
    std::fs::copy(again.segment(1), world.segment(1)).unwrap();
    let report = world.verify();
    assert!(
        names(&report, &["1-0-1", "positions up to 2 are not those"]),
        "{report:?}"
    );
}

#[tokio::test]
async fn ended_segments_and_those_of_earlier_keys_are_anchored_too() {
    let mut world = World::new("ended");
    world.write(2);
    world
        .spool
        .keys()
        .rotate(world.spool.directory(), 1)
        .unwrap();
    world.write(5);
    world.anchor().await;
    let lines = std::fs::read_to_string(world.witness()).unwrap();
    assert!(lines.lines().count() >= 2, "{lines}");
    let report = world.verify();
    assert_eq!((report.findings, report.unproven), (Vec::new(), 0));
    world.cut(1, 1);
    assert!(names(&world.verify(), &["segment 1-0-1", "cut off"]));
}

#[tokio::test]
async fn forged_and_broken_lines_of_a_witness_are_named() {
    let mut world = World::new("forged");
    world.write(3);
    world.anchor().await;
    let right = std::fs::read_to_string(world.witness()).unwrap();
    let more = right.replace("\"position\":3", "\"position\":9");
    assert_ne!(more, right);
    let later = right.replace("\"at_ms\":", "\"at_ms\":1");
    let foreign = right.replace("\"node_id\":\"", "\"node_id\":\"f");
    for (text, says) in [
        (more, Some("signature of an anchor at position 9")),
        (later, Some("signature of an anchor at position 3")),
        (format!("{right}x\n"), Some("line 2 cannot be read")),
        (
            format!("{right}{}\n", "9".repeat(9000)),
            Some("line 2 cannot be read"),
        ),
        // Of another node, and one that is still being written.
        (format!("{right}{foreign}"), None),
        (format!("{right}{}", &right[..40]), None),
    ] {
        std::fs::write(world.witness(), &text).unwrap();
        let report = world.verify();
        match says {
            Some(says) => assert!(names(&report, &[says]), "{says}: {report:?}"),
            None => assert_eq!(report.findings, Vec::<String>::new(), "{text}"),
        }
    }
}
