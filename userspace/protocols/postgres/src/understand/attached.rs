//! What is attached to tables and runs, or is asked, apart from statements on them: rules, conditions of
//! triggers and of domains.

use std::sync::Arc;

use pg_raw_parse::Node;
use pg_raw_parse::nodes::{AlterDomainStmt, CreateTrigStmt, RangeVar, RuleStmt};
use pg_raw_parse::raw::CmdType;

use super::SqlRefusal;
use super::analyzer::{Analyzer, Item, Level, Named};
use super::flow::{ColumnId, Flow};

/// Trigger functions of the server that copy or compare columns.
const BUILT_IN_TRIGGERS: [&str; 3] = [
    "tsvector_update_trigger",
    "tsvector_update_trigger_column",
    "suppress_redundant_updates_trigger",
];

/// Domains over domains and arrays of them; a column of a deeper one counts as meant.
const BASES_MAX: usize = 8;

impl Analyzer<'_> {
    /// CREATE RULE. What its statements read comes to whoever uses the table, as rows that no statement
    /// asks for, or is written elsewhere: neither can be masked then.
    pub(super) fn create_rule(&mut self, rule: &RuleStmt) -> Result<(), SqlRefusal> {
        self.named_relation("alter", rule.relation(), false)?;
        self.touch_object("create", "Other", &["rule"])?;
        let level = self.old_and_new(rule.relation())?;
        self.levels.push(level);
        let kept = (self.writes, self.returning, self.triggers, self.unbounded);
        let called = self.called;
        let done = self.rule_actions(rule);
        // It is not run now.
        (self.writes, self.returning, self.triggers, self.unbounded) = kept;
        self.called = called;
        self.levels.pop();
        done
    }

    fn rule_actions(&mut self, rule: &RuleStmt) -> Result<(), SqlRefusal> {
        self.predicate(rule.where_clause())?;
        for action in rule.actions() {
            if matches!(action, Node::NotifyStmt(_) | Node::None) {
                continue;
            }
            let rows = self.query_node(action)?;
            if rule.event == CmdType::CMD_SELECT {
                // It makes a view, which is opened where it is read.
                self.use_up(&rows)?;
                continue;
            }
            self.flow_into(&rows.rest, None)?;
            for column in &rows.columns {
                self.flow_into(&column.flow, None)?;
            }
        }
        Ok(())
    }

    /// The conditions of a row policy.
    pub(super) fn row_policy(
        &mut self,
        table: Option<&RangeVar>,
        conditions: [Node<'_>; 2],
    ) -> Result<(), SqlRefusal> {
        self.named_relation("alter", table, false)?;
        let called = self.called;
        for condition in conditions {
            self.in_table(table, condition)?;
        }
        self.called = called;
        Ok(())
    }

    /// ALTER DOMAIN. That the values there are keep a new condition is an answer about them.
    pub(super) fn alter_domain(&mut self, alter: &AlterDomainStmt) -> Result<(), SqlRefusal> {
        self.touch_database("alter")?;
        self.touch_object("alter", "Other", &["type"])?;
        self.domain_definition(alter.def())?;
        if !matches!(alter.subtype as u8, b'C' | b'V' | b'O') {
            return Ok(());
        }
        let name = alter
            .type_name()
            .iter()
            .filter_map(Node::as_str)
            .next_back();
        let catalog = self.catalog();
        let meant = |oid: u32| {
            let mut at = oid;
            for _ in 0..BASES_MAX {
                match catalog.type_of(at) {
                    Some(found) if Some(&*found.name) == name => return true,
                    Some(found) => at = found.base,
                    None => return false,
                }
            }
            true
        };
        for relation in catalog.relations() {
            self.spend(1)?;
            for column in relation
                .columns
                .iter()
                .filter(|column| meant(column.type_oid))
            {
                let id = ColumnId {
                    relation: relation.oid,
                    attnum: column.attnum,
                };
                self.touch_flow("usePredicate", &Flow::one(id))?;
            }
        }
        Ok(())
    }

    /// CREATE TRIGGER: its function, and the condition that each row is asked for.
    pub(super) fn create_trigger(&mut self, create: &CreateTrigStmt) -> Result<(), SqlRefusal> {
        self.named_relation("alter", create.relation(), false)?;
        self.routine("call", Some(create.funcname()))?;
        let level = self.old_and_new(create.relation())?;
        let function = create
            .funcname()
            .iter()
            .filter_map(Node::as_str)
            .next_back();
        if function.is_some_and(|name| BUILT_IN_TRIGGERS.contains(&name)) {
            let all = level.items.last().map(Item::whole).unwrap_or_default();
            self.flow_into(&all, None)?;
        }
        self.levels.push(level);
        let called = self.called;
        let done = self.predicate(create.when_clause());
        self.called = called;
        self.levels.pop();
        done.map(drop)
    }

    /// `OLD` and `NEW`, each a row of the table.
    fn old_and_new(&mut self, range: Option<&RangeVar>) -> Result<Level, SqlRefusal> {
        let mut level = Level::default();
        for name in ["old", "new"] {
            let mut item = Item::new(Arc::from(name), Vec::new());
            match range.map(|range| self.find(range)) {
                Some(Ok(Named::Known(relation))) => {
                    item.columns = self.columns_of_any(relation)?;
                    item.relation = relation.oid;
                    item = self.loosened(item, relation);
                }
                _ => item.open = true,
            }
            level.items.push(item);
        }
        Ok(level)
    }
}
