//! The web console in a real browser, over a lab's own agents.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weir_e2e::browser::Browser;
use weir_e2e::lab::{Lab, finish};
use weir_e2e::until;

const ENTER: &str = "\u{E007}";
const TAB: &str = "\u{E004}";

/// It reaches the console and the authority.
fn browser(lab: &Lab) -> Result<Browser> {
    let (console, authority) = (lab.name("LAB_CONSOLE_URL")?, lab.name("LAB_AUTHORITY")?);
    Browser::start(&[&console, &authority])
}

/// A browser in which somebody has signed in by clicking through the authority's pages.
fn signed_in(lab: &Lab, user: &str) -> Result<Browser> {
    let browser = browser(lab)?;
    browser.look((1280, 900), false)?;
    sign_in(lab, &browser, user)?;
    Ok(browser)
}

fn sign_in(lab: &Lab, browser: &Browser, user: &str) -> Result<()> {
    browser.go(&format!("{}/approvals", lab.name("LAB_CONSOLE_URL")?))?;
    browser.click("#sign-in")?;
    browser.click(&format!("#user-{user}"))?;
    browser.reads("#me", &format!("{user}@lab.example"))
}

fn url(lab: &Lab, path: &str) -> Result<String> {
    Ok(format!("{}{path}", lab.name("LAB_CONSOLE_URL")?))
}

fn fill(lab: &Lab) -> Result<()> {
    let rows =
        "insert into ledger select -i, i, i from generate_series(1, 9) i on conflict do nothing";
    lab.server(rows).map(drop)
}

/// psql waits for a reviewer; the request is in the inbox, without a reload.
fn held(lab: &Lab, browser: &Browser, mark: &str) -> Result<Child> {
    fill(lab)?;
    let statement = format!("delete from ledger /* {mark} */;\nselect 'on' || 'wards';\n");
    let waiting = lab.psql_started("operator", &statement)?;
    browser.reads("#waiting-list", mark)?;
    Ok(waiting)
}

/// Clicks on the waiting request with this mark.
fn open(browser: &Browser, mark: &str) -> Result<()> {
    until("the request in the inbox", Duration::from_secs(20), || {
        let clicked = browser.script(&format!(
            "const found = [...document.querySelectorAll('#waiting-list .card')].find((a) => a.textContent.includes({mark:?}));
             if (found) found.click();
             return Boolean(found);"
        ))?;
        Ok((clicked == true).then_some(()))
    })?;
    browser.reads("#statement", mark)
}

/// One click: a reviewer's is never lost.
fn approve(browser: &Browser) -> Result<()> {
    browser.click("#approve")?;
    browser.reads("#approver", "alice@lab.example")
}

fn rows(lab: &Lab) -> Result<String> {
    lab.server("select count(*) from ledger where id < 0")
}

#[test]
fn a_reviewer_signs_in_and_approves_what_psql_waits_for() -> Result<()> {
    let lab = Lab::current()?;
    let browser = signed_in(&lab, "alice")?;
    let waiting = held(&lab, &browser, "approve")?;
    ensure!(rows(&lab)? == "9", "it did not wait");
    open(&browser, "approve")?;
    browser.reads("#context", "/psql")?;
    ensure!(browser.text("#state")? == "pending");
    browser.write("#justification", "ticket 4711")?;
    approve(&browser)?;
    let said = finish(waiting)?;
    ensure!(
        said.out.contains("DELETE") || said.out.contains("DELETE"),
        "{said:?}"
    );
    ensure!(rows(&lab)? == "0");
    Ok(())
}

#[test]
fn a_denied_statement_does_not_run_and_its_session_goes_on() -> Result<()> {
    let lab = Lab::current()?;
    let browser = signed_in(&lab, "alice")?;
    let waiting = held(&lab, &browser, "deny")?;
    open(&browser, "deny")?;
    browser.write("#justification", "the wrong table")?;
    browser.click("#deny")?;
    browser.reads("#state", "denied")?;
    let said = finish(waiting)?;
    ensure!(
        said.err.contains("42501") && said.out.contains("onwards"),
        "{said:?}"
    );
    ensure!(rows(&lab)? == "9");
    Ok(())
}

#[test]
fn approving_works_by_keyboard_alone() -> Result<()> {
    let lab = Lab::current()?;
    let browser = signed_in(&lab, "alice")?;
    let waiting = held(&lab, &browser, "keyboard")?;
    browser.press("j")?;
    browser.press(ENTER)?;
    browser.shows("#justification")?;
    browser.press("w")?;
    browser.press("by keyboard")?;
    browser.press(TAB)?;
    browser.press(ENTER)?;
    browser.reads("#approver", "alice@lab.example")?;
    let said = finish(waiting)?;
    ensure!(said.out.contains("DELETE"), "{said:?}");
    ensure!(rows(&lab)? == "0");
    Ok(())
}

#[test]
fn a_click_is_not_lost_when_the_inbox_changes_under_it() -> Result<()> {
    let lab = Lab::current()?;
    let browser = signed_in(&lab, "alice")?;
    let first = held(&lab, &browser, "pressed")?;
    browser.hold_down("#waiting-list .card")?;
    let fetched = "return performance.getEntriesByType('resource').filter((one) => one.name.endsWith('/approvals/list')).length";
    let before = browser.script(fetched)?.as_u64();
    let second = lab.psql_started("operator", "delete from ledger /* meanwhile */;\n")?;
    browser.reads("#waiting", "2")?;
    until("the new list", Duration::from_secs(20), || {
        Ok((browser.script(fetched)?.as_u64() > before).then_some(()))
    })?;
    // It waits for the finger.
    ensure!(!browser.text("#waiting-list")?.contains("meanwhile"));
    browser.let_go()?;
    browser.reads("#statement", "pressed")?;
    deny(&browser)?;
    browser.go(&url(&lab, "/approvals")?)?;
    // Focused by key, replaced by the next change, and still what Enter opens.
    browser.press("j")?;
    let third = lab.psql_started("operator", "delete from ledger /* third */;\n")?;
    browser.reads("#waiting-list", "third")?;
    browser.press(ENTER)?;
    browser.reads("#statement", "meanwhile")?;
    deny(&browser)?;
    browser.go(&url(&lab, "/approvals")?)?;
    open(&browser, "third")?;
    deny(&browser)?;
    for waiting in [first, second, third] {
        finish(waiting)?;
    }
    Ok(())
}

fn deny(browser: &Browser) -> Result<()> {
    browser.write("#justification", "end of the test")?;
    browser.click("#deny")?;
    browser.reads("#state", "denied")
}

#[test]
fn what_comes_late_moves_no_button() -> Result<()> {
    let lab = Lab::current()?;
    let browser = signed_in(&lab, "alice")?;
    let waiting = held(&lab, &browser, "late")?;
    open(&browser, "late")?;
    browser.reads("#context", "/psql")?;
    for size in [(1280, 900), (390, 844)] {
        browser.look(size, false)?;
        let moved = browser.script(
            "const at = () => document.querySelector('#approve').getBoundingClientRect().top;
             const before = at();
             document.querySelector('#context').style.height = '5000px';
             const after = at();
             document.querySelector('#context').style.height = '';
             return after - before;",
        )?;
        ensure!(moved == 0, "moved by {moved} pixels at {size:?}");
    }
    deny(&browser)?;
    finish(waiting)?;
    Ok(())
}

#[test]
fn a_person_without_a_role_sees_nothing() -> Result<()> {
    let lab = Lab::current()?;
    let browser = signed_in(&lab, "bob")?;
    for path in ["/approvals", "/sessions", "/flows", "/policies"] {
        browser.go(&url(&lab, path)?)?;
        browser.reads("#no-role", "have no role")?;
        ensure!(!browser.has("nav a[data-key]:not([data-key=a])")?, "a menu");
    }
    browser.look((1280, 900), false)?;
    browser.picture("no-role-light")
}

#[test]
fn an_auditor_replays_and_cannot_decide() -> Result<()> {
    let lab = Lab::current()?;
    let reviewer = signed_in(&lab, "alice")?;
    let browser = signed_in(&lab, "dora")?;
    let waiting = held(&lab, &browser, "auditor")?;
    open(&browser, "auditor")?;
    browser.reads("#other", "none of the groups")?;
    ensure!(!browser.has("#approve")?);
    // The same by hand, with the token of the auditor's own page.
    let said = browser.promise(
        "const done = arguments[0];
         const csrf = document.querySelector('input[name=csrf]').value;
         const body = new URLSearchParams({ csrf, decision: 'approve', justification: 'x' });
         fetch(location.pathname + '/decision', { method: 'POST', body }).then((r) => done(r.status), () => done(0));",
    )?;
    ensure!(said == 403, "{said}");
    ensure!(rows(&lab)? == "9");
    open(&reviewer, "auditor")?;
    reviewer.write("#justification", "end of the test")?;
    reviewer.click("#deny")?;
    finish(waiting)?;
    Ok(())
}

#[test]
fn forms_of_other_sites_and_without_a_token_do_nothing() -> Result<()> {
    let lab = Lab::current()?;
    let browser = signed_in(&lab, "alice")?;
    let waiting = held(&lab, &browser, "csrf")?;
    open(&browser, "csrf")?;
    browser.shows("#approve")?;
    let decision = format!("{}/decision", browser.url()?);
    let without = browser.promise(
        "const done = arguments[0];
         const body = new URLSearchParams({ csrf: 'guess', decision: 'approve', justification: 'x' });
         fetch(location.pathname + '/decision', { method: 'POST', body }).then((r) => done(r.status), () => done(0));",
    )?;
    ensure!(without == 403, "{without}");
    // Another site: the browser itself keeps the session's cookie back.
    browser.go(&format!("{}/devicelogin", lab.name("LAB_AUTHORITY")?))?;
    browser.script(&format!(
        "const form = document.createElement('form');
         form.method = 'POST'; form.action = {decision:?};
         for (const [name, value] of [['decision', 'approve'], ['justification', 'x']]) {{
           const field = document.createElement('input'); field.name = name; field.value = value; form.append(field);
         }}
         document.body.append(form); form.submit();"
    ))?;
    browser.reads("#problem", "Your session has ended")?;
    ensure!(rows(&lab)? == "9", "a form of another site decided");
    browser.go(decision.trim_end_matches("/decision"))?;
    browser.reads("#state", "pending")?;
    deny(&browser)?;
    finish(waiting)?;
    Ok(())
}

#[test]
fn an_administrator_ends_a_live_session() -> Result<()> {
    let lab = Lab::current()?;
    let browser = signed_in(&lab, "erin")?;
    let mut psql = lab.psql_open("analyst")?;
    let mut input = psql.stdin.take().context("psql's input")?;
    writeln!(input, "select 'here' || 'after';")?;
    browser.go(&url(&lab, "/flows")?)?;
    browser.reads("#flows", "analyst")?;
    let auditor = signed_in(&lab, "dora")?;
    auditor.go(&url(&lab, "/flows")?)?;
    auditor.reads("#flows", "analyst")?;
    ensure!(!auditor.has("#flows .danger")?, "an auditor may end it");
    browser.click("#flows .danger")?;
    browser.write("#reason", "runs wild")?;
    browser.click("#end")?;
    browser.reads("#flows", "Nobody is connected")?;
    writeln!(input, "select 1;")?;
    drop(input);
    let said = finish(psql)?;
    ensure!(
        said.out.contains("hereafter") && said.err.contains("57P01"),
        "{said:?}"
    );
    Ok(())
}

#[test]
fn what_agents_write_stays_text_in_the_browser() -> Result<()> {
    let lab = Lab::current()?;
    let evil = "<img src=x onerror=\"window.pwned=1\"><script>window.pwned=1</script>";
    let script = format!("select '{evil}' as \"<b>x</b>\";\n");
    lab.psql("analyst", &script)?;
    let browser = signed_in(&lab, "dora")?;
    let found = until("the session in the record", Duration::from_secs(30), || {
        browser.go(&url(&lab, "/sessions?q=window.pwned")?)?;
        Ok(browser.has("table.list tbody a")?.then_some(()))
    });
    found?;
    browser.click("table.list tbody a")?;
    browser.reads("#transcript", "<script>window.pwned=1</script>")?;
    browser.click("#play")?;
    let pwned = browser.script(
        "return window.pwned === undefined && !document.querySelector('#transcript img')",
    )?;
    ensure!(pwned == true, "a statement ran in the browser");
    Ok(())
}

#[test]
fn a_reviewer_sees_the_rows_before_they_stay() -> Result<()> {
    let lab = Lab::current()?;
    let browser = signed_in(&lab, "alice")?;
    let email = "select string_agg(email, ' ' order by id) from customers where id in (31, 32)";
    let before = lab.server(email)?;
    let statement =
        "update customers set email = 'c' || id || '@moved.example' where id in (31, 32);\n";
    let waiting = lab.psql_started("operator", statement)?;
    browser.reads("#waiting-list", "update customers")?;
    open(&browser, "update customers")?;
    browser.reads("#effect", "UPDATE 2")?;
    ensure!(browser.has("#effect .before")? && browser.has("#effect .after")?);
    browser.reads("#context", "/psql")?;
    for (look, size, dark) in [
        ("light", (1280, 860), false),
        ("dark", (1280, 860), true),
        ("phone", (390, 844), false),
    ] {
        browser.look(size, dark)?;
        browser.picture(&format!("effect-{look}"))?;
    }
    ensure!(
        lab.server(email)? == before,
        "it stays before anybody approved"
    );
    browser.write("#justification", "both moved")?;
    approve(&browser)?;
    let said = finish(waiting)?;
    ensure!(said.out.contains("UPDATE 2"), "{said:?}");
    ensure!(lab.server(email)?.contains("c31@moved.example"));
    let [one, other] = before.split(' ').collect::<Vec<_>>()[..] else {
        anyhow::bail!("{before}");
    };
    lab.server(&format!(
        "update customers set email = '{one}' where id = 31"
    ))?;
    lab.server(&format!(
        "update customers set email = '{other}' where id = 32"
    ))?;
    Ok(())
}

#[test]
fn policy_is_explained_to_a_workload_as_it_connected_last() -> Result<()> {
    let lab = Lab::current()?;
    let said = lab.psql("analyst", "select 1;\n")?;
    ensure!(said.code == 0, "{said:?}");
    let browser = signed_in(&lab, "dora")?;
    for (workload, statement, answer) in [
        (
            "analyst",
            "select ssn from customers",
            "masked: Column:demo/",
        ),
        ("analyst", "delete from ledger", "deny: "),
        ("operator", "delete from ledger", "hold: "),
    ] {
        let said = lab.psql(workload, "select 1;\n")?;
        ensure!(said.code == 0, "{said:?}");
        browser.go(&url(&lab, "/policies")?)?;
        browser.write("#explain [name=workload]", workload)?;
        browser.write("#explain [name=target]", "demo")?;
        browser.write("#explain [name=statement]", statement)?;
        browser.click("#explain button")?;
        browser.reads("#explained", answer)?;
    }
    browser.picture("explain-light")?;
    Ok(())
}

#[test]
fn a_recorded_terminal_is_played() -> Result<()> {
    let lab = Lab::current()?;
    lab.sign_in("alice")?;
    let steps = [("$", "echo played-$((40+2))\n"), ("played-42", "exit\n")];
    let waiting = lab.on_terminal("operator", &["ssh", "-tt", "host.demo.internal"], &steps)?;
    let id = lab.held("shell")?;
    let approve = ["approvals", "approve", &id, "--justification", "ticket 5"];
    let approved = lab.weir(&approve)?;
    ensure!(approved.code == 0, "{approved:?}");
    let said = finish(waiting)?;
    ensure!(said.out.contains("played-42"), "{said:?}");
    let browser = signed_in(&lab, "dora")?;
    until("the session in the record", Duration::from_secs(30), || {
        browser.go(&url(&lab, "/sessions?target=host")?)?;
        if !browser.has("table.list tbody a")? {
            return Ok(None);
        }
        browser.click("table.list tbody a")?;
        Ok(browser.has("a[href*='/terminal/']")?.then_some(()))
    })?;
    browser.click("a[href*='/terminal/']")?;
    browser.shows("#terminal .ap-player")?;
    // What the player draws is not looked at, only what it is given.
    let cast = browser.script(
        "const asked = new XMLHttpRequest();
         asked.open('GET', document.querySelector('#terminal').dataset.cast, false);
         asked.send();
         return asked.responseText",
    )?;
    let text = cast.as_str().unwrap_or_default();
    ensure!(text.contains("played-42"), "{cast}");
    browser.picture("terminal-light")
}

#[test]
fn a_cookie_that_is_gone_is_a_sign_in_and_signing_out_ends_it() -> Result<()> {
    let lab = Lab::current()?;
    let browser = signed_in(&lab, "alice")?;
    let seen = browser.script("return document.cookie")?;
    ensure!(seen == "", "a script reads the session's cookie: {seen}");
    browser.click("#sign-out")?;
    browser.shows("#sign-in")?;
    browser.go(&url(&lab, "/approvals")?)?;
    browser.shows("#sign-in")
}

#[test]
fn notifiers_tell_of_a_request_and_a_forged_call_of_slack_is_refused() -> Result<()> {
    let lab = Lab::current()?;
    let mut service = StandIn::start()?;
    let browser = signed_in(&lab, "alice")?;
    let waiting = held(&lab, &browser, "notify")?;
    open(&browser, "notify")?;
    let page = browser.url()?;
    let posted = service.told("/api/chat.postMessage", "notify")?;
    ensure!(
        posted.contains(&page) && posted.contains("Review in Weir"),
        "{posted}"
    );
    let hook = service.told("/hook", "notify")?;
    ensure!(
        hook.contains("weir-signature: t=") && hook.contains(&page),
        "{hook}"
    );
    // Somebody who knows the request's id, and not the signing secret.
    let payload = "payload=%7B%22type%22%3A%22block_actions%22%7D";
    let forged = std::process::Command::new("curl")
        .args([
            "--insecure",
            "--silent",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
        ])
        .args(["--header", "x-slack-request-timestamp: 1", "--header"])
        .arg(format!("x-slack-signature: v0={}", "0".repeat(64)))
        .args(["--data", payload, &url(&lab, "/hooks/slack")?])
        .output()?;
    ensure!(forged.stdout == b"401", "{forged:?}");
    ensure!(rows(&lab)? == "9");
    deny(&browser)?;
    let changed = service.told("/api/chat.update", "end of the test")?;
    ensure!(!changed.contains("Review in Weir"), "a button is left");
    finish(waiting)?;
    Ok(())
}

/// Where the tier's configuration sends its notices: a stand-in that answers as Slack does.
struct StandIn {
    told: std::sync::mpsc::Receiver<String>,
    /// What came while something else was waited for.
    before: Vec<String>,
}

impl StandIn {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:5397").context("the notifiers' stand-in")?;
        let (sender, told) = std::sync::mpsc::sync_channel(256);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Ok(request) = request(stream) else {
                    continue;
                };
                if sender.send(request).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            told,
            before: Vec::new(),
        })
    }

    /// A request to a path that has this in its body.
    fn told(&mut self, path: &str, part: &str) -> Result<String> {
        let start = format!("POST {path} ");
        let fits = |request: &String| request.starts_with(&start) && request.contains(part);
        loop {
            if let Some(at) = self.before.iter().position(fits) {
                return Ok(self.before.remove(at));
            }
            let request = self.told.recv_timeout(Duration::from_secs(60));
            self.before
                .push(request.with_context(|| format!("nothing came to {path}"))?);
        }
    }
}

/// Reads one request of HTTP/1.1 and answers it.
fn request(stream: TcpStream) -> Result<String> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        ensure!(reader.read_line(&mut line)? > 0, "the request broke off");
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().context("a length")?;
        }
        head.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let answer = r#"{"ok":true,"ts":"1.1","channel":"C1"}"#;
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{answer}",
        answer.len()
    )?;
    Ok(head + &String::from_utf8_lossy(&body))
}

#[test]
fn agents_do_not_reach_the_console() -> Result<()> {
    let lab = Lab::current()?;
    let console = url(&lab, "/sign-in")?;
    let ask = [
        "curl",
        "--insecure",
        "--silent",
        "--show-error",
        "--max-time",
        "5",
        &console,
    ];
    for agent in ["analyst", "operator"] {
        let said = lab.exec(agent, &ask, "")?;
        ensure!(
            said.code != 0 && said.out.is_empty(),
            "{agent} reached it: {said:?}"
        );
    }
    let said = std::process::Command::new("curl")
        .args(&ask[1..])
        .output()?;
    ensure!(
        String::from_utf8_lossy(&said.stdout).contains("Sign in"),
        "nobody reaches it: {said:?}"
    );
    Ok(())
}

#[test]
fn every_page_by_day_by_night_and_on_a_phone() -> Result<()> {
    let lab = Lab::current()?;
    lab.psql(
        "analyst",
        "select name, email, ssn as number from customers limit 5;\ndrop table orders;\n",
    )?;
    let looks = [
        ("light", (1280, 860), false),
        ("dark", (1280, 860), true),
        ("phone", (390, 844), false),
    ];
    let browser = browser(&lab)?;
    browser.go(&url(&lab, "/sign-in")?)?;
    for (look, size, dark) in looks {
        browser.look(size, dark)?;
        browser.picture(&format!("sign-in-{look}"))?;
    }
    sign_in(&lab, &browser, "alice")?;
    let waiting = held(&lab, &browser, "pictures")?;
    let mut psql = lab.psql_open("analyst")?;
    let mut input = psql.stdin.take().context("psql's input")?;
    writeln!(input, "select name, ssn from customers limit 3;")?;
    let detail = browser.script("return document.querySelector('#waiting-list .card').href")?;
    let detail = detail.as_str().context("a request")?.to_owned();
    browser.go(&detail)?;
    browser.reads("#context", "/psql")?;
    pictures(&browser, &looks, "request", &detail)?;
    pictures(&browser, &looks, "approvals", &url(&lab, "/approvals")?)?;
    browser.click("#sign-out")?;
    sign_in(&lab, &browser, "erin")?;
    let session = until("a session in the record", Duration::from_secs(30), || {
        browser.go(&url(&lab, "/sessions?q=customers&remarkable=1")?)?;
        let found = browser.script("return document.querySelector('table.list tbody a')?.href")?;
        Ok(found.as_str().map(str::to_owned))
    })?;
    for (name, page) in [
        ("sessions", url(&lab, "/sessions")?),
        ("session", session),
        ("live", url(&lab, "/flows")?),
        ("revocations", url(&lab, "/revocations")?),
        ("policies", url(&lab, "/policies")?),
    ] {
        pictures(&browser, &looks, name, &page)?;
    }
    drop(input);
    finish(psql)?;
    browser.click("#sign-out")?;
    sign_in(&lab, &browser, "alice")?;
    browser.go(&detail)?;
    browser.write("#justification", "end of the test")?;
    browser.click("#deny")?;
    finish(waiting)?;
    Ok(())
}

type Look = (&'static str, (u32, u32), bool);

/// Nothing may be wider than the window.
fn pictures(browser: &Browser, looks: &[Look], name: &str, page: &str) -> Result<()> {
    for (look, size, dark) in looks {
        browser.look(*size, *dark)?;
        browser.go(page)?;
        browser.shows("#me")?;
        if name == "request" {
            browser.reads("#context", "/psql")?;
        }
        browser.picture(&format!("{name}-{look}"))?;
        let wide =
            browser.script("return document.documentElement.scrollWidth - window.innerWidth")?;
        ensure!(
            wide.as_i64().unwrap_or(0) <= 0,
            "{name} on {look} is {wide} pixels too wide"
        );
    }
    Ok(())
}
