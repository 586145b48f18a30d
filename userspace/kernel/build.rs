//! Builds the eBPF objects with the pinned toolchain and leaves them where `object.rs` embeds them.
//!
//! `WEIR_SKIP_EBPF=1` embeds empty objects, for fast checks without bpf-linker; loading one then
//! fails with a clear error.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script everything by environment"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Packages, each of which is one object.
const OBJECTS: [&str; 2] = ["weir-programs", "weir-lineage"];

fn main() {
    println!("cargo:rerun-if-env-changed=WEIR_SKIP_EBPF");
    let out = PathBuf::from(variable("OUT_DIR"));
    let crate_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let root = crate_dir.join("../..");
    for path in [
        "ebpf/abi",
        "ebpf/lineage",
        "ebpf/programs",
        "rust-toolchain.toml",
    ] {
        println!("cargo:rerun-if-changed={}", root.join(path).display());
    }
    if std::env::var_os("WEIR_SKIP_EBPF").is_some() {
        for name in OBJECTS {
            std::fs::write(out.join(format!("{name}.o")), []).expect("writing an empty object");
        }
        return;
    }
    build(&root, &out.join("ebpf"));
    for name in OBJECTS {
        let built = out.join("ebpf/bpfel-unknown-none/release").join(name);
        std::fs::copy(&built, out.join(format!("{name}.o")))
            .unwrap_or_else(|error| panic!("{}: {error}", built.display()));
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

fn build(root: &Path, target: &Path) {
    let mut command = Command::new(variable("CARGO"));
    command.current_dir(root).args([
        "build",
        "--release",
        "-Z",
        "build-std=core",
        "--target",
        "bpfel-unknown-none",
    ]);
    for name in OBJECTS {
        command.args(["--package", name]);
    }
    // What this build was started with is for the host, not for BPF.
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_TARGET",
        "RUSTC",
        "RUSTDOC",
        "CLIPPY_ARGS",
    ] {
        command.env_remove(name);
    }
    command
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_DIR", target);
    let status = command
        .status()
        .expect("starting cargo for the eBPF programs");
    assert!(
        status.success(),
        "building the eBPF programs failed: `cargo xtask setup` installs rust-src and bpf-linker"
    );
}
