//! Credentials of backends: root's files, and what a program prints.
//!
//! A program is run outside Weir's cgroup, so that the kernel programs do not take its sockets for
//! Weir's own; without an environment, input or a terminal; for a limited time and output.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::cgroup;
use crate::config::{CredentialSource, file};

/// Sources asked at once.
const AT_ONCE_MAX: usize = 8;
const SECRET_BYTES_MAX: u64 = 64 * 1024;
const TIME_MAX: Duration = Duration::from_secs(10);
/// Enters the cgroup before it becomes the program. `$0` is the cgroup's list of processes.
const ENTER: &str = "echo $$ > \"$0\" && exec \"$@\"";

/// Reads or runs one source. Blocks for at most ten seconds.
fn secret(source: &CredentialSource, plugins: &Path) -> io::Result<Zeroizing<String>> {
    match source {
        CredentialSource::File(path) => read(path),
        CredentialSource::Exec(command) => run(command, plugins),
    }
}

type Outcome = io::Result<Zeroizing<String>>;

/// Sources that are being asked, each by a thread of its own, so that the broker's loop never waits.
/// `T` says whom the outcome is for.
pub(crate) struct Desk<T> {
    plugins: PathBuf,
    sender: SyncSender<(T, Outcome)>,
    receiver: Receiver<(T, Outcome)>,
    running: usize,
}

impl<T: Send + 'static> Desk<T> {
    pub(crate) fn new(plugins: PathBuf) -> Self {
        let (sender, receiver) = sync_channel(AT_ONCE_MAX);
        Self {
            plugins,
            sender,
            receiver,
            running: 0,
        }
    }

    /// False when too many are being asked already.
    pub(crate) fn ask(&mut self, ticket: T, source: CredentialSource) -> bool {
        if self.running >= AT_ONCE_MAX {
            return false;
        }
        let (sender, plugins) = (self.sender.clone(), self.plugins.clone());
        let started = std::thread::Builder::new()
            .name("weir-credential".to_owned())
            .spawn(move || {
                let outcome = secret(&source, &plugins);
                // The queue has room for every thread there can be.
                let _stopping = sender.send((ticket, outcome));
            });
        self.running += usize::from(started.is_ok());
        started.is_ok()
    }

    /// One that is done.
    pub(crate) fn done(&mut self) -> Option<(T, Outcome)> {
        let done = self.receiver.try_recv().ok()?;
        self.running -= 1;
        if self.running == 0 {
            clean(&self.plugins);
        }
        Some(done)
    }
}

/// The cgroup that programs run in.
pub(crate) fn place(mount: &Path, own_cgroup: &str) -> PathBuf {
    cgroup::directory(mount, &format!("{own_cgroup}-plugins"))
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let opened = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    let metadata = opened.metadata()?;
    if !metadata.is_file() || metadata.mode() & 0o007 != 0 {
        return Err(io::Error::other(
            "the secret file is not regular, or everybody can read it",
        ));
    }
    bounded(opened)
}

/// All of it, without the final newline.
fn bounded(source: impl Read) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    source
        .take(SECRET_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        let text = "a secret has at most 64 KiB";
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let kept = text.trim_end_matches(['\n', '\r']);
    if kept.is_empty() {
        return Err(io::Error::other("the secret is empty"));
    }
    Ok(Zeroizing::new(kept.to_owned()))
}

fn run(command: &[String], plugins: &Path) -> io::Result<Zeroizing<String>> {
    cgroup::make(plugins).map_err(io::Error::other)?;
    let mut child = Command::new("/bin/sh")
        .args(["-c", ENTER])
        .arg(plugins.join("cgroup.procs"))
        .args(command)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let Some(output) = child.stdout.take() else {
        return Err(io::Error::other("the program has no output"));
    };
    let (sender, receiver) = sync_channel(1);
    std::thread::Builder::new()
        .name("weir-plugin".to_owned())
        .spawn(move || hand_on(output, &sender))?;
    let answer = receiver.recv_timeout(TIME_MAX);
    let status = end(&mut child)?;
    match answer {
        // A program whose output is not read to its end fails because of that.
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => Err(error),
        Ok(_) if !status => Err(io::Error::other("the program failed")),
        Ok(secret) => secret,
        Err(_elapsed) => Err(io::Error::other("the program took longer than 10 s")),
    }
}

fn hand_on(output: impl Read, sender: &SyncSender<Outcome>) {
    // Nobody waits any more when the time is up.
    let _late = sender.send(bounded(output));
}

/// Whether it ended well by itself; otherwise it is killed. What it started dies with the cgroup's
/// next program at the latest.
fn end(child: &mut Child) -> io::Result<bool> {
    for _look in 0..20 {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill()?;
    child.wait()?;
    Ok(false)
}

/// Ends whatever programs have left behind.
fn clean(plugins: &Path) {
    let kill = plugins.join("cgroup.kill");
    if kill.exists()
        && let Err(error) = fs::write(&kill, "1").map_err(|source| file(&kill, source))
    {
        tracing::warn!(%error, "what a credential program left behind goes on");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A cgroup of the test's own, which goes with it.
    struct Place(PathBuf);

    impl Place {
        fn new() -> Self {
            let own = format!("/weir-broker-test-{}", std::process::id());
            Self(place(&cgroup::mount().unwrap(), &own))
        }

        fn printed(&self, script: &str) -> io::Result<Zeroizing<String>> {
            let command = ["/bin/sh", "-c", script].map(str::to_owned);
            secret(&CredentialSource::Exec(command.to_vec()), &self.0)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            clean(&self.0);
            // What was killed is counted until it was waited for, perhaps by init.
            for _look in 0..500 {
                match fs::remove_dir(&self.0) {
                    Ok(()) => return,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return,
                    Err(_busy) => std::thread::sleep(Duration::from_millis(10)),
                }
            }
        }
    }

    #[test]
    fn a_program_prints_the_secret_outside_weirs_cgroup_and_without_an_environment() {
        let own = Place::new();
        assert_eq!(
            own.printed("printf 'hunter2\\n'").unwrap().as_str(),
            "hunter2"
        );
        let place = own.printed("cat /proc/self/cgroup").unwrap();
        let name = own.0.file_name().unwrap().to_str().unwrap();
        assert!(
            place.contains(name) && name.ends_with("-plugins"),
            "{}",
            *place
        );
        assert_eq!(own.printed("env | grep -c . ; true").unwrap().trim(), "2");
        let path = own.0.clone();
        drop(own);
        assert!(!path.exists(), "{} is left behind", path.display());
    }

    #[test]
    fn failure_silence_flood_and_delay_are_refused() {
        let own = Place::new();
        let said = |script: &str| own.printed(script).unwrap_err().to_string();
        assert!(said("printf x; exit 3").contains("failed"));
        assert!(said("true").contains("empty"));
        assert!(said("head -c 70000 /dev/zero | tr '\\0' x").contains("64 KiB"));
        assert!(said("exec sleep 60").contains("longer than 10 s"));
    }

    #[test]
    fn a_file_that_everybody_can_read_is_refused() {
        let path = std::env::temp_dir().join(format!("weir-secret-{}", std::process::id()));
        fs::write(&path, "hunter2\n").unwrap();
        let source = CredentialSource::File(path.clone());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let nowhere = Path::new("/nonexistent");
        assert_eq!(secret(&source, nowhere).unwrap().as_str(), "hunter2");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        assert!(secret(&source, nowhere).is_err());
        fs::remove_file(path).unwrap();
    }
}
