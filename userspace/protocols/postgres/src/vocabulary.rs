//! What PostgreSQL says to policy: object kinds, actions and context attributes.

use weir_model::vocabulary::{
    ActionKind, AttrKind, AttrType, ObjectKind, PredicateKind, Vocabulary, action, object,
    optional, required,
};

/// Object kinds.
const OBJECTS: &[ObjectKind] = &[
    object(
        "Database",
        None,
        "A database of the server; also what statements without an object of their own act on.",
    ),
    object("Schema", Some("Database"), "A schema."),
    object(
        "Table",
        Some("Schema"),
        "A table, view, materialised view, foreign table or sequence.",
    ),
    object("Column", Some("Table"), "A column of a table or view."),
    object(
        "Function",
        Some("Schema"),
        "All functions, procedures and aggregates of one name. Schema `?` when the name is not known.",
    ),
    object("Type", Some("Schema"), "A type or domain."),
    object(
        "Setting",
        Some("Database"),
        "A run-time setting such as `work_mem`.",
    ),
    object(
        "Role",
        Some("Database"),
        "A role, user or group of the server.",
    ),
    object(
        "File",
        Some("Database"),
        "A file of the server's machine; `?` when the path is computed.",
    ),
    object(
        "Program",
        Some("Database"),
        "A command run by the server's machine.",
    ),
    object(
        "Prepared",
        Some("Database"),
        "A prepared statement or cursor of the session, by name.",
    ),
    object(
        "Other",
        Some("Database"),
        "Any other named object: extension, server, publication, event trigger …, as `kind name`.",
    ),
];

const RELATION: &[&str] = &["Table"];
const COLUMN: &[&str] = &["Column"];
const DATABASE: &[&str] = &["Database"];
const ANY_DDL: &[&str] = &[
    "Database", "Schema", "Table", "Column", "Function", "Type", "Setting", "Role", "Other",
];

/// Actions.
const ACTIONS: &[ActionKind] = &[
    action(
        "select",
        RELATION,
        "Rows of the table are read, whatever the columns.",
    ),
    action("insert", RELATION, "Rows are added."),
    action("update", RELATION, "Rows are changed."),
    action("delete", RELATION, "Rows are removed."),
    action("truncate", RELATION, "All rows are removed."),
    action(
        "readColumn",
        COLUMN,
        "The column's values flow into the result, an expression or another table.",
    ),
    action(
        "usePredicate",
        COLUMN,
        "The column's values decide which rows come back or in which order (WHERE, JOIN, GROUP BY, ORDER BY, DISTINCT …): an oracle on a masked column.",
    ),
    action("writeColumn", COLUMN, "The column is assigned."),
    action("lock", RELATION, "LOCK TABLE, SELECT … FOR UPDATE/SHARE."),
    action(
        "call",
        &["Function"],
        "A function that is not known to be harmless runs.",
    ),
    action(
        "callUnknown",
        &["Function"],
        "A function that the catalog does not know is named.",
    ),
    action("create", ANY_DDL, "An object is created."),
    action(
        "alter",
        ANY_DDL,
        "An object's definition, owner, name, comment or rules are changed.",
    ),
    action("drop", ANY_DDL, "An object is dropped."),
    action(
        "grant",
        ANY_DDL,
        "Privileges or role memberships are granted.",
    ),
    action(
        "revoke",
        ANY_DDL,
        "Privileges or role memberships are revoked.",
    ),
    action("createRole", &["Role"], "CREATE ROLE, USER, GROUP."),
    action("alterRole", &["Role"], "ALTER ROLE, its settings included."),
    action(
        "dropRole",
        &["Role"],
        "DROP ROLE, OWNED BY commands included.",
    ),
    action(
        "setRole",
        &["Role"],
        "SET ROLE or SET SESSION AUTHORIZATION; role `none` for RESET.",
    ),
    action(
        "set",
        &["Setting"],
        "SET, RESET or set_config; setting `all` for RESET ALL.",
    ),
    action("show", &["Setting"], "SHOW or current_setting."),
    action(
        "alterSystem",
        &["Setting"],
        "ALTER SYSTEM: the server's configuration file.",
    ),
    action(
        "readFile",
        &["File"],
        "The server reads a file for the session (COPY FROM file, pg_read_file, LOAD).",
    ),
    action(
        "writeFile",
        &["File"],
        "The server writes a file for the session (COPY TO file, lo_export).",
    ),
    action("runProgram", &["Program"], "COPY … FROM/TO PROGRAM."),
    action("copyIn", RELATION, "COPY … FROM into the table."),
    action(
        "copyOut",
        &["Table", "Database"],
        "COPY … TO from the table; of a query it is the database.",
    ),
    action(
        "explain",
        DATABASE,
        "EXPLAIN of the statement whose other accesses stand beside it.",
    ),
    action(
        "transaction",
        DATABASE,
        "BEGIN, COMMIT, ROLLBACK, SAVEPOINT and their kind.",
    ),
    action(
        "twoPhase",
        DATABASE,
        "PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED.",
    ),
    action(
        "session",
        DATABASE,
        "A statement that touches no object: SELECT 1, DEALLOCATE, DISCARD, FETCH, CLOSE.",
    ),
    action(
        "parse",
        DATABASE,
        "A text that Weir does not understand is shown to the server's parser, so that the server \
         refuses it in its own words; it is never run.",
    ),
    action(
        "prepare",
        &["Prepared"],
        "PREPARE or DECLARE CURSOR; the inner statement's accesses stand beside it.",
    ),
    action(
        "execute",
        &["Prepared"],
        "EXECUTE; the named statement's accesses are added by the session.",
    ),
    action("doBlock", DATABASE, "DO: a block of procedural code."),
    action("listen", DATABASE, "LISTEN or UNLISTEN."),
    action(
        "notify",
        DATABASE,
        "NOTIFY or pg_notify: a message to other sessions.",
    ),
    action(
        "maintenance",
        &["Table", "Database", "Schema"],
        "VACUUM, ANALYZE, REINDEX, CLUSTER, REFRESH, CHECKPOINT.",
    ),
    action(
        "largeObject",
        DATABASE,
        "Large objects are read or written.",
    ),
    action(
        "functionCall",
        DATABASE,
        "The FunctionCall message of the protocol.",
    ),
    action(
        "replication",
        DATABASE,
        "A replication connection or command.",
    ),
];

/// Context attributes.
const CONTEXT: &[AttrKind] = &[
    required(
        "statement",
        AttrType::String,
        "The statement's first words: `SELECT`, `DELETE`, `CREATE TABLE` …",
    ),
    required(
        "readOnly",
        AttrType::Bool,
        "Nothing is written: no DML, no DDL, no function that is not known to be harmless.",
    ),
    required(
        "unbounded",
        AttrType::Bool,
        "An UPDATE or DELETE has no WHERE, or one that names no column of its table.",
    ),
    required("returning", AttrType::Bool, "A write gives rows back."),
    required(
        "joins",
        AttrType::Long,
        "Relations read, less one; 0 when there is at most one.",
    ),
    optional(
        "limit",
        AttrType::Long,
        "LIMIT of the outermost query when it is a number.",
    ),
    required(
        "hasUnknownFunction",
        AttrType::Bool,
        "A function is called that the catalog does not know.",
    ),
    required(
        "securityDefiner",
        AttrType::Bool,
        "A called function runs with its owner's rights.",
    ),
    required(
        "triggers",
        AttrType::Bool,
        "A written table has triggers or rewrite rules that run more code.",
    ),
];

/// The vocabulary of this protocol.
pub const VOCABULARY: Vocabulary = Vocabulary {
    namespace: "Postgres",
    objects: OBJECTS,
    actions: ACTIONS,
    context: CONTEXT,
    maskable: &["readColumn"],
    showable: &["insert", "update", "delete", "writeColumn"],
    predicate: Some(PredicateKind {
        action: "usePredicate",
        reads: "readColumn",
        writes: "writeColumn",
    }),
};
