//! Real eBPF on real processes: who executed what, after they are gone. Needs root and a kernel
//! that takes the programs; it fails, and is not skipped, where that is not so.

#![expect(
    clippy::disallowed_methods,
    reason = "tests wait by the wall clock, with limits"
)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use weir_kernel::{Lineage, ProcessId, ProcessRecord, System, uninstall};

/// Programs that see every process of this host, and a folder; both gone at the end.
struct Ground {
    pins: PathBuf,
    folder: PathBuf,
    lineage: Lineage,
    _system: System,
}

impl Ground {
    fn new(name: &str) -> Self {
        let tag = format!("weir-lineage-{name}-{}", std::process::id());
        let pins = PathBuf::from("/sys/fs/bpf").join(&tag);
        if !fs::read_to_string("/proc/self/mounts")
            .unwrap()
            .contains(" /sys/fs/bpf bpf ")
        {
            let none: Option<&str> = None;
            let flags = nix::mount::MsFlags::empty();
            nix::mount::mount(none, "/sys/fs/bpf", Some("bpf"), flags, none).unwrap();
        }
        let folder = PathBuf::from("/tmp").join(&tag);
        fs::create_dir_all(&folder).unwrap();
        let system = System::load(&pins).unwrap();
        let lineage = Lineage::start(&pins).unwrap();
        Self {
            pins,
            folder,
            lineage,
            _system: system,
        }
    }

    /// The processes that had that number, oldest first.
    fn numbered(&self, pid: u32) -> Vec<ProcessId> {
        let ids = self.lineage.ids().into_iter();
        ids.filter(|id| id.pid == pid).collect()
    }

    fn newest(&self, pid: u32) -> ProcessRecord {
        let id = *self.numbered(pid).last().expect("a record");
        self.lineage.latest(id).expect("a whole record")
    }

    fn copy_of(&self, program: &str, name: &str) -> PathBuf {
        let path = self.folder.join(name);
        fs::copy(program, &path).unwrap();
        path
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        uninstall(&self.pins).unwrap();
        fs::remove_dir_all(&self.folder).unwrap();
        assert!(!self.pins.exists(), "pins are left");
    }
}

fn words(record: &ProcessRecord) -> Vec<String> {
    let argv = record.argv.iter();
    argv.map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

fn inode(path: impl AsRef<Path>) -> Option<(u64, u64)> {
    let found = fs::metadata(path).unwrap();
    Some((found.dev(), found.ino()))
}

/// Runs to its end; its number.
fn ran(command: &mut Command) -> u32 {
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    let pid = child.id();
    assert!(child.wait().unwrap().success());
    pid
}

/// Waits until `found` gives something.
fn until<T>(mut found: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A program that says a line once it is where the test wants it, and ends with its input.
fn said(mut command: Command) -> (Child, String) {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut text = Vec::new();
    let mut byte = [0];
    while child.stdout.as_mut().unwrap().read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        text.extend_from_slice(&byte);
    }
    (child, String::from_utf8(text).unwrap())
}

fn ends(mut child: Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn chains_of_execs_are_known_after_their_end() {
    let ground = Ground::new("chain");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "/bin/sleep 0; exec /usr/bin/env -i A=1 /bin/sleep 0"]);
    let pid = ran(&mut command);
    let last = ground.newest(pid);
    assert_eq!(words(&last), ["/bin/sleep", "0"]);
    assert_eq!(last.execs, 3, "sh, env, sleep");
    assert_eq!(last.parent.pid, std::process::id());
    assert_eq!(last.exe, inode("/bin/sleep"));
    assert_eq!(
        (last.path.as_str(), last.comm.as_str()),
        ("/bin/sleep", "sleep")
    );
    assert!(!last.argv_cut && !last.inherited);

    // What it was earlier is answered by time.
    let env = ground.lineage.image(last.id, last.since_ns - 1).unwrap();
    assert_eq!(words(&env)[..3], ["/usr/bin/env", "-i", "A=1"]);
    assert_eq!(env.exe, inode("/usr/bin/env"));
    let shell = ground.lineage.image(last.id, env.since_ns - 1).unwrap();
    assert_eq!(words(&shell)[..2], ["/bin/sh", "-c"]);
    assert_eq!(ground.lineage.image(last.id, u64::MAX), Some(last.clone()));

    // The shell's first child: its parent is the shell, by number and start.
    let children: Vec<_> = ground
        .lineage
        .ids()
        .into_iter()
        .filter_map(|id| ground.lineage.latest(id))
        .filter(|record| record.parent == last.id)
        .collect();
    assert_eq!(children.len(), 1, "{children:?}");
    assert_eq!(words(&children[0]), ["/bin/sleep", "0"]);
    // Another start is another process.
    let other = ProcessId {
        start_boottime_ns: last.id.start_boottime_ns + 1,
        ..last.id
    };
    assert_eq!(ground.lineage.latest(other), None);
}

#[test]
fn the_executable_is_known_by_its_inode_whatever_it_was_called_by() {
    let ground = Ground::new("exe");
    let binary = ground.copy_of("/bin/sleep", "real");
    let link = ground.folder.join("link");
    symlink(&binary, &link).unwrap();
    let record = ground.newest(ran(Command::new(&link).arg("0")));
    assert_eq!(record.exe, inode(&binary));
    assert_eq!(record.path, link.display().to_string());

    // A script runs its interpreter.
    let script = ground.folder.join("script");
    fs::write(&script, "#!/bin/sh -e\nexit 0\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let record = ground.newest(ran(&mut Command::new(&script)));
    assert_eq!(record.exe, inode("/bin/sh"));
    assert_eq!(record.path, "/bin/sh");
    assert_eq!(words(&record), ["/bin/sh", "-e", script.to_str().unwrap()]);

    // A deleted binary keeps its inode.
    let gone = ground.copy_of("/bin/cat", "gone");
    let id = inode(&gone);
    let child = Command::new(&gone).stdin(Stdio::piped()).spawn().unwrap();
    fs::remove_file(&gone).unwrap();
    // The parent goes on a moment before the child's exec is recorded.
    let record = until(|| Some(ground.newest(child.id())).filter(|record| record.execs == 1));
    assert_eq!(record.exe, id);
    ends(child);

    // Longer than what is kept: cut, and said so. An empty argument is one.
    let long = "x".repeat(5000);
    let record = ground.newest(ran(Command::new("/bin/true").args(["", &long])));
    assert!(record.argv_cut);
    assert_eq!(record.argv.len(), 3);
    assert_eq!(record.argv[1], b"");
    assert_eq!(
        record.argv.iter().map(|word| word.len() + 1).sum::<usize>(),
        512
    );
}

#[test]
fn an_overlays_executable_is_the_overlays() {
    let ground = Ground::new("overlay");
    // Upper and lower on one file system of their own, as containers have them.
    let base = ground.folder.join("base");
    fs::create_dir(&base).unwrap();
    let none = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), &base, Some("tmpfs"), none, None::<&str>).unwrap();
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(base.join(name)).unwrap();
    }
    fs::copy("/bin/sleep", base.join("lower/sleep")).unwrap();
    let options = format!(
        "lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work",
        base.display()
    );
    let merged = base.join("merged");
    let mounted = nix::mount::mount(
        Some("overlay"),
        &merged,
        Some("overlay"),
        none,
        Some(options.as_str()),
    );
    let seen = mounted.map(|()| {
        let binary = merged.join("sleep");
        let record = ground.newest(ran(Command::new(&binary).arg("0")));
        (record.exe, inode(&binary), record.path, binary)
    });
    if seen.is_ok() {
        nix::mount::umount(&merged).unwrap();
    }
    nix::mount::umount(&base).unwrap();
    // A kernel without overlays has nothing to be wrong about.
    if seen == Err(nix::errno::Errno::ENODEV) {
        return;
    }
    let (exe, expected, path, binary) = seen.unwrap();
    assert_eq!(exe, expected);
    assert_eq!(path, binary.display().to_string());
}

#[test]
fn a_fork_storm_is_kept_whole_and_let_go() {
    let ground = Ground::new("storm");
    let before = ground.lineage.living();
    let mut command = Command::new("/bin/bash");
    command.args(["-c", "for i in {1..2500}; do (:) & done; wait"]);
    let pid = ran(&mut command);
    let shell = ground.newest(pid);
    let children: Vec<_> = ground
        .lineage
        .ids()
        .into_iter()
        .filter_map(|id| ground.lineage.latest(id))
        .filter(|record| record.parent == shell.id)
        .collect();
    assert_eq!(children.len(), 2500);
    for child in &children {
        // Never executed anything: the shell's image, and the shell's alone.
        assert_eq!((child.execs, child.exe), (0, inode("/bin/bash")));
        assert_eq!(words(child)[..2], ["/bin/bash", "-c"]);
    }
    assert!(
        ground.lineage.living() < before + 500,
        "the ended are not let go"
    );
    assert_eq!(ground.lineage.lost().processes, 0);
}

#[test]
fn a_number_that_is_used_again_is_another_process() {
    let ground = Ground::new("reuse");
    let first = ran(Command::new("/bin/sh").args(["-c", "exit 0", "first"]));
    let began = Instant::now();
    loop {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "never used again"
        );
        fs::write("/proc/sys/kernel/ns_last_pid", (first - 1).to_string()).unwrap();
        if ran(Command::new("/bin/sh").args(["-c", "exit 0", "second"])) == first {
            break;
        }
    }
    let ids = ground.numbered(first);
    let said: Vec<_> = ids
        .iter()
        .map(|id| words(&ground.lineage.latest(*id).unwrap()).pop().unwrap())
        .collect();
    assert_eq!(said.first().map(String::as_str), Some("first"), "{said:?}");
    assert_eq!(said.last().map(String::as_str), Some("second"), "{said:?}");
}

#[test]
fn a_leader_that_ends_first_leaves_the_record_to_its_threads() {
    let ground = Ground::new("leader");
    // System call 60 ends one thread, here the first.
    let script = "import threading, sys, ctypes\n\
        def rest():\n    print('up', flush=True)\n    sys.stdin.read()\n\
        threading.Thread(target=rest).start()\n\
        ctypes.CDLL(None).syscall(60, 0)\n";
    let mut command = Command::new("python3");
    command.args(["-c", script]);
    let (child, line) = said(command);
    assert_eq!(line, "up");
    let stat = format!("/proc/{}/stat", child.id());
    until(|| {
        fs::read_to_string(&stat)
            .unwrap()
            .contains(") Z ")
            .then_some(())
    });
    let record = ground.newest(child.id());
    assert!(words(&record)[0].contains("python3"), "{record:?}");
    assert!(ground.lineage.is_living(record.id));
    ends(child);
    until(|| (!ground.lineage.is_living(record.id)).then_some(()));
    assert_eq!(ground.lineage.latest(record.id), Some(record));
}

#[test]
fn an_exec_by_a_thread_is_its_processs() {
    let ground = Ground::new("thread");
    let script = "import threading, os\n\
        threading.Thread(target=lambda: os.execv('/bin/sh', ['sh', '-c', 'echo up; read x'])).start()\n\
        threading.Event().wait()\n";
    let mut command = Command::new("python3");
    command.args(["-c", script]);
    let (mut child, line) = said(command);
    assert_eq!(line, "up");
    let ids = ground.numbered(child.id());
    assert_eq!(ids.len(), 1, "one process: {ids:?}");
    let record = ground.newest(child.id());
    assert_eq!(words(&record), ["sh", "-c", "echo up; read x"]);
    assert_eq!(record.exe, inode("/bin/sh"));
    let before = ground
        .lineage
        .image(record.id, record.since_ns - 1)
        .unwrap();
    assert!(words(&before)[0].contains("python3"), "{before:?}");
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    ends(child);
}

#[test]
fn a_second_start_takes_over_without_a_gap_or_a_double() {
    let mut ground = Ground::new("again");
    let mut looping = Command::new("/bin/bash")
        .args(["-c", "while :; do /bin/true; done"])
        .spawn()
        .unwrap();
    for _ in 0..3 {
        ground.lineage = Lineage::start(&ground.pins).unwrap();
    }
    looping.kill().unwrap();
    looping.wait().unwrap();
    let shell = ground.newest(looping.id());
    let children: Vec<_> = ground
        .lineage
        .ids()
        .into_iter()
        .filter_map(|id| ground.lineage.latest(id))
        .filter(|record| record.parent == shell.id)
        .collect();
    assert!(children.len() > 10, "{}", children.len());
    // The one that the kill met may not have come to its exec.
    let without = children.iter().filter(|record| record.execs != 1);
    assert!(without.count() <= 1, "{children:?}");
    let links = fs::read_dir(ground.pins.join("v1")).unwrap();
    let links = links
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("lineage_"));
    assert_eq!(links.count(), 4, "links of earlier starts are left");
}
