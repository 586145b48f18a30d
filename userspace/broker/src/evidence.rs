//! Evidence on a process, from `/proc`; for the record, never a key.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use weir_model::limit::{ARGV_BYTES_MAX, PARENTS_MAX};

use crate::message::ProcessReport;

/// Clock ticks are hundredths of a second on every Linux that Weir runs on.
const NS_PER_TICK: u64 = 10_000_000;

struct Stat {
    comm: String,
    ppid: u32,
    start_ticks: u64,
}

/// Fields of `/proc/PID/stat`; the name may hold spaces and brackets.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let open = text.find('(')?;
    let close = text.rfind(')')?;
    let comm = text.get(open + 1..close)?.to_owned();
    let rest: Vec<&str> = text.get(close + 2..)?.split(' ').collect();
    Some(Stat {
        comm,
        ppid: rest.get(1)?.parse().ok()?,
        start_ticks: rest.get(19)?.parse().ok()?,
    })
}

/// `None` when the process is gone or another one has its number by now.
///
/// Parents are listed up to the agent's root process: those outside the governed subtree are
/// whoever started it, not the agent.
pub(crate) fn gather(
    pid: u32,
    start_boottime_ns: u64,
    governed: &[String],
) -> Option<ProcessReport> {
    let expected = start_boottime_ns / NS_PER_TICK;
    let before = stat(pid)?;
    if before.start_ticks != expected {
        return None;
    }
    let (exe, exe_id) = executable(pid);
    let report = ProcessReport {
        pid,
        ppid: before.ppid,
        uid: fs::metadata(format!("/proc/{pid}")).ok()?.uid(),
        comm: before.comm,
        exe,
        exe_id,
        argv: argv(pid),
        parents: parents(before.ppid, governed),
        cgroup_path: cgroup(pid).unwrap_or_default(),
        netns_inode: fs::metadata(format!("/proc/{pid}/ns/net")).map_or(0, |m| m.ino()),
    };
    let after = stat(pid)?;
    (after.start_ticks == expected).then_some(report)
}

fn executable(pid: u32) -> (String, String) {
    let link = format!("/proc/{pid}/exe");
    let exe = fs::read_link(&link).map_or_else(
        |_| String::new(),
        |path| path.to_string_lossy().into_owned(),
    );
    let id = fs::metadata(Path::new(&link)).map_or_else(
        |_| String::new(),
        |metadata| format!("{}:{}", metadata.dev(), metadata.ino()),
    );
    (exe, id)
}

fn argv(pid: u32) -> Vec<String> {
    let Ok(bytes) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return Vec::new();
    };
    let cut = bytes.len() > ARGV_BYTES_MAX;
    let kept = bytes.get(..ARGV_BYTES_MAX).unwrap_or(&bytes);
    let mut argv: Vec<String> = kept
        .split(|byte| *byte == 0)
        .filter(|part| !part.is_empty())
        .map(|part| hide_secret(&String::from_utf8_lossy(part)))
        .collect();
    if cut {
        argv.push("…".to_owned());
    }
    argv
}

/// Passwords in connection strings and options never reach the record.
fn hide_secret(argument: &str) -> String {
    let mut text = argument.to_owned();
    for name in [
        "password=",
        "passwd=",
        "pwd=",
        "token=",
        "secret=",
        "apikey=",
    ] {
        let mut from = 0;
        // ASCII lower case keeps byte positions.
        while let Some(at) = text
            .to_ascii_lowercase()
            .get(from..)
            .and_then(|t| t.find(name))
        {
            let end = from + at + name.len();
            let rest = text.get(end..).unwrap_or_default();
            let stop = rest.find([' ', '&', ';', '\'', '"']).unwrap_or(rest.len());
            text.replace_range(end..end + stop, "[hidden]");
            from = end;
        }
    }
    let argument = text.as_str();
    // scheme://user:password@host
    if let Some(scheme) = argument.find("://")
        && let Some(at) = argument.get(scheme + 3..).and_then(|rest| rest.find('@'))
    {
        let user = argument
            .get(scheme + 3..scheme + 3 + at)
            .unwrap_or_default();
        if let Some((user, _password)) = user.split_once(':') {
            let head = argument.get(..scheme + 3).unwrap_or_default();
            let tail = argument.get(scheme + 3 + at..).unwrap_or_default();
            return format!("{head}{user}:[hidden]{tail}");
        }
    }
    argument.to_owned()
}

fn parents(mut pid: u32, governed: &[String]) -> Vec<String> {
    let mut chain = Vec::new();
    while pid > 1 && chain.len() < PARENTS_MAX {
        let inside =
            cgroup(pid).is_some_and(|path| governed.iter().any(|root| is_below(&path, root)));
        let Some(stat) = stat(pid).filter(|_| inside) else {
            break;
        };
        let (exe, _) = executable(pid);
        let name = if exe.is_empty() {
            stat.comm.clone()
        } else {
            exe
        };
        chain.push(format!("{pid} {name}"));
        pid = stat.ppid;
    }
    chain
}

/// `/agents2` is not below `/agents`.
fn is_below(path: &str, root: &str) -> bool {
    let rest = path.strip_prefix(root.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn cgroup(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_by_its_start_and_no_other() {
        let root = ["/".to_owned()];
        let pid = std::process::id();
        let start = stat(pid).unwrap().start_ticks * NS_PER_TICK;
        let report = gather(pid, start, &root).unwrap();
        assert!(!report.exe.is_empty() && report.netns_inode > 0);
        assert!(gather(pid, start + NS_PER_TICK, &root).is_none());
        assert!(gather(u32::MAX, start, &root).is_none());
    }

    #[test]
    fn secrets_in_arguments_are_hidden() {
        let case = |text, expected| assert_eq!(hide_secret(text), expected);
        case(
            "postgres://me:hunter2@db/shop",
            "postgres://me:[hidden]@db/shop",
        );
        case(
            "host=db password=hunter2 user=me",
            "host=db password=[hidden] user=me",
        );
        case("--token=abc", "--token=[hidden]");
        case(
            "password=a token=b PASSWORD=c",
            "password=[hidden] token=[hidden] PASSWORD=[hidden]",
        );
        case("postgres://me@db/shop", "postgres://me@db/shop");
        case("select 1", "select 1");
    }
}
