//! A week of statements on the lab's tables, understood as the node does it, and what a candidate's rules say
//! of each by plain comparisons: neither compiled policies nor Cedar are asked here.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use weir_model::fact::{DecisionKind, Fact, FactContext, FactKind};
use weir_model::request::Recorded;
use weir_postgres::catalog::{Catalog, from_ddl};
use weir_postgres::understand::{NameScope, SqlLimits, understand};

use crate::made;

const SCHEMA: &str = include_str!("../../../deploy/policies/shop.schema.sql");

/// What was in force.
pub(crate) const BEFORE: &str = r#"
@id("work") @reason("They read and change schema public.") permit (principal, action in [
    Postgres::Action::"select", Postgres::Action::"readColumn", Postgres::Action::"usePredicate", Postgres::Action::"insert",
    Postgres::Action::"update", Postgres::Action::"delete", Postgres::Action::"writeColumn"
], resource in Postgres::Schema::"demo/shop/public");
"#;

/// What is tried beside it; [`verdict`] says the same in Rust.
pub(crate) const CANDIDATE: &str = r#"
@id("no-ledger") @reason("It is the accountants'.") @advice("Ask them.")
forbid (principal, action == Postgres::Action::"select", resource == Postgres::Table::"demo/shop/public/ledger");
@id("services-read") @reason("Services change nothing.") @advice("Ask an operator.")
forbid (principal, action == Postgres::Action::"update", resource) when { principal.workload == "service" };
@id("asked-first") @reason("It changes every row.") @advice("Add a WHERE.") @hold("dba")
forbid (principal, action == Postgres::Action::"update", resource) when { context.unbounded };
@id("not-at-night") @reason("Nobody is there.") @advice("Come back on Monday.")
forbid (principal, action == Postgres::Action::"delete", resource) when { context.weekday >= 6 || context.time >= 2200 };
@id("small-answers") @reason("Less will do.") @advice("A smaller LIMIT.")
forbid (principal, action == Postgres::Action::"select", resource) when { context has limit && context.limit > 50 };
@id("mail") @reason("Personal.") @advice("Use the id.") @mask("hash")
forbid (principal, action == Postgres::Action::"readColumn", resource == Postgres::Column::"demo/shop/public/customers/email");
"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Read {
        mail: bool,
    },
    /// With a LIMIT.
    Limited,
    Ledger,
    Update,
    UpdateAll,
    Delete,
    Insert,
}

/// `{}` stands for a number.
struct Template {
    family: Family,
    text: String,
}

/// Decision and rule of the candidate, of what was allowed.
type Verdict = (&'static str, &'static str);

fn verdict(family: Family, workload: &str, limit: u64, at_s: i64) -> Verdict {
    const ALLOW: Verdict = ("allow", "work");
    // 1 January 1970 was a Thursday; 1 is a Monday.
    let weekday = (at_s.div_euclid(86_400) + 3).rem_euclid(7) + 1;
    let hour = at_s.rem_euclid(86_400) / 3600;
    match family {
        Family::Ledger => ("deny", "no-ledger"),
        Family::Update | Family::UpdateAll if workload == "service" => ("deny", "services-read"),
        Family::UpdateAll => ("hold", "asked-first"),
        Family::Delete if weekday >= 6 || hour >= 22 => ("deny", "not-at-night"),
        Family::Limited if limit > 50 => ("deny", "small-answers"),
        Family::Read { .. }
        | Family::Limited
        | Family::Update
        | Family::Delete
        | Family::Insert => ALLOW,
    }
}

/// What has to be found.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) requests: u64,
    /// By workload, shape, decision and rule.
    pub(crate) changed: BTreeMap<(String, u64, String, String), u64>,
    /// Still allowed, with a mask.
    pub(crate) masked: u64,
}

impl Truth {
    pub(crate) fn join(&mut self, other: Self) {
        self.requests += other.requests;
        self.masked += other.masked;
        for (key, requests) in other.changed {
            *self.changed.entry(key).or_default() += requests;
        }
    }
}

struct Analysed {
    recorded: Recorded,
    shape: u64,
}

/// Requests of a lane.
pub(crate) struct Asker {
    catalog: Catalog,
    templates: Vec<Template>,
    analysed: HashMap<(usize, u64), Arc<Analysed>>,
    /// Different numbers behind LIMIT.
    limits: u64,
    lane: u32,
    session: u32,
    seq: u32,
    context: Arc<FactContext>,
    pub(crate) truth: Truth,
}

/// Requests of one session.
const SESSION: u32 = 500;
const ANALYSED_MAX: usize = 20_000;

impl Asker {
    pub(crate) fn new(lane: u32, limits: u64) -> Result<Self> {
        Ok(Self {
            catalog: from_ddl(SCHEMA).context("the schema")?,
            templates: templates(),
            analysed: HashMap::new(),
            limits: limits.max(1),
            lane,
            session: 0,
            seq: 0,
            context: context(lane, 0),
            truth: Truth::default(),
        })
    }

    /// The `number`th request, made at `wall_us`.
    pub(crate) fn next(&mut self, number: u64, wall_us: i64) -> Result<Fact> {
        if self.seq >= SESSION {
            self.session += 1;
            self.seq = 0;
            self.context = context(self.lane, self.session);
        }
        self.seq += 1;
        // Spread, so that neighbours are not alike.
        let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let at = usize::try_from(mixed % self.templates.len() as u64)?;
        let template = self.templates.get(at).context("a template")?;
        let family = template.family;
        let limit = if family == Family::Limited {
            1 + (mixed >> 8) % self.limits
        } else {
            0
        };
        let literal = (mixed % 1_000_003).to_string();
        let statement = written(&template.text, &literal, limit);
        let analysed = self.analysed(at, limit)?;
        self.expect(family, limit, wall_us.div_euclid(1_000_000), analysed.shape);
        let mut fact = Fact::new(
            Arc::clone(&self.context),
            FactKind::Request,
            self.seq,
            wall_us,
        );
        fact.statement = Arc::from(statement);
        fact.shape = analysed.shape;
        fact.effects = Arc::clone(&analysed.recorded.effects);
        fact.objects = Arc::clone(&analysed.recorded.objects);
        fact.decision = DecisionKind::Allow;
        fact.rule = Arc::from("work");
        fact.bytes_in = fact.statement.len() as u64 + 6;
        let asked = analysed.recorded.asked.to_string();
        fact.labels = vec![("asked".to_owned(), asked)];
        Ok(fact)
    }

    fn expect(&mut self, family: Family, limit: u64, at_s: i64, shape: u64) {
        let workload = &self.context.workload;
        self.truth.requests += 1;
        self.truth.masked += u64::from(family == Family::Read { mail: true });
        let (decision, rule) = verdict(family, workload, limit, at_s);
        if decision != "allow" {
            let key = (
                workload.clone(),
                shape,
                decision.to_owned(),
                rule.to_owned(),
            );
            *self.truth.changed.entry(key).or_default() += 1;
        }
    }

    fn analysed(&mut self, at: usize, limit: u64) -> Result<Arc<Analysed>> {
        if let Some(known) = self.analysed.get(&(at, limit)) {
            return Ok(Arc::clone(known));
        }
        let template = self.templates.get(at).context("a template")?;
        let scope = NameScope {
            catalog: &self.catalog,
            target: &Arc::from("demo"),
            database: &Arc::from("shop"),
            search_path: &[Arc::from("public")],
            role: &Arc::from("weir_app"),
            lenient: false,
            path_settled: true,
        };
        let text = written(&template.text, "1", limit);
        let understood = understand(&text, &scope, &SqlLimits::default());
        let statements = understood.map_err(|refusal| anyhow::anyhow!("{text}: {refusal}"))?;
        let statement = statements.first().context("a statement")?;
        ensure!(statements.len() == 1, "{text}: several statements");
        let analysed = Arc::new(Analysed {
            recorded: Recorded::of(&statement.intent),
            shape: statement.shape,
        });
        if self.analysed.len() >= ANALYSED_MAX {
            self.analysed.clear();
        }
        self.analysed.insert((at, limit), Arc::clone(&analysed));
        Ok(analysed)
    }
}

fn written(text: &str, literal: &str, limit: u64) -> String {
    let mut written = text.replace("{}", literal);
    if limit > 0 {
        written.push_str(&format!(" limit {limit}"));
    }
    written
}

fn templates() -> Vec<Template> {
    let mut templates = Vec::new();
    let mut add = |family, text: String| templates.push(Template { family, text });
    let orders = ["item", "amount", "status", "note", "placed_at"];
    let customers = ["name", "email", "city", "created_at"];
    for (table, columns) in [("orders", &orders[..]), ("customers", &customers[..])] {
        for (at, first) in columns.iter().enumerate() {
            for second in columns.iter().skip(at) {
                let mail = [first, second].contains(&&"email");
                for filter in ["id = {}", "id > {}", "id between 1 and {} order by id"] {
                    let text =
                        format!("select id, {first}, {second} as b from {table} where {filter}");
                    add(Family::Read { mail }, text);
                }
            }
        }
    }
    for column in orders {
        add(
            Family::Limited,
            format!("select id, {column} from orders where id > {{}} order by id"),
        );
        let joined = "from orders o join customers c on c.id = o.customer_id where o.id = {}";
        add(
            Family::Read { mail: false },
            format!("select o.{column}, c.name {joined}"),
        );
        add(
            Family::Read { mail: true },
            format!("select o.{column}, c.email {joined}"),
        );
        let counted =
            format!("select {column}, count(*) from orders where id > {{}} group by {column}");
        add(Family::Read { mail: false }, counted);
    }
    for column in ["account", "delta", "at"] {
        add(
            Family::Ledger,
            format!("select {column} from ledger where id = {{}}"),
        );
    }
    for column in ["status", "note", "item"] {
        add(
            Family::Update,
            format!("update orders set {column} = 'x{{}}' where id = {{}}"),
        );
        add(
            Family::UpdateAll,
            format!("update orders set {column} = 'x{{}}'"),
        );
    }
    for table in ["orders", "customers", "ledger"] {
        add(
            Family::Delete,
            format!("delete from {table} where id = {{}}"),
        );
    }
    add(
        Family::Insert,
        "insert into orders (id, customer_id, item, amount, placed_at) values ({}, 1, 'x', 1, now())".to_owned(),
    );
    templates
}

/// Three workloads, four principals each.
fn context(lane: u32, session: u32) -> Arc<FactContext> {
    Arc::new(FactContext {
        principal: format!("20000000-0000-4000-8000-{:012}", session % 12),
        application: format!("30000000-0000-4000-8000-{:012}", session % 12),
        ..made::context(lane, session)
    })
}
