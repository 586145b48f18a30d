//! Programs that run other programs: what they run is listed as well, or said to be unknown.

mod builtins;
mod table;

use crate::options::Found;
use crate::script::{Unclear, Within, Word};
use crate::walk::{Input, Place, Walk};
use table::Prefix;

/// Looks at what a command runs. It is listed already.
pub(crate) fn see_through(walk: &mut Walk, name: &str, arguments: &[Word], place: &Place) {
    let inside = place.inside(Within::Wrapper(name.to_owned()));
    let seen = Seen {
        name,
        arguments,
        place: &inside,
    };
    if let Some(prefix) = table::prefix(name) {
        seen.prefix(walk, prefix);
    } else if table::is_shell(name) {
        seen.shell(walk);
    } else if table::is_interpreter(name) {
        if !seen.only_shows() {
            walk.unclear(Unclear::Interpreter {
                program: name.to_owned(),
            });
        }
    } else if table::runs_others(name) {
        if !seen.only_shows() {
            walk.unclear(Unclear::RunsOthers {
                program: name.to_owned(),
            });
        }
    } else {
        if builtins::evaluates(name, arguments) {
            walk.unclear(Unclear::Evaluates {
                raw: name.to_owned(),
            });
        }
        seen.special(walk);
    }
}

/// A command that may run others.
struct Seen<'a> {
    name: &'a str,
    arguments: &'a [Word],
    place: &'a Place,
}

impl Seen<'_> {
    fn program(&self) -> String {
        self.name.to_owned()
    }

    fn not_understood(&self, walk: &mut Walk) {
        walk.unclear(Unclear::Wrapper {
            program: self.program(),
        });
    }

    fn only_shows(&self) -> bool {
        let [only] = self.arguments else {
            return false;
        };
        matches!(only.text.as_deref(), Some("--version" | "--help"))
    }

    /// Programs with a form of their own.
    fn special(&self, walk: &mut Walk) {
        match self.name {
            "eval" => self.eval(walk),
            "." | "source" => walk.unclear(Unclear::ScriptFile {
                program: self.program(),
            }),
            "trap" => self.trap(walk),
            "alias" if !self.arguments.is_empty() => walk.unclear(Unclear::Alias),
            "su" => self.su(walk),
            "watch" => self.watch(walk),
            "find" => self.find(walk),
            _ => self.by_argument(walk),
        }
    }

    fn prefix(&self, walk: &mut Walk, prefix: &Prefix) {
        let Some(found) = prefix.options.read(self.arguments) else {
            return self.not_understood(walk);
        };
        if found.has(prefix.only_shows) {
            return;
        }
        if let Some(text) = found
            .value(&["S", "split-string"])
            .filter(|_| self.name == "env")
        {
            return self.split_string(walk, text, found.rest);
        }
        let mut rest = self.arguments.get(found.rest..).unwrap_or_default();
        for _ in 0..prefix.own {
            // A word of unknown text may be none or several words.
            match rest.split_first() {
                Some((own, more)) if own.text.is_some() => rest = more,
                _ => return self.not_understood(walk),
            }
        }
        if self.name == "env" && rest.first().is_some_and(|word| word.raw == "-") {
            rest = rest.get(1..).unwrap_or_default();
        }
        let mut assignments = Vec::new();
        while let Some(word) = rest.first().filter(|_| prefix.assignments) {
            match assigned(word) {
                Some(assignment) => assignments.push(assignment),
                None => break,
            }
            rest = rest.get(1..).unwrap_or_default();
        }
        let mut place = self.place.clone();
        if self.name == "xargs" {
            place.input = Input::Unknown;
            walk.unclear(Unclear::InputArguments {
                program: self.program(),
            });
        }
        if !rest.is_empty() {
            let place_holder = found
                .value(&["I", "replace"])
                .and_then(|word| word.text.clone());
            let place_holder = place_holder.filter(|_| self.name == "xargs");
            let words = rest.iter().map(|word| open(word, place_holder.as_deref()));
            walk.run(words.collect(), assignments, &place);
        } else if found.has(prefix.shell) || self.name == "chroot" {
            walk.unclear(self.shell_input());
        } else if !prefix.may_be_empty {
            self.not_understood(walk);
        }
    }

    /// `env -S`: only texts without quoting of their own are understood.
    fn split_string(&self, walk: &mut Walk, text: &Word, rest: usize) {
        let plain = |text: &&str| !text.contains(['\\', '\'', '"', '$', '#', '`']);
        let Some(text) = text.text.as_deref().filter(plain) else {
            return self.not_understood(walk);
        };
        let mut words = vec![Word::literal("env")];
        words.extend(text.split_ascii_whitespace().map(Word::literal));
        words.extend(
            self.arguments
                .get(rest..)
                .unwrap_or_default()
                .iter()
                .cloned(),
        );
        walk.run(words, Vec::new(), self.place);
    }

    fn shell_input(&self) -> Unclear {
        let program = self.program();
        match self.place.input {
            Input::Pipe => Unclear::PipedToShell { program },
            Input::Unknown | Input::Text(_) => Unclear::ShellInput { program },
        }
    }

    fn dynamic(&self, walk: &mut Walk) {
        walk.unclear(Unclear::DynamicText {
            program: self.program(),
        });
    }

    fn text(&self, walk: &mut Walk, text: Option<&str>) {
        match text {
            Some(text) => walk.nested(text, self.place),
            None => self.dynamic(walk),
        }
    }

    fn shell(&self, walk: &mut Walk) {
        // `+o` and `+x` switch options off; they are read like `-o` and `-x`.
        let arguments: Vec<Word> = self.arguments.iter().map(minus).collect();
        let Some(found) = table::SHELL.read(&arguments) else {
            return self.not_understood(walk);
        };
        if found.has(&["help", "version"]) {
            return;
        }
        let next = self.arguments.get(found.rest);
        if found.has(&["rcfile", "init-file"]) {
            walk.unclear(Unclear::ScriptFile {
                program: self.program(),
            });
        }
        if found.has(&["c"]) {
            match next {
                Some(word) => self.text(walk, word.text.as_deref()),
                None => self.not_understood(walk),
            }
            return;
        }
        let from_input = next.is_none() || found.has(&["s"]);
        if !from_input && next.is_some_and(|word| word.raw != "-") {
            walk.unclear(Unclear::ScriptFile {
                program: self.program(),
            });
            return;
        }
        match &self.place.input {
            Input::Text(text) => self.text(walk, text.as_deref()),
            Input::Pipe | Input::Unknown => walk.unclear(self.shell_input()),
        }
    }

    fn joined(&self, words: &[Word]) -> Option<String> {
        let texts: Option<Vec<&str>> = words.iter().map(|word| word.text.as_deref()).collect();
        texts.map(|texts| texts.join(" "))
    }

    fn eval(&self, walk: &mut Walk) {
        let words = match self.arguments.split_first() {
            Some((first, rest)) if first.text.as_deref() == Some("--") => rest,
            _ => self.arguments,
        };
        if !words.is_empty() {
            self.text(walk, self.joined(words).as_deref());
        }
    }

    fn trap(&self, walk: &mut Walk) {
        let Some(found) = table::TRAP.read(self.arguments) else {
            return self.dynamic(walk);
        };
        let rest = self.arguments.get(found.rest..).unwrap_or_default();
        // With one word alone it is a signal to reset.
        let [action, _, ..] = rest else {
            return;
        };
        if action.text.as_deref() != Some("-") && found.seen.is_empty() {
            self.text(walk, action.text.as_deref());
        }
    }

    fn su(&self, walk: &mut Walk) {
        let mut seen = Vec::new();
        let mut users = 0usize;
        let mut left = self.arguments;
        // Options may also follow the user and a lone dash.
        while !left.is_empty() {
            let Some(found) = table::SU.read(left) else {
                return self.not_understood(walk);
            };
            seen.extend(found.seen);
            let Some((own, more)) = left.get(found.rest..).and_then(<[Word]>::split_first) else {
                break;
            };
            users += usize::from(own.raw != "-");
            left = more;
        }
        let found = Found { seen, rest: 0 };
        if found.has(&["help", "version"]) {
            return;
        }
        // What follows the user goes to the shell, where it may be a script.
        if users > 1 {
            return self.not_understood(walk);
        }
        match found.value(&["c", "command", "session-command"]) {
            Some(text) => self.text(walk, text.text.as_deref()),
            None => walk.unclear(self.shell_input()),
        }
    }

    fn watch(&self, walk: &mut Walk) {
        let Some(found) = table::WATCH.read(self.arguments) else {
            return self.not_understood(walk);
        };
        let rest = self.arguments.get(found.rest..).unwrap_or_default();
        if found.has(&["help", "version"]) {
        } else if rest.is_empty() {
            self.not_understood(walk);
        } else if found.has(&["x", "exec"]) {
            walk.run(rest.to_vec(), Vec::new(), self.place);
        } else {
            self.text(walk, self.joined(rest).as_deref());
        }
    }

    fn find(&self, walk: &mut Walk) {
        let mut arguments = self.arguments.iter();
        while let Some(word) = arguments.next() {
            match word.text.as_deref() {
                Some("-exec" | "-execdir" | "-ok" | "-okdir") => {}
                Some(_) => continue,
                None if word.raw.starts_with(['$', '`']) => {
                    // It may be several words, with an `-exec` among them.
                    self.not_understood(walk);
                    continue;
                }
                None => continue,
            }
            let mut words = Vec::new();
            let mut ended = false;
            for word in arguments.by_ref() {
                let text = word.text.as_deref();
                let last_is_file = words.last().is_some_and(|word: &Word| word.raw == "{}");
                if text == Some(";") || (text == Some("+") && last_is_file) {
                    ended = true;
                    break;
                }
                words.push(open(word, Some("{}")));
            }
            if words.is_empty() || !ended {
                self.not_understood(walk);
            } else {
                walk.run(words, Vec::new(), self.place);
            }
        }
    }

    /// Programs that run others only when an argument says so.
    fn by_argument(&self, walk: &mut Walk) {
        let names = table::run_by_argument(self.name);
        let runs = |text: &str| {
            let name = text.split('=').next().unwrap_or(text);
            let letter = |one: &&str| one.len() == 2 && text.starts_with(*one);
            names.contains(&name) || (!text.starts_with("--") && names.iter().any(letter))
        };
        let texts = self
            .arguments
            .iter()
            .filter_map(|word| word.text.as_deref());
        if texts.into_iter().any(runs) {
            walk.unclear(Unclear::RunsOthers {
                program: self.program(),
            });
        }
    }
}

fn minus(word: &Word) -> Word {
    match word.text.as_deref().and_then(|text| text.strip_prefix('+')) {
        // `-c` only counts with a dash.
        Some(rest) if !rest.is_empty() && !rest.contains('c') => Word::literal(&format!("-{rest}")),
        _ => word.clone(),
    }
}

/// A word in which a wrapper replaces `place_holder` is not literal.
fn open(word: &Word, place_holder: Option<&str>) -> Word {
    match (&word.text, place_holder) {
        (Some(text), Some(holder)) if !holder.is_empty() && text.contains(holder) => Word {
            text: None,
            raw: text.clone(),
        },
        _ => word.clone(),
    }
}

/// `NAME=value` as an argument.
fn assigned(word: &Word) -> Option<(String, Word)> {
    let (name, raw) = word.raw.split_once('=')?;
    let named = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(named) {
        return None;
    }
    let text = word.text.as_deref().and_then(|text| text.split_once('='));
    let value = Word {
        text: text.map(|(_, value)| value.to_owned()),
        raw: raw.to_owned(),
    };
    Some((name.to_owned(), value))
}
