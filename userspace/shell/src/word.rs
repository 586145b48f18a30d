//! Words: quote removal for literals, and the command texts that expansions hold.

use std::iter::Peekable;
use std::str::CharIndices;

use crate::script::Word;

/// A word, and what its expansions would do.
pub(crate) struct Reading {
    pub(crate) word: Word,
    pub(crate) inner: Vec<Inner>,
}

/// Something inside a word that runs or evaluates.
pub(crate) enum Inner {
    /// The text of a command substitution.
    Commands(String),
    /// `${x@P}`, or arithmetic on something else than numbers: bash runs the substitutions in the
    /// values of the variables that it names.
    Evaluates,
    /// Bash and a plain POSIX shell end the quotation at different places.
    Dialect,
    /// An expansion without an end.
    Open,
}

/// Reads a word of a command.
pub(crate) fn read(raw: &str) -> Reading {
    let mut reader = Reader::new(raw);
    reader.unquoted();
    reader.finish(raw)
}

/// Reads the value of an assignment, where a tilde also expands after a colon.
pub(crate) fn read_value(raw: &str) -> Reading {
    let mut reading = read(raw);
    if raw.contains(":~") {
        reading.word.text = None;
    }
    reading
}

/// Reads the body of a here-document whose delimiter is not quoted.
pub(crate) fn read_here(raw: &str) -> Reading {
    let mut reader = Reader::new(raw);
    reader.double_quoted(None);
    reader.finish(raw)
}

/// Reads an arithmetic expression or a subscript: only what runs in it counts.
pub(crate) fn read_expression(raw: &str) -> Vec<Inner> {
    read_here(raw).inner
}

/// Whether arithmetic holds numbers and operators only. A variable's value is an expression of its
/// own to bash, and `x[$(…)]` in it runs.
pub(crate) fn is_numeric(expression: &str) -> bool {
    expression
        .chars()
        .all(|c| c.is_ascii_digit() || " \t\n+-*/%()<>=!&|^~?:,".contains(c))
}

/// Whether an expansion evaluates what its text does not show: what stands between `${` and `}`.
fn evaluates(text: &str) -> bool {
    // Commands of newer shells, names that come from values, and nothing at all.
    if text == "!" {
        return false;
    }
    if text.is_empty() || text.starts_with([' ', '\t', '\n', '|', '(', '!']) {
        return true;
    }
    let text = text
        .strip_prefix('#')
        .filter(|rest| !rest.is_empty())
        .unwrap_or(text);
    let named = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = text.trim_start_matches(named);
    if rest.len() == text.len() {
        let mut chars = text.chars();
        chars.next();
        rest = chars.as_str();
    }
    if let Some(subscript) = rest.strip_prefix('[') {
        let Some((subscript, after)) = subscript.split_once(']') else {
            return true;
        };
        if !matches!(subscript, "@" | "*") && !is_numeric(subscript) {
            return true;
        }
        rest = after;
    }
    if let Some(operator) = rest.strip_prefix('@') {
        return operator.contains('P');
    }
    if let Some(offset) = rest.strip_prefix(':') {
        return !offset.starts_with(['-', '=', '?', '+']) && !is_numeric(offset);
    }
    // The grammar takes blanks out, so that `${ rm x; }` may come as `${rm x;}`.
    !rest.is_empty() && !rest.starts_with(['-', '=', '?', '+', '#', '%', '/', '^', ','])
}

/// Quotes a word for a POSIX shell.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

struct Reader<'a> {
    raw: &'a str,
    chars: Peekable<CharIndices<'a>>,
    text: String,
    literal: bool,
    inner: Vec<Inner>,
}

impl<'a> Reader<'a> {
    fn new(raw: &'a str) -> Self {
        Self {
            raw,
            chars: raw.char_indices().peekable(),
            text: String::new(),
            literal: true,
            inner: Vec::new(),
        }
    }

    fn finish(self, raw: &str) -> Reading {
        let text = self.literal.then_some(self.text);
        Reading {
            word: Word {
                text,
                raw: raw.to_owned(),
            },
            inner: self.inner,
        }
    }

    fn next(&mut self) -> Option<char> {
        self.chars.next().map(|(_, c)| c)
    }

    fn peek(&mut self) -> Option<char> {
        self.chars.peek().map(|(_, c)| *c)
    }

    fn position(&mut self) -> usize {
        self.chars.peek().map_or(self.raw.len(), |(at, _)| *at)
    }

    fn open(&mut self) {
        self.literal = false;
        self.inner.push(Inner::Open);
    }

    fn unquoted(&mut self) {
        let (mut bracket, mut brace, mut listed) = (false, false, false);
        let mut last = '\0';
        while let Some(c) = self.next() {
            match c {
                '\\' => match self.next() {
                    Some('\n') => {}
                    Some(escaped) => self.text.push(escaped),
                    None => self.text.push('\\'),
                },
                '\'' => self.single_quoted(),
                '"' => self.double_quoted(Some('"')),
                '`' => self.backquoted(false),
                '$' if self.peek() == Some('\'') => self.ansi_quoted(),
                '$' => self.dollar(false),
                '*' | '?' => self.literal = false,
                '~' if self.text.is_empty() && last == '\0' => self.literal = false,
                other => {
                    match other {
                        '[' => bracket = true,
                        ']' if bracket => self.literal = false,
                        '{' => brace = true,
                        ',' => listed |= brace,
                        '.' if last == '.' => listed |= brace,
                        '}' if listed => self.literal = false,
                        _ => {}
                    }
                    self.text.push(other);
                }
            }
            last = c;
        }
    }

    fn single_quoted(&mut self) {
        loop {
            match self.next() {
                Some('\'') => return,
                Some(c) => self.text.push(c),
                None => return self.open(),
            }
        }
    }

    /// Up to `end`, or to the end of the text when there is none (a here-document).
    fn double_quoted(&mut self, end: Option<char>) {
        loop {
            match self.next() {
                None => {
                    if end.is_some() {
                        self.open();
                    }
                    return;
                }
                Some(c) if Some(c) == end => return,
                Some('\\') => match self.peek() {
                    Some(c) if matches!(c, '$' | '`' | '\\') || Some(c) == end => {
                        self.text.push(c);
                        self.next();
                    }
                    Some('\n') => {
                        self.next();
                    }
                    _ => self.text.push('\\'),
                },
                Some('`') => self.backquoted(end.is_some()),
                Some('$') => self.dollar(true),
                Some(c) => self.text.push(c),
            }
        }
    }

    /// After `` ` ``.
    fn backquoted(&mut self, in_quotes: bool) {
        self.literal = false;
        let mut text = String::new();
        loop {
            match self.next() {
                None => return self.open(),
                Some('`') => break,
                Some('\\') => match self.next() {
                    Some(c) if matches!(c, '$' | '`' | '\\') || (in_quotes && c == '"') => {
                        text.push(c);
                    }
                    Some(c) => text.extend(['\\', c]),
                    None => return self.open(),
                },
                Some(c) => text.push(c),
            }
        }
        self.inner.push(Inner::Commands(text));
    }

    /// After `$`, before what it expands.
    fn dollar(&mut self, in_quotes: bool) {
        match self.peek() {
            Some('(') => {
                self.next();
                self.parentheses();
            }
            Some('{') => {
                self.next();
                self.braces(in_quotes);
            }
            Some('[') => {
                self.next();
                self.brackets();
            }
            Some('"') if !in_quotes => self.literal = false,
            Some(c) if c.is_ascii_alphanumeric() || "_@*#?-$!".contains(c) => {
                self.literal = false;
                self.next();
                let named = c.is_ascii_alphabetic() || c == '_';
                while named
                    && self
                        .peek()
                        .is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
                {
                    self.next();
                }
            }
            _ => self.text.push('$'),
        }
    }

    /// After `$(`: an arithmetic expression when the text closes with `))` and nothing between.
    fn parentheses(&mut self) {
        self.literal = false;
        let start = self.position();
        let mut depth = 1usize;
        let mut at_word = true;
        let mut last_inner_close = None;
        while let Some((at, c)) = self.chars.next() {
            match c {
                '\\' => {
                    self.next();
                }
                '\'' => self.skip_to('\'', false),
                '"' => self.skip_to('"', true),
                '`' => self.skip_to('`', true),
                '#' if at_word => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.next();
                    }
                }
                '(' => depth += 1,
                ')' => {
                    depth -= 1;
                    if depth == 0 {
                        let text = self.raw.get(start..at).unwrap_or_default();
                        self.substitution(text, last_inner_close == Some(at - 1));
                        return;
                    }
                    if depth == 1 {
                        last_inner_close = last_inner_close.or(Some(at));
                    }
                }
                _ => {}
            }
            at_word = c.is_whitespace() || "();|&".contains(c);
        }
        self.open();
    }

    fn substitution(&mut self, text: &str, closes_twice: bool) {
        let arithmetic = text.strip_prefix('(').filter(|_| closes_twice);
        match arithmetic.and_then(|text| text.strip_suffix(')')) {
            Some(expression) => self.expression(expression),
            None => self.inner.push(Inner::Commands(text.to_owned())),
        }
    }

    fn expression(&mut self, expression: &str) {
        if !is_numeric(expression) {
            self.inner.push(Inner::Evaluates);
        }
        self.inner.extend(read_expression(expression));
    }

    /// Skips a quotation inside a substitution, whose text is read again later. Substitutions inside
    /// it may hold quotes of their own.
    fn skip_to(&mut self, end: char, escapes: bool) {
        let mut nested = 0usize;
        while let Some(c) = self.next() {
            match c {
                '\\' if escapes => {
                    self.next();
                }
                '$' if escapes && end == '"' && self.peek() == Some('(') => {
                    self.next();
                    nested += 1;
                }
                '(' if nested > 0 => nested += 1,
                ')' if nested > 0 => nested -= 1,
                c if c == end && nested == 0 => return,
                _ => {}
            }
        }
    }

    /// After `${`.
    fn braces(&mut self, in_quotes: bool) {
        self.literal = false;
        let start = self.position();
        let mut depth = 1usize;
        while let Some((at, c)) = self.chars.next() {
            match c {
                '\\' => {
                    self.next();
                }
                '\'' if !in_quotes => self.skip_to('\'', false),
                '{' => depth += 1,
                '}' => {
                    depth -= 1;
                    if depth == 0 {
                        let text = self.raw.get(start..at).unwrap_or_default();
                        if evaluates(text) {
                            self.inner.push(Inner::Evaluates);
                        }
                        self.inner.extend(read_expression(text));
                        return;
                    }
                }
                _ => {}
            }
        }
        self.open();
    }

    /// After `$[`, bash's old arithmetic; to a POSIX shell these are plain characters, so an
    /// operator in it is one of the command line.
    fn brackets(&mut self) {
        self.literal = false;
        let rest = self.raw.get(self.position()..).unwrap_or_default();
        let end = rest.find(']').unwrap_or(rest.len());
        let expression = rest.get(..end).unwrap_or_default();
        if expression.contains([' ', '\t', '\n', '<', '>', '&', '|', ';', '(', ')', '#']) {
            self.inner.push(Inner::Dialect);
        }
        self.expression(expression);
        while self.next().is_some_and(|c| c != ']') {}
    }

    /// After `$`, before `'`.
    fn ansi_quoted(&mut self) {
        self.next();
        let mut bytes = Vec::new();
        loop {
            match self.next() {
                None => return self.open(),
                Some('\'') => break,
                Some('\\') => match self.next() {
                    None => return self.open(),
                    Some(c) => self.ansi_escape(c, &mut bytes),
                },
                Some(c) => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
        match String::from_utf8(bytes) {
            Ok(text) if !text.contains('\0') => self.text.push_str(&text),
            // Bash cuts the text at a NUL; bytes that are no text have no literal form here.
            _ => self.literal = false,
        }
    }

    fn ansi_escape(&mut self, c: char, bytes: &mut Vec<u8>) {
        let byte = match c {
            'a' => 7,
            'b' => 8,
            'e' | 'E' => 27,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '"' | '?' => c as u8,
            '\'' => {
                self.inner.push(Inner::Dialect);
                b'\''
            }
            'x' => return self.code(16, 2, None, bytes),
            'u' => return self.code(16, 4, Some('u'), bytes),
            'U' => return self.code(16, 8, Some('U'), bytes),
            '0'..='7' => return self.code(8, 2, Some(c), bytes),
            'c' => {
                let control = self.next().filter(char::is_ascii);
                self.literal &= control.is_some_and(|c| c != '\\');
                control.map_or(0, |c| (c as u8) & 0x1f)
            }
            other => {
                bytes.push(b'\\');
                bytes.extend(other.encode_utf8(&mut [0; 4]).bytes());
                return;
            }
        };
        bytes.push(byte);
    }

    /// A code of at most `digits_max` digits; `kind` is `u`, `U`, or a first octal digit.
    fn code(&mut self, radix: u32, digits_max: usize, kind: Option<char>, bytes: &mut Vec<u8>) {
        let first = kind.and_then(|c| c.to_digit(8));
        let (mut value, mut digits) = (first.unwrap_or(0), 0);
        while digits < digits_max {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(radix)) else {
                break;
            };
            self.next();
            value = value.wrapping_mul(radix).wrapping_add(digit);
            digits += 1;
        }
        let wide = matches!(kind, Some('u' | 'U'));
        match char::from_u32(value).filter(|_| wide && digits > 0) {
            Some(c) => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            None if wide || (digits == 0 && first.is_none()) => self.literal = false,
            None => bytes.push((value & 0xff) as u8),
        }
    }
}
