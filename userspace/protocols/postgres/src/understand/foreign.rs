//! CREATE FOREIGN TABLE, which the library has no node for.
#![expect(
    unsafe_code,
    reason = "the node begins with a CreateStmt, and the library does not give it"
)]

use pg_raw_parse::Node;
use pg_raw_parse::nodes::CreateStmt;
use pg_raw_parse::raw::NodeTag;

/// The table that CREATE FOREIGN TABLE makes; `None` for other nodes.
pub(super) fn table(node: Node<'_>) -> Option<&CreateStmt> {
    let Node::Invalid(raw) = node else {
        return None;
    };
    if raw.type_ != NodeTag::T_CreateForeignTableStmt {
        return None;
    }
    let table = std::ptr::from_ref(raw).cast::<CreateStmt>();
    // SAFETY: `CreateForeignTableStmt` is `struct { CreateStmt base; … }` (parsenodes.h), as the
    // server's own code reads it; the tag says that it is one, and it lives as long as the tree.
    Some(unsafe { &*table })
}
