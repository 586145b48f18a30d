//! Output of commands, cut anywhere.

use std::sync::{Arc, LazyLock};

use weir_mask::{Detector, OutputMasker, Patterns};

static PATTERNS: LazyLock<Arc<Patterns>> = LazyLock::new(|| match Patterns::new(&Detector::ALL, &[]) {
    Ok(patterns) => Arc::new(patterns),
    Err(error) => panic!("the patterns: {error}"),
});

fn shown(chunks: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut masker = OutputMasker::new(Arc::clone(&PATTERNS));
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend_from_slice(masker.push(&chunk).bytes());
    }
    out.extend_from_slice(masker.finish().bytes());
    out
}

/// The first byte says how it is cut; the output does not depend on it.
pub(crate) fn stream(data: &[u8]) {
    let Some((cut, text)) = data.split_first() else {
        return;
    };
    let whole = shown(std::iter::once(text.to_vec()));
    let pieces = shown(text.chunks(usize::from(*cut).max(1)).map(<[u8]>::to_vec));
    assert_eq!(whole, pieces);
}
