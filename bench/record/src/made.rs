//! Facts of a made-up day: a few hundred shapes of statements with their own literals, replies of some rows.

use std::sync::Arc;

use weir_model::fact::{DecisionKind, Fact, FactContext, FactKind};

/// Facts of one session.
const SESSION_FACTS: u32 = 5000;
const TABLES: [&str; 8] = [
    "orders",
    "customers",
    "invoices",
    "items",
    "shipments",
    "events",
    "accounts",
    "audits",
];
const COLUMNS: [&str; 5] = ["status", "region", "created_at", "amount", "owner"];

/// One session after the other, in requests and replies.
pub(crate) struct Made {
    lane: u32,
    session: u32,
    seq: u32,
    number: u64,
    context: Arc<FactContext>,
}

impl Made {
    pub(crate) fn new(lane: u32) -> Self {
        Self {
            lane,
            session: 0,
            seq: 0,
            number: 0,
            context: Arc::new(context(lane, 0)),
        }
    }

    /// The next one: a request, or the reply to it.
    pub(crate) fn next(&mut self, wall_us: i64) -> Fact {
        if self.seq >= SESSION_FACTS {
            self.session += 1;
            self.seq = 0;
            self.context = Arc::new(context(self.lane, self.session));
        }
        self.seq += 1;
        if self.seq % 2 == 1 {
            self.number += 1;
            self.request(wall_us)
        } else {
            self.reply(wall_us)
        }
    }

    fn pick<'a>(&self, from: &[&'a str], step: u64) -> &'a str {
        let at = usize::try_from(self.number / step).unwrap_or(0) % from.len();
        from.get(at).copied().unwrap_or("")
    }

    fn request(&self, wall_us: i64) -> Fact {
        let (table, column) = (self.pick(&TABLES, 3), self.pick(&COLUMNS, 7));
        let context = Arc::clone(&self.context);
        let mut fact = Fact::new(context, FactKind::Request, self.seq, wall_us);
        fact.statement = Arc::from(format!(
            "select id, {column}, total from shop.{table} where id = {} and {column} is not null \
             order by id limit {}",
            self.number.wrapping_mul(2_654_435_761) % 1_000_003,
            10 + self.number % 7
        ));
        fact.shape = self.number % 280 + 1;
        fact.effects = ["readColumn", "select", "usePredicate"]
            .map(str::to_owned)
            .into();
        let object = |kind: &str, rest: &str| format!("{kind}:demo/shop/public/{table}{rest}");
        fact.objects = [
            object("Column", "/id"),
            object("Column", &format!("/{column}")),
            object("Column", "/total"),
            object("Table", ""),
        ]
        .into();
        fact.decision = DecisionKind::Allow;
        fact.rule = Arc::from("analysts-read");
        fact.bytes_in = 120 + self.number % 60;
        let asked = "0.0 0.1 0.2 1.3 2.0 2.1|hasUnknownFunction=b0|joins=i0|limit=i10|readOnly=b1|\
                     returning=b0|securityDefiner=b0|statement=sSELECT|triggers=b0|unbounded=b0";
        fact.labels = vec![("asked".to_owned(), asked.to_owned())];
        fact
    }

    fn reply(&self, wall_us: i64) -> Fact {
        let context = Arc::clone(&self.context);
        let mut fact = Fact::new(context, FactKind::Reply, self.seq, wall_us);
        fact.reply_to = self.seq - 1;
        fact.rows = 1 + self.number % 5;
        fact.bytes_out = fact.rows * 70;
        fact.duration_us = 300 + self.number.wrapping_mul(48_271) % 4000;
        fact.server_us = fact.duration_us - 100;
        fact.masked_values = fact.rows;
        fact.mask_rules = ["Column:demo/shop/public/customers/owner: hash".to_owned()].into();
        "ok".clone_into(&mut fact.status);
        for row in 0..fact.rows {
            let number = self.number.wrapping_mul(7919).wrapping_add(row);
            fact.response_masked.push_str(&format!(
                "[\"{number}\",\"open\",\"{:016x}\"]\n",
                number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ));
        }
        fact
    }
}

/// Of a session's facts.
pub(crate) fn context(lane: u32, session: u32) -> FactContext {
    let number = (u128::from(lane) << 32) | u128::from(session);
    let workload = ["analyst", "operator", "service"]
        .get(session as usize % 3)
        .copied()
        .unwrap_or("analyst");
    FactContext {
        session_id: 0x0190_f0c2_0000_7000_8000_0000_0000_0000 | number,
        cluster: "lab".to_owned(),
        node: "n1".to_owned(),
        workload: workload.to_owned(),
        agent: workload.to_owned(),
        target: "demo".to_owned(),
        protocol: "postgres".to_owned(),
        tenant: "10000000-0000-4000-8000-000000000001".to_owned(),
        principal: "20000000-0000-4000-8000-000000000002".to_owned(),
        application: "30000000-0000-4000-8000-000000000003".to_owned(),
        groups: vec!["40000000-0000-4000-8000-000000000004".to_owned()],
        roles: vec!["Agent.Run".to_owned()],
        token_id: format!("uti-{session}"),
        evidence: "federated".to_owned(),
        uid: 1000,
        pid: 4000 + session,
        ppid: 3999,
        comm: "python3".to_owned(),
        exe: "/usr/bin/python3.11".to_owned(),
        exe_id: "8:1:123456".to_owned(),
        exe_sha256: "f".repeat(64),
        argv: "[\"python3\",\"agent.py\",\"--task\",\"report\"]".to_owned(),
        parents: vec!["3999 /usr/bin/bash".to_owned(), "1 /sbin/init".to_owned()],
        cgroup_id: 99,
        cgroup_path: "/agents/analyst".to_owned(),
        client_addr: format!("10.1.0.2:{}", 40_000 + session % 20_000),
        server_addr: "10.2.0.2:5432".to_owned(),
        policy_version: 7,
        ..FactContext::default()
    }
}
