//! Notifiers against stand-ins of the services' own interfaces: they prove what we send and how we
//! try again, not what Slack, Teams or a mail server make of it.

#![expect(clippy::unwrap_used, reason = "tests panic")]

mod services;

use std::sync::Arc;

use serde_json::Value;
use services::{Service, World, mail_server};
use weir_notify::{Channel, MailTls, signature};
use weir_state::ApprovalState;
use zeroize::Zeroizing;

fn hook(service: &Service) -> Channel {
    Channel::Webhook {
        to: service.address("/hook"),
        secret: Zeroizing::new("secret".to_owned()),
    }
}

fn slack(service: &Service) -> Channel {
    Channel::Slack {
        api: service.address("/api"),
        token: Zeroizing::new("xoxb-token".to_owned()),
        channel: "C1".to_owned(),
    }
}

#[tokio::test]
async fn a_webhook_is_signed_and_tried_again_under_the_same_key() {
    let mut service = Service::start(vec![503, 200, 200]).await;
    let world = World::new();
    world.start(vec![("hook", hook(&service))]).unwrap();
    let id = world.hold("delete from ledger").await;
    let first = service.next().await;
    let second = service.next().await;
    assert_eq!(first.header("idempotency-key"), format!("{id}.waiting"));
    assert_eq!(
        first.header("idempotency-key"),
        second.header("idempotency-key")
    );
    let now_s = weir_clock::now().unix_s();
    for told in [&first, &second] {
        let header = told.header("weir-signature");
        assert_eq!(
            signature::verify("secret", header, &told.body, now_s),
            Ok(())
        );
        assert!(signature::verify("other", header, &told.body, now_s).is_err());
    }
    let body: Value = serde_json::from_slice(&second.body).unwrap();
    assert_eq!(body["event"], "approval.waiting");
    assert_eq!(body["statement"], "delete from ledger");
    assert_eq!(body["url"], format!("https://weir.example/approvals/{id}"));
    world.approve(&id).await;
    let decided = service.next().await;
    let body: Value = serde_json::from_slice(&decided.body).unwrap();
    assert_eq!(
        (&body["event"], &body["approver"]),
        (&"approval.decided".into(), &"alice".into())
    );
    assert_eq!(decided.header("idempotency-key"), format!("{id}.decided"));
}

#[tokio::test]
async fn slack_gets_a_message_whose_button_opens_the_console_and_then_its_end() {
    let mut service = Service::start(vec![200, 200]).await;
    let world = World::new();
    world.start(vec![("chat", slack(&service))]).unwrap();
    let id = world.hold("delete from ledger").await;
    let posted = service.next().await;
    assert_eq!(posted.path, "/api/chat.postMessage");
    assert_eq!(posted.header("authorization"), "Bearer xoxb-token");
    let body: Value = serde_json::from_slice(&posted.body).unwrap();
    let button = &body["blocks"][3]["elements"][0];
    assert_eq!(
        button["url"],
        format!("https://weir.example/approvals/{id}")
    );
    assert!(
        button.get("value").is_none(),
        "a button carries no decision"
    );
    world.approve(&id).await;
    let changed = service.next().await;
    assert_eq!(changed.path, "/api/chat.update");
    let body: Value = serde_json::from_slice(&changed.body).unwrap();
    assert_eq!(
        (&body["ts"], &body["channel"]),
        (&"17.1".into(), &"C9".into())
    );
    assert!(body["text"].as_str().unwrap().contains("by alice"));
    assert!(
        !body.to_string().contains("\"button\""),
        "nothing is left to press"
    );
}

#[tokio::test]
async fn teams_gets_a_card() {
    let mut service = Service::start(vec![202]).await;
    let world = World::new();
    let to = service.address("/teams");
    world.start(vec![("teams", Channel::Teams { to })]).unwrap();
    world.hold("delete from ledger").await;
    let body: Value = serde_json::from_slice(&service.next().await.body).unwrap();
    let attachment = &body["attachments"][0];
    assert_eq!(
        attachment["contentType"],
        "application/vnd.microsoft.card.adaptive"
    );
    assert_eq!(
        attachment["content"]["actions"][0]["type"],
        "Action.OpenUrl"
    );
}

#[tokio::test]
async fn a_mail_is_plain_text_with_a_link() {
    let (port, mails) = mail_server().await;
    let world = World::new();
    let channel = Channel::Mail {
        server: "127.0.0.1".to_owned(),
        port,
        tls: MailTls::None,
        login: None,
        from: "Weir <weir@lab.example>".to_owned(),
        to: vec!["dba@lab.example".to_owned()],
    };
    world.start(vec![("mail", channel)]).unwrap();
    let id = world
        .hold("delete from ledger\r\n.\r\nBcc: all@evil.example")
        .await;
    let mail = mails.await.unwrap();
    assert!(mail.contains("RCPT TO:<dba@lab.example>"), "{mail}");
    assert!(!mail.contains("RCPT TO:<all@evil.example>"), "{mail}");
    assert!(
        mail.contains(&format!("Message-ID: <{id}.waiting@weir>")),
        "{mail}"
    );
    assert!(mail.contains("Subject: "), "{mail}");
    assert!(mail.contains("text/plain"), "{mail}");
}

#[tokio::test]
async fn a_service_that_is_away_holds_up_nobody() {
    let mut service = Service::start(vec![200, 200]).await;
    let world = World::new();
    let dead = Channel::Webhook {
        to: services::nowhere().await,
        secret: Zeroizing::new("secret".to_owned()),
    };
    world
        .start(vec![("dead", dead), ("hook", hook(&service))])
        .unwrap();
    let id = world.hold("delete from ledger").await;
    service.next().await;
    world.approve(&id).await;
    let decided = world.decided(&id).await;
    assert_eq!(decided.state, ApprovalState::Approved);
    service.next().await;
}

#[tokio::test]
async fn what_is_refused_is_not_asked_again_and_a_restart_tells_nobody_twice() {
    let mut service = Service::start(vec![400, 200]).await;
    let world = World::new();
    let running = world.start(vec![("hook", hook(&service))]).unwrap();
    let refused = world.hold("refused").await;
    assert!(service.next().await.text().contains("refused"));
    let told = world.hold("told").await;
    assert!(
        service.next().await.text().contains("told"),
        "the refused one came again"
    );
    running.abort();
    let mut second = Service::start(vec![200]).await;
    world.start(vec![("hook", hook(&second))]).unwrap();
    let third = world.hold("third").await;
    let body = second.next().await.text();
    assert!(
        body.contains(&third) && !body.contains(&told) && !body.contains(&refused),
        "{body}"
    );
}

#[tokio::test]
async fn groups_choose_and_another_nodes_requests_are_its_own() {
    let mut service = Service::start(vec![200]).await;
    let world = World::new();
    world
        .start_for(
            vec![("hook", hook(&service))],
            &["security"],
            Arc::new(|_| true),
        )
        .unwrap();
    world.hold_for("not for us", "dba").await;
    world.hold_for("for us", "security").await;
    assert!(service.next().await.text().contains("for us"));
    let mut other = Service::start(vec![200]).await;
    let ours = Arc::new(|session: weir_model::ident::SessionId| session.0 == 8);
    let second = World::new();
    second
        .start_for(vec![("hook", hook(&other))], &[], ours)
        .unwrap();
    second.hold_in(7, "elsewhere").await;
    second.hold_in(8, "here").await;
    assert!(other.next().await.text().contains("here"));
}

#[tokio::test]
async fn a_notifier_that_cannot_work_is_named_at_start() {
    let world = World::new();
    let plain = Channel::Teams {
        to: weir_notify::Address {
            url: "http://10.0.0.1/".to_owned(),
            ca: None,
        },
    };
    let error = world.start(vec![("teams", plain)]).unwrap_err();
    assert!(
        error.contains("teams") && error.contains("https"),
        "{error}"
    );
}
