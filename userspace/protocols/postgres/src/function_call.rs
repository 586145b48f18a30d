//! `FunctionCall`: a function by its OID, as libpq's large objects use it.
//!
//! It is decided as the call of that function by its name would be, and as a `functionCall` beside.
//! The result is one value of which no description comes, so it can neither be masked nor looked
//! through; large objects are decided on as such.

use std::sync::Arc;

use weir_model::request::{Access, Intent, Object};
use weir_model::time::Now;

use crate::expect_query::{QueryJob, Understood};
use crate::reply;
use crate::session::PostgresSession;
use crate::understand::Statement;
use crate::wire::Frame;

impl PostgresSession {
    /// False when the message could not be taken yet.
    pub(crate) fn function_call(&mut self, frame: &Frame, oid: u32, now: Now) -> bool {
        let named = self
            .catalog
            .as_ref()
            .and_then(|catalog| catalog.function_of(oid).cloned());
        let Some((schema, name)) = named else {
            let what = "a function call by an OID that is not known";
            self.refuse_call("weir:unknown-name", "42883", what, now);
            return true;
        };
        let large_object = &*schema == "pg_catalog"
            && (name.starts_with("lo_") || matches!(&*name, "loread" | "lowrite"));
        if !large_object && (self.masks_any() || self.detects_any()) {
            let what = "a function call by OID has no description by which values could be masked";
            self.refuse_call("weir:unmaskable", reply::REFUSED, what, now);
            return true;
        }
        let text = format!("select {}.{}()", quoted(&schema), quoted(&name));
        let statement = match self.understand(&text) {
            Understood::Later => return false,
            Understood::Refused(_) => None,
            Understood::Statements(mut statements) => statements.pop(),
        };
        let Some(statement) = statement else {
            let what = "a function call that cannot be understood";
            self.refuse_call("weir:unsupported", "0A000", what, now);
            return true;
        };
        let job = QueryJob {
            frame: frame.whole.clone(),
            text: Arc::from(text),
            statements: vec![Arc::new(self.as_call(&statement, &schema, &name))],
            permits: Vec::new(),
        };
        self.go_on(job, now);
        true
    }

    fn as_call(&self, statement: &Statement, schema: &str, name: &str) -> Statement {
        let mut accesses = statement.intent.accesses.to_vec();
        accesses.push(Access {
            action: "functionCall",
            object: Object {
                kind: "Database",
                path: [&self.config.target, &self.database].map(Arc::clone).into(),
            },
        });
        Statement {
            intent: Arc::new(Intent::new(accesses, statement.intent.context.to_vec())),
            redacted: Arc::from(format!("function call {schema}.{name}")),
            compared_literals: Vec::new(),
            ..statement.clone()
        }
    }

    fn refuse_call(&mut self, rule: &'static str, code: &str, what: &'static str, now: Now) {
        self.record_refusal(rule, what, "", now);
        self.refuse_query(reply::error(code, &format!("weir: {what}"), ""));
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
