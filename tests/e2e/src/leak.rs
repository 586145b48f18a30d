//! What tier `leak` compares: statements, and the answers that came back byte for byte.
//!
//! A statement is run in two worlds that differ in masked values only. Directly, its answers must
//! differ, else it would show nothing; through Weir they must be the same, whatever the statement does
//! to the values.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// One or several statements that are run one after the other.
#[derive(Clone, Debug)]
pub struct Case {
    /// File and number.
    pub name: String,
    pub statements: Vec<String>,
}

/// Reads the corpus. A line is a case; ` ;; ` separates its statements. `-- for X in a b` repeats the
/// lines behind it for each word (quotes hold blanks together), `-- once` ends that.
///
/// # Errors
/// When a file cannot be read.
pub fn corpus() -> Result<Vec<Case>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../leak/corpus");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .context("the corpus")?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let stem = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut words = vec![String::new()];
        for (number, line) in text.lines().enumerate() {
            if let Some(list) = line.strip_prefix("-- for X in ") {
                words = unquoted(list);
            } else if line == "-- once" {
                words = vec![String::new()];
            } else if !line.starts_with("--") && !line.trim().is_empty() {
                for word in &words {
                    let statement = replaced(line.trim_end_matches(';'), word);
                    let statements = statement.split(" ;; ").map(str::to_owned).collect();
                    let name = format!("{stem}:{} {word}", number + 1)
                        .trim_end()
                        .to_owned();
                    cases.push(Case { name, statements });
                }
            }
        }
    }
    Ok(cases)
}

fn unquoted(list: &str) -> Vec<String> {
    let parts = list.split('"').enumerate();
    parts
        .flat_map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

/// `X` as a word of its own.
fn replaced(line: &str, word: &str) -> String {
    if word.is_empty() {
        return line.to_owned();
    }
    let mut out = String::new();
    let mut before = ' ';
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        let alone = !before.is_alphanumeric()
            && before != '_'
            && !rest
                .peek()
                .is_some_and(|next| next.is_alphanumeric() || *next == '_');
        if c == 'X' && alone {
            out.push_str(word);
        } else {
            out.push(c);
        }
        before = c;
    }
    out
}

type Row = Vec<Option<Vec<u8>>>;

/// What came back for one case in one mode.
#[derive(Debug, Default)]
pub struct Answer {
    /// Everything, as it came.
    pub raw: Vec<u8>,
    /// Of results and of COPY.
    pub rows: Vec<Row>,
    /// SQLSTATEs.
    pub errors: Vec<String>,
    /// Messages without what differs from run to run.
    told: Vec<Vec<u8>>,
    /// The connection ended.
    pub lost: bool,
    /// There was more than the client reads; it ended the connection.
    pub large: bool,
}

/// Answers by case and mode.
pub type Answers = BTreeMap<(String, String), Answer>;

/// Reads the lines of `tests/python/leak_client.py`.
///
/// # Errors
/// When a line is not what that program prints.
pub fn answers(lines: &str) -> Result<Answers> {
    let mut found = Answers::new();
    for line in lines.lines() {
        let value: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let large = value["large"].is_string();
        let mut answer = Answer {
            lost: large || value["lost"].is_string(),
            large,
            ..Answer::default()
        };
        if !answer.lost {
            answer.raw = unhexed(&text("hex"))?;
            read(&mut answer)?;
        }
        found.insert((text("case"), text("mode")), answer);
    }
    Ok(found)
}

fn unhexed(text: &str) -> Result<Vec<u8>> {
    let pair = |at: usize| u8::from_str_radix(text.get(at..at + 2).unwrap_or("?"), 16);
    (0..text.len()).step_by(2).map(|at| Ok(pair(at)?)).collect()
}

fn read(answer: &mut Answer) -> Result<()> {
    let raw = answer.raw.clone();
    let mut rest = raw.as_slice();
    let mut copying = Copying::default();
    while !rest.is_empty() {
        let (tag, length) = (rest[0], word(rest, 1)? as usize);
        let body = rest.get(5..length + 1).context("a whole message")?;
        rest = rest.get(length + 1..).unwrap_or_default();
        match tag {
            b'D' => answer.rows.push(cells(body)?),
            b'd' => {
                let row = copied(body, &copying)?;
                answer.rows.extend(row);
            }
            b'H' => {
                let count = body.get(1..3).context("a number of columns")?;
                copying = Copying {
                    binary: body.first() == Some(&1),
                    columns: usize::from(u16::from_be_bytes(count.try_into()?)),
                };
            }
            b'T' => answer.told.push(description(body)?),
            b'E' | b'N' => {
                let fields: Vec<&[u8]> = body.split(|byte| *byte == 0).collect();
                if tag == b'E' {
                    let code = fields.iter().find(|field| field.first() == Some(&b'C'));
                    let code = code.and_then(|field| field.get(1..)).unwrap_or_default();
                    answer
                        .errors
                        .push(String::from_utf8_lossy(code).into_owned());
                }
                let kept = fields
                    .iter()
                    .filter(|field| !matches!(field.first(), Some(b'F' | b'L' | b'R')))
                    .map(|field| without_session(field));
                answer.told.push(kept.collect::<Vec<_>>().join(&0));
            }
            // The process behind it differs.
            b'A' => answer.told.push(body.get(4..).unwrap_or_default().to_vec()),
            _ => answer.told.push([&[tag], body].concat()),
        }
    }
    Ok(())
}

/// Refusals name the session.
fn without_session(field: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(field);
    let at = text.find("session ").unwrap_or(text.len());
    text.as_bytes().get(..at).unwrap_or_default().to_vec()
}

fn word(bytes: &[u8], at: usize) -> Result<i32> {
    let four = bytes.get(at..at + 4).context("four bytes")?;
    Ok(i32::from_be_bytes(four.try_into()?))
}

/// Names, types and formats; OIDs of temporary tables differ.
fn description(body: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = body.get(2..).context("a description")?;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == 0).context("a name")?;
        out.extend_from_slice(rest.get(..=end).unwrap_or_default());
        rest = rest.get(end + 1..).unwrap_or_default();
        out.extend_from_slice(rest.get(6..18).context("a column")?);
        rest = rest.get(18..).unwrap_or_default();
    }
    Ok(out)
}

fn cells(body: &[u8]) -> Result<Row> {
    let mut row = Vec::new();
    let mut at = 2;
    while at < body.len() {
        let length = word(body, at)?;
        at += 4;
        row.push(if length < 0 {
            None
        } else {
            let cell = body.get(at..at + length as usize).context("a cell")?;
            at += cell.len();
            Some(cell.to_vec())
        });
    }
    Ok(row)
}

/// What CopyOutResponse says of the rows that follow.
#[derive(Default)]
struct Copying {
    binary: bool,
    columns: usize,
}

/// A row of COPY. Which text format it has is not said: it is the one that gives as many fields as
/// there are columns.
fn copied(body: &[u8], copying: &Copying) -> Result<Option<Row>> {
    const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
    if copying.binary {
        let rows = match body.strip_prefix(SIGNATURE) {
            Some(rest) => rest.get(8..).context("a header")?,
            None => body,
        };
        let end = rows.is_empty() || rows == [0xff, 0xff];
        return if end { Ok(None) } else { cells(rows).map(Some) };
    }
    let line = body.strip_suffix(b"\n").unwrap_or(body);
    let fields = [b'\t', b'|']
        .into_iter()
        .map(|delimiter| unescaped(line, delimiter))
        .chain([b';', b','].map(|delimiter| unquoted_csv(line, delimiter)))
        .find(|fields| fields.len() == copying.columns)
        .with_context(|| format!("a row of {} columns: {line:?}", copying.columns))?;
    Ok(Some(fields.into_iter().map(Some).collect()))
}

/// Fields of the text format; a backslash that was doubled is one again, and one before a delimiter
/// says that it is part of the value.
fn unescaped(line: &[u8], delimiter: u8) -> Vec<Vec<u8>> {
    let mut fields = Vec::new();
    let mut field = Vec::new();
    let mut bytes = line.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == delimiter {
            fields.push(std::mem::take(&mut field));
            continue;
        }
        let escaped = (byte == b'\\')
            .then(|| bytes.next_if(|next| *next == b'\\' || *next == delimiter))
            .flatten();
        field.push(escaped.unwrap_or(byte));
    }
    fields.push(field);
    fields
}

/// Fields of CSV with double quotes.
fn unquoted_csv(line: &[u8], delimiter: u8) -> Vec<Vec<u8>> {
    let mut fields = Vec::new();
    let mut field = Vec::new();
    let mut quoted = false;
    let mut before = 0;
    for byte in line {
        match byte {
            b'"' => {
                // The second one of a pair stands for itself.
                if !quoted && before == b'"' {
                    field.push(b'"');
                }
                quoted = !quoted;
            }
            byte if *byte == delimiter && !quoted => fields.push(std::mem::take(&mut field)),
            byte => field.push(*byte),
        }
        before = *byte;
    }
    fields.push(field);
    fields
}

impl Answer {
    /// Values that a mask leaves different in the two worlds on purpose: digests and tokens.
    #[must_use]
    pub fn values(&self) -> BTreeSet<Vec<u8>> {
        let cells = self.rows.iter().flat_map(|row| row.iter().skip(1));
        cells
            .flatten()
            .filter(|cell| cell.len() > 3)
            .cloned()
            .collect()
    }

    /// Whether both show the same, but for `tokens`.
    #[must_use]
    pub fn same(&self, other: &Self, tokens: &BTreeSet<Vec<u8>>) -> bool {
        let plain = |rows: &[Row]| -> Vec<Row> {
            let plain = |cell: &Option<Vec<u8>>| match cell {
                Some(bytes) if tokens.contains(bytes) => Some(b"token".to_vec()),
                other => other.clone(),
            };
            rows.iter()
                .map(|row| row.iter().map(plain).collect())
                .collect()
        };
        self.told == other.told && plain(&self.rows) == plain(&other.rows)
    }

    /// The first message of Weir's own.
    #[must_use]
    pub fn refusal(&self) -> String {
        let texts = self.told.iter().map(|told| String::from_utf8_lossy(told));
        let of = |text: &str| {
            let (_, message) = text.split_once("Mweir: ")?;
            message.split('\0').next().map(str::to_owned)
        };
        texts
            .filter_map(|text| of(&text))
            .next()
            .unwrap_or_default()
    }

    /// The first of what is told that is not the same, else of the rows.
    #[must_use]
    pub fn apart(&self, other: &Self) -> String {
        let shown = |told: &[Vec<u8>]| -> Vec<String> {
            told.iter()
                .map(|bytes| String::from_utf8_lossy(bytes).replace('\0', " "))
                .collect()
        };
        let (mine, theirs) = (shown(&self.told), shown(&other.told));
        if let Some((mine, theirs)) = mine
            .iter()
            .zip(&theirs)
            .find(|(mine, theirs)| mine != theirs)
        {
            return format!("{mine:?} and {theirs:?}");
        }
        if let Some((mine, theirs)) = self
            .rows
            .iter()
            .zip(&other.rows)
            .find(|(mine, theirs)| mine != theirs)
        {
            let shown = |row: &Row| -> Vec<String> {
                row.iter()
                    .map(|cell| {
                        String::from_utf8_lossy(cell.as_deref().unwrap_or(b"NULL")).into_owned()
                    })
                    .collect()
            };
            return format!("{:?} and {:?}", shown(mine), shown(theirs));
        }
        format!(
            "{} and {} messages, {} and {} rows",
            mine.len(),
            theirs.len(),
            self.rows.len(),
            other.rows.len()
        )
    }

    /// The first row and column where this differs from a direct answer although no masked value is
    /// there; which columns have one is seen by comparing the two worlds.
    #[must_use]
    pub fn changed(&self, direct: &Self, other_world: &Self) -> Option<String> {
        if self.rows.len() != direct.rows.len() {
            return Some(format!(
                "{} rows instead of {}",
                self.rows.len(),
                direct.rows.len()
            ));
        }
        let mut secret = BTreeSet::new();
        for (a, b) in direct.rows.iter().zip(&other_world.rows) {
            let differ = a.iter().zip(b).enumerate().filter(|(_, (a, b))| a != b);
            secret.extend(differ.map(|(at, _)| (a.len(), at)));
        }
        for (number, (mine, theirs)) in self.rows.iter().zip(&direct.rows).enumerate() {
            if mine.len() != theirs.len() {
                return Some(format!("row {number} has {} columns", mine.len()));
            }
            for (at, (mine, theirs)) in mine.iter().zip(theirs).enumerate() {
                if mine != theirs && !secret.contains(&(direct.rows[number].len(), at)) {
                    let shown = |cell: &Option<Vec<u8>>| {
                        cell.as_ref()
                            .map(|cell| String::from_utf8_lossy(cell).into_owned())
                    };
                    return Some(format!(
                        "row {number}, column {at}: {:?} instead of {:?}",
                        shown(mine),
                        shown(theirs)
                    ));
                }
            }
        }
        None
    }
}

/// The forms in which a value is looked for.
#[must_use]
pub fn forms(value: &str) -> Vec<Vec<u8>> {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
    let reversed: String = value.chars().rev().collect();
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![
        value.to_owned(),
        value.to_lowercase(),
        value.to_uppercase(),
        reversed,
        hex.to_uppercase(),
        hex,
    ];
    // Whatever stands before it: base64 has three alignments, of which the ends are uncertain.
    for skipped in 0..3 {
        let text = engine.encode(["xxx".get(..skipped).unwrap_or_default(), value].concat());
        forms.extend(text.get(4..text.len().saturating_sub(4)).map(str::to_owned));
    }
    forms
        .into_iter()
        .filter(|form| form.len() > 5)
        .map(String::into_bytes)
        .collect()
}

/// Looks for any of `needles`.
#[must_use]
pub fn found<'n>(hay: &[u8], needles: &'n [Vec<u8>]) -> Option<&'n [u8]> {
    let heads: BTreeSet<&[u8]> = needles
        .iter()
        .filter_map(|needle| needle.get(..4))
        .collect();
    for at in 0..hay.len().saturating_sub(3) {
        let rest = hay.get(at..).unwrap_or_default();
        if rest.get(..4).is_some_and(|head| heads.contains(head))
            && let Some(needle) = needles.iter().find(|needle| rest.starts_with(needle))
        {
            return Some(needle);
        }
    }
    None
}

/// Counts of one run.
#[derive(Debug, Default)]
pub struct Report {
    pub statements: usize,
    pub runs: usize,
    pub shown_directly: usize,
    pub returned: usize,
    pub refused: BTreeSet<String>,
    pub silent: Vec<String>,
    pub changed: Vec<String>,
    pub leaked: Vec<String>,
}

impl Report {
    /// Where the tier wants to read it.
    #[must_use]
    pub fn path() -> Option<String> {
        std::env::var("WEIR_LEAK_REPORT").ok()
    }

    /// As the tier prints it.
    #[must_use]
    pub fn text(&self) -> String {
        let list = |title: &str, names: &mut dyn Iterator<Item = &String>| {
            names.fold(String::new(), |text, name| {
                format!("{text}  {title}: {name}\n")
            })
        };
        format!(
            "statements {}, runs {} (simple, simple with a binary cursor, extended in text and binary)\n\
             canary seen directly {}\nreturned rows through Weir {} ({:.1} %)\nrefused {}\n\
             other columns changed {}\nleaked {}\n{}{}{}{}",
            self.statements,
            self.runs,
            self.shown_directly,
            self.returned,
            100.0 * self.returned as f64 / self.statements.max(1) as f64,
            self.refused.len(),
            self.changed.len(),
            self.leaked.len(),
            list("shows nothing directly", &mut self.silent.iter()),
            list("changed", &mut self.changed.iter()),
            list("refused", &mut self.refused.iter()),
            list("LEAKED", &mut self.leaked.iter()),
        )
    }

    /// # Errors
    /// When something leaked, or too little was left.
    pub fn judge(&self) -> Result<()> {
        ensure!(self.statements >= 500, "{} statements", self.statements);
        ensure!(self.silent.is_empty(), "{} show nothing", self.silent.len());
        ensure!(self.leaked.is_empty(), "{} leaked", self.leaked.len());
        ensure!(self.changed.is_empty(), "{} changed", self.changed.len());
        if self.returned * 10 < self.statements * 9 {
            bail!("{} of {} returned rows", self.returned, self.statements);
        }
        Ok(())
    }
}
