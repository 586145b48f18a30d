//! The real engine in a process of its own, with a directory that is removed afterwards.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use weir_record::StoreAddress;

/// The engine's library: `WEIR_LIBCHDB`, or where setup puts it.
fn library() -> PathBuf {
    let path = std::env::var_os("WEIR_LIBCHDB").map_or_else(
        || {
            let home = std::env::var_os("HOME").expect("HOME is set");
            Path::new(&home).join(".cache/weir/libchdb-36ad4e999882821e.so")
        },
        PathBuf::from,
    );
    assert!(
        path.exists(),
        "{} is absent: run `cargo xtask setup`, or set WEIR_LIBCHDB",
        path.display()
    );
    path
}

pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("weir-store-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        for role in ["writer", "reader", "migrator"] {
            std::fs::write(path.join(role), format!("{role}-{role}-{role}")).unwrap();
        }
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

pub(crate) struct Store {
    child: Child,
    pub(crate) url: String,
}

impl Store {
    pub(crate) fn start(scratch: &Scratch, listen: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir-store"))
            .arg("--library")
            .arg(library())
            .args(["--listen", listen, "--data"])
            .arg(scratch.0.join("data"))
            .arg("--writer-token")
            .arg(scratch.0.join("writer"))
            .arg("--reader-token")
            .arg(scratch.0.join("reader"))
            .arg("--migrator-token")
            .arg(scratch.0.join("migrator"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line
            .trim()
            .strip_prefix("READY ")
            .expect("the store starts")
            .to_owned();
        Self { child, url }
    }

    pub(crate) fn address(&self, role: &str) -> StoreAddress {
        StoreAddress {
            url: self.url.clone(),
            database: "weir".to_owned(),
            token: Some(format!("{role}-{role}-{role}").into()),
        }
    }

    /// Kills it; gives the address it listened on.
    pub(crate) fn kill(self) -> String {
        self.url.trim_start_matches("http://").to_owned()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // It may have ended by itself; nothing is left behind either way.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
