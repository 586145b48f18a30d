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

pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
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

pub struct Store {
    child: Child,
    pub url: String,
}

impl Store {
    pub fn start(scratch: &Scratch, listen: &str) -> Self {
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

    pub fn address(&self, role: &str) -> StoreAddress {
        StoreAddress {
            url: self.url.clone(),
            database: "weir".to_owned(),
            token: Some(format!("{role}-{role}-{role}").into()),
        }
    }

    pub fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.url.trim_start_matches("http://").to_owned()
    }
}
