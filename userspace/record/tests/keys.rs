//! The node's key is changed while it records: each key is good for what it signed, and for nothing else.

use std::path::PathBuf;
use std::sync::Arc;

use ed25519_dalek::{Signer, SigningKey};
use weir_model::fact::{Fact, FactContext, FactKind};
use weir_record::audit::{Report, Verdict, verify_files};
use weir_record::bundle;
use weir_record::keys::{Change, KeyError, KeyHistory, history_file, rotate_at_rest};
use weir_record::{Durability, FileSegment, SpoolConfig, SpoolDir};
use weir_spool::Lane;

struct Root(PathBuf);

impl Drop for Root {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

impl Root {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("weir-keys-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        Self(root)
    }

    fn key_file(&self) -> PathBuf {
        self.0.join("node.key")
    }

    fn open(&self) -> Result<SpoolDir, weir_record::SpoolDirError> {
        SpoolDir::open(SpoolConfig {
            directory: self.0.join("spool"),
            key_file: self.key_file(),
            limit_bytes: 1 << 30,
            durability: Durability::Process,
        })
    }

    /// As `weir audit verify` asks: by the files beside the spool.
    fn verify(&self) -> Report {
        let spool = self.0.join("spool");
        let node = weir_record::audit::node_id(&spool).unwrap();
        let (keys, problems) = KeyHistory::beside(&self.key_file(), node).unwrap();
        let mut report = verify_files(&spool, &keys).unwrap();
        report.findings.extend(problems);
        report
    }

    fn segment(&self, epoch: u32, number: u32) -> PathBuf {
        self.0.join(format!("spool/{epoch:08}-000-{number:08}.seg"))
    }

    fn rotate(&self, spool: &SpoolDir) {
        spool.keys().rotate(spool.directory(), 1_000).unwrap();
    }
}

fn write(lane: &mut Lane<FileSegment>, seq: std::ops::RangeInclusive<u32>) {
    let context = Arc::new(FactContext {
        session_id: 1,
        ..FactContext::default()
    });
    let now = weir_clock::now();
    for seq in seq {
        let fact = Fact::new(Arc::clone(&context), FactKind::Request, seq, now.wall_us);
        lane.push(&fact).unwrap();
        lane.commit(now).unwrap();
    }
}

fn names(report: &Report, words: &[&str]) -> bool {
    report
        .findings
        .iter()
        .any(|finding| words.iter().all(|word| finding.contains(word)))
}

/// Puts another signature of the same end into a sealed segment.
fn sign_again(path: &std::path::Path, key: &SigningKey) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = bytes.len() - 101;
    assert_eq!(bytes[at], b'T');
    let message = [b"weir segment 1", &bytes[at + 1..at + 37]].concat();
    let signature = key.sign(&message).to_bytes();
    bytes[at + 37..].copy_from_slice(&signature);
    std::fs::write(path, bytes).unwrap();
}

fn secret(root: &Root) -> SigningKey {
    weir_record::audit::signing_key(&root.key_file()).unwrap()
}

#[test]
fn a_key_that_is_changed_in_the_middle_of_a_run_ends_the_open_segment_and_verifies() {
    let root = Root::new("middle");
    let spool = root.open().unwrap();
    let mut lane = spool.lane(0, weir_clock::now()).unwrap();
    write(&mut lane, 1..=3);
    let old = secret(&root);
    root.rotate(&spool);
    assert_ne!(secret(&root).to_bytes(), old.to_bytes());
    write(&mut lane, 4..=6);
    root.rotate(&spool);
    write(&mut lane, 7..=9);
    lane.close(weir_clock::now()).unwrap();
    let report = root.verify();
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!((report.verdict(), report.facts), (Verdict::Clean, 9));
    // Changed on the first commit after it, not an hour later.
    assert!(report.segments >= 3, "{report:?}");
    drop(spool);
    // And once more while nobody runs.
    let change = rotate_at_rest(&root.0.join("spool"), &root.key_file(), 2_000).unwrap();
    assert_eq!((change.number, change.epoch), (3, 1));
    let spool = root.open().unwrap();
    let mut lane = spool.lane(0, weir_clock::now()).unwrap();
    write(&mut lane, 1..=2);
    lane.close(weir_clock::now()).unwrap();
    let report = root.verify();
    assert_eq!((report.findings, report.unproven), (Vec::new(), 0));
}

#[test]
fn a_segment_that_an_expired_or_unknown_key_signed_is_named() {
    let root = Root::new("expired");
    let spool = root.open().unwrap();
    let mut lane = spool.lane(0, weir_clock::now()).unwrap();
    write(&mut lane, 1..=2);
    let old = secret(&root);
    root.rotate(&spool);
    write(&mut lane, 3..=6);
    lane.close(weir_clock::now()).unwrap();
    let new = secret(&root);
    let number = root.verify().segments;
    let last = root.segment(1, u32::try_from(number).unwrap());
    let right = std::fs::read(&last).unwrap();
    sign_again(&last, &old);
    assert!(names(&root.verify(), &["expired key", "replaced at 1000"]));
    sign_again(&last, &SigningKey::from_bytes(&[7; 32]));
    assert!(names(&root.verify(), &["unknown key"]));
    sign_again(&last, &new);
    assert_eq!(std::fs::read(&last).unwrap(), right);
    // The new key proves nothing of what was before it.
    sign_again(&root.segment(1, 1), &new);
    assert!(names(&root.verify(), &["segment 1-0-1", "later key"]));
}

#[test]
fn a_forged_history_is_named_and_a_node_does_not_start_on_it() {
    let root = Root::new("forged");
    let spool = root.open().unwrap();
    let mut lane = spool.lane(0, weir_clock::now()).unwrap();
    write(&mut lane, 1..=2);
    root.rotate(&spool);
    write(&mut lane, 3..=4);
    root.rotate(&spool);
    write(&mut lane, 5..=6);
    lane.close(weir_clock::now()).unwrap();
    drop(spool);
    let file = history_file(&root.key_file());
    let right = std::fs::read_to_string(&file).unwrap();
    let (first, second) = right.split_once('\n').unwrap();
    let forged = first.replace("\"at_s\":1000", "\"at_s\":9000");
    assert_ne!(forged, first);
    for (text, says) in [
        (format!("{forged}\n{second}"), "key change 1"),
        (second.to_owned(), "first key changes are missing"),
        (format!("{first}\n"), "does not end with this node's key"),
        (
            format!("{second}{first}\n"),
            "does not end with this node's key",
        ),
        (format!("{first}\nx\n"), "cannot be read"),
        (format!("{right}{second}"), "key change"),
    ] {
        std::fs::write(&file, &text).unwrap();
        let report = root.verify();
        assert!(names(&report, &[says]), "{says}: {:?}", report.findings);
        assert!(root.open().is_err(), "{says}");
    }
    // Without it the earlier segments are of a key that nobody knows.
    std::fs::remove_file(&file).unwrap();
    assert!(names(&root.verify(), &["segment 1-0-1", "unknown key"]));
    std::fs::write(&file, right).unwrap();
    assert_eq!(root.verify().findings, Vec::<String>::new());
}

#[test]
fn a_change_that_was_cut_off_is_brought_to_its_end_or_never_was() {
    let root = Root::new("cut");
    drop(root.open().unwrap());
    let before = std::fs::read(root.key_file()).unwrap();
    let next = root.key_file().with_extension("key-next");
    // Died before the history was written.
    std::fs::write(&next, [5; 32]).unwrap();
    drop(root.open().unwrap());
    assert!(!next.exists());
    assert_eq!(std::fs::read(root.key_file()).unwrap(), before);
    // Died after it.
    rotate_at_rest(&root.0.join("spool"), &root.key_file(), 1_000).unwrap();
    let after = std::fs::read(root.key_file()).unwrap();
    std::fs::rename(root.key_file(), &next).unwrap();
    std::fs::write(root.key_file(), &before).unwrap();
    drop(root.open().unwrap());
    assert_eq!(std::fs::read(root.key_file()).unwrap(), after);
    // A key that is gone is not made anew behind a history.
    std::fs::remove_file(root.key_file()).unwrap();
    assert!(root.open().is_err());
    assert!(!root.key_file().exists());
}

#[test]
fn a_key_is_not_changed_behind_the_back_of_who_signs() {
    let root = Root::new("busy");
    let absent = rotate_at_rest(&root.0.join("spool"), &root.key_file(), 1);
    assert!(matches!(absent, Err(KeyError::Absent(_))));
    let first = root.open().unwrap();
    let at_rest = rotate_at_rest(&root.0.join("spool"), &root.key_file(), 1);
    assert!(matches!(at_rest, Err(KeyError::InUse)));
    let second = root.open().unwrap();
    let _lane = second.lane(0, weir_clock::now()).unwrap();
    let drains = second.keys().rotate(second.directory(), 1);
    assert!(matches!(drains, Err(KeyError::InUse)));
    drop(first);
    root.rotate(&second);
}

#[test]
fn a_bundle_leads_from_any_trusted_key_to_the_one_that_signed_it() {
    let root = Root::new("bundle");
    let spool = root.open().unwrap();
    let _lane = spool.lane(0, weir_clock::now()).unwrap();
    let old = secret(&root);
    root.rotate(&spool);
    let (new, changes) = (secret(&root), spool.keys().changes());
    let facts = [r#"{"seq":1,"statement":"select 1"}"#.to_owned()];
    let made = |key: &SigningKey, made_s: i64, keys: &[Change]| {
        let origin = bundle::Origin {
            session: "s",
            node: "n1",
            node_id: spool.node(),
            made_s,
            keys,
        };
        bundle::make(&origin, &facts, (&Report::default(), Vec::new()), key).unwrap()
    };
    let (old_public, new_public) = (old.verifying_key(), new.verifying_key());
    let before = made(&old, 500, &[]);
    let after = made(&new, 2_000, &changes);
    for (text, key, known) in [
        (&before, &old_public, &[][..]),
        (&after, &old_public, &[]),
        (&after, &new_public, &[]),
        (&after, &new_public, &changes),
    ] {
        let proof = bundle::verify(text, (key, known));
        assert_eq!((proof.findings, proof.key_replaced_s), (Vec::new(), 0));
    }
    // Of a key that was replaced since: nothing is wrong, and nothing is proven.
    let proof = bundle::verify(&before, (&new_public, &changes));
    assert_eq!((proof.findings, proof.key_replaced_s), (Vec::new(), 1_000));
    assert_eq!(proof.unproven, 1);
    let named = |text: &str, key, known: &[Change], says: &str| {
        let findings = bundle::verify(text, (key, known)).findings;
        assert!(
            findings.iter().any(|one| one.contains(says)),
            "{findings:?}"
        );
    };
    let late = made(&old, 3_000, &[]);
    named(&late, &new_public, &changes, "expired key");
    named(&before, &new_public, &[], "not of this key");
    // Whoever has the old key names another successor.
    let other = Root::new("bundle-other");
    std::fs::create_dir_all(other.0.join("spool")).unwrap();
    std::fs::write(other.key_file(), old.to_bytes()).unwrap();
    let id = root.0.join("spool/node.id");
    std::fs::copy(id, other.0.join("spool/node.id")).unwrap();
    drop(other.open().unwrap());
    let forged = rotate_at_rest(&other.0.join("spool"), &other.key_file(), 1_000).unwrap();
    let text = made(&secret(&other), 2_000, &[forged]);
    named(&text, &old_public, &changes, "one of them is forged");
    named(&text, &new_public, &[], "does not lead to this key");
    // A history file holds the changes and the newest key.
    let file = root.0.join("trusted");
    let digits: String = new_public
        .as_bytes()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    std::fs::write(&file, format!("{}\n{digits}\n", changes[0].line())).unwrap();
    let (key, known) = KeyHistory::trusted_file(&file).unwrap();
    assert_eq!((key, known), (new_public, changes));
    for text in ["", "x", "{}\n00"] {
        std::fs::write(&file, text).unwrap();
        assert!(KeyHistory::trusted_file(&file).is_err(), "{text}");
    }
}
