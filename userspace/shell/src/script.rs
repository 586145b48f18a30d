//! What a command line would do: commands, redirections, and what its text does not show.

/// Everything that a command line would do, as far as its text shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// In the order of the text; what a wrapper runs follows the wrapper.
    pub commands: Vec<Command>,
    pub redirections: Vec<Redirection>,
    /// Empty only when the commands and redirections are the whole truth about the text.
    pub unclear: Vec<Unclear>,
}

/// One command. A statement of assignments alone has an empty program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub program: Word,
    pub arguments: Vec<Word>,
    pub assignments: Vec<(String, Word)>,
    pub context: Context,
    /// The same text defines a function of this name, whose body is listed too.
    pub calls_function: bool,
}

impl Command {
    /// The program's name without folders, when it is literal: `rm` for `/usr/bin/rm`.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.program.name()
    }
}

/// How a command is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Place in a pipeline of at least two.
    pub pipe: Option<PipePlace>,
    /// Not waited for (`&`).
    pub background: bool,
    /// Runs only after another one's success or failure (`&&`, `||`).
    pub conditional: bool,
    /// From the outside in.
    pub within: Vec<Within>,
}

/// A place in a pipeline, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PipePlace {
    pub index: usize,
    pub of: usize,
}

/// What a command stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Within {
    Group,
    Subshell,
    /// `$(…)` or backquotes.
    Substitution,
    /// `<(…)` or `>(…)`.
    ProcessSubstitution,
    /// The body of a function; runs only where it is called.
    Function(String),
    Loop,
    /// The tested part of `if`, `while` or `until`.
    Condition,
    /// A part that `if` or `case` chooses.
    Branch,
    Coprocess,
    /// Run by another program, by its base name.
    Wrapper(String),
}

/// One word of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// After quote removal; only when the word is literal, so that no shell state could change it.
    pub text: Option<String>,
    /// As written.
    pub raw: String,
}

impl Word {
    /// A word that no shell reads.
    #[must_use]
    pub fn literal(text: &str) -> Self {
        Self {
            text: Some(text.to_owned()),
            raw: text.to_owned(),
        }
    }

    /// The last component of a literal path.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let text = self.text.as_deref()?;
        Some(text.rsplit('/').next().unwrap_or(text))
    }
}

/// One redirection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirection {
    pub direction: Direction,
    /// A path, a descriptor (`Dup`), or the text itself (`HereDoc`, `HereString`).
    pub target: Word,
    /// The descriptor that is redirected; `None` for both output and error (`&>`).
    pub fd: Option<i32>,
    /// Which of [`Script::commands`] it belongs to; `None` for a compound command or none.
    pub command: Option<usize>,
}

/// What a redirection does to its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Read,
    Write,
    Append,
    /// Written even where the shell's `noclobber` is set.
    Clobber,
    ReadWrite,
    HereDoc,
    HereString,
    Dup,
}

/// What the text does not show, or what this crate does not decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unclear {
    /// The program's name comes from an expansion.
    DynamicProgram { raw: String },
    /// A text that is run comes from an expansion: `eval "$x"`, `sh -c "$x"`.
    DynamicText { program: String },
    /// Reads its commands from a file: `. file`, `sh file`.
    ScriptFile { program: String },
    /// A shell whose commands come through a pipe.
    PipedToShell { program: String },
    /// A shell whose commands come from an input that the text does not show.
    ShellInput { program: String },
    /// A program with a language of its own, which is not decoded.
    Interpreter { program: String },
    /// A program that runs others in ways that are not decoded.
    RunsOthers { program: String },
    /// Options or arguments of a wrapper that are not understood, so what it runs is not known.
    Wrapper { program: String },
    /// More arguments come from an input (`xargs`).
    InputArguments { program: String },
    /// `alias`: later names may mean something else.
    Alias,
    /// An expansion that evaluates its value (`${x@P}`).
    Evaluates { raw: String },
    /// Shells disagree about what this is: bash and a plain POSIX shell would do different things.
    Dialect { raw: String },
    /// A nested text that cannot be read.
    Unparsable { reason: Refused },
    /// Nested more than [`crate::DEPTH_MAX`] deep; the rest is not listed.
    TooDeep,
}

/// Why a text is not taken apart at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("nothing to run")]
    Empty,
    #[error("longer than {} bytes", crate::TEXT_BYTES_MAX)]
    TooLong,
    #[error("nested too deeply")]
    TooDeep,
    #[error("more than {} commands", crate::COMMANDS_MAX)]
    TooMany,
    #[error("too complex to be read in bounded time")]
    TooComplex,
    #[error("holds a NUL byte")]
    Nul,
    #[error("not a command line")]
    Syntax,
}
