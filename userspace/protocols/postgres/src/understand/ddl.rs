//! Statements that define, alter or drop objects, and privileges on them.

use pg_raw_parse::Node;
use std::collections::BTreeSet;

use pg_raw_parse::list::NodeList;
use pg_raw_parse::nodes::{
    CreateFunctionStmt, CreateSchemaStmt, CreateStatsStmt, DropStmt, GrantStmt, RangeVar, RoleSpec,
    VariableSetStmt,
};
use pg_raw_parse::raw::ObjectType;

use super::SqlRefusal;
use super::analyzer::{Analyzer, Named, Touched};
use super::{foreign, functions};

impl Analyzer<'_> {
    /// Classifies a statement that changes definitions; `false` when it is none of these.
    pub(super) fn ddl(&mut self, node: Node<'_>) -> Result<bool, SqlRefusal> {
        match node {
            Node::CreateStmt(create) => self.create_table(create)?,
            Node::Invalid(_) => return self.foreign_table(node),
            Node::AlterTableStmt(alter) => self.alter_table(alter)?,
            Node::DropStmt(drop) => self.drop(drop)?,
            Node::IndexStmt(index) => self.create_index(index)?,
            Node::CreateSchemaStmt(create) => {
                self.create_schema(create)?;
            }
            Node::CreateSeqStmt(create) => self.new_relation("create", create.sequence())?,
            Node::AlterSeqStmt(alter) => {
                self.named_relation("alter", alter.sequence(), alter.missing_ok)?;
            }
            Node::CreateFunctionStmt(create) => self.create_function(create)?,
            Node::AlterFunctionStmt(alter) => {
                let name = alter.func().map(|function| function.objname());
                self.routine("alter", name)?;
                for action in alter.actions() {
                    self.function_option(action.arg());
                }
            }
            Node::CreateTrigStmt(create) => self.create_trigger(create)?,
            Node::RuleStmt(rule) => self.create_rule(rule)?,
            Node::AlterDomainStmt(alter) => self.alter_domain(alter)?,
            Node::CreatePolicyStmt(policy) => {
                self.row_policy(policy.table(), [policy.qual(), policy.with_check()])?;
            }
            Node::AlterPolicyStmt(policy) => {
                self.row_policy(policy.table(), [policy.qual(), policy.with_check()])?;
            }
            Node::CreateStatsStmt(create) => self.create_statistics(create)?,
            Node::GrantStmt(grant) => self.grant(grant)?,
            Node::RenameStmt(rename) => {
                self.altered(rename.rename_type, rename.relation(), rename.object())?;
                self.renamed(rename)?;
            }
            Node::AlterOwnerStmt(owner) => {
                self.altered(owner.object_type, owner.relation(), owner.object())?;
            }
            Node::AlterObjectSchemaStmt(moved) => {
                self.altered(moved.object_type, moved.relation(), moved.object())?;
                self.moved(moved)?;
            }
            Node::CommentStmt(comment) => self.altered(comment.objtype, None, comment.object())?,
            Node::SecLabelStmt(label) => self.altered(label.objtype, None, label.object())?,
            node => return self.ddl_other(node),
        }
        Ok(true)
    }

    fn foreign_table(&mut self, node: Node<'_>) -> Result<bool, SqlRefusal> {
        let Some(create) = foreign::table(node) else {
            return Ok(false);
        };
        self.create_table(create)?;
        self.touch_database("create")?;
        self.touch_object("create", "Other", &["foreign table"])?;
        Ok(true)
    }

    fn create_statistics(&mut self, create: &CreateStatsStmt) -> Result<(), SqlRefusal> {
        // The library's list panics where something else than a table is in it.
        if std::panic::catch_unwind(|| create.relations().iter().for_each(drop)).is_err() {
            return Err(SqlRefusal::AsServer {
                sqlstate: "0A000",
                text: "CREATE STATISTICS only supports relation names in the FROM clause"
                    .to_owned(),
            });
        }
        for relation in create.relations() {
            self.named_relation("alter", Some(relation), false)?;
            for element in create.exprs() {
                if let Node::StatsElem(element) = element {
                    self.in_table(Some(relation), element.expr())?;
                }
            }
        }
        Ok(())
    }

    fn ddl_other(&mut self, node: Node<'_>) -> Result<bool, SqlRefusal> {
        let (action, what) = match node {
            Node::CreateDomainStmt(create) => {
                self.domain_constraints(create)?;
                ("create", "type")
            }
            Node::CreateEnumStmt(_) | Node::CompositeTypeStmt(_) | Node::CreateRangeStmt(_) => {
                ("create", "type")
            }
            Node::AlterEnumStmt(_) | Node::AlterTypeStmt(_) => ("alter", "type"),
            Node::DefineStmt(_) => ("create", "definition"),
            Node::CreateExtensionStmt(create) => {
                let name = format!("extension {}", create.extname().unwrap_or("?"));
                self.touch_object("create", "Other", &[&name])?;
                return Ok(true);
            }
            Node::AlterExtensionStmt(_) | Node::AlterExtensionContentsStmt(_) => {
                ("alter", "extension")
            }
            Node::CreateFdwStmt(_) => ("create", "foreign data wrapper"),
            Node::AlterFdwStmt(_) => ("alter", "foreign data wrapper"),
            Node::CreateForeignServerStmt(_) => ("create", "server"),
            Node::AlterForeignServerStmt(_) => ("alter", "server"),
            Node::CreateUserMappingStmt(_) => ("create", "user mapping"),
            Node::AlterUserMappingStmt(_) => ("alter", "user mapping"),
            Node::DropUserMappingStmt(_) => ("drop", "user mapping"),
            Node::ImportForeignSchemaStmt(_) => ("create", "foreign table"),
            Node::CreateSubscriptionStmt(_) => ("create", "subscription"),
            Node::AlterSubscriptionStmt(_) => ("alter", "subscription"),
            Node::DropSubscriptionStmt(_) => ("drop", "subscription"),
            Node::CreatePublicationStmt(_) => ("create", "publication"),
            Node::AlterPublicationStmt(_) => ("alter", "publication"),
            Node::CreateEventTrigStmt(_) => ("create", "event trigger"),
            Node::AlterEventTrigStmt(_) => ("alter", "event trigger"),
            Node::CreatePLangStmt(_) => ("create", "language"),
            Node::CreateCastStmt(_) => ("create", "cast"),
            Node::CreateConversionStmt(_) => ("create", "conversion"),
            Node::CreateTransformStmt(_) => ("create", "transform"),
            Node::CreateOpClassStmt(_) | Node::CreateOpFamilyStmt(_) => {
                ("create", "operator class")
            }
            Node::AlterOpFamilyStmt(_) | Node::AlterOperatorStmt(_) => ("alter", "operator"),
            Node::AlterDefaultPrivilegesStmt(_) => ("grant", "default privileges"),
            Node::AlterCollationStmt(_) => ("alter", "collation"),
            Node::AlterStatsStmt(_) => ("alter", "statistics"),
            Node::AlterObjectDependsStmt(_) => ("alter", "dependency"),
            Node::AlterTSConfigurationStmt(_) | Node::AlterTSDictionaryStmt(_) => {
                ("alter", "text search")
            }
            Node::CreateTableSpaceStmt(_) => ("create", "tablespace"),
            Node::DropTableSpaceStmt(_) => ("drop", "tablespace"),
            Node::AlterTableSpaceOptionsStmt(_) | Node::AlterTableMoveAllStmt(_) => {
                ("alter", "tablespace")
            }
            Node::CreateAmStmt(_) => ("create", "access method"),
            node => return self.ddl_server(node),
        };
        self.touch_database(action)?;
        self.touch_object(action, "Other", &[what])?;
        Ok(true)
    }

    /// Roles, databases and the server's configuration.
    fn ddl_server(&mut self, node: Node<'_>) -> Result<bool, SqlRefusal> {
        match node {
            Node::CreateRoleStmt(create) => {
                self.touch_object("createRole", "Role", &[create.role().unwrap_or("?")])?;
            }
            Node::AlterRoleStmt(alter) => {
                self.touch_object("alterRole", "Role", &[role_name(alter.role())])?;
            }
            Node::AlterRoleSetStmt(alter) => {
                self.touch_object("alterRole", "Role", &[role_name(alter.role())])?;
                self.default_setting(alter.setstmt());
            }
            Node::DropRoleStmt(drop) => self.roles("dropRole", drop.roles())?,
            Node::DropOwnedStmt(drop) => {
                self.touch_database("drop")?;
                self.roles("dropRole", drop.roles())?;
            }
            Node::ReassignOwnedStmt(owned) => {
                self.touch_database("alter")?;
                self.roles("alterRole", owned.roles())?;
            }
            Node::GrantRoleStmt(grant) => {
                let action = if grant.is_grant { "grant" } else { "revoke" };
                for role in grant.granted_roles() {
                    if let Node::AccessPriv(role) = role {
                        let name = role.priv_name().unwrap_or("?");
                        self.touch_object(action, "Role", &[name])?;
                    }
                }
            }
            Node::CreatedbStmt(create) => {
                let name = format!("database {}", create.dbname().unwrap_or("?"));
                self.touch_object("create", "Other", &[&name])?;
                let template = create
                    .options()
                    .iter()
                    .find(|option| option.defname() == Some("template"));
                let template = template.and_then(|option| option.arg().as_str());
                if template.is_some_and(|name| !matches!(name, "template0" | "template1")) {
                    self.copied_database()?;
                }
            }
            Node::DropdbStmt(drop) => {
                let name = format!("database {}", drop.dbname().unwrap_or("?"));
                self.touch_object("drop", "Other", &[&name])?;
            }
            Node::AlterDatabaseStmt(_) | Node::AlterDatabaseRefreshCollStmt(_) => {
                self.touch_database("alter")?;
            }
            Node::AlterDatabaseSetStmt(alter) => {
                self.touch_database("alter")?;
                self.default_setting(alter.setstmt());
            }
            Node::AlterSystemStmt(alter) => {
                let name = alter.setstmt().and_then(|set| set.name()).unwrap_or("all");
                self.touch_object("alterSystem", "Setting", &[&name.to_lowercase()])?;
                self.default_setting(alter.setstmt());
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn roles(&mut self, action: &'static str, roles: &NodeList) -> Result<(), SqlRefusal> {
        for role in roles {
            if let Node::RoleSpec(role) = role {
                self.touch_object(action, "Role", &[role_name(Some(role))])?;
            }
        }
        Ok(())
    }

    /// Defaults of roles, databases and the server reach later sessions: pinned ones are refused.
    fn default_setting(&mut self, set: Option<&VariableSetStmt>) {
        let name = set
            .and_then(|set| set.name())
            .unwrap_or_default()
            .to_lowercase();
        self.pins |= functions::is_pinned(&name);
    }

    fn function_option(&mut self, option: Node<'_>) {
        if let Node::VariableSetStmt(set) = option {
            self.default_setting(Some(set));
        }
    }

    fn create_function(&mut self, create: &CreateFunctionStmt) -> Result<(), SqlRefusal> {
        self.routine("create", Some(create.funcname()))?;
        for option in create.options() {
            self.function_option(option.arg());
        }
        for parameter in create.parameters() {
            self.default_of(parameter.defexpr())?;
        }
        self.new_body(create)
    }

    /// An access on a function by its name, known or new.
    pub(super) fn routine(
        &mut self,
        action: &'static str,
        name: Option<&NodeList>,
    ) -> Result<(), SqlRefusal> {
        let parts: Vec<&str> = name
            .into_iter()
            .flatten()
            .filter_map(Node::as_str)
            .collect();
        match parts.as_slice() {
            [name] => {
                let known: Vec<String> = self
                    .catalog()
                    .functions(name)
                    .iter()
                    .map(|function| function.schema.to_string())
                    .collect();
                if action == "create" || known.is_empty() {
                    return self.touch_new(action, "Function", name);
                }
                for schema in known {
                    self.touch_object(action, "Function", &[&schema, name])?;
                }
                Ok(())
            }
            [.., schema, name] => self.touch_object(action, "Function", &[schema, name]),
            [] => Err(SqlRefusal::Unsupported("a function without a name")),
        }
    }

    /// An access on a relation that must exist (or may be missing).
    pub(super) fn named_relation(
        &mut self,
        action: &'static str,
        range: Option<&RangeVar>,
        missing_ok: bool,
    ) -> Result<(), SqlRefusal> {
        let range = range.ok_or(SqlRefusal::Unsupported("a statement without its table"))?;
        let name = range.relname().unwrap_or_default();
        self.relation_by_name(action, range.schemaname(), name, missing_ok)
    }

    fn relation_by_name(
        &mut self,
        action: &'static str,
        schema: Option<&str>,
        name: &str,
        missing_ok: bool,
    ) -> Result<(), SqlRefusal> {
        match self.find_name(None, schema, name) {
            Ok(Named::Known(relation)) => self.touch_relation(action, relation),
            Ok(Named::Created(object)) => self.touch(action, Touched::Object(object)),
            Err(SqlRefusal::UnknownRelation(_)) if missing_ok => match schema {
                Some(schema) => self.touch_object(action, "Table", &[schema, name]),
                None => self.touch_new(action, "Table", name),
            },
            // Whichever it would be, should it be there after all: each of them has to be permitted.
            Err(SqlRefusal::UnknownRelation(_)) if self.names.lenient => match schema {
                Some(schema) => self.touch_object(action, "Table", &[schema, name]),
                None => {
                    let path = self.names.search_path;
                    for schema in path.iter().filter(|schema| &***schema != "pg_catalog") {
                        self.touch_object(action, "Table", &[schema, name])?;
                    }
                    self.touch_new(action, "Table", name)
                }
            },
            Err(refusal) => Err(refusal),
        }
    }

    /// An access on a relation that is about to exist.
    pub(super) fn new_relation(
        &mut self,
        action: &'static str,
        range: Option<&RangeVar>,
    ) -> Result<(), SqlRefusal> {
        let range = range.ok_or(SqlRefusal::Unsupported("a statement without its table"))?;
        let name = range.relname().unwrap_or_default();
        let schemas: Vec<String> = self
            .new_schemas(range)
            .into_iter()
            .map(str::to_owned)
            .collect();
        for schema in schemas {
            self.touch_object(action, "Table", &[&schema, name])?;
        }
        Ok(())
    }

    /// An access on a new object without a schema, wherever it may come to be.
    fn touch_new(
        &mut self,
        action: &'static str,
        kind: &'static str,
        name: &str,
    ) -> Result<(), SqlRefusal> {
        let schemas: Vec<String> = self
            .creation_schemas()
            .into_iter()
            .map(str::to_owned)
            .collect();
        for schema in schemas {
            self.touch_object(action, kind, &[&schema, name])?;
        }
        Ok(())
    }

    /// Elements are made in the new schema, and see one another first.
    fn create_schema(&mut self, create: &CreateSchemaStmt) -> Result<(), SqlRefusal> {
        let name = schema_name(create);
        self.touch_object("create", "Schema", &[&name])?;
        self.making = Some((name, BTreeSet::new()));
        let mut elements: Vec<_> = create.schema_elts().iter().collect();
        elements.sort_by_key(|element| turn(*element));
        for element in elements {
            self.spend(1)?;
            let known = match element {
                Node::ViewStmt(view) => {
                    let rows = self.query_node(view.query())?;
                    self.use_up(&rows)?;
                    self.new_relation("create", view.view())?;
                    true
                }
                element => self.ddl(element)?,
            };
            if !known {
                return Err(SqlRefusal::Unsupported("CREATE SCHEMA with that element"));
            }
            if let (Some(range), Some((_, made))) = (made_by(element), &mut self.making) {
                made.insert(range.relname().unwrap_or_default().to_owned());
            }
        }
        self.making = None;
        Ok(())
    }

    fn drop(&mut self, drop: &DropStmt) -> Result<(), SqlRefusal> {
        for object in drop.objects() {
            self.dropped(drop, object)?;
        }
        Ok(())
    }

    fn dropped(&mut self, drop: &DropStmt, object: Node<'_>) -> Result<(), SqlRefusal> {
        match object {
            Node::NodeList(parts) if is_relation(drop.remove_type) => {
                let parts: Vec<&str> = parts.iter().filter_map(Node::as_str).collect();
                let name = parts.last().copied().unwrap_or_default();
                let schema = parts
                    .len()
                    .checked_sub(2)
                    .and_then(|at| parts.get(at).copied());
                self.relation_by_name("drop", schema, name, drop.missing_ok)
            }
            Node::NodeList(parts) if is_of_relation(drop.remove_type) => {
                let parts: Vec<&str> = parts.iter().filter_map(Node::as_str).collect();
                let table = parts
                    .len()
                    .checked_sub(2)
                    .and_then(|at| parts.get(at).copied());
                let schema = parts
                    .len()
                    .checked_sub(3)
                    .and_then(|at| parts.get(at).copied());
                let table = table.unwrap_or_default();
                self.relation_by_name("alter", schema, table, drop.missing_ok)
            }
            Node::ObjectWithArgs(function) => self.routine("drop", Some(function.objname())),
            Node::String(name) if drop.remove_type == ObjectType::OBJECT_SCHEMA => {
                self.touch_object("drop", "Schema", &[name.sval().unwrap_or("?")])
            }
            Node::TypeName(name) => {
                let parts: Vec<&str> = name.names().iter().filter_map(|part| part.sval()).collect();
                self.type_access("drop", &parts)
            }
            Node::String(name) => {
                self.touch_database("drop")?;
                self.touch_object("drop", "Other", &[name.sval().unwrap_or("?")])
            }
            _ => self.touch_database("drop"),
        }
    }

    fn type_access(&mut self, action: &'static str, parts: &[&str]) -> Result<(), SqlRefusal> {
        match parts {
            [.., schema, name] => self.touch_object(action, "Type", &[schema, name]),
            [name] => self.touch_new(action, "Type", name),
            [] => self.touch_database(action),
        }
    }

    fn grant(&mut self, grant: &GrantStmt) -> Result<(), SqlRefusal> {
        let action = if grant.is_grant { "grant" } else { "revoke" };
        let tables = grant.targtype == 0
            && matches!(
                grant.objtype,
                ObjectType::OBJECT_TABLE | ObjectType::OBJECT_SEQUENCE
            );
        if !tables {
            return self.touch_database(action);
        }
        for relation in grant.objects() {
            self.named_relation(action, Some(relation), false)?;
        }
        Ok(())
    }

    /// ALTER … RENAME, OWNER TO, SET SCHEMA; COMMENT; SECURITY LABEL.
    fn altered(
        &mut self,
        kind: ObjectType::Type,
        relation: Option<&RangeVar>,
        object: Node<'_>,
    ) -> Result<(), SqlRefusal> {
        if let Some(range) = relation {
            return self.named_relation("alter", Some(range), true);
        }
        match object {
            Node::ObjectWithArgs(function) => self.routine("alter", Some(function.objname())),
            Node::NodeList(parts) if is_relation(kind) => {
                let parts: Vec<&str> = parts.iter().filter_map(Node::as_str).collect();
                let name = parts.last().copied().unwrap_or_default();
                let schema = parts
                    .len()
                    .checked_sub(2)
                    .and_then(|at| parts.get(at).copied());
                self.relation_by_name("alter", schema, name, false)
            }
            Node::NodeList(parts) if is_of_relation(kind) || kind == ObjectType::OBJECT_COLUMN => {
                let parts: Vec<&str> = parts.iter().filter_map(Node::as_str).collect();
                let table = parts
                    .len()
                    .checked_sub(2)
                    .and_then(|at| parts.get(at).copied());
                let schema = parts
                    .len()
                    .checked_sub(3)
                    .and_then(|at| parts.get(at).copied());
                self.relation_by_name("alter", schema, table.unwrap_or_default(), false)
            }
            Node::String(name) if kind == ObjectType::OBJECT_SCHEMA => {
                self.touch_object("alter", "Schema", &[name.sval().unwrap_or("?")])
            }
            _ => self.touch_database("alter"),
        }
    }
}

fn is_relation(kind: ObjectType::Type) -> bool {
    matches!(
        kind,
        ObjectType::OBJECT_TABLE
            | ObjectType::OBJECT_VIEW
            | ObjectType::OBJECT_MATVIEW
            | ObjectType::OBJECT_FOREIGN_TABLE
            | ObjectType::OBJECT_SEQUENCE
            | ObjectType::OBJECT_INDEX
    )
}

fn is_of_relation(kind: ObjectType::Type) -> bool {
    matches!(
        kind,
        ObjectType::OBJECT_TRIGGER
            | ObjectType::OBJECT_RULE
            | ObjectType::OBJECT_POLICY
            | ObjectType::OBJECT_TABCONSTRAINT
    )
}

/// The role's name, or how it is spelled when it is not one.
pub(super) fn role_name(role: Option<&RoleSpec>) -> &str {
    match role {
        Some(role) => role.rolename().unwrap_or(match role.roletype {
            1 | 2 => "current_user",
            3 => "session_user",
            _ => "public",
        }),
        None => "all",
    }
}

/// That of a new schema: its own, or that of the role that it is for.
pub(super) fn schema_name(create: &CreateSchemaStmt) -> String {
    match create.schemaname() {
        Some(name) => name.to_owned(),
        None => {
            let role = create.authrole().and_then(RoleSpec::rolename);
            role.unwrap_or("?").to_owned()
        }
    }
}

/// The relation that an element of a new schema makes.
pub(super) fn made_by(element: Node<'_>) -> Option<&RangeVar> {
    match element {
        Node::CreateStmt(create) => create.relation(),
        Node::CreateSeqStmt(create) => create.sequence(),
        Node::ViewStmt(view) => view.view(),
        _ => None,
    }
}

/// The server makes elements of a new schema in this order, whatever the text's.
fn turn(element: Node<'_>) -> u8 {
    match element {
        Node::CreateSeqStmt(_) => 0,
        Node::CreateStmt(_) => 1,
        Node::ViewStmt(_) => 2,
        Node::IndexStmt(_) => 3,
        Node::CreateTrigStmt(_) => 4,
        _ => 5,
    }
}
