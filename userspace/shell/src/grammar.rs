//! The grammar crate behind guards: no text may overflow its stack, panic in it, or take it long.

use std::panic::{AssertUnwindSafe, catch_unwind};

use brush_parser::ast::Program;
use brush_parser::{ParserOptions, Token, TokenizerOptions, parse_tokens, uncached_tokenize_str};

use crate::script::Refused;
use crate::{DEPTH_MAX, TEXT_BYTES_MAX};

/// The tokenizer recurses on these and shows no depth; this many at once fit a small stack.
const EXPANSIONS_NESTED_MAX: usize = DEPTH_MAX;
/// Holds even where the depth is misjudged because of unusual quoting.
const EXPANSIONS_MAX: usize = 400;
/// The grammar recurses on these; holds even where a closing word is an argument.
const OPENINGS_MAX: usize = 200;
/// The last item of a `case` is read twice, so nested ones cost 2^n.
const CASES_MAX: usize = 8;
/// Open parentheses may be arithmetic, which costs 2^n to find out.
const PARENTHESES_NESTED_MAX: usize = 8;
/// Parentheses in `[[ … ]]` cost 2^n.
const TEST_PARENTHESES_MAX: usize = 6;
/// Brackets and expansions in a subscript are read recursively, and again on failure.
const SUBSCRIPT_PARTS_MAX: usize = 8;
/// The grammar keeps descriptors in 32 bits and does not expect more.
const DESCRIPTOR_DIGITS_MAX: usize = 9;

/// Reads a text.
///
/// # Errors
/// [`Refused`], also when the grammar crate itself fails.
pub(crate) fn program(text: &str) -> Result<Program, Refused> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Refused::TooLong);
    }
    if text.contains('\0') {
        return Err(Refused::Nul);
    }
    expansions(text)?;
    here_documents(text)?;
    // Its sources hold assertions; a bug in it must refuse the text, not end the flow.
    let parsed = catch_unwind(AssertUnwindSafe(|| guarded(text)));
    parsed.unwrap_or(Err(Refused::Syntax))
}

fn guarded(text: &str) -> Result<Program, Refused> {
    let options = ParserOptions {
        // Off in every shell that reads `-c`; with it on, `?(…)` would hide a subshell.
        enable_extended_globbing: false,
        ..ParserOptions::default()
    };
    let tokenizer = TokenizerOptions {
        enable_extended_globbing: false,
        ..options.tokenizer_options()
    };
    let tokens = uncached_tokenize_str(text, &tokenizer).map_err(|_| Refused::Syntax)?;
    structure(&tokens)?;
    parse_tokens(&tokens, &options).map_err(|_| Refused::Syntax)
}

/// Bounds how deep `$(`, `${` and `$[` nest, before the tokenizer recurses on them.
fn expansions(text: &str) -> Result<(), Refused> {
    let mut open: Vec<u8> = Vec::new();
    let (mut total, mut deepest) = (0usize, 0usize);
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        let top = open.last().copied();
        match byte {
            b'\\' if top != Some(b'\'') => {
                bytes.next();
            }
            b'\'' if top == Some(b'\'') => {
                open.pop();
            }
            _ if top == Some(b'\'') => {}
            b'\'' if top != Some(b'"') => open.push(b'\''),
            b'"' if top == Some(b'"') => {
                open.pop();
            }
            b'"' => open.push(b'"'),
            b'$' => {
                let close = match bytes.peek() {
                    Some(b'(') => b')',
                    Some(b'{') => b'}',
                    Some(b'[') => b']',
                    _ => continue,
                };
                bytes.next();
                total += 1;
                open.push(close);
            }
            b'(' if top == Some(b')') => open.push(b')'),
            _ if top == Some(byte) => {
                open.pop();
            }
            _ => {}
        }
        deepest = deepest.max(
            open.iter()
                .filter(|one| !matches!(one, b'\'' | b'"'))
                .count(),
        );
        if deepest > EXPANSIONS_NESTED_MAX {
            return Err(Refused::TooDeep);
        }
    }
    if total > EXPANSIONS_MAX {
        return Err(Refused::TooComplex);
    }
    Ok(())
}

/// Refuses a here-document whose end is an empty word (`<<''`): where the text ends on that line, the
/// tokenizer takes the same nothing for the end again and again, until memory is used up.
fn here_documents(text: &str) -> Result<(), Refused> {
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("<<") {
        rest = behind;
        if let Some(string) = behind.strip_prefix('<') {
            // A here-string, unless its first sign is escaped.
            let begins = !before.ends_with('\\');
            let second = text.len() - behind.len() - 1;
            rest = if begins {
                string
            } else {
                text.get(second..).unwrap_or_default()
            };
            continue;
        }
        let word = behind.strip_prefix('-').unwrap_or(behind);
        let word = word.trim_start_matches([' ', '\t']);
        let end = word.find([' ', '\t', '\n', ';', '&', '|', '<', '>', '(', ')']);
        let word = end.map_or(word, |end| word.get(..end).unwrap_or_default());
        let says_nothing = |c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '\\' | '$');
        if !word.is_empty() && word.chars().all(says_nothing) {
            return Err(Refused::TooComplex);
        }
    }
    Ok(())
}

fn operator(token: &Token) -> Option<&str> {
    match token {
        Token::Operator(text, _) => Some(text),
        Token::Word(..) => None,
    }
}

/// Bounds nesting and backtracking by the tokens, before the grammar recurses on them.
fn structure(tokens: &[Token]) -> Result<(), Refused> {
    let (mut depth, mut openings, mut cases) = (0usize, 0usize, 0usize);
    let mut parentheses = 0usize;
    let mut in_test: Option<usize> = None;
    let mut starts = true;
    let mut previous: Option<&Token> = None;
    for token in tokens {
        let mut opened = false;
        match token {
            Token::Operator(text, _) => {
                if let Some(word) = previous
                    && text.starts_with(['<', '>'])
                {
                    descriptor(word)?;
                }
                match text.as_str() {
                    "(" => {
                        parentheses += 1;
                        opened = true;
                        in_test = in_test.map(|count| count + 1);
                    }
                    ")" => {
                        depth = depth.saturating_sub(usize::from(parentheses > 0));
                        parentheses = parentheses.saturating_sub(1);
                    }
                    _ => {}
                }
                starts = !text.starts_with(['<', '>']);
            }
            Token::Word(text, _) => {
                subscript(text)?;
                let role = role(text);
                opened = starts && role == Role::Opens;
                depth = depth.saturating_sub(usize::from(starts && role == Role::Closes));
                starts = match role {
                    Role::Opens | Role::Joins => starts,
                    Role::Closes => false,
                    Role::None => previous.is_some_and(keeps_start),
                };
                cases += usize::from(text == "case");
                match text.as_str() {
                    "[[" => in_test = Some(0),
                    "]]" => {
                        depth = depth.saturating_sub(usize::from(in_test.is_some()));
                        in_test = None;
                    }
                    _ => {}
                }
            }
        }
        // These nest without a closing word of their own.
        let nests = opened && !matches!(token.to_str(), "!" | "function" | "coproc");
        depth += usize::from(nests);
        openings += usize::from(opened);
        if depth > DEPTH_MAX {
            return Err(Refused::TooDeep);
        }
        let complex = openings > OPENINGS_MAX
            || cases > CASES_MAX
            || parentheses > PARENTHESES_NESTED_MAX
            || in_test.is_some_and(|count| count > TEST_PARENTHESES_MAX);
        if complex {
            return Err(Refused::TooComplex);
        }
        previous = Some(token);
    }
    // An arithmetic attempt costs 2^n on parentheses that nothing closes.
    if parentheses > 0 {
        return Err(Refused::Syntax);
    }
    Ok(())
}

/// What a word is to the structure where a command may start.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Opens,
    Joins,
    Closes,
    None,
}

fn role(word: &str) -> Role {
    match word {
        "if" | "while" | "until" | "for" | "{" | "[[" | "case" | "function" | "coproc" | "!" => {
            Role::Opens
        }
        "then" | "else" | "elif" | "do" | "time" => Role::Joins,
        "fi" | "done" | "esac" | "}" => Role::Closes,
        _ => Role::None,
    }
}

/// After these the next word may still open a compound command: `function name {`.
fn keeps_start(token: &Token) -> bool {
    operator(token).is_none() && matches!(token.to_str(), "function" | "coproc")
}

/// Bounds what the grammar reads as the subscript of an assignment, `name[…`.
fn subscript(word: &str) -> Result<(), Refused> {
    let name = word.split('[').next().unwrap_or_default();
    let named = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.len() == word.len() || name.is_empty() || !name.chars().all(named) {
        return Ok(());
    }
    let parts = word.matches(['[', '(', '{', '"', '`', '$']).count();
    if parts > SUBSCRIPT_PARTS_MAX {
        return Err(Refused::TooComplex);
    }
    Ok(())
}

/// Refuses a number before a redirection that the grammar's integer does not hold.
fn descriptor(word: &Token) -> Result<(), Refused> {
    let Token::Word(text, _) = word else {
        return Ok(());
    };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits && (text.is_empty() || text.len() > DESCRIPTOR_DIGITS_MAX) {
        return Err(Refused::Syntax);
    }
    Ok(())
}
