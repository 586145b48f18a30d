//! Where a container runtime puts a pod's or a container's cgroup.
//!
//! From the authority's names to paths below the mount, each anchored at the root: nothing is ever
//! searched for, so a directory that a workload made in its own subtree, whatever its name, is not
//! found. Forms: kubelet with the systemd and the cgroupfs driver, kind's nested root, the mismatch
//! of the two drivers, Docker and Podman.

use crate::config::BrokerConfig;
use crate::message::MemberKind;

/// Containers of one pod.
const CONTAINERS_MAX: usize = 64;

/// Services that containers end up below when the kubelet's and the runtime's drivers differ.
const RUNTIME_SERVICES: [&str; 3] = ["containerd.service", "crio.service", "docker.service"];

/// A report that names no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misnamed {
    #[error("a pod's uid is neither a UUID nor 32 hex digits")]
    Uid,
    #[error("a container's id is not 64 hex digits")]
    Container,
    #[error("a pod has more than {CONTAINERS_MAX} containers")]
    Containers,
    #[error("no such container runtime is configured")]
    Runtime,
}

/// Below what the authorities make their cgroups; all of it is configured.
#[derive(Clone, Copy)]
pub(crate) struct Roots<'a> {
    /// The kubelet's `--cgroup-root`.
    pub(crate) pods: &'a str,
    /// Name of a container runtime and the parents of its containers.
    pub(crate) runtimes: &'a [(String, Vec<String>)],
}

impl BrokerConfig {
    pub(crate) fn roots(&self) -> Roots<'_> {
        Roots {
            pods: &self.pods_root,
            runtimes: &self.runtime_parents,
        }
    }
}

/// Every path that the member's cgroup may have.
///
/// # Errors
/// A name has a form that no runtime gives; nothing is taken apart then.
pub(crate) fn candidates(kind: &MemberKind, roots: Roots<'_>) -> Result<Vec<String>, Misnamed> {
    match kind {
        MemberKind::Pod { uid, containers } => {
            let root = roots.pods.trim_end_matches('/');
            let paths = pod(uid, containers)?;
            Ok(paths.iter().map(|path| format!("{root}{path}")).collect())
        }
        MemberKind::Container { id, runtime } => {
            let mut runtimes = roots.runtimes.iter();
            let known = runtimes.find(|(name, _)| name == runtime);
            let (_, parents) = known.ok_or(Misnamed::Runtime)?;
            container(id, parents)
        }
    }
}

fn pod(uid: &str, containers: &[String]) -> Result<Vec<String>, Misnamed> {
    if !is_uuid(uid) && !is_hex(uid, 32) {
        return Err(Misnamed::Uid);
    }
    if containers.len() > CONTAINERS_MAX {
        return Err(Misnamed::Containers);
    }
    if !containers.iter().all(|id| is_hex(id, 64)) {
        return Err(Misnamed::Container);
    }
    let escaped = uid.replace('-', "_");
    let mut paths = Vec::new();
    for (quality, nested) in [
        ("", ""),
        ("-burstable", "burstable/"),
        ("-besteffort", "besteffort/"),
    ] {
        let slice = |prefix: &str| {
            let parent = match quality {
                "" => String::new(),
                _ => format!("{prefix}kubepods{quality}.slice/"),
            };
            format!("{parent}{prefix}kubepods{quality}-pod{escaped}.slice")
        };
        paths.push(format!("/kubepods.slice/{}", slice("")));
        paths.push(format!(
            "/kubelet.slice/kubelet-kubepods.slice/{}",
            slice("kubelet-")
        ));
        paths.push(format!("/kubepods/{nested}pod{uid}"));
        paths.push(format!("/kubelet/kubepods/{nested}pod{uid}"));
        for service in RUNTIME_SERVICES {
            for id in containers {
                let unit = format!("kubepods{quality}-pod{escaped}.slice:cri-containerd:{id}");
                paths.push(format!("/system.slice/{service}/{unit}"));
            }
        }
    }
    Ok(paths)
}

/// Docker's and Podman's names, with the cgroupfs and with the systemd driver, below the parent
/// that a container was given (`--cgroup-parent`).
fn container(id: &str, parents: &[String]) -> Result<Vec<String>, Misnamed> {
    if !is_hex(id, 64) {
        return Err(Misnamed::Container);
    }
    let names = [
        id.to_owned(),
        format!("docker-{id}.scope"),
        format!("libpod-{id}"),
        format!("libpod-{id}.scope"),
    ];
    let below = |parent: &String| {
        let parent = parent.trim_end_matches('/').to_owned();
        names.clone().map(|name| format!("{parent}/{name}"))
    };
    Ok(parents.iter().flat_map(below).collect())
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(is_hex_digit)
}

const fn is_hex_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'a'..=b'f')
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => is_hex_digit(byte),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0f5b1a3c-1111-4222-8333-444455556666";

    fn id() -> String {
        "ab".repeat(32)
    }

    fn pod_paths(uid: &str, containers: &[String]) -> Result<Vec<String>, Misnamed> {
        let kind = MemberKind::Pod {
            uid: uid.to_owned(),
            containers: containers.to_vec(),
        };
        let roots = Roots {
            pods: "/",
            runtimes: &[],
        };
        candidates(&kind, roots)
    }

    fn container_paths(id: &str, runtime: &str) -> Result<Vec<String>, Misnamed> {
        let kind = MemberKind::Container {
            id: id.to_owned(),
            runtime: runtime.to_owned(),
        };
        let parents = ["/agents.slice", "/agents.slice/agents-web.slice"];
        let roots = Roots {
            pods: "/",
            runtimes: &[("docker".to_owned(), parents.map(ToOwned::to_owned).to_vec())],
        };
        candidates(&kind, roots)
    }

    #[test]
    fn pods_lie_below_the_kubelets_own_root() {
        let kind = MemberKind::Pod {
            uid: UID.to_owned(),
            containers: Vec::new(),
        };
        for (pods, prefix) in [("/", "/kubepods"), ("/nested/", "/nested/kubepods")] {
            let roots = Roots {
                pods,
                runtimes: &[],
            };
            let paths = candidates(&kind, roots).unwrap();
            let expected = format!("{prefix}/pod{UID}");
            assert!(paths.contains(&expected), "{expected} not in {paths:#?}");
        }
    }

    #[test]
    fn every_known_layout_is_among_the_candidates() {
        let paths = pod_paths(UID, &[id()]).unwrap();
        let escaped = UID.replace('-', "_");
        for expected in [
            format!("/kubepods/pod{UID}"),
            format!("/kubepods/burstable/pod{UID}"),
            format!("/kubepods/besteffort/pod{UID}"),
            format!("/kubepods.slice/kubepods-pod{escaped}.slice"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{escaped}.slice"
            ),
            format!(
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{escaped}.slice"
            ),
            format!("/kubelet/kubepods/besteffort/pod{UID}"),
            format!(
                "/system.slice/containerd.service/kubepods-burstable-pod{escaped}.slice:cri-containerd:{}",
                id()
            ),
        ] {
            assert!(paths.contains(&expected), "{expected} not in {paths:#?}");
        }
        // A static pod's directory is named after the hash of its file.
        let hash = "0123456789abcdef0123456789abcdef";
        let of_static = pod_paths(hash, &[]).unwrap();
        assert!(of_static.contains(&format!("/kubepods/pod{hash}")));
    }

    #[test]
    fn containers_lie_right_below_the_parents_of_their_runtime() {
        let paths = container_paths(&id(), "docker").unwrap();
        for expected in [
            format!("/agents.slice/docker-{}.scope", id()),
            format!("/agents.slice/{}", id()),
            format!("/agents.slice/libpod-{}.scope", id()),
            format!("/agents.slice/libpod-{}", id()),
            format!("/agents.slice/agents-web.slice/docker-{}.scope", id()),
        ] {
            assert!(paths.contains(&expected), "{expected} not in {paths:#?}");
        }
        assert_eq!(container_paths(&id(), "podman"), Err(Misnamed::Runtime));
        for bad in ["", "abc", "../x", &"g".repeat(64)] {
            let refused = container_paths(bad, "docker");
            assert_eq!(refused, Err(Misnamed::Container), "{bad}");
        }
    }

    #[test]
    fn no_candidate_lies_in_a_subtree_that_a_workload_could_have_been_given() {
        let containers = [id()];
        for path in pod_paths(UID, &containers).unwrap() {
            let anchored = [
                "/kubepods.slice/",
                "/kubelet.slice/kubelet-kubepods.slice/",
                "/kubepods/",
                "/kubelet/kubepods/",
                "/system.slice/containerd.service/",
                "/system.slice/crio.service/",
                "/system.slice/docker.service/",
            ];
            assert!(anchored.iter().any(|root| path.starts_with(root)), "{path}");
            assert!(path.matches("pod0f5b1a3c").count() == 1, "{path}");
            assert!(
                !path.contains("user.slice") && !path.contains(".."),
                "{path}"
            );
        }
    }

    #[test]
    fn names_that_no_runtime_gives_are_refused() {
        for uid in [
            "",
            "../../weir",
            "0f5b1a3c-1111-4222-8333-44445555666",
            "0F5B1A3C-1111-4222-8333-444455556666",
            "0f5b1a3c-1111-4222-8333-44445555666/",
            "0f5b1a3c/1111-4222-8333-444455556666",
        ] {
            assert_eq!(pod_paths(uid, &[]), Err(Misnamed::Uid), "{uid}");
        }
        for container in ["", "abc", &"g".repeat(64), &format!("{}/", "a".repeat(63))] {
            let containers = [(*container).to_owned()];
            assert_eq!(pod_paths(UID, &containers), Err(Misnamed::Container));
        }
        let many: Vec<String> = std::iter::repeat_n(id(), CONTAINERS_MAX + 1).collect();
        assert_eq!(pod_paths(UID, &many), Err(Misnamed::Containers));
    }
}
