//! Where a process runs: its cgroup's path, and what runtimes say in its name.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Cgroups that are looked at below the governed one.
const WALK_MAX: usize = 4096;
/// A cgroup that is not known is looked for this often at most.
const WALK_EVERY_NS: u64 = 200_000_000;

/// `/agents2` is not below `/agents`.
fn is_below(path: &str, root: &str) -> bool {
    let rest = path.strip_prefix(root.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Paths of the governed cgroups by their ids; what was removed is still known.
pub(super) struct Cgroups {
    mount: PathBuf,
    governed: Vec<String>,
    by_id: HashMap<u64, String>,
    walked_ns: Option<u64>,
}

impl Cgroups {
    pub(super) fn new(mount: PathBuf, governed: &[String]) -> Self {
        Self {
            mount,
            governed: governed
                .iter()
                .map(|root| format!("/{}", root.trim_matches('/')))
                .collect(),
            by_id: HashMap::new(),
            walked_ns: None,
        }
    }

    /// Is a path, below the mount, in a governed subtree.
    pub(super) fn is_governed(&self, path: &str) -> bool {
        self.governed.iter().any(|root| is_below(path, root))
    }

    /// `None` for one that is not governed, or was gone before it was looked at.
    pub(super) fn path(&mut self, id: u64, now_ns: u64) -> Option<&str> {
        let due = self
            .walked_ns
            .is_none_or(|walked| now_ns.saturating_sub(walked) > WALK_EVERY_NS);
        if !self.by_id.contains_key(&id) && id != 0 && due {
            self.walked_ns = Some(now_ns);
            self.walk();
        }
        self.by_id.get(&id).map(String::as_str)
    }

    fn walk(&mut self) {
        if self.by_id.len() > 4 * WALK_MAX {
            self.by_id.clear();
        }
        let mut left = self.governed.clone();
        let mut walked = 0;
        while let Some(path) = left.pop() {
            walked += 1;
            if walked > WALK_MAX {
                tracing::warn!("more cgroups than are looked at: some paths are not recorded");
                break;
            }
            let directory = self.mount.join(path.trim_start_matches('/'));
            if let Ok(metadata) = fs::metadata(&directory) {
                self.by_id.insert(metadata.ino(), path.clone());
            }
            left.extend(below(&directory).map(|name| format!("{path}/{name}")));
        }
    }
}

fn below(directory: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// Container id (64 hexadecimal digits) and pod uid, each empty when the path does not say.
///
/// Source: names given by containerd, CRI-O, Docker and Podman (`cri-containerd-ID.scope`,
/// `crio-ID.scope`, `docker-ID.scope`, `libpod-ID.scope`, or the plain id), and by the kubelet
/// (`kubepods-burstable-podUID.slice` with underscores, or `podUID`).
pub(super) fn container_and_pod(path: &str) -> (String, String) {
    let mut container = String::new();
    let mut pod = String::new();
    for part in path.split('/') {
        let name = part.trim_end_matches(".scope").trim_end_matches(".slice");
        let last = name.rsplit('-').next().unwrap_or(name);
        if last.len() == 64 && last.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            last.clone_into(&mut container);
        }
        if let Some((_, uid)) = name.rsplit_once("pod") {
            let uid = uid.replace('_', "-");
            if is_uid(&uid) {
                pod = uid;
            }
        }
    }
    (container, pod)
}

/// A UUID, or the 32 digits that static pods have.
fn is_uid(text: &str) -> bool {
    let hex = text.bytes().filter(|byte| *byte != b'-');
    let digits = hex.clone().count();
    digits == 32 && hex.clone().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_and_pods_are_read_from_the_names_of_cgroups() {
        let id = "0123456789abcdef".repeat(4);
        let uid = "6f9e2f3c-1b2d-4c5e-8f90-a1b2c3d4e5f6";
        let case = |path: &str, container: &str, pod: &str| {
            let found = container_and_pod(path);
            assert_eq!(found, (container.to_owned(), pod.to_owned()), "{path}");
        };
        let slice = uid.replace('-', "_");
        case(
            &format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice}.slice/cri-containerd-{id}.scope"
            ),
            &id,
            uid,
        );
        case(&format!("/kubepods/besteffort/pod{uid}/{id}"), &id, uid);
        case(&format!("/system.slice/docker-{id}.scope"), &id, "");
        case(
            &format!("/machine.slice/libpod-{id}.scope/container"),
            &id,
            "",
        );
        case("/agents/analyst", "", "");
        case("/podium/pods/pod", "", "");
        case("", "", "");
    }

    #[test]
    fn a_path_is_below_its_root_only() {
        assert!(is_below("/agents/a", "/agents") && is_below("/agents", "/agents/"));
        assert!(!is_below("/agents2", "/agents") && !is_below("/", "/agents"));
    }
}
