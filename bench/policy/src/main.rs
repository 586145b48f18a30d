//! Decision times of policy sets of several sizes; `cargo xtask bench policy` runs it.
//!
//! What the measured agent may do is the same in every set: the others hold policies of other
//! teams, tables and targets beside. All sizes are measured turn by turn within each round.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weir_decide::{
    Bound, Engine, Lifted, Outcome, PolicySet, PolicySettings, PolicySource, TargetRef,
};
use weir_model::ident::{EvidenceKind, Groups, Principal, PrincipalKind, SessionId};
use weir_model::request::{Access, AttrValue, Intent, Object};
use weir_model::time::Now;
use weir_postgres::vocabulary::VOCABULARY;

const ANALYSTS: &str = "9a000000-0000-4000-8000-000000000001";
/// Shapes that are asked for in turn.
const SHAPES: usize = 64;
/// Cached decisions of one measurement.
const REPEATS: usize = 200;
const NOW: Now = Now {
    mono_us: 0,
    wall_us: 1_782_907_200_000_000,
};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().context("rounds")?.parse()?;
    let sizes: Vec<usize> = arguments
        .map(|size| size.parse())
        .collect::<Result<_, _>>()?;
    ensure!(
        rounds > 0 && !sizes.is_empty(),
        "rounds and sizes are needed"
    );
    let mut sets = Vec::new();
    for size in sizes {
        let sources = sources(size);
        let settings = settings(size);
        let mut load = Vec::new();
        for _round in 0..rounds.min(5) {
            let started = now();
            let set = compiled(&sources, &settings)?;
            ensure!(
                set.lints().is_empty(),
                "the policies of the measurement are clean"
            );
            load.push(started.elapsed());
        }
        sets.push(Size {
            size,
            set: Arc::new(compiled(&sources, &settings)?),
            load,
            bind: Vec::new(),
            cold: Vec::new(),
            cached: Vec::new(),
            cedar: Vec::new(),
        });
    }
    let intents: Vec<Arc<Intent>> = (0..SHAPES).map(intent).collect();
    for _round in 0..rounds {
        for size in &mut sets {
            size.measure(&intents)?;
        }
    }
    for size in &sets {
        print(&size.result());
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "what is measured is time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::print_stdout, reason = "the result goes to whoever started it")]
fn print(value: &serde_json::Value) {
    println!("{value}");
}

struct Size {
    size: usize,
    set: Arc<PolicySet>,
    load: Vec<Duration>,
    bind: Vec<Duration>,
    cold: Vec<Duration>,
    cached: Vec<Duration>,
    cedar: Vec<Duration>,
}

impl Size {
    fn measure(&mut self, intents: &[Arc<Intent>]) -> Result<()> {
        let who = analyst();
        let target = TargetRef {
            name: Arc::from("demo"),
            namespace: "Postgres",
        };
        let started = now();
        let mut bound = self.set.bind(&who, &target);
        self.bind.push(started.elapsed());
        let started = now();
        for intent in intents {
            ask(&mut bound, intent)?;
        }
        self.cold
            .push(started.elapsed() / u32::try_from(intents.len())?);
        let started = now();
        for _repeat in 0..REPEATS {
            for intent in intents {
                ask(&mut bound, intent)?;
            }
        }
        let asked = u32::try_from(REPEATS * intents.len())?;
        self.cached.push(started.elapsed() / asked);
        // Cedar takes seconds for what the index does in microseconds: one shape is enough.
        let mut cedar = self.set.bind_by(&who, &target, Engine::Cedar);
        let started = now();
        ask(&mut cedar, intents.first().context("a shape")?)?;
        self.cedar.push(started.elapsed());
        Ok(())
    }

    fn result(&self) -> serde_json::Value {
        json!({
            "policies": self.size,
            "load_ms": nanos(&self.load) / 1e6,
            "bind_us": nanos(&self.bind) / 1e3,
            "cold_us": nanos(&self.cold) / 1e3,
            "cached_ns": nanos(&self.cached),
            "cedar_us": nanos(&self.cedar) / 1e3,
        })
    }
}

/// The median, in nanoseconds.
fn nanos(samples: &[Duration]) -> f64 {
    let mut samples = samples.to_vec();
    samples.sort_unstable();
    let median = samples.get(samples.len() / 2).copied().unwrap_or_default();
    median.as_secs_f64() * 1e9
}

fn ask(bound: &mut Bound, intent: &Arc<Intent>) -> Result<()> {
    let outcome = bound.decide(1, SessionId(1), intent, &Lifted::none(), NOW);
    ensure!(matches!(outcome, Outcome::Permit(_)), "{outcome:?}");
    Ok(())
}

fn compiled(sources: &[PolicySource], settings: &PolicySettings) -> Result<PolicySet> {
    PolicySet::compile(sources, &[&VOCABULARY], settings).map_err(|problems| {
        let first = problems.first().map(ToString::to_string);
        anyhow::anyhow!("{} problems: {first:?}", problems.len())
    })
}

fn team(number: usize) -> String {
    format!("9a000000-0000-4000-9000-{number:012}")
}

fn settings(size: usize) -> PolicySettings {
    PolicySettings {
        reviewer_groups: BTreeSet::from(["dba".to_owned()]),
        targets: vec!["demo".to_owned(), "other".to_owned()],
        group_aliases: (0..size)
            .map(|number| (format!("team{number}"), team(number)))
            .chain([("analysts".to_owned(), ANALYSTS.to_owned())])
            .collect::<BTreeMap<_, _>>(),
    }
}

/// Seven policies of the agent that is measured, and others up to `size`.
fn sources(size: usize) -> Vec<PolicySource> {
    let mut text = String::from(OWN);
    for number in 0..size.saturating_sub(7) {
        // Other teams on tables of their own, on the same tables, and on another target.
        let (schema, target) = match number % 3 {
            0 => (format!("team{number}"), "demo"),
            1 => ("public".to_owned(), "demo"),
            _ => ("public".to_owned(), "other"),
        };
        let (head, action, tail) = match number % 4 {
            0 | 1 => ("permit", "select", ""),
            2 => (
                "@hold(\"dba\") forbid",
                "delete",
                " when { context.unbounded }",
            ),
            _ => ("@mask(\"redact\") forbid", "readColumn", ""),
        };
        let resource = if action == "readColumn" {
            format!("resource == Postgres::Column::\"{target}/shop/{schema}/t{number}/secret\"")
        } else {
            format!("resource in Postgres::Schema::\"{target}/shop/{schema}\"")
        };
        // Writing to a String cannot fail.
        let _infallible = writeln!(
            text,
            "@id(\"team-{number}\") @reason(\"Team {number} needs it.\") @advice(\"Ask.\") {head} \
             (principal in Weir::Group::\"team{number}\", action == Postgres::Action::\"{action}\", \
             {resource}){tail};"
        );
    }
    if size > 7 {
        // Obligations of the others need something that they stand on.
        text.push_str(
            "@id(\"others\") @reason(\"Deleting is held.\") permit (principal in \
             Weir::Group::\"team0\", action == Postgres::Action::\"delete\", \
             resource in Postgres::Schema::\"demo/shop/team0\");\n",
        );
    }
    vec![PolicySource {
        name: "bench.cedar".to_owned(),
        text,
    }]
}

const OWN: &str = r#"
@id("read") @reason("Analysts read.") permit (
    principal in Weir::Group::"analysts",
    action in [Postgres::Action::"select", Postgres::Action::"readColumn", Postgres::Action::"usePredicate"],
    resource in Postgres::Schema::"demo/shop/public"
);
@id("session") @reason("Sessions.") permit (
    principal in Weir::Group::"analysts",
    action == Postgres::Action::"session",
    resource == Postgres::Database::"demo/shop"
);
@id("mask-ssn") @reason("Personal.") @advice("Use the id.") @mask("redact") forbid (
    principal,
    action == Postgres::Action::"readColumn",
    resource == Postgres::Column::"demo/shop/public/customers/ssn"
);
@id("mask-email") @reason("Personal.") @advice("Use the id.") @mask("hash") forbid (
    principal,
    action == Postgres::Action::"readColumn",
    resource == Postgres::Column::"demo/shop/public/customers/email"
) when { !(principal in Weir::Group::"team0") };
@id("no-vault") @reason("Secrets.") @advice("Ask.") forbid (
    principal, action, resource in Postgres::Schema::"demo/shop/vault"
);
@id("no-unknown") @reason("Unclear.") @advice("Check the name.") forbid (
    principal, action == Postgres::Action::"callUnknown", resource
);
@id("bounded") @reason("Joins.") @advice("Join less.") forbid (
    principal, action == Postgres::Action::"select", resource
) when { context.joins > 12 };
"#;

fn analyst() -> Principal {
    Principal {
        kind: PrincipalKind::Application,
        cloud: Arc::from("bench"),
        tenant: Arc::from("9a000000-0000-4000-8000-0000000000aa"),
        oid: Arc::from("9a000000-0000-4000-8000-0000000000bb"),
        app: Arc::from("9a000000-0000-4000-8000-0000000000cc"),
        roles: BTreeSet::from([Arc::from("Agent.Run")]),
        groups: Groups::Known(BTreeSet::from([Arc::from(ANALYSTS)])),
        on_behalf_of: None,
        token_id: Arc::from(""),
        evidence: EvidenceKind::Federated,
        workload: Arc::from("analyst"),
        valid_until_s: i64::MAX,
    }
}

/// A join of two tables with five columns: eleven effects on objects.
fn intent(number: usize) -> Arc<Intent> {
    let orders = format!("orders{number}");
    let object = |kind: &'static str, rest: &[&str]| Object {
        kind,
        path: ["demo", "shop", "public"]
            .iter()
            .chain(rest)
            .map(|part| Arc::from(*part))
            .collect(),
    };
    let mut accesses = Vec::new();
    for (table, columns) in [
        ("customers", &["id", "name", "ssn", "email"][..]),
        (&orders, &["id", "customer_id", "item"][..]),
    ] {
        accesses.push(Access {
            action: "select",
            object: object("Table", &[table]),
        });
        for column in columns {
            accesses.push(Access {
                action: "readColumn",
                object: object("Column", &[table, column]),
            });
        }
    }
    for (table, column) in [("customers", "id"), (orders.as_str(), "customer_id")] {
        accesses.push(Access {
            action: "usePredicate",
            object: object("Column", &[table, column]),
        });
    }
    let no = AttrValue::Bool(false);
    let context = vec![
        ("statement", AttrValue::String(Arc::from("SELECT"))),
        ("readOnly", AttrValue::Bool(true)),
        ("unbounded", no.clone()),
        ("returning", no.clone()),
        ("joins", AttrValue::Long(1)),
        ("hasUnknownFunction", no.clone()),
        ("securityDefiner", no.clone()),
        ("triggers", no),
    ];
    Arc::new(Intent::new(accesses, context))
}
