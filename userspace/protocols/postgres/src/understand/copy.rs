//! COPY in all its directions.

use std::collections::BTreeSet;
use std::sync::Arc;

use pg_raw_parse::Node;
use pg_raw_parse::nodes::{CopyStmt, DefElem, RangeVar};

use super::analyzer::{Analyzer, Item, Level, Named, Touched};
use super::flow::{Output, Rows};
use super::statement::Class;
use super::{CopyDirection, CopyFormat, SqlRefusal, StatementKind};
use crate::catalog::Relation;

impl Analyzer<'_> {
    pub(super) fn copy(&mut self, copy: &CopyStmt) -> Result<Class, SqlRefusal> {
        let format = format(copy);
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
                if selects_into(copy.query()) {
                    return Err(SqlRefusal::AsServer {
                        sqlstate: "0A000",
                        text: "COPY (SELECT INTO) is not supported".to_owned(),
                    });
                }
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
        (relation, all): (&Relation, &[Arc<Output>]),
    ) -> Result<Vec<Arc<Output>>, SqlRefusal> {
        if copy.attlist().is_empty() {
            return Ok(all.to_vec());
        }
        let mut columns = Vec::new();
        for name in copy.attlist().iter().filter_map(Node::as_str) {
            self.spend(all.len())?;
            let found = all.iter().find(|column| &*column.name == name);
            match found {
                Some(found) => columns.push(Arc::clone(found)),
                // The one that it would be, should it be there after all.
                None if self.names.lenient || self.is_altered(relation) => {
                    let action = if copy.is_from {
                        "writeColumn"
                    } else {
                        "readColumn"
                    };
                    let path = [&*relation.schema, &*relation.name, name];
                    self.touch_object(action, "Column", &path)?;
                }
                None => return Err(SqlRefusal::UnknownColumn(name.to_owned())),
            }
        }
        Ok(columns)
    }

    fn copy_table(&mut self, copy: &CopyStmt, range: &RangeVar) -> Result<Rows, SqlRefusal> {
        self.relations_read += 1;
        let relation = match self.find(range) {
            // The catalog is as new as can be, and the server's parser does not look for it.
            Err(SqlRefusal::UnknownRelation(name)) if self.names.lenient => {
                let schema = range.schemaname().map(|schema| format!("{schema}."));
                let name = schema.unwrap_or_default() + &name;
                return Err(SqlRefusal::AsServer {
                    sqlstate: "42P01",
                    text: format!("relation \"{name}\" does not exist"),
                });
            }
            found => found?,
        };
        let relation = match relation {
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
        if self.is_altered(relation) {
            let item = Item::new(Arc::clone(&relation.name), all);
            return Ok(Rows {
                open: true,
                rest: item.whole(),
                ..Rows::default()
            });
        }
        let mut columns = self.copy_columns(copy, (relation, &all))?;
        if copy.attlist().is_empty() {
            // Generated columns are not copied unless they are named.
            columns.retain(|column| {
                let of = relation.column(&column.name);
                of.is_none_or(|of| of.computed_from.is_empty())
            });
        }
        let named = copy.attlist().len();
        Ok(Rows {
            open: named > columns.len(),
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
                for column in self.copy_columns(copy, (relation, &all))? {
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
                let mut item = Item::new(Arc::clone(&relation.name), incoming);
                item.open = self.names.lenient || self.is_altered(relation);
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

/// INTO stands in the first part of a UNION.
fn selects_into(query: Node<'_>) -> bool {
    let Node::SelectStmt(mut select) = query else {
        return false;
    };
    while let Some(left) = select.larg() {
        select = left;
    }
    select.into_clause().is_some()
}

fn option_text(option: &DefElem) -> Option<&str> {
    option.arg().as_str()
}

fn option_byte(option: &DefElem) -> Option<u8> {
    match option_text(option).map(str::as_bytes) {
        Some([byte]) => Some(*byte),
        _ => None,
    }
}

/// The format that the options choose.
fn format(copy: &CopyStmt) -> CopyFormat {
    known_format(copy).unwrap_or(CopyFormat::Other)
}

/// `None` when an option is not known, or not one that a server takes.
fn known_format(copy: &CopyStmt) -> Option<CopyFormat> {
    let mut name = "text";
    let (mut delimiter, mut quote, mut escape) = (None, b'"', None);
    let (mut null, mut header) = (None, false);
    let mut seen = BTreeSet::new();
    for option in copy.options() {
        let named = option.defname().unwrap_or_default();
        if !seen.insert(named) {
            return None;
        }
        match named {
            "format" => name = option_text(option)?,
            "delimiter" => delimiter = Some(option_byte(option)?),
            "quote" => quote = option_byte(option)?,
            "escape" => escape = Some(option_byte(option)?),
            "null" => null = Some(option_text(option)?.to_owned()),
            "header" => header = !is_off(option.arg()),
            "encoding" if super::is_utf8(option_text(option)?) => {}
            "freeze" | "force_quote" | "force_not_null" | "force_null" | "default" | "on_error"
            | "log_verbosity" | "reject_limit" => {}
            _ => return None,
        }
    }
    match name {
        "text" => Some(CopyFormat::Text {
            delimiter: delimiter.unwrap_or(b'\t'),
            null: null.unwrap_or_else(|| "\\N".to_owned()),
            header,
        }),
        "csv" => Some(CopyFormat::Csv {
            delimiter: delimiter.unwrap_or(b','),
            quote,
            escape: escape.unwrap_or(quote),
            null: null.unwrap_or_default(),
            header,
        }),
        "binary" => Some(CopyFormat::Binary),
        _ => None,
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
