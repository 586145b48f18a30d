//! Fuzz targets for everything that reads what others wrote. `WEIR_FUZZ_TARGET` names the one to run;
//! `cargo xtask fuzz` knows them all.
#![no_main]

mod masks;
mod outputs;
mod postgres;
mod session;
#[path = "../../../userspace/protocols/ssh/src/sftp/wire.rs"]
#[expect(dead_code, unreachable_pub, reason = "only the decoders are of interest")]
mod sftp;
mod sql;
mod streams;
mod texts;

use std::sync::LazyLock;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 13] = [
    ("postgres-frontend", postgres::frontend),
    ("postgres-backend", postgres::backend),
    ("postgres-sql", sql::understood),
    ("postgres-session", session::conversation),
    ("postgres-copy", session::copy),
    ("mask-values", masks::values),
    ("mask-output", outputs::stream),
    ("kubernetes-request", texts::request),
    ("kubernetes-document", texts::document),
    ("kubernetes-stream", streams::codec),
    ("shell", texts::shell),
    ("sftp", streams::sftp),
    ("spool", texts::spool),
];

static CHOSEN: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("WEIR_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.map_or_else(|| panic!("WEIR_FUZZ_TARGET={name} is not a target"), |(_, target)| *target)
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| CHOSEN(data));
