//! Torn writes: wherever the bytes of a segment or of the journal end, what was whole before is kept,
//! nothing is taken for a fact that was none, and the spool goes on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_model::fact::{Fact, FactContext, FactKind};
use weir_model::time::Now;
use weir_record::audit::verify_files;
use weir_record::{Durability, SpoolConfig, SpoolDir};
use weir_spool::{BlockReader, Next, read_header};

/// Thousands of small files: in memory, where there is such a file system.
fn root(name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    base.join(format!("weir-torn-{name}-{}", std::process::id()))
}

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn open(root: &Path) -> SpoolDir {
    SpoolDir::open(SpoolConfig {
        directory: root.join("spool"),
        key_file: root.join("node.key"),
        limit_bytes: 1 << 30,
        durability: Durability::Process,
    })
    .unwrap()
}

const NOW: Now = Now {
    mono_us: 0,
    wall_us: 1_800_000_000_000_000,
};

/// Blocks of one to three facts of different lengths.
fn write(spool: &SpoolDir, close: bool) {
    let mut lane = spool.lane(0, NOW).unwrap();
    let context = Arc::new(FactContext {
        session_id: 1,
        ..FactContext::default()
    });
    let mut seq = 0;
    for block in 0..6_u32 {
        for _fact in 0..=block % 3 {
            seq += 1;
            let mut fact = Fact::new(Arc::clone(&context), FactKind::Request, seq, NOW.wall_us);
            fact.statement = Arc::from("x".repeat(block as usize * 17));
            lane.push(&fact).unwrap();
        }
        lane.commit(NOW).unwrap();
    }
    if close {
        lane.close(NOW).unwrap();
    }
}

/// Offsets after which one more block is whole, with the facts up to there.
fn ends(bytes: &[u8]) -> Vec<(usize, u64)> {
    let header = read_header(bytes).unwrap();
    let mut reader = BlockReader::new(&header);
    let mut at = header.len;
    let mut ends = vec![(0, 0)];
    while let Next::Block(_, len) = reader.next(&bytes[at..]).unwrap() {
        at += len;
        ends.push((at, u64::from(reader.position())));
    }
    ends
}

fn segment(root: &Path) -> PathBuf {
    root.join("spool/00000001-000-00000001.seg")
}

/// `make` gives what is in the file after the fault at an offset.
fn every_offset(name: &str, close: bool, make: impl Fn(&[u8], usize) -> Vec<u8>) {
    let scratch = Scratch(root(name));
    let root = &scratch.0;
    let spool = open(root);
    write(&spool, close);
    drop(spool);
    let whole = std::fs::read(segment(root)).unwrap();
    let ends = ends(&whole);
    for offset in 0..=whole.len() {
        for file in std::fs::read_dir(root.join("spool")).unwrap() {
            let path = file.unwrap().path();
            if path.file_name().unwrap() != "node.id" {
                std::fs::remove_file(path).unwrap();
            }
        }
        std::fs::write(root.join("spool/epoch"), 1_u32.to_le_bytes()).unwrap();
        std::fs::write(segment(root), make(&whole, offset)).unwrap();
        let kept = ends.iter().rfind(|(end, _)| *end <= offset).unwrap().1;
        let spool = open(root);
        let report = verify_files(spool.directory(), &spool.history()).unwrap();
        assert_eq!(report.findings, Vec::<String>::new(), "torn at {offset}");
        assert_eq!(report.facts, kept, "torn at {offset}");
        // Twice: what was cut stays cut, and the next epoch is written beside it.
        write(&spool, true);
        drop(spool);
        let spool = open(root);
        let report = verify_files(spool.directory(), &spool.history()).unwrap();
        assert_eq!(report.findings, Vec::<String>::new(), "torn at {offset}");
        assert_eq!(report.facts, kept + 12, "torn at {offset}");
    }
}

#[test]
fn a_write_that_ends_at_any_byte_of_a_segment_keeps_what_was_whole() {
    every_offset("open", false, |whole, offset| whole[..offset].to_vec());
}

#[test]
fn the_same_holds_for_its_signed_end() {
    every_offset("sealed", true, |whole, offset| whole[..offset].to_vec());
}

/// After a loss of power a file may have its new length, and zeros for what was not written.
#[test]
fn what_was_never_written_and_reads_as_zeros_is_cut() {
    every_offset("zeros", false, |whole, offset| {
        let mut bytes = whole[..offset].to_vec();
        bytes.resize(offset + 64, 0);
        bytes
    });
}

#[test]
fn small_files_are_whole_or_absent() {
    let scratch = Scratch(root("small"));
    let root = &scratch.0;
    drop(open(root));
    let id = std::fs::read(root.join("spool/node.id")).unwrap();
    // Left by a process that died while it made them.
    for (file, bytes) in [("spool/node.new", &id[..7]), ("node.new", &[])] {
        std::fs::write(root.join(file), bytes).unwrap();
    }
    std::fs::remove_file(root.join("spool/node.id")).unwrap();
    std::fs::remove_file(root.join("node.key")).unwrap();
    write(&open(root), true);
    assert_eq!(std::fs::read(root.join("spool/node.id")).unwrap().len(), 16);
    assert_eq!(std::fs::read(root.join("node.key")).unwrap().len(), 32);
}
