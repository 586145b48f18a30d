//! State directory: layout, ownership, keys and certificates.
//!
//! ```text
//! state_dir/            root:node 0750
//!   ca/root.pem         the trust anchor that clients are given
//!   ca/root.key         root only; signs intermediates and nothing else
//!   node/               node's user, 0700: all that the node may write
//!     intermediate.pem  intermediate.key  mask.key  node.key  state.sqlite  spool/
//!     ssh_ca  ssh_host  the authority and key by which agents know SSH hosts
//! ```

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::unistd::{Gid, Uid, chown};
use weir_accept::authority::{Names, Pair, new_intermediate, new_root};

use crate::config::Config;
use crate::privileges;

/// Paths below the state directory.
#[derive(Clone, Debug)]
pub(crate) struct StatePaths {
    pub(crate) root_certificate: PathBuf,
    root_key: PathBuf,
    pub(crate) node_dir: PathBuf,
    pub(crate) spool: PathBuf,
    pub(crate) database: PathBuf,
    pub(crate) node_key: PathBuf,
    intermediate_certificate: PathBuf,
    intermediate_key: PathBuf,
    pub(crate) ssh_authority: PathBuf,
    pub(crate) ssh_host_key: PathBuf,
}

impl StatePaths {
    pub(crate) fn of(config: &Config) -> Self {
        let ca = config.node.state_dir.join("ca");
        let node_dir = config.node.state_dir.join("node");
        Self {
            root_certificate: ca.join("root.pem"),
            root_key: ca.join("root.key"),
            spool: node_dir.join("spool"),
            database: node_dir.join("state.sqlite"),
            node_key: node_dir.join("node.key"),
            intermediate_certificate: node_dir.join("intermediate.pem"),
            intermediate_key: node_dir.join("intermediate.key"),
            ssh_authority: node_dir.join("ssh_ca"),
            ssh_host_key: node_dir.join("ssh_host"),
            node_dir,
        }
    }
}

/// Makes what is missing; refuses what others could have written. Root only.
pub(crate) fn prepare(config: &Config) -> Result<StatePaths> {
    let (uid, gid) = privileges::user(&config.node.user)?;
    let paths = StatePaths::of(config);
    directory(&config.node.run_dir, Uid::from_raw(0), gid, 0o750)?;
    directory(&config.node.state_dir, Uid::from_raw(0), gid, 0o750)?;
    let ca = config.node.state_dir.join("ca");
    directory(&ca, Uid::from_raw(0), gid, 0o750)?;
    directory(&paths.node_dir, uid, gid, 0o700)?;
    let root = root_authority(config, &paths, gid)?;
    intermediate(config, &paths, &root, uid, gid)?;
    mask_key(config, uid, gid)?;
    for path in [&paths.ssh_authority, &paths.ssh_host_key] {
        if !path.exists() {
            let key = weir_ssh::new_authority()?;
            write_private(path, key.as_bytes(), (uid, gid), 0o600)?;
        }
    }
    Ok(paths)
}

fn directory(path: &Path, uid: Uid, gid: Gid, mode: u32) -> Result<()> {
    if !path.exists() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .with_context(|| format!("making {}", path.display()))?;
    }
    let metadata =
        fs::symlink_metadata(path).with_context(|| format!("looking at {}", path.display()))?;
    if !metadata.is_dir() {
        bail!("{} is not a directory", path.display());
    }
    if metadata.uid() != 0 && metadata.uid() != uid.as_raw() {
        bail!(
            "{} belongs to uid {}: it must belong to root",
            path.display(),
            metadata.uid()
        );
    }
    chown(path, Some(uid), Some(gid)).with_context(|| format!("owning {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("protecting {}", path.display()))
}

fn write_private(path: &Path, bytes: &[u8], owner: (Uid, Gid), mode: u32) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("making {}", path.display()))?;
    file.write_all(bytes)
        .with_context(|| format!("writing {}", path.display()))?;
    file.sync_all()
        .with_context(|| format!("writing {}", path.display()))?;
    chown(path, Some(owner.0), Some(owner.1)).with_context(|| format!("owning {}", path.display()))
}

fn root_authority(config: &Config, paths: &StatePaths, gid: Gid) -> Result<Pair> {
    let root = Uid::from_raw(0);
    if paths.root_key.exists() {
        return Ok(Pair {
            certificate_pem: fs::read_to_string(&paths.root_certificate)
                .with_context(|| format!("reading {}", paths.root_certificate.display()))?,
            key_pem: fs::read_to_string(&paths.root_key)
                .with_context(|| format!("reading {}", paths.root_key.display()))?,
        });
    }
    let pair = new_root(&config.node.cluster, weir_clock::now().unix_s())?;
    let key_owner = (root, Gid::from_raw(0));
    write_private(
        &paths.root_certificate,
        pair.certificate_pem.as_bytes(),
        (root, gid),
        0o644,
    )?;
    write_private(&paths.root_key, pair.key_pem.as_bytes(), key_owner, 0o600)?;
    tracing::info!(path = %paths.root_certificate.display(), "made the root certificate");
    Ok(pair)
}

/// Made anew at each start of the broker: targets, and so constraints, may have changed.
fn intermediate(
    config: &Config,
    paths: &StatePaths,
    root: &Pair,
    uid: Uid,
    gid: Gid,
) -> Result<()> {
    let names = Names {
        dns: config
            .targets
            .iter()
            .flat_map(|target| target.names.clone())
            .collect(),
        nets: config
            .targets
            .iter()
            .flat_map(|target| target.matching.nets.iter().copied())
            .collect(),
    };
    let now_s = weir_clock::now().unix_s();
    let pair = new_intermediate(root, &config.node.name, &names, now_s)?;
    for path in [&paths.intermediate_certificate, &paths.intermediate_key] {
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("replacing {}", path.display()));
            }
        }
    }
    let owner = (uid, gid);
    let certificate = pair.certificate_pem.as_bytes();
    write_private(&paths.intermediate_certificate, certificate, owner, 0o600)?;
    write_private(
        &paths.intermediate_key,
        pair.key_pem.as_bytes(),
        owner,
        0o600,
    )
}

fn mask_key(config: &Config, uid: Uid, gid: Gid) -> Result<()> {
    if config.mask_key_file.exists() {
        return Ok(());
    }
    let key: [u8; 32] = rand::random();
    write_private(&config.mask_key_file, &key, (uid, gid), 0o600)
}

/// The node's own certificate authority, read before privileges are dropped.
pub(crate) fn read_intermediate(paths: &StatePaths) -> Result<Pair> {
    let read = |path: &Path| {
        fs::read_to_string(path)
            .with_context(|| format!("reading {} (is weir broker running?)", path.display()))
    };
    Ok(Pair {
        certificate_pem: read(&paths.intermediate_certificate)?,
        key_pem: read(&paths.intermediate_key)?,
    })
}

/// A secret file: regular, not readable by others, at most 64 KiB; a final newline is dropped.
pub(crate) fn read_secret(path: &Path) -> Result<zeroize::Zeroizing<String>> {
    let text = read_key(path)?;
    Ok(zeroize::Zeroizing::new(
        text.trim_end_matches(['\n', '\r']).to_owned(),
    ))
}

/// The same with every byte: formats of keys need their last newline.
pub(crate) fn read_key(path: &Path) -> Result<zeroize::Zeroizing<String>> {
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))?;
    let metadata = file
        .metadata()
        .with_context(|| format!("reading {}", path.display()))?;
    if !metadata.is_file() || metadata.len() > 64 * 1024 {
        bail!("{} is not a regular file of at most 64 KiB", path.display());
    }
    if metadata.mode() & 0o007 != 0 {
        bail!("{} can be read by everybody: chmod 600 it", path.display());
    }
    let text =
        std::io::read_to_string(file).with_context(|| format!("reading {}", path.display()))?;
    Ok(zeroize::Zeroizing::new(text))
}
