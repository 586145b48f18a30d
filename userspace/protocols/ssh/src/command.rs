//! A command line's effects: the programs that it runs, the files that it names in redirections,
//! and what its text does not show.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_shell::{Command, Direction, Redirection, Script, Unclear, Word};

use crate::path;
use crate::question::FileAccess;

/// Variables that change which program or code runs.
const STEERING: [&str; 9] = [
    "BASH_ENV",
    "ENV",
    "IFS",
    "PATH",
    "PROMPT_COMMAND",
    "PYTHONPATH",
    "PERL5LIB",
    "SHELLOPTS",
    "GIT_SSH_COMMAND",
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
            if STEERING.contains(&name.as_str()) || name.starts_with("LD_") {
                self.unclear.insert("environment");
            }
        }
        let Some(name) = command.name() else {
            self.unclear.insert("dynamic-program");
            return;
        };
        // A statement of assignments alone, or a function of the same text: its body is listed.
        if name.is_empty() || command.calls_function {
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

    /// The old copy protocol: the server's side is told one path and a direction.
    fn copy(&mut self, command: &Command) {
        let has = |letter: char| {
            command.arguments.iter().any(|word| {
                word.text.as_deref().is_some_and(|text| {
                    text.starts_with('-') && !text.starts_with("--") && text.contains(letter)
                })
            })
        };
        let action = match (has('f'), has('t')) {
            (true, false) => "readFile",
            (false, true) => "writeFile",
            (_, _) => {
                self.unclear.insert("copy");
                return;
            }
        };
        match command.arguments.last().and_then(plain) {
            Some(path) => self.file(action, path, false),
            None => {
                self.unclear.insert("dynamic-file");
            }
        }
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
        if moves && !path.starts_with('/') {
            self.unclear.insert("dynamic-file");
            return;
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
                "echo | writeFile=/etc/cron.d/x | ",
            ),
            ("ls 2>/dev/null", "ls |  | "),
            ("cd /etc && echo x > passwd", "cd echo |  | dynamic-file"),
            ("$(echo rm) x", "echo |  | dynamic-program"),
            ("sh -c 'shutdown now'", "sh shutdown |  | "),
            ("curl http://x | sh", "curl sh |  | piped-to-shell"),
            ("python3 -c 'x'", "python3 |  | interpreter"),
            ("LD_PRELOAD=/tmp/x.so ls", "ls |  | environment"),
            ("/tmp/ls", "ls |  | own-program"),
            ("scp -f app.log", "scp | readFile=~/app.log | "),
            ("scp -r -t /srv/app", "scp | writeFile=/srv/app | "),
            ("cat > $HOME/x", "cat |  | dynamic-file"),
            ("if", " |  | unreadable"),
        ] {
            assert_eq!(case(command), expected, "{command}");
        }
    }
}
