//! Addresses of networks and devices by token: the server itself reads what both formats say.

use super::*;

const POLICY: &str = r#"
@id("all") permit (principal, action, resource in Weir::Target::"t");
@id("no-writes") forbid (principal, action == Postgres::Action::"writeColumn", resource);
@id("token") @mask("token") forbid (principal, action == Postgres::Action::"readColumn",
    resource in Postgres::Table::"t/postgres/public/hosts");
"#;
const HOSTS: &str = "create table hosts (a inet, b inet, n cidr, m macaddr, l macaddr8, many inet[]);
    insert into hosts values ('192.168.0.1', '2001:db8::7/64', '172.16.16.0/20', '08:00:2b:01:02:03',
    '08:00:2b:01:02:03:04:05', array['10.0.0.1', null]::inet[])";

/// Cells of the first row in these messages.
fn cells(messages: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = messages;
    while let Some(([tag, length @ ..], tail)) = rest.split_first_chunk::<5>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).expect("small") - 4;
        let (mut body, after) = tail.split_at(length);
        if *tag != b'D' {
            rest = after;
            continue;
        }
        let mut cells = Vec::new();
        body = &body[2..];
        while let Some((length, tail)) = body.split_first_chunk::<4>() {
            let (cell, after) =
                tail.split_at(usize::try_from(i32::from_be_bytes(*length)).expect("a value"));
            cells.push(cell.to_vec());
            body = after;
        }
        return cells;
    }
    panic!("no row");
}

#[test]
fn addresses_have_a_token_in_both_formats() {
    let server = server("addresses");
    let runtime = Server::runtime();
    let client = runtime.block_on(async {
        let client = server.client().await;
        client.batch_execute(HOSTS).await.expect("a table");
        client
    });
    let mut talk = Talk::new(&server, None, Login::Trust);
    talk.set = compiled(POLICY);
    talk.exchange(&hello(), 1);
    let sql = "select a, b, n, m, l, many from hosts";
    talk.query(sql);
    let texts = cells(&talk.seen);
    let bind = frame(b'B', b"\0s\0\0\0\0\0\0\x01\0\x01");
    talk.exchange(&[parse("s", sql), bind, execute(""), sync()].concat(), 1);
    let sent = cells(&talk.seen);
    let before = [
        "192.168.0.1",
        "2001:db8::7/64",
        "172.16.16.0/20",
        "08:00:2b:01:02:03",
    ];
    let types = ["inet", "inet", "cidr", "macaddr", "macaddr8", "inet[]"];
    assert_eq!((texts.len(), sent.len()), (types.len(), types.len()));
    for (at, of) in types.iter().enumerate() {
        let text = String::from_utf8(texts[at].clone()).expect("text");
        assert!(!before.contains(&&*text), "{of}: {text}");
        let send = if *of == "inet[]" { "array" } else { of };
        let read = format!("select {send}_send('{text}'::{of}), ('{text}'::{of})::text");
        let row = runtime
            .block_on(client.query_one(&read, &[]))
            .unwrap_or_else(|error| panic!("{of} {text}: {error}"));
        let (bytes, again): (Vec<u8>, String) = (row.get(0), row.get(1));
        // The elements of an array stand in quotes, and it says that it has NULLs.
        assert_eq!(sent[at], bytes, "{of}: {text}");
        assert!(
            *of == "inet[]" || again == text || again == format!("{text}/32"),
            "{again} {text}"
        );
    }
}
