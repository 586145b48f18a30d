//! What runs inside: `init`, and the marks by which its log is read.

use super::programs::{Test, label};

/// In every line that is ours.
pub(super) const MARK: &str = "@weir";

/// The first process. Every test is a process of its own, so that one which takes the kernel's
/// state with it is seen, and has a limit.
pub(super) const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
# What is there already stays.
/bin/busybox --install -s 2>/dev/null
export PATH=/usr/local/bin:/bin:/sbin:/usr/bin:/usr/sbin HOME=/root WEIR_SLOWNESS=5
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
mount -t securityfs securityfs /sys/kernel/security
ln -s /proc/self/fd /dev/fd
ip link set lo up
# Debian keeps some of these from being loaded by whoever asks for a socket; an attacker may be luckier.
for module in $(cat /weir/modules); do modprobe "$module"; done
echo "@weir up $(uname -r) $(cut -d' ' -f1 /proc/uptime)"
weir doctor --host 2>&1 | sed 's/^/@weir doctor /'
while read -r label path name; do
  echo "@weir start $label"
  timeout -s KILL 900 "$path" --exact "$name" --nocapture --test-threads=1 </dev/null 2>&1
  code=$?
  echo
  echo "@weir end $label $code $(cut -d' ' -f1 /proc/uptime)"
done </weir/tests
echo "@weir done"
poweroff -f
"#;

/// One line per test: label, path, name.
pub(super) fn list(tests: &[Test]) -> String {
    tests
        .iter()
        .map(|test| format!("{} {} {}\n", label(test), test.path.display(), test.name))
        .collect()
}

/// A line of the log, understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Line {
    Up {
        release: String,
    },
    Doctor(String),
    Start(String),
    End {
        label: String,
        code: i32,
        at_s: f64,
    },
    Done,
    /// One phase of one recipe.
    Recipe(Recipe),
    /// Whatever a test said.
    Other,
}

/// `control  ok    connect_v4   Redirected | said server …`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recipe {
    pub(super) phase: String,
    pub(super) good: bool,
    pub(super) name: String,
    pub(super) text: String,
}

pub(super) fn read(line: &str) -> Line {
    let line = line.trim_end();
    // Firmware and tests may leave a line open.
    if let Some((_, rest)) = line.split_once(MARK) {
        return marked(rest.trim_start()).unwrap_or(Line::Other);
    }
    recipe(line).map_or(Line::Other, Line::Recipe)
}

fn marked(rest: &str) -> Option<Line> {
    let (word, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let mut words = rest.split(' ').map(str::to_owned);
    Some(match word {
        "up" => Line::Up {
            release: words.next()?,
        },
        "doctor" => Line::Doctor(rest.to_owned()),
        "start" => Line::Start(words.next()?),
        "end" => Line::End {
            label: words.next()?,
            code: words.next()?.parse().ok()?,
            at_s: words.next()?.parse().ok()?,
        },
        "done" => Line::Done,
        _ => return None,
    })
}

fn recipe(line: &str) -> Option<Recipe> {
    let (front, text) = line.split_once(" | ")?;
    // libtest leaves the line with the test's name open.
    let front = front.rsplit("... ").next().unwrap_or(front);
    let mut words = front.split_whitespace();
    let phase = words.next()?;
    if !["control", "guarded", "silent"].contains(&phase) {
        return None;
    }
    let good = match words.next()? {
        "ok" => true,
        "WRONG" => false,
        _ => return None,
    };
    Some(Recipe {
        phase: phase.to_owned(),
        good,
        name: words.next()?.to_owned(),
        text: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_recipes_are_told_from_what_tests_say() {
        let end = read("@weir end bypass::all 101 33.5\r\n");
        assert_eq!(
            end,
            Line::End {
                label: "bypass::all".to_owned(),
                code: 101,
                at_s: 33.5
            }
        );
        let Line::Recipe(found) = read("guarded  WRONG packet_syn_v4   Dropped([]) | failed 1")
        else {
            panic!("no recipe");
        };
        assert!(!found.good && found.name == "packet_syn_v4" && found.phase == "guarded");
        assert!(matches!(
            read("test no_recipe ... control  ok    connect_v4  Redirected | said"),
            Line::Recipe(recipe) if recipe.name == "connect_v4"
        ));
        assert_eq!(read("thread 'x' panicked | here"), Line::Other);
        assert_eq!(read("@weir end bypass::all"), Line::Other);
    }
}
