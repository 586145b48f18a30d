//! Tables that an earlier statement of the same text makes anew or alters: what their columns are is not
//! known before it runs.
//!
//! A name that the catalog does not have may be one of theirs, and any of them may hold what any of the
//! old ones held: `RENAME` and `ALTER … TYPE … USING` move values.

use std::sync::Arc;

use pg_raw_parse::Node;
use pg_raw_parse::nodes::RangeVar;
use pg_raw_parse::raw::ObjectType;

use super::analyzer::{Analyzer, Item, qualified};
use super::flow::Output;
use crate::catalog::Relation;

impl Analyzer<'_> {
    /// Whether an earlier statement of the text changes what columns it has.
    pub(super) fn is_altered(&self, relation: &Relation) -> bool {
        !self.created.is_empty()
            && self
                .created
                .contains(&qualified(&relation.schema, &relation.name))
    }

    /// The columns of a relation as an item, as far as they are known.
    pub(super) fn loosened(&self, mut item: Item, relation: &Relation) -> Item {
        if !self.is_altered(relation) {
            return item;
        }
        let all = item.whole();
        let anything =
            |column: &Arc<Output>| Arc::new(Output::row(Arc::clone(&column.name), all.clone()));
        item.columns = item.columns.iter().map(anything).collect();
        item.rest = all;
        item.open = true;
        item
    }
}

/// The relation whose columns a statement changes.
pub(super) fn alters(node: Node<'_>) -> Option<&RangeVar> {
    match node {
        Node::AlterTableStmt(alter) if alter.objtype != ObjectType::OBJECT_TYPE => alter.relation(),
        Node::RenameStmt(rename) if rename.rename_type == ObjectType::OBJECT_COLUMN => {
            rename.relation()
        }
        _ => None,
    }
}
