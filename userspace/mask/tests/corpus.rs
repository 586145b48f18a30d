//! Precision: what the detectors find in text without secrets, this repository's own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use weir_mask::{Detector, OutputMasker, Patterns, text};

fn files(folder: &Path, found: &mut Vec<Vec<u8>>) {
    let entries = std::fs::read_dir(folder).expect("a folder");
    for entry in entries.map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else if let Some("rs" | "md" | "toml" | "lock" | "sql" | "yaml") =
            path.extension().and_then(|one| one.to_str())
        {
            found.push(std::fs::read(path).expect("a file"));
        }
    }
}

#[test]
fn well_known_tokens_are_not_found_where_there_are_none() {
    let mut corpus = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for part in ["userspace", "xtask", "deploy", "ebpf", "bench"] {
        files(&root.join(part), &mut corpus);
    }
    let bytes: usize = corpus.iter().map(Vec::len).sum();
    assert!(bytes > 500_000, "{bytes} bytes of corpus");
    let mut hits = BTreeMap::new();
    for detector in Detector::ALL {
        let patterns = Patterns::new(&[detector], &[]).expect("compiled");
        let count: u64 = corpus
            .iter()
            .map(|file| text(&patterns, file).masked_values())
            .sum();
        hits.insert(detector, count);
    }
    let noisy = [
        // Addresses, numbers and passwords of examples and tests.
        Detector::Email,
        Detector::Phone,
        Detector::UsSsn,
        Detector::PaymentCard,
        Detector::Iban,
        Detector::Password,
        Detector::UrlPassword,
        // Keys and tokens that tests write out.
        Detector::PrivateKey,
        Detector::Jwt,
    ];
    let report = format!("{bytes} bytes: {hits:?}");
    for (detector, count) in &hits {
        assert!(*count == 0 || noisy.contains(detector), "{report}");
    }
    // Shown by `--nocapture`.
    std::io::Write::write_all(&mut std::io::stderr(), report.as_bytes()).expect("written");
}

#[test]
fn long_runs_of_one_byte_are_shown() {
    let patterns = Arc::new(Patterns::new(&Detector::ALL, &[]).unwrap());
    for byte in 0..=255_u8 {
        let text = vec![byte; 100_000];
        let mut masker = OutputMasker::new(Arc::clone(&patterns));
        let mut shown = Vec::new();
        for chunk in text.chunks(16_384) {
            shown.extend_from_slice(masker.push(chunk).bytes());
        }
        shown.extend_from_slice(masker.finish().bytes());
        assert!(shown == text, "{byte:#04x}: {} shown", shown.len());
    }
}
