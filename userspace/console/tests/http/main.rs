//! The console over HTTP: a real store of approvals, a stand-in for the authority and for the node.

#![expect(clippy::unwrap_used, reason = "tests panic")]

mod world;

use axum::http::StatusCode;
use world::{ALICE, AUDITOR, BOB, ERIN, World};

#[tokio::test]
async fn without_a_session_there_is_a_sign_in_and_nothing_else() {
    let world = World::new();
    for path in [
        "/",
        "/approvals",
        "/sessions?q=x",
        "/flows",
        "/policies",
        "/revocations",
    ] {
        let answer = world.get("", path).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{path}");
        assert!(
            answer.header("location").starts_with("/sign-in?next=%2F"),
            "{path}"
        );
    }
    assert_eq!(
        world.get("", "/events").await.status,
        StatusCode::UNAUTHORIZED
    );
    let held = world.hold("agent", "").await;
    let sent = world
        .post(
            "",
            &format!("/approvals/{held}/decision"),
            "decision=approve",
        )
        .await;
    assert_eq!(sent.status, StatusCode::UNAUTHORIZED);
    assert_eq!(world.state_of(&held).await, "pending");
    assert_eq!(
        world.get("", "/nowhere").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn every_answer_carries_the_rules_for_browsers() {
    let world = World::new();
    let cookie = world.sign_in(ALICE).await;
    for path in ["/sign-in", "/approvals", "/assets/console.js", "/nowhere"] {
        let answer = world.get(&cookie, path).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(
            !policy.contains("unsafe-inline") && !policy.contains("unsafe-eval"),
            "{policy}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "same-origin");
        assert_eq!(answer.header("x-frame-options"), "DENY");
        assert!(
            answer
                .header("strict-transport-security")
                .starts_with("max-age=")
        );
        assert!(!answer.header("cache-control").is_empty());
    }
    let page = world.get(&cookie, "/approvals").await;
    assert!(
        !page.body.contains("<script>") && !page.body.contains(" style="),
        "inline code"
    );
}

#[tokio::test]
async fn a_sign_in_makes_a_new_cookie_that_scripts_and_other_sites_do_not_get() {
    let world = World::new();
    let (first, lines) = world.sign_in_with("", ALICE).await;
    let set = lines
        .iter()
        .find(|line| line.starts_with("__Host-weir="))
        .unwrap();
    for part in ["; Path=/", "; HttpOnly", "; SameSite=Lax", "; Secure"] {
        assert!(set.contains(part), "{set}");
    }
    assert!(!set.contains("Domain"));
    // Somebody who planted a cookie gains nothing: a sign-in never keeps it.
    let (second, _) = world.sign_in_with(&first, ALICE).await;
    assert_ne!(first, second);
    assert_eq!(
        world.get(&first, "/approvals").await.status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(
        world.get(&second, "/approvals").await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn an_answer_of_another_sign_in_is_refused() {
    let world = World::new();
    let start = world.get("", "/sign-in/start?next=/approvals").await;
    assert!(
        start
            .header("location")
            .starts_with("https://login.example/")
    );
    let cookie = start.cookie("__Host-weir-sign-in");
    let other = world
        .get(&cookie, "/sign-in/return?code=alice&state=other")
        .await;
    assert_eq!(other.status, StatusCode::BAD_REQUEST);
    assert!(other.cookies().is_empty());
    // It is used up by that.
    let late = world
        .get(&cookie, "/sign-in/return?code=alice&state=state")
        .await;
    assert_eq!(late.status, StatusCode::BAD_REQUEST);
    let foreign = world
        .get("", "/sign-in/return?code=alice&state=state")
        .await;
    assert_eq!(foreign.status, StatusCode::BAD_REQUEST);
    let open = world.get("", "/sign-in/start?next=//evil.example").await;
    let cookie = open.cookie("__Host-weir-sign-in");
    let back = world
        .get(&cookie, "/sign-in/return?code=alice&state=state")
        .await;
    assert_eq!(back.header("location"), "/", "no open redirect");
}

#[tokio::test]
async fn a_person_without_a_role_sees_nothing() {
    let world = World::new();
    let held = world.hold("agent", "").await;
    let cookie = world.sign_in(BOB).await;
    for path in [
        "/approvals",
        "/approvals/list",
        "/sessions",
        "/flows",
        "/flows/list",
        "/policies",
        "/revocations",
        "/events",
        &format!("/approvals/{held}"),
        &format!("/approvals/{held}/context"),
        "/sessions/00000000-0000-0000-0000-000000000007",
    ] {
        let answer = world.get(&cookie, path).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        assert!(!answer.body.contains("ledger"), "{path}");
    }
    let csrf = world.csrf(&cookie).await;
    let form = format!("csrf={csrf}&decision=approve&justification=x");
    let sent = world
        .post(&cookie, &format!("/approvals/{held}/decision"), &form)
        .await;
    assert_eq!(sent.status, StatusCode::FORBIDDEN);
    assert_eq!(world.state_of(&held).await, "pending");
}

#[tokio::test]
async fn a_reviewer_approves_and_denies() {
    let world = World::new();
    let cookie = world.sign_in(ALICE).await;
    let (yes, no) = (world.hold("agent", "").await, world.hold("agent", "").await);
    let inbox = world.get(&cookie, "/approvals").await.body;
    assert!(
        inbox.contains(&yes) && inbox.contains("delete from ledger"),
        "{inbox}"
    );
    let sent = world.decide(&cookie, &yes, "approve").await;
    assert_eq!(sent.status, StatusCode::SEE_OTHER, "{}", sent.body);
    assert_eq!(world.state_of(&yes).await, "approved");
    assert_eq!(
        world.decide(&cookie, &no, "deny").await.status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(world.state_of(&no).await, "denied");
    let page = world.get(&cookie, &format!("/approvals/{yes}")).await.body;
    assert!(
        page.contains("alice@lab.example") && page.contains("ticket 4711"),
        "{page}"
    );
    // A word is given once.
    let twice = world.decide(&cookie, &yes, "deny").await;
    assert_eq!(twice.status, StatusCode::CONFLICT);
    assert_eq!(world.state_of(&yes).await, "approved");
}

#[tokio::test]
async fn nobody_approves_their_own_request_in_the_console() {
    let world = World::new();
    let cookie = world.sign_in(ALICE).await;
    let own = world.hold(ALICE.oid, "").await;
    let on_behalf = world.hold("agent", ALICE.oid).await;
    for held in [own, on_behalf] {
        let page = world.get(&cookie, &format!("/approvals/{held}")).await.body;
        assert!(
            page.contains("Nobody decides on their own request"),
            "{page}"
        );
        assert!(!page.contains("name=\"decision\""), "no form is offered");
        let sent = world.decide(&cookie, &held, "approve").await;
        assert_eq!(sent.status, StatusCode::FORBIDDEN);
        assert_eq!(world.state_of(&held).await, "pending");
    }
}

#[tokio::test]
async fn an_auditor_reads_everything_and_changes_nothing() {
    let world = World::new();
    let held = world.hold("agent", "").await;
    let cookie = world.sign_in(AUDITOR).await;
    for path in [
        "/approvals",
        "/sessions",
        "/flows",
        "/revocations",
        "/policies",
    ] {
        assert_eq!(
            world.get(&cookie, path).await.status,
            StatusCode::OK,
            "{path}"
        );
    }
    assert_eq!(
        world.decide(&cookie, &held, "approve").await.status,
        StatusCode::FORBIDDEN
    );
    let revoked = world.revoke(&cookie, "workload", "operator").await;
    assert_eq!(revoked.status, StatusCode::FORBIDDEN);
    assert_eq!(world.state_of(&held).await, "pending");
    assert!(world.revoked().is_empty());
}

#[tokio::test]
async fn only_an_administrator_revokes_and_says_why() {
    let world = World::new();
    let reviewer = world.sign_in(ALICE).await;
    let refused = world.revoke(&reviewer, "workload", "operator").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    let cookie = world.sign_in(ERIN).await;
    let csrf = world.csrf(&cookie).await;
    let blank = format!("csrf={csrf}&kind=workload&value=operator&reason=+");
    let blank = world.post(&cookie, "/revocations", &blank).await;
    assert_eq!(blank.status, StatusCode::BAD_REQUEST);
    assert!(world.revoked().is_empty());
    let done = world.revoke(&cookie, "workload", "operator").await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.body);
    assert_eq!(world.revoked(), ["workload operator"]);
    let unknown = world.revoke(&cookie, "planet", "earth").await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn csrf_is_refused_without_the_token_and_from_elsewhere() {
    let world = World::new();
    let cookie = world.sign_in(ALICE).await;
    let other = world.sign_in(ALICE).await;
    let held = world.hold("agent", "").await;
    let path = format!("/approvals/{held}/decision");
    let csrf = world.csrf(&cookie).await;
    let of_other = world.csrf(&other).await;
    let word = "decision=approve&justification=x";
    for form in [
        word.to_owned(),
        format!("csrf=&{word}"),
        format!("csrf={of_other}&{word}"),
        format!("csrf={csrf}x&{word}"),
    ] {
        let sent = world.post(&cookie, &path, &form).await;
        assert!(
            [StatusCode::FORBIDDEN, StatusCode::BAD_REQUEST].contains(&sent.status),
            "{form}"
        );
    }
    let good = format!("csrf={csrf}&{word}");
    for origin in ["https://evil.example", "null", ""] {
        let sent = world.post_from(&cookie, &path, &good, origin).await;
        assert_eq!(sent.status, StatusCode::FORBIDDEN, "{origin}");
    }
    assert_eq!(world.state_of(&held).await, "pending");
    assert_eq!(
        world.post(&cookie, &path, &good).await.status,
        StatusCode::SEE_OTHER
    );
}

#[tokio::test]
async fn deciding_needs_a_fresh_sign_in_and_a_session_ends() {
    let world = World::new();
    let cookie = world.sign_in(ALICE).await;
    let held = world.hold("agent", "").await;
    let csrf = world.csrf(&cookie).await;
    world.pass(16 * 60);
    let page = world.get(&cookie, &format!("/approvals/{held}")).await.body;
    assert!(page.contains("/sign-in/start?again=true"), "{page}");
    let form = format!("csrf={csrf}&decision=approve&justification=x");
    let sent = world
        .post(&cookie, &format!("/approvals/{held}/decision"), &form)
        .await;
    assert_eq!(sent.status, StatusCode::UNAUTHORIZED);
    assert_eq!(world.state_of(&held).await, "pending");
    // Idle for half an hour; a page that refreshes itself is nobody.
    world.pass(20 * 60);
    assert_eq!(
        world.fragment(&cookie, "/approvals/list").await.status,
        StatusCode::OK
    );
    world.pass(11 * 60);
    let gone = world.fragment(&cookie, "/approvals/list").await;
    assert_eq!(gone.header("hx-redirect"), "/sign-in");
    assert_eq!(
        world.get(&cookie, "/approvals").await.status,
        StatusCode::SEE_OTHER
    );
}

#[tokio::test]
async fn signing_out_ends_the_session_at_the_server() {
    let world = World::new();
    let cookie = world.sign_in(ALICE).await;
    let csrf = world.csrf(&cookie).await;
    let out = world
        .post(&cookie, "/sign-out", &format!("csrf={csrf}"))
        .await;
    assert_eq!(out.header("location"), "/sign-in");
    assert_eq!(
        world.get(&cookie, "/approvals").await.status,
        StatusCode::SEE_OTHER
    );
}

#[tokio::test]
async fn what_agents_write_stays_text() {
    let world = World::new();
    let evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'`{{7*7}}";
    let held = world.hold_statement("agent", "", evil).await;
    let cookie = world.sign_in(ERIN).await;
    for path in [
        "/approvals".to_owned(),
        format!("/approvals/{held}"),
        format!("/approvals/{held}/context"),
        "/sessions/00000000-0000-0000-0000-000000000007".to_owned(),
        "/sessions?q=%3Cscript%3Ealert(1)%3C%2Fscript%3E".to_owned(),
        "/flows".to_owned(),
        "/policies".to_owned(),
    ] {
        let body = world.get(&cookie, &path).await.body;
        assert!(
            !body.contains("<script>alert") && !body.contains("<img src=x"),
            "{path}: {body}"
        );
        assert!(body.contains("alert"), "{path} shows it: {body}");
    }
}

#[tokio::test]
async fn a_reviewer_sees_the_sessions_that_they_are_asked_about_and_no_other() {
    let world = World::new();
    let cookie = world.sign_in(ALICE).await;
    let session = "/sessions/00000000-0000-0000-0000-000000000007";
    assert_eq!(
        world.get(&cookie, session).await.status,
        StatusCode::FORBIDDEN
    );
    world.hold("agent", "").await;
    assert_eq!(world.get(&cookie, session).await.status, StatusCode::OK);
    assert_eq!(
        world.get(&cookie, "/sessions").await.status,
        StatusCode::FORBIDDEN
    );
    let other = "/sessions/00000000-0000-0000-0000-000000000008";
    assert_eq!(
        world.get(&cookie, other).await.status,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn inputs_have_limits() {
    let world = World::new();
    let cookie = world.sign_in(ERIN).await;
    let long = "x".repeat(201);
    let answer = world.get(&cookie, &format!("/sessions?q={long}")).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let huge = format!("csrf=x&reason={}", "y".repeat(70_000));
    let answer = world.post(&cookie, "/revocations", &huge).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    let twice = format!("{cookie}; {cookie}");
    assert_eq!(
        world.get(&twice, "/approvals").await.status,
        StatusCode::SEE_OTHER
    );
    let mut last = StatusCode::OK;
    for _ in 0..30 {
        last = world.get("", "/sign-in/start").await.status;
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
}
