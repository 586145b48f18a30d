//! What is known of programs that run others: GNU coreutils, util-linux, findutils, sudo, doas, procps.

use crate::options::Options;

/// A program whose arguments are options, own words, and then an argument vector that it runs.
pub(crate) struct Prefix {
    pub(crate) options: Options,
    /// Words of its own before the vector (`timeout 5`).
    pub(crate) own: usize,
    /// `NAME=value` may stand before the program.
    pub(crate) assignments: bool,
    /// With one of these nothing is run.
    pub(crate) only_shows: &'static [&'static str],
    /// With one of these, or without a vector, a shell is run.
    pub(crate) shell: &'static [&'static str],
    /// Without a vector nothing is run.
    pub(crate) may_be_empty: bool,
}

const NONE: Options = Options {
    flags: "",
    valued: "",
    optional: "",
    long: "",
    long_valued: "",
    number: false,
};

const PLAIN: Prefix = Prefix {
    options: NONE,
    own: 0,
    assignments: false,
    only_shows: &["help", "version"],
    shell: &[],
    may_be_empty: false,
};

const SUDO: Prefix = Prefix {
    options: Options {
        flags: "AbBEHknNPSisKvVl",
        valued: "CDghpRrtTuU",
        long: "askpass background bell preserve-env set-home reset-timestamp no-update non-interactive preserve-groups stdin login shell remove-timestamp validate version list",
        long_valued: "close-from chdir group host prompt chroot role type command-timeout user other-user",
        ..NONE
    },
    assignments: true,
    only_shows: &[
        "K",
        "v",
        "V",
        "l",
        "remove-timestamp",
        "validate",
        "version",
        "list",
    ],
    shell: &["i", "s", "login", "shell"],
    ..PLAIN
};

const DOAS: Prefix = Prefix {
    options: Options {
        flags: "nLs",
        valued: "aCu",
        ..NONE
    },
    only_shows: &["L", "C"],
    shell: &["s"],
    ..PLAIN
};

const TIMEOUT: Prefix = Prefix {
    options: Options {
        flags: "vfp",
        valued: "ks",
        long: "verbose foreground preserve-status help version",
        long_valued: "kill-after signal",
        ..NONE
    },
    own: 1,
    ..PLAIN
};

const NICE: Prefix = Prefix {
    options: Options {
        valued: "n",
        long: "help version",
        long_valued: "adjustment",
        number: true,
        ..NONE
    },
    may_be_empty: true,
    ..PLAIN
};

const IONICE: Prefix = Prefix {
    options: Options {
        flags: "t",
        valued: "cnpPu",
        long: "ignore help version",
        long_valued: "class classdata pid pgid uid",
        ..NONE
    },
    only_shows: &["p", "P", "u", "pid", "pgid", "uid", "help", "version"],
    may_be_empty: true,
    ..PLAIN
};

const SETSID: Prefix = Prefix {
    options: Options {
        flags: "cfw",
        long: "ctty fork wait help version",
        ..NONE
    },
    ..PLAIN
};

const NOHUP: Prefix = Prefix {
    options: Options {
        long: "help version",
        ..NONE
    },
    ..PLAIN
};

const STDBUF: Prefix = Prefix {
    options: Options {
        valued: "ioe",
        long: "help version",
        long_valued: "input output error",
        ..NONE
    },
    ..PLAIN
};

const CHROOT: Prefix = Prefix {
    options: Options {
        long: "skip-chdir help version",
        long_valued: "userspec groups",
        ..NONE
    },
    own: 1,
    shell: &[],
    ..PLAIN
};

const EXEC: Prefix = Prefix {
    options: Options {
        flags: "cl",
        valued: "a",
        ..NONE
    },
    may_be_empty: true,
    ..PLAIN
};

const COMMAND: Prefix = Prefix {
    options: Options {
        flags: "pvV",
        ..NONE
    },
    only_shows: &["v", "V"],
    may_be_empty: true,
    ..PLAIN
};

const BUILTIN: Prefix = Prefix {
    may_be_empty: true,
    ..PLAIN
};

const TIME: Prefix = Prefix {
    options: Options {
        flags: "pvaqV",
        valued: "fo",
        long: "portability verbose append quiet help version",
        long_valued: "format output",
        ..NONE
    },
    may_be_empty: true,
    ..PLAIN
};

const XARGS: Prefix = Prefix {
    options: Options {
        flags: "0oprtx",
        valued: "EILnPsad",
        optional: "ile",
        long: "null open-tty interactive no-run-if-empty verbose exit show-limits replace max-lines eof help version",
        long_valued: "arg-file delimiter max-args max-chars max-procs process-slot-var",
        ..NONE
    },
    may_be_empty: true,
    ..PLAIN
};

const ENV: Prefix = Prefix {
    options: Options {
        flags: "i0v",
        valued: "uCSa",
        long: "ignore-environment null debug list-signal-handling default-signal ignore-signal block-signal help version",
        long_valued: "unset chdir split-string argv0",
        ..NONE
    },
    assignments: true,
    may_be_empty: true,
    ..PLAIN
};

/// Looks a program up by its base name.
pub(crate) fn prefix(name: &str) -> Option<&'static Prefix> {
    Some(match name {
        "sudo" => &SUDO,
        "doas" => &DOAS,
        "timeout" => &TIMEOUT,
        "nice" => &NICE,
        "ionice" => &IONICE,
        "setsid" => &SETSID,
        "nohup" => &NOHUP,
        "stdbuf" => &STDBUF,
        "chroot" => &CHROOT,
        "exec" => &EXEC,
        "command" => &COMMAND,
        "builtin" => &BUILTIN,
        "time" => &TIME,
        "xargs" => &XARGS,
        "env" => &ENV,
        "busybox" | "toybox" => &BUILTIN,
        _ => return None,
    })
}

/// Options of a shell, as Bourne-like shells share them.
pub(crate) const SHELL: Options = Options {
    flags: "abefhiklmnprstuvxBCDEHPTc",
    valued: "oO",
    long: "login posix norc noprofile noediting restricted verbose debugger help version",
    long_valued: "rcfile init-file",
    ..NONE
};

pub(crate) const SU: Options = Options {
    flags: "lmpfP",
    valued: "cgGswT",
    long: "login preserve-environment fast pty help version",
    long_valued: "command session-command group supp-group shell whitelist-environment",
    ..NONE
};

pub(crate) const WATCH: Options = Options {
    flags: "bcCegprtwx",
    valued: "nqs",
    optional: "d",
    long: "beep color no-color errexit chgexit precise no-rerun no-title no-wrap exec differences help version",
    long_valued: "interval equexit shotsdir",
    ..NONE
};

pub(crate) const TRAP: Options = Options {
    flags: "lpP",
    ..NONE
};

/// Shells that read the language of this crate.
pub(crate) fn is_shell(name: &str) -> bool {
    matches!(
        name.strip_prefix('-').unwrap_or(name),
        "sh" | "bash"
            | "dash"
            | "ash"
            | "ksh"
            | "ksh93"
            | "mksh"
            | "zsh"
            | "rbash"
            | "posh"
            | "yash"
    )
}

/// Programs with a language of their own.
pub(crate) fn is_interpreter(name: &str) -> bool {
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    INTERPRETERS.contains(&bare) || name == "m4"
}

const INTERPRETERS: &[&str] = &[
    "python",
    "pypy",
    "ipython",
    "perl",
    "awk",
    "gawk",
    "mawk",
    "nawk",
    "sed",
    "gsed",
    "node",
    "nodejs",
    "deno",
    "bun",
    "ruby",
    "irb",
    "php",
    "lua",
    "luajit",
    "tclsh",
    "wish",
    "expect",
    "psql",
    "mysql",
    "mariadb",
    "sqlite",
    "mongo",
    "mongosh",
    "redis-cli",
    "clickhouse",
    "clickhouse-client",
    "cqlsh",
    "sqlcmd",
    "sqlplus",
    "ed",
    "ex",
    "vi",
    "vim",
    "nvim",
    "view",
    "emacs",
    "nano",
    "gdb",
    "lldb",
    "R",
    "Rscript",
    "julia",
    "ghci",
    "java",
    "jshell",
    "groovy",
    "scala",
    "pwsh",
    "powershell",
    "fish",
    "csh",
    "tcsh",
    "nu",
    "elvish",
    "xonsh",
    "osascript",
    "m",
    "bc",
    "dc",
    "guile",
    "racket",
    "erl",
    "iex",
    "elixir",
];

/// Programs whose arguments name programs to run, in ways that are not decoded here.
pub(crate) fn runs_others(name: &str) -> bool {
    RUN_OTHERS.contains(&name) || name.starts_with("ld-linux")
}

const RUN_OTHERS: &[&str] = &[
    "parallel",
    "make",
    "gmake",
    "ninja",
    "just",
    "ansible",
    "ansible-playbook",
    "script",
    "tmux",
    "screen",
    "strace",
    "ltrace",
    "perf",
    "unshare",
    "nsenter",
    "crontab",
    "at",
    "batch",
    "systemd-run",
    "systemd-nspawn",
    "machinectl",
    "flock",
    "runuser",
    "setpriv",
    "capsh",
    "chpst",
    "setuidgid",
    "gosu",
    "su-exec",
    "pkexec",
    "run-parts",
    "start-stop-daemon",
    "dbus-run-session",
    "xvfb-run",
    "unbuffer",
    "rlwrap",
    "proot",
    "fakeroot",
    "firejail",
    "bwrap",
    "linux32",
    "linux64",
    "setarch",
    "taskset",
    "chrt",
    "numactl",
    "prlimit",
    "cgexec",
    "ssh-agent",
    "entr",
    "pssh",
    "pdsh",
    "socat",
    "npm",
    "npx",
    "yarn",
    "pnpm",
    "pip",
    "pip3",
    "cargo",
    "go",
    "uv",
    "poetry",
    "mvn",
    "gradle",
    "catchsegv",
    "valgrind",
    "hyperfine",
];

/// Arguments with which a program runs others; without them it does not.
pub(crate) fn run_by_argument(name: &str) -> &'static [&'static str] {
    match name {
        "tar" | "bsdtar" => &[
            "--to-command",
            "--checkpoint-action",
            "--use-compress-program",
            "-I",
        ],
        "git" => &[
            "-c",
            "--exec-path",
            "--config-env",
            "bisect",
            "filter-branch",
            "rebase",
            "submodule",
        ],
        "docker" | "podman" | "nerdctl" | "ctr" | "crictl" | "kubectl" | "oc" => {
            &["exec", "run", "debug", "attach", "plugin"]
        }
        "ip" => &["exec"],
        "nc" | "ncat" | "netcat" => &["-e", "-c", "--exec", "--sh-exec", "--lua-exec"],
        "rsync" => &["-e", "--rsh", "--rsync-path"],
        "fd" | "fdfind" => &["-x", "-X", "--exec", "--exec-batch"],
        "ssh" | "scp" | "sftp" => &["-o", "-S", "-F", "-D"],
        "split" => &["--filter"],
        "zip" => &["-TT", "--unzip-command"],
        "tcpdump" => &["-z"],
        "sort" => &["--compress-program"],
        "man" => &["-P", "-H", "--pager", "--html"],
        "mapfile" | "readarray" | "complete" | "compgen" => &["-C"],
        "apt" | "apt-get" => &["-o", "--option"],
        "wget" => &["--use-askpass"],
        "enable" => &["-f"],
        _ => &[],
    }
}
