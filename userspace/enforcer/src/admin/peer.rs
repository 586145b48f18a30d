//! Who is at the other end of the admin socket.

use std::io;

/// Peers that are let in: uid 0, outside the governed subtree.
#[derive(Clone, Debug)]
pub(crate) struct PeerRule {
    /// Paths below the cgroup v2 mount, starting with `/`.
    pub(crate) governed: Vec<String>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerRefused {
    #[error("the admin socket is for root")]
    NotRoot,
    #[error("this process is governed by Weir and may not administer it")]
    Governed,
    #[error("this process cannot be identified")]
    Unknown,
}

impl PeerRule {
    /// # Errors
    /// See [`PeerRefused`]; what cannot be read is refused.
    pub(crate) fn admit(&self, uid: u32, pid: Option<i32>) -> Result<(), PeerRefused> {
        if uid != 0 {
            return Err(PeerRefused::NotRoot);
        }
        let pid = pid.filter(|pid| *pid > 0).ok_or(PeerRefused::Unknown)?;
        let cgroup = unified_cgroup(pid).map_err(|_| PeerRefused::Unknown)?;
        self.admit_cgroup(&cgroup)
    }

    fn admit_cgroup(&self, cgroup: &str) -> Result<(), PeerRefused> {
        let below = self.governed.iter().any(|root| {
            let rest = cgroup.strip_prefix(root.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        // `..` means another cgroup namespace than ours: the path says nothing then.
        if below || cgroup.contains("..") {
            return Err(PeerRefused::Governed);
        }
        Ok(())
    }
}

/// The `0::` line of `/proc/PID/cgroup`.
fn unified_cgroup(pid: i32) -> io::Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(ToOwned::to_owned)
        .ok_or_else(|| io::Error::other("no cgroup v2 line"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> PeerRule {
        PeerRule {
            governed: vec!["/other".to_owned(), "/agents".to_owned()],
        }
    }

    #[test]
    fn governed_peers_are_refused_whatever_their_uid() {
        assert_eq!(
            rule().admit_cgroup("/agents/analyst"),
            Err(PeerRefused::Governed)
        );
        assert_eq!(rule().admit_cgroup("/agents"), Err(PeerRefused::Governed));
        assert_eq!(
            rule().admit_cgroup("/../agents"),
            Err(PeerRefused::Governed)
        );
        assert_eq!(rule().admit_cgroup("/agents-not/x"), Ok(()));
        assert_eq!(rule().admit_cgroup("/"), Ok(()));
    }

    #[test]
    fn only_root_and_only_processes_that_can_be_looked_at() {
        assert_eq!(rule().admit(1000, Some(1)), Err(PeerRefused::NotRoot));
        assert_eq!(rule().admit(0, None), Err(PeerRefused::Unknown));
        assert_eq!(rule().admit(0, Some(i32::MAX)), Err(PeerRefused::Unknown));
    }
}
