//! Colours for statements and policies. Nothing is decided by it: what it does not know is plain.

/// A piece of text and the class that its colour comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// `k` keyword, `s` string, `n` number, `c` comment, `p` parameter, or empty.
    pub(crate) class: &'static str,
    pub(crate) text: String,
}

/// Longest text that is coloured and shown; behind it stands how much is missing.
const CHARS_MAX: usize = 64 * 1024;

const KEYWORDS: &[&str] = &[
    "abort",
    "add",
    "all",
    "alter",
    "analyze",
    "and",
    "any",
    "as",
    "asc",
    "begin",
    "between",
    "by",
    "cascade",
    "case",
    "cast",
    "column",
    "commit",
    "constraint",
    "copy",
    "create",
    "cross",
    "database",
    "default",
    "delete",
    "desc",
    "distinct",
    "do",
    "drop",
    "else",
    "end",
    "except",
    "execute",
    "exists",
    "explain",
    "false",
    "fetch",
    "for",
    "forbid",
    "foreign",
    "from",
    "full",
    "function",
    "grant",
    "group",
    "has",
    "having",
    "if",
    "ilike",
    "in",
    "index",
    "inner",
    "insert",
    "intersect",
    "into",
    "is",
    "join",
    "key",
    "lateral",
    "left",
    "like",
    "limit",
    "lock",
    "not",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "over",
    "partition",
    "permit",
    "prepare",
    "primary",
    "references",
    "reset",
    "restrict",
    "returning",
    "revoke",
    "right",
    "role",
    "rollback",
    "schema",
    "select",
    "set",
    "show",
    "table",
    "then",
    "to",
    "true",
    "truncate",
    "union",
    "unique",
    "unless",
    "update",
    "using",
    "vacuum",
    "values",
    "view",
    "when",
    "where",
    "with",
];

/// Cuts a statement of any protocol (or a Cedar policy) into pieces.
pub(crate) fn pieces(text: &str) -> Vec<Piece> {
    let shown: String = text.chars().take(CHARS_MAX).collect();
    let mut pieces = Vec::new();
    let mut rest = shown.as_str();
    while let Some(first) = rest.chars().next() {
        let (class, length) = next(rest, first);
        let (piece, after) = rest.split_at(length.max(first.len_utf8()));
        push(&mut pieces, class, piece);
        rest = after;
    }
    let missing = text.len() - shown.len();
    if missing > 0 {
        push(&mut pieces, "c", &format!("\n… {missing} more bytes"));
    }
    pieces
}

/// Neighbours of one class become one piece.
fn push(pieces: &mut Vec<Piece>, class: &'static str, text: &str) {
    match pieces.last_mut() {
        Some(last) if last.class == class => last.text.push_str(text),
        Some(_) | None => pieces.push(Piece {
            class,
            text: text.to_owned(),
        }),
    }
}

fn next(rest: &str, first: char) -> (&'static str, usize) {
    let until = |end: &str| rest.find(end).unwrap_or(rest.len());
    match first {
        _ if rest.starts_with("--") || rest.starts_with("//") => ("c", until("\n")),
        _ if rest.starts_with("/*") => ("c", rest.find("*/").map_or(rest.len(), |at| at + 2)),
        '\'' | '"' => ("s", quoted(rest, first)),
        '$' if rest.starts_with("$$") => (
            "s",
            rest.get(2..)
                .and_then(|body| body.find("$$"))
                .map_or(rest.len(), |at| at + 4),
        ),
        '$' | '@' => ("p", 1 + word(rest.get(1..).unwrap_or_default())),
        '0'..='9' => ("n", number(rest)),
        _ if first.is_alphabetic() || first == '_' => {
            let length = word(rest);
            let name = rest.get(..length).unwrap_or_default().to_lowercase();
            let known = KEYWORDS.binary_search(&name.as_str()).is_ok();
            (if known { "k" } else { "" }, length)
        }
        _ => ("", first.len_utf8()),
    }
}

fn word(text: &str) -> usize {
    text.find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(text.len())
}

fn number(text: &str) -> usize {
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.'))
        .unwrap_or(text.len())
}

/// A doubled quote stays inside; so does what a backslash protects in a policy's strings.
fn quoted(text: &str, quote: char) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && quote == '"' {
            let _protected = chars.next();
        } else if c == quote {
            if chars.peek().is_some_and(|(_, next)| *next == quote) {
                let _doubled = chars.next();
            } else {
                return at + quote.len_utf8();
            }
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(text: &str) -> Vec<(&'static str, String)> {
        pieces(text)
            .into_iter()
            .filter(|piece| !piece.class.is_empty())
            .map(|piece| (piece.class, piece.text))
            .collect()
    }

    #[test]
    fn nothing_is_lost_or_added() {
        for text in [
            "",
            "select 'it''s', \"a\"\"b\", $1, 1.5e3 from t -- end",
            "$$ body $$ /* open",
            "'open",
            "$",
            "äöü 'ß' <script>",
            "permit (principal, action == A::\"x\\\"y\", resource);",
        ] {
            let whole: String = pieces(text).into_iter().map(|piece| piece.text).collect();
            assert_eq!(whole, text);
        }
    }

    #[test]
    fn words_strings_numbers_and_comments_have_their_colour() {
        assert!(KEYWORDS.is_sorted());
        let expected = [
            ("k", "DELETE"),
            ("k", "from"),
            ("k", "where"),
            ("n", "12"),
            ("k", "and"),
            ("s", "'x''y'"),
            ("p", "$1"),
            ("c", "-- why"),
        ];
        let found = classes("DELETE from ledger where id = 12 and a = 'x''y' or_b $1 -- why");
        let found: Vec<(&str, &str)> = found.iter().map(|(c, t)| (*c, t.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_huge_text_is_cut_and_says_so() {
        let shown = pieces(&"x".repeat(CHARS_MAX + 10));
        assert_eq!(shown.last().unwrap().text, "\n… 10 more bytes");
    }
}
