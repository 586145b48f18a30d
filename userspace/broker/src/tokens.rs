//! Service-account tokens, read for the node.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::Mode;

use crate::cgroup;
use crate::config::{TokenSource, WorkloadConfig};

const TOKEN_BYTES_MAX: u64 = 16 * 1024;
/// Bytes of `/proc/PID/cgroup`.
const CGROUP_BYTES_MAX: u64 = 16 * 1024;
/// Processes of a workload that are tried.
const PROCESSES_MAX: usize = 64;

/// Whose token is asked for.
pub(crate) struct Whose<'a> {
    pub(crate) workload: &'a WorkloadConfig,
    /// Paths of cgroups below the mount, of which those count that are there.
    pub(crate) cgroups: &'a [String],
    /// The pod's uid, its volume and the path in that.
    pub(crate) projected: Option<(&'a str, &'a str, &'a str)>,
}

/// What proves a workload or a pod, from where its configuration says. `mount` is the cgroup v2
/// tree's, `kubelet` the kubelet's directory.
pub(crate) fn of(whose: &Whose<'_>, mount: &Path, kubelet: &Path) -> io::Result<String> {
    match &whose.workload.token {
        TokenSource::File(path) => read(path),
        TokenSource::InContainer(path) => inside(whose.cgroups, mount, path),
        TokenSource::Kubelet => match whose.projected {
            Some((uid, volume, path)) => projected(kubelet, (uid, volume), path),
            None => Err(io::Error::other(
                "the pod has no projected token for the token exchange: does Azure Workload \
                 Identity's webhook know it (label azure.workload.identity/use)?",
            )),
        },
        TokenSource::None => Err(io::Error::other("this workload signs in without one")),
    }
}

fn inside(cgroups: &[String], mount: &Path, path: &Path) -> io::Result<String> {
    let mut last = io::Error::other("it has no process");
    for governed in cgroups {
        let directory = cgroup::directory(mount, governed);
        let processes = cgroup::processes(&directory, |_| true);
        for pid in processes.into_iter().take(PROCESSES_MAX) {
            match in_process(pid, governed, path) {
                Ok(token) => return Ok(token),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

/// The kubelet's copy. Volume and path are what the pod's author wrote, so they lead nowhere else.
fn projected(kubelet: &Path, (uid, volume): (&str, &str), path: &str) -> io::Result<String> {
    let plain = |text: &str| {
        (1..=253).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if !plain(uid) || !plain(volume) {
        return Err(io::Error::other("the pod or its volume has no plain name"));
    }
    let folder = kubelet
        .join("pods")
        .join(uid)
        .join("volumes/kubernetes.io~projected")
        .join(volume);
    let real = folder.canonicalize()?;
    is_roots(&real)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let directory = nix::fcntl::open(&real, flags, Mode::empty())?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    contents(File::from(openat2(&directory, path, how)?))
}

fn is_roots(real: &Path) -> io::Result<()> {
    for part in real.ancestors() {
        if std::fs::symlink_metadata(part)?.uid() != 0 {
            let text = format!("{} is not root's", part.display());
            return Err(io::Error::other(text));
        }
    }
    Ok(())
}

/// Reads a token file. Its directory belongs to root (the kubelet, the lab): the path comes from
/// the configuration, never from a workload. Symbolic links in the last step are followed only
/// where root made them, as the kubelet's `..data` links are.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let real = path.canonicalize()?;
    is_roots(&real)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&real)?;
    contents(file)
}

/// Only a regular file: a FIFO would make the broker wait, a device would do anything.
fn contents(mut file: File) -> io::Result<String> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > TOKEN_BYTES_MAX {
        return Err(io::Error::other(
            "the token file is not a regular file of at most 16 KiB",
        ));
    }
    let mut text = String::new();
    Read::by_ref(&mut file)
        .take(TOKEN_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

/// Reads `path` as the process sees it, but never outside its root: links are resolved inside, and
/// those of `/proc` not at all. The process' environment is not asked for anything.
///
/// Everything goes through one descriptor of `/proc/PID`: when the number is given to another
/// process meanwhile, it answers ESRCH.
pub(crate) fn in_process(pid: u32, governed: &str, path: &Path) -> io::Result<String> {
    let process = directory(&format!("/proc/{pid}"))?;
    belongs(&process, governed)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = openat(&process, "root", flags, Mode::empty())?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = openat2(&root, path, how)?;
    belongs(&process, governed)?;
    contents(File::from(file))
}

fn directory(path: &str) -> io::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(nix::fcntl::open(path, flags, Mode::empty())?)
}

/// The process is (still) there and in the workload's cgroup.
fn belongs(process: &OwnedFd, governed: &str) -> io::Result<()> {
    let file = openat(
        process,
        "cgroup",
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let mut text = String::new();
    File::from(file)
        .take(CGROUP_BYTES_MAX)
        .read_to_string(&mut text)?;
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or_default();
    let below = path.strip_prefix(governed.trim_end_matches('/'));
    if below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        Ok(())
    } else {
        Err(io::Error::other("the process is not the workload's"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::{Child, ChildStdout, Command, Stdio};

    use super::*;

    /// A process whose root is `root`, in this test's own cgroup.
    struct Jailed {
        child: Child,
        root: std::path::PathBuf,
        /// Kept open: who writes to a pipe that nobody holds is ended.
        _said: ChildStdout,
    }

    impl Drop for Jailed {
        fn drop(&mut self) {
            let _gone = self.child.kill();
            let _gone = self.child.wait();
            let _gone = std::fs::remove_dir_all(&self.root);
        }
    }

    fn jailed(name: &str) -> Jailed {
        let root = std::env::temp_dir().join(format!("weir-tokens-{}-{name}", std::process::id()));
        std::fs::create_dir_all(root.join("run")).unwrap();
        // A shell that was started outside changes its root and says so: no program is needed inside.
        let mut child = Command::new("python3")
            .args(["-c", "import os,sys\nos.chroot(sys.argv[1]); os.chdir('/')\nprint('ready', flush=True)\nsys.stdin.read()"])
            .arg(&root)
            .env("AZURE_FEDERATED_TOKEN_FILE", "/run/other")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 5];
        let mut said = child.stdout.take().unwrap();
        said.read_exact(&mut ready).unwrap();
        Jailed {
            child,
            root,
            _said: said,
        }
    }

    /// The cgroup of this test, which its children share.
    fn own_cgroup() -> String {
        let text = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        text.lines()
            .find_map(|line| line.strip_prefix("0::"))
            .unwrap()
            .to_owned()
    }

    fn read_in(jail: &Jailed, path: &str) -> io::Result<String> {
        in_process(jail.child.id(), &own_cgroup(), Path::new(path))
    }

    #[test]
    fn a_file_of_the_process_is_read_through_the_kubelets_links() {
        let jail = jailed("links");
        let data = jail.root.join("run/..2026");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("token"), "t\n").unwrap();
        symlink("..2026", jail.root.join("run/..data")).unwrap();
        symlink("..data/token", jail.root.join("run/token")).unwrap();
        assert_eq!(read_in(&jail, "/run/token").unwrap(), "t");
    }

    #[test]
    fn symlink_escape_stays_inside_the_root() {
        let jail = jailed("escape");
        let secret = std::env::temp_dir().join(format!("weir-host-{}", std::process::id()));
        std::fs::write(&secret, "host's").unwrap();
        symlink(&secret, jail.root.join("run/absolute")).unwrap();
        let up = format!("../../../../../../..{}", secret.display());
        symlink(up, jail.root.join("run/relative")).unwrap();
        symlink("/proc/1/root", jail.root.join("run/magic")).unwrap();
        for path in ["/run/absolute", "/run/relative", "/run/magic/etc/hostname"] {
            assert!(read_in(&jail, path).is_err(), "{path}");
        }
        std::fs::remove_file(secret).unwrap();
    }

    #[test]
    fn a_fifo_or_device_or_large_file_is_no_token() {
        let jail = jailed("kinds");
        let fifo = jail.root.join("run/fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let kind = nix::sys::stat::SFlag::S_IFCHR;
        let null = nix::sys::stat::makedev(1, 3);
        nix::sys::stat::mknod(&jail.root.join("run/null"), kind, Mode::S_IRWXU, null).unwrap();
        std::fs::write(jail.root.join("run/large"), vec![b'x'; 17_000]).unwrap();
        std::fs::create_dir(jail.root.join("run/folder")).unwrap();
        for path in ["/run/fifo", "/run/null", "/run/large", "/run/folder"] {
            let error = read_in(&jail, path).unwrap_err();
            assert!(error.to_string().contains("regular"), "{path}: {error}");
        }
    }

    #[test]
    fn environ_is_never_read() {
        let jail = jailed("environ");
        std::fs::write(jail.root.join("run/other"), "another's").unwrap();
        std::fs::write(jail.root.join("run/token"), "own").unwrap();
        assert_eq!(
            read_in(&jail, "/run/token").unwrap(),
            "own",
            "the configured path, whatever AZURE_FEDERATED_TOKEN_FILE says"
        );
    }

    #[test]
    fn the_kubelets_copy_is_read_and_nothing_beside_it() {
        let kubelet = std::path::PathBuf::from(format!("/run/weir-kubelet-{}", std::process::id()));
        let folder = kubelet.join("pods/u-1/volumes/kubernetes.io~projected/token");
        std::fs::create_dir_all(folder.join("..2026")).unwrap();
        std::fs::write(folder.join("..2026/azure"), "own\n").unwrap();
        std::fs::write(kubelet.join("pods/secret"), "another's").unwrap();
        symlink("..2026", folder.join("..data")).unwrap();
        symlink("..data/azure", folder.join("azure")).unwrap();
        symlink(kubelet.join("pods/secret"), folder.join("absolute")).unwrap();
        symlink("../../../../secret", folder.join("relative")).unwrap();
        let ask = |uid, volume, path| projected(&kubelet, (uid, volume), path);
        let own = ask("u-1", "token", "azure");
        let escaped = [
            ask("u-1", "token", "absolute"),
            ask("u-1", "token", "relative"),
            ask("u-1", "token", "../../../../secret"),
            ask("u-1", "token", "/etc/hostname"),
            ask("..", "token", "azure"),
            ask("u-1", "../../..", "secret"),
            ask("", "token", "azure"),
        ];
        let text = format!("{escaped:?}");
        std::fs::remove_dir_all(&kubelet).unwrap();
        assert_eq!(own.unwrap(), "own");
        assert!(escaped.iter().all(Result::is_err), "{text}");
    }

    #[test]
    fn a_process_of_another_cgroup_is_not_the_workloads() {
        let jail = jailed("cgroup");
        std::fs::write(jail.root.join("run/token"), "t").unwrap();
        let path = Path::new("/run/token");
        let error = in_process(jail.child.id(), "/agents/other", path).unwrap_err();
        assert!(error.to_string().contains("not the workload's"), "{error}");
    }

    #[test]
    fn a_reused_pid_answers_for_nobody() {
        let mut jail = jailed("reuse");
        let process = directory(&format!("/proc/{}", jail.child.id())).unwrap();
        belongs(&process, &own_cgroup()).unwrap();
        jail.child.kill().unwrap();
        jail.child.wait().unwrap();
        let error = belongs(&process, &own_cgroup()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH), "{error}");
    }
}
