//! Requests and documents of the Kubernetes API, command lines, files of the spool.

use ed25519_dalek::SigningKey;
use weir_decide::MaskKind;
use weir_kubernetes::{Masking, Query, mask, read};
use weir_mask::MaskKey;

/// `METHOD path?query`.
pub(crate) fn request(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (method, uri) = text.split_once(' ').unwrap_or(("GET", &text));
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let (Ok(method), Ok(query)) = (method.parse::<http::Method>(), Query::parse(query)) else {
        return;
    };
    let again = Query::parse(&query.encode());
    assert!(again.is_ok());
    let _info = read(&method, path, &query);
}

/// What is masked can be masked again, and is the same then.
pub(crate) fn document(data: &[u8]) {
    let masking = Masking {
        secrets: Some(MaskKind::Redact),
        configs: Some(MaskKind::Redact),
        config_keys: &[],
    };
    let key = MaskKey::new([1; 32]);
    if let Ok(once) = mask(data, &masking, true, &key) {
        match mask(once.bytes(), &masking, true, &key) {
            Ok(twice) => assert_eq!(once.bytes(), twice.bytes()),
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) fn shell(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let _script = weir_shell::parse(&text);
    let words: Vec<&str> = text.split('\n').collect();
    let _script = weir_shell::parse_argv(&words);
}

/// Nothing that we did not sign is a segment of ours.
pub(crate) fn spool(data: &[u8]) {
    let key = SigningKey::from_bytes(&[9; 32]).verifying_key();
    let _header = weir_spool::read_header(data);
    let _seen = weir_spool::inspect_segment(data, &key);
    let _verified = weir_spool::verify_segment(data, &key);
}
