//! The walk over the grammar's tree: every command in it, and every one inside its words.

use std::collections::BTreeSet;

use brush_parser::ast::{self, CommandPrefixOrSuffixItem as Item};

use crate::script::{
    Command, Context, Direction, PipePlace, Redirection, Refused, Script, Unclear, Within, Word,
};
use crate::word::{self, Inner, Reading};
use crate::{COMMANDS_MAX, DEPTH_MAX, grammar, wrappers};

/// See [`crate::parse`].
pub(crate) fn text(text: &str) -> Result<Script, Refused> {
    let program = grammar::program(text)?;
    let mut walk = Walk {
        continued: continued(text),
        ..Walk::default()
    };
    walk.program(&program, &Place::default());
    walk.finish()
}

/// See [`crate::parse_argv`].
pub(crate) fn argv(argv: &[&str]) -> Result<Script, Refused> {
    if argv.is_empty() {
        return Err(Refused::Empty);
    }
    if argv.iter().map(|word| word.len()).sum::<usize>() > crate::TEXT_BYTES_MAX {
        return Err(Refused::TooLong);
    }
    if argv.iter().any(|word| word.contains('\0')) {
        return Err(Refused::Nul);
    }
    let words = argv.iter().map(|word| Word::literal(word)).collect();
    let mut walk = Walk::default();
    walk.run(words, Vec::new(), &Place::default());
    walk.finish()
}

/// What a command reads.
#[derive(Clone, Default)]
pub(crate) enum Input {
    #[default]
    Unknown,
    Pipe,
    /// A here-document or here-string; `None` when it holds expansions.
    Text(Option<String>),
}

/// Where the walk stands.
#[derive(Clone, Default)]
pub(crate) struct Place {
    pub(crate) context: Context,
    pub(crate) input: Input,
    depth: usize,
}

impl Place {
    pub(crate) fn inside(&self, within: Within) -> Self {
        let mut place = self.clone();
        place.context.within.push(within);
        place.depth += 1;
        place
    }

    /// Inside something that has an input, a pipeline and a background of its own.
    fn apart(&self, within: Within) -> Self {
        let mut place = self.inside(within);
        place.context.pipe = None;
        place.context.background = false;
        place.context.conditional = false;
        place
    }
}

/// The result so far.
#[derive(Default)]
pub(crate) struct Walk {
    script: Script,
    functions: BTreeSet<String>,
    text_bytes: usize,
    refused: Option<Refused>,
    /// The text that is walked has a line that goes on in the next one.
    continued: bool,
}

impl Walk {
    fn finish(mut self) -> Result<Script, Refused> {
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        for command in &mut self.script.commands {
            let text = command.program.text.as_deref();
            command.calls_function = text.is_some_and(|text| self.functions.contains(text));
        }
        Ok(self.script)
    }

    pub(crate) fn unclear(&mut self, unclear: Unclear) {
        self.script.unclear.push(unclear);
    }

    /// Walks a text that something at `place` runs.
    pub(crate) fn nested(&mut self, text: &str, place: &Place) {
        if self.too_deep(place) {
            return;
        }
        // Texts inside texts are each read again; together they must stay linear.
        self.text_bytes = self.text_bytes.saturating_add(text.len());
        if self.text_bytes > DEPTH_MAX * crate::TEXT_BYTES_MAX {
            self.refused = Some(Refused::TooComplex);
            return;
        }
        match grammar::program(text) {
            Ok(program) => {
                let outer = std::mem::replace(&mut self.continued, continued(text));
                self.program(&program, place);
                self.continued = outer;
            }
            Err(reason) => self.unclear(Unclear::Unparsable { reason }),
        }
    }

    fn too_deep(&mut self, place: &Place) -> bool {
        let deep = place.depth > DEPTH_MAX;
        if deep && self.script.unclear.last() != Some(&Unclear::TooDeep) {
            self.unclear(Unclear::TooDeep);
        }
        deep || self.refused.is_some()
    }

    /// Lists a command, and what it runs if it is a wrapper. The first word is the program.
    pub(crate) fn run(
        &mut self,
        mut words: Vec<Word>,
        assignments: Vec<(String, Word)>,
        place: &Place,
    ) {
        if self.too_deep(place) {
            return;
        }
        if self.script.commands.len() >= COMMANDS_MAX {
            self.refused = Some(Refused::TooMany);
            return;
        }
        let named = !words.is_empty();
        let program = if named {
            words.remove(0)
        } else {
            Word::literal("")
        };
        self.script.commands.push(Command {
            program: program.clone(),
            arguments: words.clone(),
            assignments,
            context: place.context.clone(),
            calls_function: false,
        });
        match program.name().map(str::to_owned) {
            _ if !named => {}
            None => self.unclear(Unclear::DynamicProgram { raw: program.raw }),
            Some(name) => wrappers::see_through(self, &name, &words, place),
        }
    }

    fn program(&mut self, program: &ast::Program, place: &Place) {
        for list in &program.complete_commands {
            self.list(list, place);
        }
    }

    fn list(&mut self, list: &ast::CompoundList, place: &Place) {
        if self.too_deep(place) {
            return;
        }
        for ast::CompoundListItem(and_or, separator) in &list.0 {
            let mut place = place.clone();
            place.context.background |= matches!(separator, ast::SeparatorOperator::Async);
            self.pipeline(&and_or.first, &place);
            place.context.conditional |= !and_or.additional.is_empty();
            for next in &and_or.additional {
                let (ast::AndOr::And(pipeline) | ast::AndOr::Or(pipeline)) = next;
                self.pipeline(pipeline, &place);
            }
        }
    }

    fn pipeline(&mut self, pipeline: &ast::Pipeline, place: &Place) {
        if pipeline.timed.is_some() {
            self.run(vec![Word::literal("time")], Vec::new(), place);
        }
        let of = pipeline.seq.len();
        for (index, command) in pipeline.seq.iter().enumerate() {
            let mut place = place.clone();
            if of > 1 {
                place.context.pipe = Some(PipePlace { index, of });
            }
            if index > 0 {
                place.input = Input::Pipe;
            }
            self.command(command, &place);
        }
    }

    fn command(&mut self, command: &ast::Command, place: &Place) {
        match command {
            ast::Command::Simple(simple) => self.simple(simple, place),
            ast::Command::Compound(compound, redirects) => {
                let place = self.redirected(redirects.as_ref(), place);
                self.compound(compound, &place);
            }
            ast::Command::Function(function) => {
                let name = function.fname.value.clone();
                self.functions.insert(name.clone());
                let ast::FunctionBody(body, redirects) = &function.body;
                let place = place.apart(Within::Function(name));
                let place = self.redirected(redirects.as_ref(), &place);
                self.compound(body, &place);
            }
            ast::Command::ExtendedTest(test, redirects) => {
                let place = self.redirected(redirects.as_ref(), place);
                if self.test(&test.expr, &place) {
                    let raw = test.to_string();
                    self.unclear(Unclear::Dialect { raw });
                }
            }
        }
    }

    fn simple(&mut self, simple: &ast::SimpleCommand, place: &Place) {
        let mut parts = Parts::default();
        let none: &[Item] = &[];
        let prefix = simple.prefix.as_ref().map_or(none, |prefix| &prefix.0);
        let suffix = simple.suffix.as_ref().map_or(none, |suffix| &suffix.0);
        let mut place = place.clone();
        for item in prefix {
            match item {
                Item::AssignmentWord(assignment, raw) => {
                    let assignment = self.assignment(assignment, raw, &place);
                    parts.assignments.push(assignment);
                }
                Item::Word(_) | Item::IoRedirect(_) | Item::ProcessSubstitution(..) => {
                    self.item(item, &mut parts, &mut place);
                }
            }
        }
        if let Some(program) = &simple.word_or_name {
            let word = self.word(&program.value, &place);
            parts.words.push(word);
        }
        self.dialect(simple.word_or_name.as_ref(), suffix);
        for item in suffix {
            self.item(item, &mut parts, &mut place);
        }
        let lists = !parts.words.is_empty() || !parts.assignments.is_empty();
        // What its words run is listed before the command itself, as it runs before it.
        let owner = lists.then_some(self.script.commands.len());
        for redirection in parts.redirections {
            self.script.redirections.push(Redirection {
                command: owner,
                ..redirection
            });
        }
        if lists {
            self.run(parts.words, parts.assignments, &place);
        }
    }

    /// What shells read in two ways at redirections: `{x}>file` is one word and a redirection, or a
    /// redirection with a variable; `&>file` is one redirection, or the end of the command.
    fn dialect(&mut self, program: Option<&ast::Word>, suffix: &[Item]) {
        let mut previous = program;
        let mut cut = false;
        for item in suffix {
            match item {
                Item::IoRedirect(redirect) => {
                    if let Some(word) = previous.filter(|word| is_variable(&word.value)) {
                        let raw = word.value.clone();
                        self.unclear(Unclear::Dialect { raw });
                    }
                    cut |= matches!(redirect, ast::IoRedirect::OutputAndError(..));
                    previous = None;
                }
                Item::Word(word) | Item::AssignmentWord(_, word) => {
                    if cut {
                        let raw = format!("&> … {}", word.value);
                        self.unclear(Unclear::Dialect { raw });
                        cut = false;
                    }
                    previous = Some(word);
                }
                Item::ProcessSubstitution(..) => previous = None,
            }
        }
    }

    fn item(&mut self, item: &Item, parts: &mut Parts, place: &mut Place) {
        match item {
            Item::Word(raw) | Item::AssignmentWord(_, raw) => {
                let word = self.word(&raw.value, place);
                parts.words.push(word);
            }
            Item::ProcessSubstitution(kind, subshell) => {
                self.list(&subshell.list, &place.apart(Within::ProcessSubstitution));
                parts.words.push(Word {
                    text: None,
                    raw: format!("{kind}{subshell}"),
                });
            }
            Item::IoRedirect(redirect) => self.redirect(redirect, parts, place),
        }
    }

    /// Reads redirections of a compound command; gives the place inside.
    fn redirected(&mut self, list: Option<&ast::RedirectList>, place: &Place) -> Place {
        let mut parts = Parts::default();
        let mut place = place.clone();
        for redirect in list.map_or(&[][..], |list| &list.0) {
            self.redirect(redirect, &mut parts, &mut place);
        }
        self.script.redirections.append(&mut parts.redirections);
        place
    }

    fn redirect(&mut self, redirect: &ast::IoRedirect, parts: &mut Parts, place: &mut Place) {
        let (direction, target, fd) = match redirect {
            ast::IoRedirect::File(fd, kind, target) => {
                let (direction, usual) = direction(kind);
                let target = match target {
                    ast::IoFileRedirectTarget::Filename(raw)
                    | ast::IoFileRedirectTarget::Duplicate(raw) => self.word(&raw.value, place),
                    ast::IoFileRedirectTarget::Fd(fd) => Word::literal(&fd.to_string()),
                    ast::IoFileRedirectTarget::ProcessSubstitution(_, subshell) => {
                        self.list(&subshell.list, &place.apart(Within::ProcessSubstitution));
                        Word {
                            text: None,
                            raw: subshell.to_string(),
                        }
                    }
                };
                let to_file = direction == Direction::Dup && !is_descriptor(&target);
                let direction = match (to_file, usual) {
                    (true, 1) => Direction::Write,
                    (true, _) => Direction::Read,
                    (false, _) => direction,
                };
                (direction, target, Some(fd.unwrap_or(usual)))
            }
            ast::IoRedirect::OutputAndError(raw, append) => {
                let direction = if *append {
                    Direction::Append
                } else {
                    Direction::Write
                };
                (direction, self.word(&raw.value, place), None)
            }
            ast::IoRedirect::HereString(fd, raw) => {
                let word = self.word(&raw.value, place);
                (Direction::HereString, word, Some(fd.unwrap_or(0)))
            }
            ast::IoRedirect::HereDocument(fd, here) => {
                // Shells join lines before they look for the end, the grammar does it afterwards;
                // and they disagree about `$` in front of a quoted end.
                let end = &here.here_end.value;
                if self.continued || end.contains(['$', '`']) {
                    let raw = format!("<<{end}");
                    self.unclear(Unclear::Dialect { raw });
                }
                let target = if here.requires_expansion {
                    let reading = word::read_here(&here.doc.value);
                    self.reading(reading, place)
                } else {
                    Word::literal(&here.doc.value)
                };
                (Direction::HereDoc, target, Some(fd.unwrap_or(0)))
            }
        };
        if fd == Some(0) {
            place.input = match direction {
                Direction::HereDoc | Direction::HereString => Input::Text(target.text.clone()),
                Direction::Read
                | Direction::Write
                | Direction::Append
                | Direction::Clobber
                | Direction::ReadWrite
                | Direction::Dup => Input::Unknown,
            };
        }
        parts.redirections.push(Redirection {
            direction,
            target,
            fd,
            command: None,
        });
    }

    fn assignment(
        &mut self,
        assignment: &ast::Assignment,
        raw: &ast::Word,
        place: &Place,
    ) -> (String, Word) {
        let name = match &assignment.name {
            ast::AssignmentName::VariableName(name) => name.clone(),
            ast::AssignmentName::ArrayElementName(name, index) => {
                self.arithmetic(index, place);
                if is_evaluated(name) {
                    let raw = raw.value.clone();
                    self.unclear(Unclear::Evaluates { raw });
                }
                format!("{name}[{index}]")
            }
        };
        if is_evaluated(&name)
            || (is_integer(&name)
                && !matches!(&assignment.value, ast::AssignmentValue::Scalar(value)
                    if word::is_numeric(&value.value)))
        {
            let raw = raw.value.clone();
            self.unclear(Unclear::Evaluates { raw });
        }
        let value = match &assignment.value {
            ast::AssignmentValue::Scalar(value) => {
                let reading = word::read_value(&value.value);
                self.reading(reading, place)
            }
            ast::AssignmentValue::Array(elements) => {
                for (key, value) in elements {
                    let keyed = key
                        .as_ref()
                        .is_some_and(|key| !word::is_numeric(&key.value));
                    if keyed || value.value.starts_with('[') {
                        let raw = value.value.clone();
                        self.unclear(Unclear::Evaluates { raw });
                    }
                    for part in key.iter().chain([value]) {
                        self.word(&part.value, place);
                    }
                }
                Word {
                    text: None,
                    raw: raw.value.clone(),
                }
            }
        };
        (name, value)
    }

    fn word(&mut self, raw: &str, place: &Place) -> Word {
        self.reading(word::read(raw), place)
    }

    fn reading(&mut self, reading: Reading, place: &Place) -> Word {
        self.inner(reading.inner, &reading.word.raw, place);
        reading.word
    }

    fn inner(&mut self, inner: Vec<Inner>, raw: &str, place: &Place) {
        for one in inner {
            let raw = || raw.to_owned();
            match one {
                Inner::Commands(text) => self.nested(&text, &place.apart(Within::Substitution)),
                Inner::Evaluates => self.unclear(Unclear::Evaluates { raw: raw() }),
                Inner::Dialect => self.unclear(Unclear::Dialect { raw: raw() }),
                Inner::Open => self.unclear(Unclear::Unparsable {
                    reason: Refused::Syntax,
                }),
            }
        }
    }

    /// Runs what stands in it, and evaluates the values of what it names.
    fn arithmetic(&mut self, expression: &str, place: &Place) {
        if !word::is_numeric(expression) {
            let raw = expression.to_owned();
            self.unclear(Unclear::Evaluates { raw });
        }
        let inner = word::read_expression(expression);
        self.inner(inner, expression, place);
    }

    fn compound(&mut self, compound: &ast::CompoundCommand, place: &Place) {
        use ast::CompoundCommand as Kind;
        match compound {
            Kind::Arithmetic(arithmetic) => {
                self.arithmetic(&arithmetic.expr.value, place);
                // A POSIX shell runs this as a subshell in a subshell.
                let raw = arithmetic.to_string();
                self.unclear(Unclear::Dialect { raw });
            }
            Kind::ArithmeticForClause(clause) => {
                let parts = [&clause.initializer, &clause.condition, &clause.updater];
                for part in parts.into_iter().flatten() {
                    self.arithmetic(&part.value, place);
                }
                self.list(&clause.body.list, &place.inside(Within::Loop));
            }
            Kind::BraceGroup(group) => self.list(&group.list, &place.inside(Within::Group)),
            Kind::Subshell(subshell) => self.list(&subshell.list, &place.inside(Within::Subshell)),
            Kind::ForClause(clause) => {
                let name = &clause.variable_name;
                if is_evaluated(name) || is_integer(name) {
                    let raw = name.clone();
                    self.unclear(Unclear::Evaluates { raw });
                }
                for value in clause.values.iter().flatten() {
                    self.word(&value.value, place);
                }
                self.list(&clause.body.list, &place.inside(Within::Loop));
            }
            Kind::CaseClause(clause) => {
                self.word(&clause.value.value, place);
                for case in &clause.cases {
                    for pattern in &case.patterns {
                        self.word(&pattern.value, place);
                    }
                    if let Some(list) = &case.cmd {
                        self.list(list, &place.inside(Within::Branch));
                    }
                }
            }
            Kind::IfClause(clause) => {
                self.list(&clause.condition, &place.inside(Within::Condition));
                self.list(&clause.then, &place.inside(Within::Branch));
                for otherwise in clause.elses.iter().flatten() {
                    if let Some(condition) = &otherwise.condition {
                        self.list(condition, &place.inside(Within::Condition));
                    }
                    self.list(&otherwise.body, &place.inside(Within::Branch));
                }
            }
            Kind::WhileClause(clause) | Kind::UntilClause(clause) => {
                self.list(&clause.0, &place.inside(Within::Condition));
                self.list(&clause.1.list, &place.inside(Within::Loop));
            }
            Kind::Coprocess(coprocess) => {
                self.command(&coprocess.body, &place.apart(Within::Coprocess));
            }
        }
    }

    /// True when a POSIX shell, to which `[[` is a plain command, would do something else.
    fn test(&mut self, expression: &ast::ExtendedTestExpr, place: &Place) -> bool {
        use ast::ExtendedTestExpr as Test;
        match expression {
            Test::And(left, right) | Test::Or(left, right) => {
                self.test(left, place);
                self.test(right, place);
                true
            }
            Test::Not(inner) => self.test(inner, place),
            Test::Parenthesized(inner) => {
                self.test(inner, place);
                true
            }
            Test::UnaryTest(predicate, word) => {
                let word = self.word(&word.value, place);
                let of_variable = matches!(
                    predicate,
                    ast::UnaryPredicate::ShellVariableIsSetAndAssigned
                        | ast::UnaryPredicate::ShellVariableIsSetAndNameRef
                );
                if of_variable && word.text.is_none_or(|text| text.contains('[')) {
                    self.unclear(Unclear::Evaluates { raw: word.raw });
                }
                false
            }
            Test::BinaryTest(predicate, left, right) => {
                use ast::BinaryPredicate as Compare;
                let arithmetic = matches!(
                    predicate,
                    Compare::ArithmeticEqualTo
                        | Compare::ArithmeticNotEqualTo
                        | Compare::ArithmeticLessThan
                        | Compare::ArithmeticLessThanOrEqualTo
                        | Compare::ArithmeticGreaterThan
                        | Compare::ArithmeticGreaterThanOrEqualTo
                );
                for side in [left, right] {
                    let word = self.word(&side.value, place);
                    let numeric = word.text.as_deref().is_some_and(word::is_numeric);
                    if arithmetic && !numeric {
                        self.unclear(Unclear::Evaluates { raw: word.raw });
                    }
                }
                let compared = matches!(
                    predicate,
                    ast::BinaryPredicate::LeftSortsBeforeRight
                        | ast::BinaryPredicate::LeftSortsAfterRight
                );
                compared || right.value.contains(['|', '(', ';', '&'])
            }
        }
    }
}

/// What a simple command is made of.
#[derive(Default)]
struct Parts {
    words: Vec<Word>,
    assignments: Vec<(String, Word)>,
    redirections: Vec<Redirection>,
}

/// A line that goes on in the next one.
fn continued(text: &str) -> bool {
    text.contains("\\\n")
}

/// `{name}`, which before a redirection is a variable for its descriptor.
fn is_variable(word: &str) -> bool {
    let name = word
        .strip_prefix('{')
        .and_then(|word| word.strip_suffix('}'));
    name.is_some_and(|name| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// Variables whose values bash runs.
pub(crate) fn is_evaluated(name: &str) -> bool {
    matches!(
        name,
        "BASH_ALIASES" | "BASH_CMDS" | "PS0" | "PS1" | "PS2" | "PS4" | "PROMPT_COMMAND"
    )
}

/// Variables whose values bash takes for arithmetic.
pub(crate) fn is_integer(name: &str) -> bool {
    matches!(
        name,
        "RANDOM"
            | "SRANDOM"
            | "SECONDS"
            | "OPTIND"
            | "HISTCMD"
            | "LINENO"
            | "BASHPID"
            | "EPOCHSECONDS"
            | "EPOCHREALTIME"
            | "PPID"
            | "UID"
            | "EUID"
    )
}

fn is_descriptor(target: &Word) -> bool {
    let text = target.text.as_deref().unwrap_or_default();
    let digits = text.strip_suffix('-').unwrap_or(text);
    !text.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// What an operator does, and the descriptor it works on when none is written.
fn direction(kind: &ast::IoFileRedirectKind) -> (Direction, i32) {
    match kind {
        ast::IoFileRedirectKind::Read => (Direction::Read, 0),
        ast::IoFileRedirectKind::Write => (Direction::Write, 1),
        ast::IoFileRedirectKind::Append => (Direction::Append, 1),
        ast::IoFileRedirectKind::ReadAndWrite => (Direction::ReadWrite, 0),
        ast::IoFileRedirectKind::Clobber => (Direction::Clobber, 1),
        ast::IoFileRedirectKind::DuplicateInput => (Direction::Dup, 0),
        ast::IoFileRedirectKind::DuplicateOutput => (Direction::Dup, 1),
    }
}
