//! COPY in all its directions.

use std::sync::Arc;

use pg_raw_parse::Node;
use pg_raw_parse::nodes::{CopyStmt, DefElem, RangeVar};

use super::analyzer::{Analyzer, Item, Level, Named, Touched};
use super::flow::{Output, Rows};
use super::statement::Class;
use super::{CopyDirection, CopyFormat, SqlRefusal, StatementKind};

impl Analyzer<'_> {
    pub(super) fn copy(&mut self, copy: &CopyStmt) -> Result<Class, SqlRefusal> {
        let format = format(copy)?;
        let direction = self.copy_place(copy)?;
        let kind = StatementKind::Copy { direction, format };
        let mut class = Class::new(kind);
        if copy.is_from {
            self.copy_from(copy)?;
            return Ok(class);
        }
        let rows = match copy.relation() {
            Some(range) => self.copy_table(copy, range)?,
            None => {
                self.touch_database("copyOut")?;
                self.query_node(copy.query())?
            }
        };
        if direction == CopyDirection::Out {
            for column in &rows.columns {
                self.touch_flow("readColumn", &column.flow)?;
            }
            self.touch_flow("readColumn", &rows.rest)?;
            class.returns_rows = true;
            class.rows = (!rows.open).then_some(rows);
        } else {
            self.use_up(&rows)?;
        }
        Ok(class)
    }

    fn copy_place(&mut self, copy: &CopyStmt) -> Result<CopyDirection, SqlRefusal> {
        let Some(file) = copy.filename() else {
            return Ok(if copy.is_from {
                CopyDirection::In
            } else {
                CopyDirection::Out
            });
        };
        self.called.effects = true;
        if copy.is_program {
            self.touch_object("runProgram", "Program", &[file])?;
        } else if copy.is_from {
            self.touch_object("readFile", "File", &[file])?;
        } else {
            self.touch_object("writeFile", "File", &[file])?;
        }
        Ok(CopyDirection::Server)
    }

    /// The table's columns that COPY names, or all of them.
    fn copy_columns(
        &mut self,
        copy: &CopyStmt,
        all: &[Arc<Output>],
    ) -> Result<Vec<Arc<Output>>, SqlRefusal> {
        if copy.attlist().is_empty() {
            return Ok(all.to_vec());
        }
        let mut columns = Vec::new();
        for name in copy.attlist().iter().filter_map(Node::as_str) {
            self.spend(all.len())?;
            let found = all.iter().find(|column| &*column.name == name);
            let found = found.ok_or_else(|| SqlRefusal::UnknownColumn(name.to_owned()))?;
            columns.push(Arc::clone(found));
        }
        Ok(columns)
    }

    fn copy_table(&mut self, copy: &CopyStmt, range: &RangeVar) -> Result<Rows, SqlRefusal> {
        self.relations_read += 1;
        let relation = match self.find(range)? {
            Named::Known(relation) => relation,
            // Made in the same text: its columns are not known.
            Named::Created(object) => {
                self.touch("select", Touched::Object(object.clone()))?;
                self.touch("copyOut", Touched::Object(object))?;
                return Ok(Rows {
                    open: true,
                    ..Rows::default()
                });
            }
        };
        self.touch_relation("select", relation)?;
        self.touch_relation("copyOut", relation)?;
        let all = self.relation_columns(relation.oid)?;
        let mut columns = self.copy_columns(copy, &all)?;
        if copy.attlist().is_empty() {
            // Generated columns are not copied unless they are named.
            columns.retain(|column| {
                let of = relation.column(&column.name);
                of.is_none_or(|of| of.computed_from.is_empty())
            });
        }
        Ok(Rows {
            columns,
            ..Rows::default()
        })
    }

    fn copy_from(&mut self, copy: &CopyStmt) -> Result<(), SqlRefusal> {
        self.writes = true;
        let range = copy
            .relation()
            .ok_or(SqlRefusal::Unsupported("COPY FROM without a table"))?;
        let found = match self.find(range) {
            Err(SqlRefusal::UnknownRelation(_)) if self.names.lenient => {
                self.named_relation("insert", Some(range), false)?;
                return self.named_relation("copyIn", Some(range), false);
            }
            found => found?,
        };
        match found {
            Named::Created(_) => {
                self.new_relation("insert", Some(range))?;
                self.new_relation("copyIn", Some(range))
            }
            Named::Known(relation) => {
                self.triggers |= relation.triggers || relation.rules;
                self.touch_relation("insert", relation)?;
                self.touch_relation("copyIn", relation)?;
                let all = self.relation_columns(relation.oid)?;
                for column in self.copy_columns(copy, &all)? {
                    self.touch_flow("writeColumn", &column.flow)?;
                }
                // WHERE sees the incoming row, not the table.
                let incoming = all
                    .iter()
                    .map(|column| {
                        Arc::new(Output::expression(
                            Arc::clone(&column.name),
                            Default::default(),
                        ))
                    })
                    .collect();
                let item = Item::new(Arc::clone(&relation.name), incoming);
                self.levels.push(Level {
                    items: vec![item],
                    ..Default::default()
                });
                self.predicate(copy.where_clause())?;
                self.levels.pop();
                Ok(())
            }
        }
    }
}

fn option_text(option: &DefElem) -> Option<&str> {
    option.arg().as_str()
}

fn option_byte(option: &DefElem) -> Result<u8, SqlRefusal> {
    match option_text(option).map(str::as_bytes) {
        Some([byte]) => Ok(*byte),
        _ => Err(SqlRefusal::Unsupported(
            "a COPY option that is not one byte",
        )),
    }
}

/// The format that the options choose; options that change how data is written and that are not
/// known are refused.
fn format(copy: &CopyStmt) -> Result<CopyFormat, SqlRefusal> {
    let mut name = "text";
    let (mut delimiter, mut quote, mut escape) = (None, b'"', None);
    let (mut null, mut header) = (None, false);
    for option in copy.options() {
        match option.defname().unwrap_or_default() {
            "format" => name = option_text(option).unwrap_or("?"),
            "delimiter" => delimiter = Some(option_byte(option)?),
            "quote" => quote = option_byte(option)?,
            "escape" => escape = Some(option_byte(option)?),
            "null" => null = option_text(option).map(str::to_owned),
            "header" => header = !is_off(option.arg()),
            "encoding" => {
                if !super::is_utf8(option_text(option).unwrap_or_default()) {
                    return Err(SqlRefusal::Unsupported(
                        "COPY in an encoding other than UTF8",
                    ));
                }
            }
            "freeze" | "force_quote" | "force_not_null" | "force_null" | "default" | "on_error"
            | "log_verbosity" | "reject_limit" => {}
            _ => return Err(SqlRefusal::Unsupported("that COPY option")),
        }
    }
    match name {
        "text" => Ok(CopyFormat::Text {
            delimiter: delimiter.unwrap_or(b'\t'),
            null: null.unwrap_or_else(|| "\\N".to_owned()),
            header,
        }),
        "csv" => Ok(CopyFormat::Csv {
            delimiter: delimiter.unwrap_or(b','),
            quote,
            escape: escape.unwrap_or(quote),
            null: null.unwrap_or_default(),
            header,
        }),
        "binary" => Ok(CopyFormat::Binary),
        _ => Err(SqlRefusal::Unsupported("that COPY format")),
    }
}

fn is_off(node: Node<'_>) -> bool {
    match node {
        Node::String(text) => matches!(
            text.sval().unwrap_or_default().to_lowercase().as_str(),
            "off" | "false" | "no" | "0"
        ),
        Node::Integer(number) => number.ival == 0,
        Node::Boolean(flag) => !flag.boolval,
        _ => false,
    }
}
