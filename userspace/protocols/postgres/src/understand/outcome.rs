//! From what the analysis found to the [`Statement`] that leaves this module.

use std::ops::Range;
use std::sync::Arc;

use weir_model::request::{AttrValue, Intent, Object};

use super::analyzer::Analyzer;
use super::flow::Output;
use super::secrets;
use super::statement::{Class, Context};
use super::{OutputColumn, PlainColumn, SqlRefusal, Statement, StatementKind};

/// Puts a statement together.
pub(super) fn finish(
    context: &Context<'_>,
    mut analyzer: Analyzer<'_>,
    class: Class,
    text: Range<usize>,
) -> Result<Statement, SqlRefusal> {
    if analyzer.touched.is_empty() {
        analyzer.touch_database("session")?;
    }
    let source = context.sql.get(text.clone()).unwrap_or_default();
    let mut changes = class.changes;
    changes.session_pins |= analyzer.pins;
    changes.writable |= analyzer.writable;
    for setting in &analyzer.settings {
        changes.names_path |= &**setting == "search_path";
        changes.role |= matches!(&**setting, "role" | "session_authorization");
    }
    changes.search_path |= changes.names_path;
    // A function's body may have SET in it; roles cannot be set there for longer than the call.
    changes.search_path |= analyzer.called.foreign;
    let read_only =
        !analyzer.writes && !analyzer.called.effects && !matches!(class.kind, StatementKind::Ddl);
    let intent = Intent::new(
        analyzer.accesses(),
        attributes(&analyzer, source, read_only),
    );
    changes.temporary = is_temporary(&class.kind, &intent);
    let ranges = if holds_secrets(&intent) {
        secrets::secret_ranges(source)
    } else {
        Vec::new()
    };
    let redacted: Arc<str> = Arc::from(secrets::redact(source, &ranges));
    let mut literals: Vec<_> = analyzer.inner_literals.clone();
    if ranges.is_empty() {
        literals.extend(compared_literals(&analyzer, source, text.start));
    }
    literals.sort_by(|a, b| (a.0.start, &a.1).cmp(&(b.0.start, &b.1)));
    literals.dedup();
    let mut parameters = analyzer.inner_parameters.clone();
    parameters.extend(
        analyzer
            .parameters
            .iter()
            .filter_map(|(number, id)| Some((*number, analyzer.column_object(*id)?))),
    );
    let mut diverted = analyzer.inner_diverted.clone();
    let own = analyzer.diverted.iter();
    diverted.extend(own.filter_map(|id| analyzer.column_object(*id)));
    diverted.sort();
    diverted.dedup();
    let unseen = analyzer.called.foreign
        || analyzer.triggers
        || matches!(class.kind, StatementKind::Do | StatementKind::Call);
    Ok(Statement {
        columns: class.rows.as_ref().map(|rows| {
            rows.columns
                .iter()
                .map(|column| output_column(&analyzer, column))
                .collect()
        }),
        shape: secrets::shape(source, &context.limits.shape_key),
        text,
        intent: Arc::new(intent),
        kind: class.kind,
        returns_rows: class.returns_rows,
        changes,
        redacted,
        compared_literals: literals,
        compared_parameters: parameters,
        setting_parameters: Vec::from_iter(analyzer.setting_parameters),
        diverted,
        unseen,
    })
}

fn is_temporary(kind: &StatementKind, intent: &Intent) -> bool {
    match kind {
        StatementKind::Ddl => only_temporary(intent),
        StatementKind::Discard { .. } => true,
        _ => false,
    }
}

/// Whether all that is made, changed or dropped is in the session's temporary schema.
fn only_temporary(intent: &Intent) -> bool {
    let mut changed = intent
        .accesses
        .iter()
        .filter(|access| matches!(access.action, "create" | "alter" | "drop"))
        .peekable();
    changed.peek().is_some() && changed.all(|access| {
        access.object.kind == "Table"
            && matches!(access.object.path.get(2), Some(schema) if schema.starts_with("pg_temp"))
    })
}

fn holds_secrets(intent: &Intent) -> bool {
    intent.accesses.iter().any(|access| {
        matches!(access.action, "createRole" | "alterRole") || access.object.kind == "Other"
    })
}

fn compared_literals(
    analyzer: &Analyzer<'_>,
    source: &str,
    start: usize,
) -> Vec<(Range<usize>, Object)> {
    let mut found = Vec::new();
    for (at, columns) in &analyzer.literals {
        let Some(range) = at
            .checked_sub(start)
            .and_then(|at| secrets::literal_at(source, at))
        else {
            continue;
        };
        for id in columns {
            if let Some(object) = analyzer.column_object(*id) {
                found.push((range.clone(), object));
            }
        }
    }
    found
}

fn output_column(analyzer: &Analyzer<'_>, output: &Output) -> OutputColumn {
    let mut sources = Vec::new();
    let mut exact = Vec::new();
    for (id, unchanged) in output.flow.iter() {
        if let Some(object) = analyzer.column_object(id) {
            if unchanged {
                exact.push(object.clone());
            }
            sources.push(object);
        }
    }
    OutputColumn {
        name: output.name.to_string(),
        sources,
        exact,
        plain: output.plain.and_then(|id| {
            Some(PlainColumn {
                table_oid: id.relation,
                attnum: id.attnum,
                object: analyzer.column_object(id)?,
            })
        }),
        described: output.described.map(|id| (id.relation, id.attnum)),
    }
}

fn attributes(
    analyzer: &Analyzer<'_>,
    source: &str,
    read_only: bool,
) -> Vec<(&'static str, AttrValue)> {
    let joins = analyzer.relations_read.saturating_sub(1);
    let mut context = vec![
        (
            "statement",
            AttrValue::String(Arc::from(first_words(source))),
        ),
        ("readOnly", AttrValue::Bool(read_only)),
        ("unbounded", AttrValue::Bool(analyzer.unbounded)),
        ("returning", AttrValue::Bool(analyzer.returning)),
        (
            "joins",
            AttrValue::Long(i64::try_from(joins).unwrap_or(i64::MAX)),
        ),
        (
            "hasUnknownFunction",
            AttrValue::Bool(analyzer.called.unknown),
        ),
        (
            "securityDefiner",
            AttrValue::Bool(analyzer.called.security_definer),
        ),
        ("triggers", AttrValue::Bool(analyzer.triggers)),
    ];
    if let Some(limit) = analyzer.limit {
        context.push(("limit", AttrValue::Long(limit)));
    }
    context
}

/// `SELECT`, `CREATE TABLE`, `WITH`: the first word, and for definitions the kind of object.
fn first_words(source: &str) -> String {
    let mut words = secrets::Tokens::new(source)
        .filter(|(token, _)| *token == secrets::Token::Word)
        .filter_map(|(_, range)| source.get(range))
        .map(str::to_ascii_uppercase);
    let first = words.next().unwrap_or_default();
    if !matches!(
        first.as_str(),
        "CREATE" | "ALTER" | "DROP" | "REFRESH" | "COMMENT"
    ) {
        return first;
    }
    let skipped = [
        "OR",
        "REPLACE",
        "TEMP",
        "TEMPORARY",
        "UNLOGGED",
        "UNIQUE",
        "GLOBAL",
        "LOCAL",
        "RECURSIVE",
    ];
    match words.take(6).find(|word| !skipped.contains(&word.as_str())) {
        Some(second) => format!("{first} {second}"),
        None => first,
    }
}
