//! A role's process: started, spoken to by lines, killed.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// A child process that is spoken to by lines.
pub struct Role {
    pub child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    /// Lines of listeners, as they came.
    pub listeners: Vec<String>,
}

impl Role {
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start(binary: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(binary)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting a role");
        let input = child.stdin.take().expect("piped");
        let output = child.stdout.take().expect("piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            input,
            lines,
            listeners: Vec::new(),
        }
    }

    /// The rest of the next line that starts with the word.
    ///
    /// # Panics
    /// It does not come within a minute.
    pub fn expect(&mut self, word: &str) -> String {
        let mut last = String::new();
        loop {
            let line = self
                .lines
                .recv_timeout(crate::patient(Duration::from_secs(60)))
                .unwrap_or_else(|error| panic!("waiting for {word}: {error}; last: {last}"));
            if line.starts_with("LISTENER") {
                self.listeners.push(line.clone());
            }
            if let Some(rest) = line.strip_prefix(word) {
                return rest.trim().to_owned();
            }
            last = format!("{last}\n{line}");
        }
    }

    /// Says one line.
    ///
    /// # Panics
    /// The role is gone.
    pub fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").expect("the role listens");
    }

    /// Says one line and waits for its answer.
    ///
    /// # Panics
    /// The role is gone.
    pub fn ask(&mut self, question: &str, answer: &str) -> String {
        self.say(question);
        self.expect(answer)
    }

    /// SIGKILL; gone already is as good.
    pub fn kill(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.kill();
    }
}
