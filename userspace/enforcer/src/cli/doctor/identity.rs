//! Identity: is Entra there, is the clock right, do the registrations hold as far as a token shows.

use std::path::Path;
use std::sync::Arc;

use weir_identify::{
    ClaimsSummary, ClockSkew, Identify, Method, Secret, Unidentified, WorkloadIdentity,
    registration_advice,
};
use weir_relay::WorkloadBinding;

use super::{Report, State};
use crate::config::{Config, How, TokenSource};
use crate::daemon::identities;

/// A clock may be off by this without a word.
const CLOCK_S_OK: i64 = 5;
/// As the broker reads it.
const HANDED_BYTES_MAX: u64 = 64 * 1024;

pub(super) async fn look(config: &Config, report: &mut Report) {
    let identify = match identities::identify(config) {
        Ok(identify) => identify,
        Err(error) => return report.say("identity", State::Failed, format!("{error:#}")),
    };
    for (tenant, outcome) in identify.reach(weir_clock::now()).await {
        let what = format!("tenant {tenant}");
        match outcome {
            Ok(()) => report.say(&what, State::Ok, "its endpoints and keys are here"),
            Err(error) => report.say(&what, State::Failed, error.operator_text()),
        }
    }
    match identify.clock_skew().await {
        Ok(skew) => {
            let (state, text) = clock(skew);
            report.say("clock", state, text);
        }
        Err(error) => report.say("clock", State::Degraded, error.operator_text()),
    }
    if identify.has_graph() {
        report.say("Graph", State::Ok, "asked for groups and disabled accounts");
    } else if config.targets.iter().any(|target| target.accept_token) {
        let text = "identity.graph is not set: that the subject of a presented token was disabled \
                    is heard of when the token ends";
        report.say("Graph", State::Degraded, text);
    }
    if !nix::unistd::Uid::effective().is_root() {
        return report.say("sign-ins", State::Degraded, "not looked at: run as root");
    }
    match identities::read(config, &Arc::default()) {
        Ok(bindings) => {
            let mut names: Vec<_> = bindings.keys().cloned().collect();
            names.sort();
            for name in names {
                match bindings.get(&name) {
                    Some(WorkloadBinding::Whole(one)) => {
                        sign_in(config, &identify, one, report).await;
                    }
                    Some(WorkloadBinding::Pods(_)) => {
                        let text = "not tried: each of its pods signs in for itself";
                        report.say(&format!("sign-in of {name}"), State::Ok, text);
                    }
                    None => {}
                }
            }
        }
        Err(error) => report.say("workloads", State::Failed, format!("{error:#}")),
    }
}

fn clock(ClockSkew { ahead_s, allowed_s }: ClockSkew) -> (State, String) {
    let by = match ahead_s {
        0 => return (State::Ok, "as the authority's".to_owned()),
        ahead_s if ahead_s > 0 => format!("{ahead_s} s ahead of the authority's"),
        behind_s => format!("{} s behind the authority's", -behind_s),
    };
    let set = "synchronise it (timedatectl set-ntp true)";
    match ahead_s.abs() {
        off if off <= CLOCK_S_OK => (State::Ok, by),
        off if off < allowed_s => (State::Degraded, format!("{by}: {set}")),
        _ => (
            State::Failed,
            format!("{by}, and {allowed_s} s are allowed: every token is refused; {set}"),
        ),
    }
}

/// What the broker would hand over, where it is in a file; `Err` says why it is not looked at.
fn handed(config: &Config, identity: &WorkloadIdentity) -> Result<Option<Secret>, String> {
    match &identity.method {
        Method::Person => return Err("not looked at: a person signs in (weir run)".to_owned()),
        Method::Federated(_) | Method::AgentId { .. } => {}
        Method::Certificate(_) | Method::Secret(_) | Method::Managed => return Ok(None),
    }
    let workload = config
        .workloads
        .iter()
        .find(|workload| *workload.name == *identity.name);
    let how = workload.map(|workload| &workload.sign_in.how);
    let Some(How::Federated(token) | How::AgentId { token, .. }) = how else {
        return Err("not looked at".to_owned());
    };
    let path = match token {
        TokenSource::File(path) => path,
        TokenSource::Request(request) => &request.credential_file,
        TokenSource::InContainer(_) => {
            return Err("not looked at: its token is inside a container".to_owned());
        }
        TokenSource::Kubelet => {
            return Err("not looked at: each of its pods has a token of its own".to_owned());
        }
    };
    read(path).map(Some)
}

fn read(path: &Path) -> Result<Secret, String> {
    use std::io::Read;
    let mut text = zeroize::Zeroizing::new(String::new());
    std::fs::File::open(path)
        .and_then(|file| file.take(HANDED_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Secret::new(text.trim()))
}

async fn sign_in(
    config: &Config,
    identify: &Identify,
    identity: &WorkloadIdentity,
    report: &mut Report,
) {
    let what = format!("sign-in of {}", identity.name);
    let handed = match handed(config, identity) {
        Ok(handed) => handed,
        Err(why) => return report.say(&what, State::Ok, why),
    };
    let now = weir_clock::now();
    match identify.examine(identity, handed, now).await {
        Ok(found) => report.say(&what, State::Ok, found_text(&found, now.unix_s())),
        Err(error) => report.say(&what, State::Failed, wrong_text(&error)),
    }
}

fn found_text(found: &ClaimsSummary, now_s: i64) -> String {
    format!(
        "token version 2 for this audience, {} {}, roles {}, groups {} ({}), {} min to live",
        found.kind,
        found.oid,
        found.roles.join(" "),
        found.groups_state,
        found.groups.len(),
        (found.expires_s - now_s) / 60
    )
}

fn wrong_text(error: &Unidentified) -> String {
    match registration_advice(error) {
        Some(advice) => format!("{}; {advice}", error.operator_text()),
        None => error.operator_text(),
    }
}

#[cfg(test)]
mod tests {
    use weir_identify::ClockSkew;

    use super::{State, clock};

    #[test]
    fn a_clock_is_right_off_or_too_far_off() {
        let said = |ahead_s| {
            clock(ClockSkew {
                ahead_s,
                allowed_s: 60,
            })
        };
        assert!(said(0).0 == State::Ok && said(-3).0 == State::Ok);
        assert!(said(30).0 == State::Degraded);
        let (state, text) = said(-600);
        assert!(state == State::Failed);
        assert!(
            text.starts_with("600 s behind") && text.contains("timedatectl"),
            "{text}"
        );
    }
}
