//! Builtins of bash that evaluate their arguments: a subscript is arithmetic, and `x[$(…)]` in it
//! runs even when it was quoted.

use crate::script::Word;
use crate::walk::{is_evaluated, is_integer};

/// May hold anything: an expansion, not only a pattern of file names.
fn is_dynamic(word: &Word) -> bool {
    word.text.is_none() && word.raw.contains(['$', '`', '<', '>'])
}

/// As a variable's name it may hold a subscript, or name a variable that steers the shell.
fn is_open_name(word: &Word) -> bool {
    is_dynamic(word)
        || word.text.as_deref().is_some_and(|text| {
            let name = text.split(['=', '+']).next().unwrap_or(text);
            name.contains('[') || is_evaluated(name) || is_integer(name) || name == "PATH"
        })
}

fn starts(word: &Word, options: &[char]) -> bool {
    word.text.as_deref().is_some_and(|text| {
        text.starts_with(['-', '+']) && !text.starts_with("--") && text.contains(options)
    })
}

/// Whether a builtin of this name evaluates what its arguments hold, or changes what names mean.
pub(super) fn evaluates(name: &str, arguments: &[Word]) -> bool {
    let any = |is: fn(&Word) -> bool| arguments.iter().any(is);
    match name {
        "test" | "[" => tests_variable(arguments),
        // `-v` is its only option.
        "printf" => arguments
            .first()
            .is_some_and(|first| starts(first, &['v']) || begins_dynamic(first)),
        "let" => !arguments.is_empty(),
        "declare" | "typeset" | "local" => {
            any(is_open_name) || any(|word| starts(word, &['i', 'n', 'A', 'a']))
        }
        "export" | "readonly" | "read" | "unset" | "mapfile" | "readarray" | "getopts" | "wait" => {
            any(is_open_name)
        }
        "hash" => any(is_dynamic) || any(|word| starts(word, &['p'])),
        "jobs" => any(is_dynamic) || any(|word| starts(word, &['x'])),
        "compgen" | "complete" | "bind" | "fc" => !arguments.is_empty(),
        _ => false,
    }
}

fn begins_dynamic(word: &Word) -> bool {
    word.text.is_none() && word.raw.trim_start_matches('"').starts_with(['$', '`'])
}

/// `-v NAME`, or words that may be that.
fn tests_variable(arguments: &[Word]) -> bool {
    let unquoted = |word: &Word| is_dynamic(word) && !word.raw.starts_with('"');
    let several = |word: &Word| is_dynamic(word) && word.raw.contains('@');
    let option = |word: &Word| {
        word.text
            .as_deref()
            .map_or_else(|| is_dynamic(word), |text| matches!(text, "-v" | "-R"))
    };
    let open = |word: &Word| {
        word.text
            .as_deref()
            .map_or_else(|| is_dynamic(word), |text| text.contains('['))
    };
    arguments.iter().any(|word| unquoted(word) || several(word))
        || arguments
            .windows(2)
            .any(|pair| matches!(pair, [first, second] if option(first) && open(second)))
}
