//! From a flow's workload to a governor: sign-in, process evidence, policy.

use std::sync::Arc;

use tokio::time::{Duration, timeout};
use weir_govern::{Governor, Presented};
use weir_identify::{Presenter, Unidentified};
use weir_model::fact::{FactContext, FactKind};
use weir_model::flow::{FlowOrigin, ProcessEvidence};
use weir_model::ident::{Principal, SessionId};
use weir_model::time::Now;

use crate::killed;
use crate::node::{Node, Target};
use crate::subject::Subject;

/// Sign-in and evidence together; a client waits in its start-up for this long at most.
const BIND_TIME_MAX: Duration = Duration::from_secs(20);

/// A binding is renewed when this much of it is left, at the latest.
const RENEW_BEFORE_S: i64 = 60;

/// A flow could not be bound. Both texts are fixed sentences; `operator` is for the record.
pub(crate) struct Unbound {
    pub(crate) code: &'static str,
    pub(crate) text: &'static str,
    pub(crate) operator: String,
}

/// Whose it is, once signed in.
pub(crate) struct BoundFlow {
    pub(crate) subject: Subject,
    pub(crate) process: ProcessEvidence,
    /// Microseconds.
    pub(crate) took_us: u64,
}

/// Signs the workload in and gathers evidence on the process; runs on the control runtime.
pub(crate) async fn bind_flow(
    node: Arc<Node>,
    workload: Arc<str>,
    origin: FlowOrigin,
    presented: Option<Presented>,
) -> Result<BoundFlow, Unbound> {
    let work = bind_within(node, workload, origin, presented);
    match timeout(BIND_TIME_MAX, work).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(Unbound {
            code: "timeout",
            text: "weir: the sign-in of this workload took too long; try again",
            operator: "no answer from broker or Entra within 20 s".to_owned(),
        }),
    }
}

async fn bind_within(
    node: Arc<Node>,
    workload: Arc<str>,
    origin: FlowOrigin,
    presented: Option<Presented>,
) -> Result<BoundFlow, Unbound> {
    let started_us = weir_clock::mono_us();
    // Evidence never blocks a flow: the identity was captured with the cgroup.
    let process = node.host.process(origin.process());
    let own = sign_in(&node, &workload, origin.cgroup.0).await?;
    let subject = match presented {
        None => Subject::own(own),
        Some(token) => present(&node, own, token.expose()).await?,
    };
    unrevoked(&node, &subject, (&workload, origin.cgroup.0))?;
    let process = match process.await {
        Ok(evidence) => evidence,
        Err(_gone) => ProcessEvidence {
            pid: origin.pid,
            uid: origin.uid,
            comm: origin.comm.clone(),
            ..ProcessEvidence::default()
        },
    };
    Ok(BoundFlow {
        subject,
        process,
        took_us: weir_clock::mono_us().saturating_sub(started_us),
    })
}

/// # Errors
/// Somebody of the subject is on the kill list.
pub(crate) fn unrevoked(
    node: &Node,
    subject: &Subject,
    (workload, cgroup): (&str, u64),
) -> Result<(), Unbound> {
    if subject.revoked(node, workload, cgroup) {
        let oid = &subject.principal.oid;
        return Err(Unbound {
            code: "revoked",
            text: killed::TEXT,
            operator: format!("{oid} of {workload} is on the kill list"),
        });
    }
    Ok(())
}

/// A client of the workload `own` presented a token; nothing of the token is in an error.
pub(crate) async fn present(
    node: &Node,
    own: Arc<Principal>,
    token: &str,
) -> Result<Subject, Unbound> {
    let presenter = Presenter {
        name: &own.workload,
        tenant: &own.tenant,
        client_id: &own.app,
    };
    let is_workloads = |app: &str| node.has_application(app);
    let now = weir_clock::now();
    match node
        .identify
        .presented(token, &presenter, is_workloads, now)
        .await
    {
        Ok(principal) => Ok(Subject::presented(Arc::new(principal), own)),
        Err(error) => Err(of_presenter(&error)),
    }
}

fn of_presenter(error: &Unidentified) -> Unbound {
    Unbound {
        code: error.code(),
        text: error.presenter_text(),
        operator: format!("presented token: {}", error.operator_text()),
    }
}

/// Asks again whether a live flow's subject is still who it was: the workload by a sign-in, the
/// subject of a presented token by its end and by Graph.
pub(crate) async fn renew(
    node: &Node,
    (workload, cgroup): (&str, u64),
    subject: Subject,
) -> Result<Subject, Unbound> {
    let own = sign_in(node, workload, cgroup).await?;
    if subject.attested.is_none() {
        return Ok(Subject::own(own));
    }
    let now = weir_clock::now();
    match node.identify.still_presented(&subject.principal, now).await {
        Ok(()) => Ok(Subject::presented(subject.principal, own)),
        Err(Unidentified::Token { .. }) => Err(Unbound {
            code: "presented_expired",
            text: "weir: the access token that this session presented has ended; connect again \
                   with a new one",
            operator: "the presented token has ended".to_owned(),
        }),
        Err(error) => Err(of_presenter(&error)),
    }
}

/// Only the sign-in; used again when a binding is about to end.
pub(crate) async fn sign_in(
    node: &Node,
    workload: &str,
    cgroup: u64,
) -> Result<Arc<Principal>, Unbound> {
    let whose = node.whose(workload, cgroup).await?;
    let identity = &whose.identity;
    let now = weir_clock::now();
    if let Some(principal) = node.identify.cached(identity, now) {
        return Ok(principal);
    }
    let handed = if identity.method.wants_assertion() {
        let assertion = node.host.assertion(workload, whose.pod.clone()).await;
        Some(assertion.map_err(|error| Unbound {
            code: "no_assertion",
            text: "weir: the service-account token of this workload cannot be had",
            operator: error.to_string(),
        })?)
    } else {
        None
    };
    let outcome = node
        .identify
        .bind(identity, handed, weir_clock::now())
        .await;
    outcome.map_err(|error| {
        if error.revokes() {
            // Whichever flow heard it first: all that are the same end now.
            let ended = node.end_all_of(workload, &whose, error.agent_text());
            tracing::warn!(workload, ended, reason = %error.operator_text(), "Entra revoked");
        }
        Unbound {
            code: error.code(),
            text: error.agent_text(),
            operator: error.operator_text(),
        }
    })
}

/// Seconds after which a live flow asks again whether its workload is still who it was.
pub(crate) fn look_again_s(
    node: &Node,
    (workload, cgroup): (&str, u64),
    subject: &Subject,
    now: Now,
) -> u64 {
    let left_s = |principal: &Principal, before_s: i64| {
        let left_s = (principal.valid_until_s - before_s - now.unix_s()).max(1);
        u64::try_from(left_s).unwrap_or(1)
    };
    let left_s = match &subject.attested {
        None => left_s(&subject.principal, RENEW_BEFORE_S),
        // Nothing renews a presented token: it is good until its very end.
        Some(own) => left_s(own, RENEW_BEFORE_S).min(left_s(&subject.principal, 0)),
    };
    match node.identity_now(workload, cgroup) {
        Some(identity) => left_s.min(node.identify.look_again_s(&identity, now)),
        // Of a pod that is not known any more, or not yet in a process that took the flow over.
        None => 1,
    }
}

/// The columns of the record that stay the same for the whole flow.
pub(crate) fn context(
    node: &Node,
    session: SessionId,
    workload: &str,
    origin: &FlowOrigin,
    target: Option<&Target>,
) -> FactContext {
    FactContext {
        session_id: session.0,
        cluster: node.settings.cluster.clone(),
        node: node.settings.node.clone(),
        workload: workload.to_owned(),
        agent: workload.to_owned(),
        target: target
            .map(|target| target.name.to_string())
            .unwrap_or_default(),
        protocol: target
            .map(|target| target.protocol.name().to_owned())
            .unwrap_or_default(),
        uid: origin.uid,
        pid: origin.pid,
        comm: origin.comm.clone(),
        cgroup_id: origin.cgroup.0,
        client_addr: origin.client.0.to_string(),
        server_addr: origin.dst.0.to_string(),
        ..FactContext::default()
    }
}

/// A governor whose first facts are the flow and its identity.
pub(crate) fn governor(
    node: &Node,
    target: &Target,
    base: &FactContext,
    flow: &BoundFlow,
    now: Now,
) -> Governor {
    let process = &flow.process;
    let policies = Arc::clone(&node.policies.borrow());
    let bound = flow.subject.bind(&policies, target);
    let context = FactContext {
        policy_version: bound.policy_version(),
        ..of_principal(base.clone(), &flow.subject.principal)
    };
    // Number and uid are those of the connect.
    let context = of_process(context, base.uid, process);
    let session = SessionId(base.session_id);
    let mut governor = Governor::new(session, Arc::new(context), Box::new(bound));
    governor.note(FactKind::Flow, "opened", "", now);
    let presenter = flow.subject.note().unwrap_or_default();
    governor.note_identity("bound", &presenter, (flow.took_us, now));
    governor
}

/// The columns of a principal.
pub(crate) fn of_principal(base: FactContext, principal: &Principal) -> FactContext {
    FactContext {
        tenant: principal.tenant.to_string(),
        principal: principal.oid.to_string(),
        application: principal.app.to_string(),
        on_behalf_of: principal
            .on_behalf_of
            .as_deref()
            .unwrap_or_default()
            .to_owned(),
        groups: principal
            .groups
            .certain()
            .map(ToString::to_string)
            .collect(),
        roles: principal.roles.iter().map(ToString::to_string).collect(),
        token_id: principal.token_id.to_string(),
        evidence: principal.evidence.label().to_owned(),
        ..base
    }
}

/// The same columns, of another process.
pub(crate) fn of_process(context: FactContext, uid: u32, process: &ProcessEvidence) -> FactContext {
    FactContext {
        uid,
        pid: process.pid,
        ppid: process.ppid,
        comm: process.comm.clone(),
        exe: process.exe.clone(),
        exe_id: process.exe_id.clone(),
        exe_sha256: process.exe_sha256.clone(),
        argv: json_texts(&process.argv),
        parents: process.parents.clone(),
        cgroup_path: process.cgroup_path.clone(),
        container: process.container.clone(),
        pod: process.pod.clone(),
        lineage: process.lineage.clone(),
        netns_inode: process.netns_inode,
        ..context
    }
}

/// A JSON array of texts.
fn json_texts(texts: &[String]) -> String {
    let mut json = String::from("[");
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        json.push('"');
        for c in text.chars() {
            match c {
                '"' => json.push_str("\\\""),
                '\\' => json.push_str("\\\\"),
                c if u32::from(c) < 0x20 => json.push_str(&format!("\\u{:04x}", u32::from(c))),
                c => json.push(c),
            }
        }
        json.push('"');
    }
    json.push(']');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argv_is_valid_json_whatever_is_in_it() {
        let texts = ["psql".to_owned(), "a\"b\\c\n\u{1}é".to_owned()];
        assert_eq!(json_texts(&texts), r#"["psql","a\"b\\c\u000a\u0001é"]"#);
        assert_eq!(json_texts(&[]), "[]");
    }
}
