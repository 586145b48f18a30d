//! Real kubectl inside an agent: exec, attach, cp and port-forward, over WebSocket and over SPDY.

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weir_e2e::lab::{Lab, Said};
use weir_e2e::{LETTERS, lab, until};

const BOTH: [bool; 2] = [true, false];

/// kubectl with one of its transports.
fn command<'a>(websocket: bool, arguments: &[&'a str]) -> Vec<&'a str> {
    let variables = if websocket {
        [
            "KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true",
            "KUBECTL_PORT_FORWARD_WEBSOCKETS=true",
        ]
    } else {
        [
            "KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false",
            "KUBECTL_PORT_FORWARD_WEBSOCKETS=false",
        ]
    };
    let mut command = vec!["env", variables[0], variables[1]];
    command.extend(["kubectl", "-n", "shop"]);
    command.extend(arguments);
    command
}

fn kubectl(lab: &Lab, websocket: bool, arguments: &[&str], input: &str) -> Result<Said> {
    lab.exec("operator", &command(websocket, arguments), input)
}

/// Requests for streams that reached the server.
fn reached(lab: &Lab) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(lab.name("LAB_CLUSTER_LOG")?)?;
    let mut found = Vec::new();
    for line in text.lines() {
        let request: Value = serde_json::from_str(line).context("a line of the server's log")?;
        let path = request["path"].as_str().unwrap_or_default();
        if ["/exec", "/attach", "/portforward"]
            .iter()
            .any(|part| path.contains(part))
        {
            found.push(request);
        }
    }
    Ok(found)
}

/// Waits for a fact of the cluster that fits.
fn recorded(lab: &Lab, condition: &str) -> Result<()> {
    let query = format!("SELECT count() FROM weir.fact WHERE target = 'cluster' AND {condition}");
    until(condition, Duration::from_secs(20), || {
        Ok((lab.store(&query)?.trim() != "0").then_some(()))
    })
}

#[test]
fn commands_run_with_their_input_outputs_and_exit_code() -> Result<()> {
    let lab = Lab::current()?;
    for websocket in BOTH {
        let said = kubectl(
            &lab,
            websocket,
            &["exec", "web-0", "--", "echo", "hello"],
            "",
        )?;
        ensure!(said.code == 0 && said.out == "hello\n", "{said:?}");
        let text = "line\n".repeat(40_000);
        let said = kubectl(
            &lab,
            websocket,
            &["exec", "-i", "web-0", "--", "cat"],
            &text,
        )?;
        ensure!(said.code == 0 && said.out == text, "cat: {}", said.err);
        let script = "echo out; echo err >&2; exit 7";
        let arguments = ["exec", "web-0", "--", "sh", "-c", script];
        let said = kubectl(&lab, websocket, &arguments, "")?;
        ensure!(said.code == 7 && said.out == "out\n", "{said:?}");
        ensure!(said.err.starts_with("err\n"), "{said:?}");
        let said = kubectl(&lab, websocket, &["exec", "web-0", "--", "not-there"], "")?;
        ensure!(said.code != 0, "{said:?}");
    }
    recorded(
        &lab,
        "kind = 'reply' AND status = 'exit:7' AND bytes_out = 8 \
         AND position(response_masked, 'out') > 0 AND position(response_masked, 'err') > 0",
    )?;
    recorded(
        &lab,
        "kind = 'reply' AND status = 'ok' AND bytes_in = 200000",
    )?;
    recorded(
        &lab,
        "kind = 'request' AND has(effects, 'exec') AND rule = 'exec-shop'",
    )
}

#[test]
fn a_large_file_is_copied_both_ways() -> Result<()> {
    let lab = Lab::current()?;
    for websocket in BOTH {
        let flag = if websocket { "true" } else { "false" };
        let script = format!(
            "set -e; cd $(mktemp -d); export KUBECTL_REMOTE_COMMAND_WEBSOCKETS={flag}
             {LETTERS} | head -c 20971520 > sent
             kubectl -n shop cp sent web-0:copied-{flag}
             kubectl -n shop cp web-0:copied-{flag} back
             cmp sent back && sha256sum < back && rm sent back"
        );
        let said = lab.exec("operator", &["sh", "-c", &script], "")?;
        ensure!(said.code == 0 && said.out.contains("  -"), "{said:?}");
    }
    recorded(
        &lab,
        "kind = 'request' AND has(effects, 'exec') AND position(statement, 'tar') > 0",
    )?;
    recorded(
        &lab,
        "kind = 'reply' AND status = 'ok' AND bytes_in > 20971520",
    )?;
    recorded(
        &lab,
        "kind = 'reply' AND status = 'ok' AND bytes_out > 20971520",
    )
}

#[test]
fn secrets_are_masked_in_output_and_never_recorded() -> Result<()> {
    let lab = Lab::current()?;
    // Put together here, so that no scanner takes it for a real one.
    let token = format!("ghp_{}", "Zq7X".repeat(9));
    for websocket in BOTH {
        let arguments = ["exec", "web-0", "--", "echo", "token:", &token, "end"];
        let said = kubectl(&lab, websocket, &arguments, "")?;
        ensure!(said.code == 0 && !said.has("Zq7X"), "{said:?}");
        ensure!(
            said.out.starts_with("token: ") && said.out.ends_with(" end\n"),
            "{said:?}"
        );
        let make = format!("printf 'a %s b' {token} > holds-a-token");
        let said = kubectl(
            &lab,
            websocket,
            &["exec", "web-0", "--", "sh", "-c", &make],
            "",
        )?;
        ensure!(said.code == 0, "{said:?}");
        let copy = ["cp", "--retries=0", "web-0:holds-a-token", "/tmp/copied"];
        let said = kubectl(&lab, websocket, &copy, "")?;
        ensure!(
            said.code != 0 && said.has("would break the archive"),
            "{said:?}"
        );
    }
    recorded(
        &lab,
        "kind = 'reply' AND masked_values = 1 AND position(response_masked, 'token: ') > 0",
    )?;
    recorded(
        &lab,
        "kind = 'reply' AND status = 'withheld' AND masked_values = 1",
    )?;
    let found = lab.store(
        "SELECT count() FROM weir.fact WHERE target = 'cluster' AND position(concat(\
         statement, parameters, response_masked, reason), 'Zq7X') > 0",
    )?;
    ensure!(found.trim() == "0", "the record holds a secret: {found}");
    Ok(())
}

#[test]
fn attach_and_followed_logs_work() -> Result<()> {
    let lab = Lab::current()?;
    for websocket in BOTH {
        let said = kubectl(&lab, websocket, &["attach", "-i", "web-0"], "typed\n")?;
        ensure!(said.code == 0 && said.out.contains("typed"), "{said:?}");
    }
    let follow = [
        "timeout", "5", "kubectl", "-n", "shop", "logs", "-f", "web-0",
    ];
    let said = lab.exec("operator", &follow, "")?;
    ensure!(said.out.contains("web-0"), "{said:?}");
    Ok(())
}

#[test]
fn an_analyst_runs_nothing_and_the_server_never_hears_of_it() -> Result<()> {
    let lab = Lab::current()?;
    let own = |request: &Value| request.to_string().contains("weir-denied-canary");
    for websocket in BOTH {
        for arguments in [
            &["exec", "web-0", "--", "echo", "weir-denied-canary"][..],
            &["cp", "web-0:weir-denied-canary", "/tmp/never"],
            &["exec", "-i", "-t", "web-0", "--", "weir-denied-canary"],
        ] {
            let said = lab.exec("analyst", &command(websocket, arguments), "")?;
            ensure!(said.code != 0, "{arguments:?}: {said:?}");
            ensure!(said.has("weir:no-permit"), "{arguments:?}: {said:?}");
        }
    }
    ensure!(!reached(&lab)?.iter().any(own), "it reached the server");
    for path in ["pods/web-0/proxy", "services/web/proxy"] {
        let url = format!("/api/v1/namespaces/shop/{path}");
        let said = kubectl(&lab, true, &["get", "--raw", &url], "")?;
        ensure!(said.code != 0 && said.has("proxying"), "{said:?}");
    }
    Ok(())
}

#[test]
fn a_terminal_waits_for_a_reviewer_and_is_recorded() -> Result<()> {
    let lab = Lab::current()?;
    lab.sign_in("alice")?;
    for websocket in BOTH {
        let flag = if websocket { "true" } else { "false" };
        let shell = format!("exec sh #{flag}");
        let typed = format!("echo term-{flag}-$((40+2)); exit 5\n");
        let command = command(
            websocket,
            &["exec", "-it", "web-0", "--", "sh", "-c", &shell],
        );
        let waiting = lab.on_terminal("operator", &command, &[("# ", &typed)])?;
        let id = lab.held(&format!("exec sh #{flag}"))?;
        let approve = ["approvals", "approve", &id, "--justification", "ticket 8"];
        let approved = lab.weir(&approve)?;
        ensure!(approved.code == 0, "{approved:?}");
        let said = lab::finish(waiting)?;
        ensure!(said.out.contains(&format!("term-{flag}-42")), "{said:?}");
        ensure!(said.code == 5, "{said:?}");
        recorded(
            &lab,
            &format!(
                "kind = 'terminal' AND position(response_masked, 'term-{flag}-42') > 0 \
                 AND position(response_masked, '\"o\"') > 0"
            ),
        )?;
    }
    recorded(
        &lab,
        "kind = 'terminal' AND position(response_masked, '\"width\":101,\"height\":33') > 0",
    )?;
    recorded(
        &lab,
        "kind = 'terminal' AND position(response_masked, '\"i\"') > 0",
    )?;
    recorded(&lab, "kind = 'reply' AND status = 'exit:5'")
}

/// A server beside the API server, run by an exec that lasts as long as it.
fn answering(lab: &Lab, port: &str) -> Result<std::process::Child> {
    let python = Lab::python_binary()?;
    let make = [
        "exec",
        "web-0",
        "--",
        "sh",
        "-c",
        "head -c 300000 /dev/zero > big",
    ];
    let said = kubectl(lab, true, &make, "")?;
    ensure!(said.code == 0, "{said:?}");
    let mut serve = vec!["exec", "web-0", "--", &python, "-m", "http.server", port];
    serve.extend(["--bind", "127.0.0.1"]);
    let server = lab.started("operator", &command(true, &serve))?;
    let look = format!("import socket; socket.create_connection(('127.0.0.1', {port}), 5)");
    until("the server", Duration::from_secs(20), || {
        let said = kubectl(
            lab,
            true,
            &["exec", "web-0", "--", &python, "-c", &look],
            "",
        )?;
        Ok((said.code == 0).then_some(()))
    })?;
    Ok(server)
}

/// kubectl forwards, curl goes through it as often as asked.
fn forward(lab: &Lab, agent: &str, websocket: bool, port: &str, times: usize) -> Result<Said> {
    let script = format!(
        "export KUBECTL_PORT_FORWARD_WEBSOCKETS={websocket}
         kubectl -n shop port-forward pod/web-0 :{port} > /tmp/forward.$$ 2>&1 &
         forward=$!
         for wait in $(seq 100); do
           grep -q Forwarding /tmp/forward.$$ && break; kill -0 $forward || break; sleep 0.1
         done
         local=$(sed -n 's/.*127.0.0.1:\\([0-9]*\\) ->.*/\\1/p' /tmp/forward.$$ | head -n 1)
         for time in $(seq {times}); do
           curl -s -m 10 -o /dev/null -w '%{{http_code}} %{{size_download}}\\n' http://127.0.0.1:$local/big &
           curls=\"$curls $!\"
         done
         wait $curls
         kill $forward; cat /tmp/forward.$$; rm /tmp/forward.$$"
    );
    lab.exec(agent, &["sh", "-c", &script], "")
}

#[test]
fn ports_are_forwarded_and_decided_one_by_one() -> Result<()> {
    let lab = Lab::current()?;
    let port = "18099";
    let mut server = answering(&lab, port)?;
    for websocket in BOTH {
        let said = forward(&lab, "operator", websocket, port, 5)?;
        let got = said.out.matches("200 300000").count();
        ensure!(got == 5, "{websocket}: {said:?}");
        let said = forward(&lab, "operator", websocket, "22", 1)?;
        ensure!(said.out.contains("000 0"), "{said:?}");
        ensure!(said.has("weir:no-permit"), "{said:?}");
        let said = forward(&lab, "analyst", websocket, port, 1)?;
        ensure!(said.has("weir:no-permit"), "{said:?}");
    }
    server.kill()?;
    let _left = lab::finish(server)?;
    let statement = format!("statement = 'port-forward pods/web-0 -n shop: {port}'");
    recorded(
        &lab,
        &format!("kind = 'request' AND decision = 'allow' AND {statement}"),
    )?;
    recorded(
        &lab,
        "kind = 'request' AND decision = 'deny' \
         AND statement = 'port-forward pods/web-0 -n shop: 22'",
    )?;
    recorded(
        &lab,
        "kind = 'reply' AND status = 'ok' AND bytes_out > 1500000",
    )
}

#[test]
fn a_killed_flow_ends_a_command_with_a_word() -> Result<()> {
    let lab = Lab::current()?;
    for websocket in BOTH {
        let command = command(
            websocket,
            &["exec", "web-0", "--", "sh", "-c", "echo begun; sleep 60"],
        );
        let mut running = lab.started("operator", &command)?;
        let mut begun = [0; 6];
        let stdout = running.stdout.as_mut().context("its output")?;
        stdout.read_exact(&mut begun)?;
        // Every flow of the agent to the cluster; one of them runs the command.
        let flows = lab.weir_json(&["flows"])?;
        for flow in flows.as_array().into_iter().flatten() {
            if flow["workload"] == "operator" && flow["target"] == "cluster" {
                let session = flow["session"].as_str().context("a session")?;
                // It may have ended meanwhile.
                let _killed = lab.weir(&["flows", "--kill", session])?;
            }
        }
        let said = lab::finish(running)?;
        ensure!(said.code != 0, "{said:?}");
        ensure!(said.has("an operator ended this session"), "{said:?}");
    }
    recorded(&lab, "kind = 'reply' AND status = 'killed'")
}

/// Upgrades by hand and then breaks the protocol.
const RAW: &str = "
import base64, os, socket, ssl
host, port = 'SERVER'.removeprefix('https://').rsplit(':', 1)
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
stream = context.wrap_socket(socket.create_connection((host, int(port)), 10))
stream.settimeout(5)
key = base64.b64encode(os.urandom(16)).decode()
head = 'GET /api/v1/namespaces/shop/pods/web-0/exec?command=cat&stdin=true&stdout=true HTTP/1.1\\r\\n'
head += 'Host: k\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Version: 13\\r\\n'
head += f'Sec-WebSocket-Key: {key}\\r\\nSec-WebSocket-Protocol: PROTOCOL\\r\\n\\r\\n'
stream.sendall(head.encode())
seen = b''
try:
    while b'\\r\\n\\r\\n' not in seen:
        seen += stream.recv(1)
    stream.sendall(bytes.fromhex('FRAMES'))
    while chunk := stream.recv(65536):
        seen += chunk
except (TimeoutError, ConnectionError, ssl.SSLError) as error:
    print('ended:', error)
print(seen)
";

#[test]
fn broken_frames_end_a_stream_with_a_word() -> Result<()> {
    let lab = Lab::current()?;
    for (protocol, frames, expected) in [
        ("v4.channel.k8s.io", "82020061", "masked on the wrong side"),
        ("v5.channel.k8s.io", "c2820000000000", "reserved bits"),
        ("v4.channel.k8s.io", "82820000000001ff", "the other side"),
        (
            "v4.channel.k8s.io",
            "82ff00000000040000000000000000",
            "too large",
        ),
        ("base64.channel.k8s.io", "", "none of the offered"),
        ("v3.channel.k8s.io", "", "none of the offered"),
    ] {
        let server = lab.name("LAB_CLUSTER_SERVER")?;
        let script = RAW
            .replace("SERVER", &server)
            .replace("PROTOCOL", protocol)
            .replace("FRAMES", frames);
        let said = lab.python("operator", &script)?;
        ensure!(said.has(expected), "{protocol} {frames}: {said:?}");
    }
    recorded(&lab, "kind = 'reply' AND status = 'malformed'")
}
