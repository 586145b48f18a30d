//! SIGKILL of the writer: every receipt it got is on disk.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use weir_model::fact::{Fact, FactContext, FactKind};
use weir_model::ident::SessionId;
use weir_record::{Durability, SpoolConfig, SpoolDir, audit};

const DIRECTORY: &str = "WEIR_TEST_SPOOL";

fn open(directory: &Path) -> SpoolDir {
    SpoolDir::open(SpoolConfig {
        directory: directory.join("spool"),
        key_file: directory.join("node.key"),
        limit_bytes: 1 << 30,
        durability: Durability::Process,
    })
    .unwrap()
}

#[test]
fn writer() {
    // Only the test below gives it something to do, and kills it.
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let spool = open(Path::new(&directory));
    let mut lane = spool.lane(0, weir_clock::now()).unwrap();
    let context = Arc::new(FactContext {
        session_id: 1,
        ..FactContext::default()
    });
    let mut out = std::io::stderr().lock();
    for seq in 1.. {
        let now = weir_clock::now();
        let mut fact = Fact::new(Arc::clone(&context), FactKind::Request, seq, now.wall_us);
        fact.statement = Arc::from("x".repeat(seq as usize % 5000));
        lane.push(&fact).unwrap();
        let receipts = lane.commit(now).unwrap();
        assert!(
            receipts
                .iter()
                .any(|receipt| receipt.covers(SessionId(1), seq))
        );
        writeln!(out, "receipt {seq}").unwrap();
    }
}

#[test]
fn every_receipt_of_a_killed_writer_is_on_disk() {
    let directory = std::env::temp_dir().join(format!("weir-killed-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let mut receipts = 0;
    for round in 1..=8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer", "--nocapture"])
            .env(DIRECTORY, &directory)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut last = 0;
        for line in lines {
            let line = line.unwrap();
            if let Some(seq) = line
                .strip_prefix("receipt ")
                .and_then(|seq| seq.parse().ok())
            {
                last = seq;
            }
            // What is in the pipe is still read after the kill: those receipts count as well.
            if last == round * 137 {
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success());
        assert!(last >= round * 137);
        receipts += last;
        let spool = open(&directory);
        let report = audit::verify_files(spool.directory(), &spool.history()).unwrap();
        assert_eq!(report.findings, Vec::<String>::new());
        assert!(report.facts >= receipts, "{} < {receipts}", report.facts);
        // One fact per round may be on disk whose receipt was not told.
        assert!(
            report.facts <= receipts + round,
            "{} > {receipts}",
            report.facts
        );
    }
    std::fs::remove_dir_all(&directory).unwrap();
}
