//! Real ssh, sftp and scp inside an agent, and paramiko: decided, carried, masked, recorded.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weir_e2e::lab::{Lab, Said};
use weir_e2e::{LETTERS, lab, until};

const HOST: &str = "host.demo.internal";
/// In the host's app.conf.
const CANARY: &str = concat!("AKIA", "ZQ3DRSTUVWXY2345");

fn ssh(lab: &Lab, agent: &str, options: &[&str], command: &str) -> Result<Said> {
    with_input(lab, agent, options, command, "")
}

fn with_input(
    lab: &Lab,
    agent: &str,
    options: &[&str],
    command: &str,
    input: &str,
) -> Result<Said> {
    let mut all = vec!["ssh", "-o", "BatchMode=yes"];
    all.extend(options);
    all.push(HOST);
    if !command.is_empty() {
        all.push(command);
    }
    lab.exec(agent, &all, input)
}

/// A script of shell inside the agent, for what needs files or pipes there.
fn script(lab: &Lab, agent: &str, text: &str) -> Result<Said> {
    lab.exec(agent, &["bash", "-c", text], "")
}

/// On the host itself, past Weir.
fn home(lab: &Lab, name: &str) -> Result<PathBuf> {
    Ok(Path::new(&lab.name("LAB_HOST_HOME")?).join(name))
}

/// Sessions that the server started, by its own log.
fn started(lab: &Lab) -> Result<usize> {
    let log = std::fs::read(lab.name("LAB_HOST_LOG")?)?;
    Ok(String::from_utf8_lossy(&log)
        .matches("Starting session")
        .count())
}

#[test]
fn commands_run_as_without_weir() -> Result<()> {
    let lab = Lab::current()?;
    let said = ssh(&lab, "operator", &[], "id -un; echo to-error >&2; exit 7")?;
    ensure!(said.code == 7 && said.out.trim() == "deploy", "{said:?}");
    ensure!(said.err.trim() == "to-error", "{said:?}");
    let said = with_input(&lab, "operator", &[], "cat", "first\nsecond\n")?;
    ensure!(said.code == 0 && said.out == "first\nsecond\n", "{said:?}");
    let said = ssh(&lab, "operator", &["-tt"], "test -t 0 && echo terminal")?;
    ensure!(said.code == 0 && said.has("terminal"), "{said:?}");
    let said = ssh(&lab, "analyst", &[], "cat app.log | grep paid")?;
    ensure!(said.code == 0 && said.has("order 17 paid"), "{said:?}");
    let said = script(
        &lab,
        "operator",
        &format!("LC_ALL=C.UTF-8 LD_PRELOAD= ssh -o SendEnv=LC_ALL {HOST} printenv LC_ALL"),
    )?;
    ensure!(said.out.trim() == "C.UTF-8", "{said:?}");
    Ok(())
}

#[test]
fn both_directions_flow_at_once_without_standing_still() -> Result<()> {
    let lab = Lab::current()?;
    let said = script(
        &lab,
        "operator",
        &format!(
            "{LETTERS} > /tmp/weir-ssh-duplex; \
             timeout 120 ssh -o RekeyLimit=4M {HOST} cat < /tmp/weir-ssh-duplex | \
             cmp - /tmp/weir-ssh-duplex && echo same; rm -f /tmp/weir-ssh-duplex"
        ),
    )?;
    ensure!(said.out.trim() == "same", "{said:?}");
    Ok(())
}

#[test]
fn the_key_for_the_server_is_rotated_without_a_restart() -> Result<()> {
    let lab = Lab::current()?;
    let key = PathBuf::from(lab.name("LAB_HOST_KEY_FILE")?);
    let new = key.with_extension("new");
    let keygen = |arguments: &[&str]| -> Result<String> {
        let done = Command::new("ssh-keygen")
            .args(arguments)
            .arg(&new)
            .output();
        let done = done.context("ssh-keygen")?;
        ensure!(done.status.success(), "{done:?}");
        Ok(String::from_utf8(done.stdout)?)
    };
    keygen(&["-q", "-t", "ed25519", "-N", "", "-C", "new", "-f"])?;
    let fingerprint = keygen(&["-lf"])?;
    let fingerprint = fingerprint.split(' ').nth(1).context("a fingerprint")?;
    let public = std::fs::read_to_string(new.with_extension("new.pub"))?;
    // Others use the host meanwhile: first both are good, then only the new one.
    let known = home(&lab, "../authorized_keys")?;
    let before = std::fs::read_to_string(&known)?;
    std::fs::write(&known, format!("{before}{public}"))?;
    std::fs::rename(&new, &key)?;
    until(
        "the server sees the new key",
        Duration::from_secs(20),
        || {
            let said = ssh(&lab, "operator", &[], "true")?;
            ensure!(said.code == 0, "{said:?}");
            let log = std::fs::read(lab.name("LAB_HOST_LOG")?)?;
            let log = String::from_utf8_lossy(&log).into_owned();
            Ok(log.contains(fingerprint).then_some(()))
        },
    )?;
    std::fs::write(&known, public)?;
    let said = ssh(&lab, "operator", &[], "echo served")?;
    ensure!(said.code == 0 && said.out.trim() == "served", "{said:?}");
    Ok(())
}

#[test]
fn a_denied_command_never_reaches_the_server() -> Result<()> {
    let lab = Lab::current()?;
    let before = started(&lab)?;
    for (command, rule) in [
        ("touch made-by-analyst", "weir:no-permit"),
        ("ls; touch made-by-analyst", "weir:no-permit"),
        ("ls $(touch made-by-analyst)", "weir:no-permit"),
        ("bash -c 'touch made-by-analyst'", "weir:no-permit"),
        ("echo x > made-by-analyst", "weir:no-permit"),
        (
            "python3 -c 'open(\"made-by-analyst\",\"w\")'",
            "weir:no-permit",
        ),
        ("cat < /etc/passwd", "ssh-no-system-files"),
        ("", "weir:no-permit"),
    ] {
        let said = ssh(&lab, "analyst", &[], command)?;
        ensure!(said.code == 126, "{command}: {said:?}");
        ensure!(said.err.contains(rule), "{command}: {said:?}");
    }
    ensure!(!home(&lab, "made-by-analyst")?.exists(), "it was run");
    ensure!(started(&lab)? == before, "the server started a session");
    Ok(())
}

#[test]
fn a_command_waits_for_a_reviewer() -> Result<()> {
    let lab = Lab::current()?;
    lab.sign_in("alice")?;
    for (file, decision) in [("approved.txt", "approve"), ("kept.txt", "deny")] {
        let path = home(&lab, file)?;
        std::fs::write(&path, "x")?;
        let command = format!("rm -f {file}");
        let mut waiting = lab.started("operator", &["ssh", HOST, &command])?;
        let mut notice = vec![0; 64];
        let stderr = waiting.stderr.as_mut().context("its stderr")?;
        stderr.read_exact(&mut notice)?;
        let notice = String::from_utf8_lossy(&notice).into_owned();
        ensure!(notice.contains("waits for a reviewer"), "{notice}");
        let id = lab.held(&command)?;
        ensure!(path.exists(), "it ran before it was approved");
        let said = lab.weir(&["approvals", decision, &id, "--justification", "ticket 9"])?;
        ensure!(said.code == 0, "{said:?}");
        let said = lab::finish(waiting)?;
        if decision == "approve" {
            ensure!(said.code == 0 && !path.exists(), "{said:?}");
        } else {
            ensure!(said.code == 126 && path.exists(), "{said:?}");
            ensure!(said.err.contains("ticket 9"), "{said:?}");
        }
    }
    Ok(())
}

#[test]
fn secrets_in_output_are_masked_however_they_come() -> Result<()> {
    let lab = Lab::current()?;
    for (options, command) in [
        (&[][..], "cat app.conf".to_owned()),
        (&["-tt"], "cat app.conf".to_owned()),
        (&[], "cat app.conf >&2".to_owned()),
        (&[], "grep --color=always Z app.conf".to_owned()),
        (
            &[],
            "printf AKIAZQ3D; sleep 1; printf RSTUVWXY2345".to_owned(),
        ),
        (&[], "cat missing app.conf".to_owned()),
        (&[], format!("echo {CANARY}")),
        (&["-tt"], format!("echo {CANARY}")),
    ] {
        let said = ssh(&lab, "operator", options, &command)?;
        ensure!(!said.has(CANARY), "{command}: {said:?}");
        ensure!(!said.has("RSTUVWXY"), "{command}: {said:?}");
        ensure!(
            said.has("[masked:aws-access-key-id]"),
            "{command}: {said:?}"
        );
    }
    until(
        "the masked output in the store",
        Duration::from_secs(20),
        || {
            let row = lab.store(
                "SELECT count() FROM weir.fact WHERE target = 'host' AND kind = 'reply' \
             AND masked_values > 0 AND length(mask_rules) > 0",
            )?;
            Ok((row.trim().parse::<u32>().unwrap_or(0) >= 8).then_some(()))
        },
    )?;
    let leaked = lab.store(&format!(
        "SELECT count() FROM weir.fact WHERE \
         position(concat(statement, parameters, response_masked), '{CANARY}') > 0"
    ))?;
    ensure!(leaked.trim() == "0", "the record holds it: {leaked}");
    Ok(())
}

#[test]
fn a_shell_is_recorded_both_ways_as_an_asciicast() -> Result<()> {
    let lab = Lab::current()?;
    lab.sign_in("alice")?;
    let steps = [
        ("$ ", "stty size; echo typ\"\"ed-1234\n"),
        ("typed-1234", "exit 5\n"),
    ];
    let waiting = lab.on_terminal("operator", &["ssh", "-tt", HOST], &steps)?;
    let id = lab.held("shell")?;
    let said = lab.weir(&["approvals", "approve", &id, "--justification", "t"])?;
    ensure!(said.code == 0, "{said:?}");
    let said = lab::finish(waiting)?;
    ensure!(said.code == 5 && said.has("33 101"), "{said:?}");
    let session = until("the terminal in the store", Duration::from_secs(20), || {
        let list = lab.weir_json(&["sessions", "ls"])?;
        for row in list.as_array().into_iter().flatten() {
            let Some(id) = row["session"].as_str().map(str::to_owned) else {
                continue;
            };
            let cast = lab.weir(&["sessions", "cast", &id])?;
            if cast.code == 0 && cast.out.contains("exit 5") {
                return Ok(Some(cast));
            }
        }
        Ok(None)
    })?;
    let lines: Vec<&str> = session.out.lines().collect();
    let head: serde_json::Value = serde_json::from_str(lines.first().context("a header")?)?;
    ensure!(head["version"] == 2, "{head}");
    let mut shown = String::new();
    let mut keys = String::new();
    for line in &lines[1..] {
        let (_, code, text): (f64, String, String) = serde_json::from_str(line)?;
        match code.as_str() {
            "o" => shown.push_str(&text),
            "i" => keys.push_str(&text),
            _ => {}
        }
    }
    ensure!(shown.contains("typed-1234"), "{shown}");
    ensure!(keys.contains("exit 5"), "{keys}");
    Ok(())
}

#[test]
fn files_are_transferred_bit_by_bit_in_bounded_memory() -> Result<()> {
    let lab = Lab::current()?;
    let resident = |lab: &Lab| -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", lab.pid("node")?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.context("VmHWM")?.trim().trim_end_matches(" kB");
        Ok(kib.parse::<u64>()? / 1024)
    };
    let before = resident(&lab)?;
    let said = script(
        &lab,
        "operator",
        &format!(
            "set -e; f=/tmp/weir-ssh-file; head -c 268435456 /dev/urandom > $f; \
             printf 'put %s big\\nget big %s.back\\n' $f $f | sftp -q -b - {HOST} >/dev/null; \
             cmp $f $f.back && echo same; rm -f $f $f.back"
        ),
    )?;
    ensure!(said.out.trim() == "same", "{said:?}");
    std::fs::remove_file(home(&lab, "big")?)?;
    let after = resident(&lab)?;
    ensure!(
        after < before + 160,
        "256 MiB both ways took {before} → {after} MiB"
    );
    let row = until("the transfer in the store", Duration::from_secs(20), || {
        let row = lab.store(
            "SELECT max(bytes_out) FROM weir.fact WHERE target = 'host' AND kind = 'reply' \
             AND reply_to IN (SELECT seq FROM weir.fact WHERE target = 'host' AND statement LIKE \
             'sftp open %/big')",
        )?;
        Ok((row.trim() == "268435456").then_some(row))
    });
    row.map(drop)
}

#[test]
fn every_operation_on_a_file_is_decided_by_its_real_path() -> Result<()> {
    let lab = Lab::current()?;
    let sftp = |agent: &str, batch: &str| -> Result<Said> {
        lab.exec(agent, &["sftp", "-q", "-b", "-", HOST], batch)
    };
    let said = sftp("analyst", "pwd\nls -l\nget app.log /tmp/weir-ssh-app\n")?;
    ensure!(said.code == 0 && said.has("app.log"), "{said:?}");
    for batch in [
        "get /etc/passwd /tmp/weir-ssh-x\n",
        "get ../../../../../../etc/passwd /tmp/weir-ssh-x\n",
        "get /proc/self/root/etc/passwd /tmp/weir-ssh-x\n",
    ] {
        let said = sftp("analyst", batch)?;
        ensure!(said.code != 0 && said.has("denied"), "{batch}: {said:?}");
    }
    let link = home(&lab, "innocent")?;
    std::os::unix::fs::symlink("/etc/passwd", &link)?;
    let said = sftp("operator", "get innocent /tmp/weir-ssh-x\n")?;
    std::fs::remove_file(&link)?;
    ensure!(said.code != 0 && said.has("denied"), "{said:?}");
    for batch in [
        "put /etc/hostname made\n",
        "mkdir made\n",
        "ln -s app.log made\n",
    ] {
        let said = sftp("analyst", batch)?;
        ensure!(said.code != 0, "{batch}: {said:?}");
    }
    ensure!(!home(&lab, "made")?.exists(), "it was made");
    let said = sftp(
        "operator",
        "mkdir made\nput /etc/hostname made/one\nls made\nchmod 600 made/one\nln -s one made/two\n",
    )?;
    ensure!(said.code == 0 && said.has("one"), "{said:?}");
    std::fs::remove_dir_all(home(&lab, "made")?)?;
    Ok(())
}

#[test]
fn scp_works_in_both_modes() -> Result<()> {
    let lab = Lab::current()?;
    for mode in ["-s", "-O"] {
        let said = script(
            &lab,
            "operator",
            &format!(
                "set -e; f=/tmp/weir-ssh-scp; head -c 3000000 /dev/urandom > $f; \
                 scp -q {mode} $f {HOST}:copied; scp -q {mode} {HOST}:copied $f.back; \
                 cmp $f $f.back && echo same; rm -f $f $f.back"
            ),
        )?;
        ensure!(said.out.trim() == "same", "{mode}: {said:?}");
        std::fs::remove_file(home(&lab, "copied")?)?;
        let said = script(
            &lab,
            "analyst",
            &format!("scp -q {mode} /etc/hostname {HOST}:copied"),
        )?;
        ensure!(
            said.code != 0 && !home(&lab, "copied")?.exists(),
            "{mode}: {said:?}"
        );
    }
    Ok(())
}

#[test]
fn destinations_are_decided_and_other_forwarding_is_refused() -> Result<()> {
    let lab = Lab::current()?;
    let banner = |agent: &str, to: &str| {
        script(
            &lab,
            agent,
            &format!("timeout 5 ssh -W {to} {HOST} < /dev/null | head -c 4"),
        )
    };
    let said = banner("operator", "127.0.0.1:22")?;
    ensure!(said.out == "SSH-", "{said:?}");
    let address = lab.name("LAB_DB_V4")?;
    let said = banner("operator", &format!("{address}:22"))?;
    ensure!(
        said.out.is_empty() && said.err.contains("prohibited"),
        "{said:?}"
    );
    let said = ssh(
        &lab,
        "operator",
        &["-A", "-X", "-R", "9999:localhost:1"],
        "echo still-here",
    )?;
    ensure!(said.has("still-here"), "{said:?}");
    let rows = until("refusals in the store", Duration::from_secs(20), || {
        let rows = lab.store(
            "SELECT DISTINCT statement FROM weir.fact WHERE target = 'host' \
             AND rule = 'weir:unsupported'",
        )?;
        Ok(rows.contains("listening on").then_some(rows))
    })?;
    ensure!(rows.contains("9999"), "{rows}");
    Ok(())
}

#[test]
fn fifty_sessions_run_at_once() -> Result<()> {
    let lab = Lab::current()?;
    let said = script(
        &lab,
        "operator",
        &format!(
            "for i in $(seq 50); do ssh {HOST} \"echo number-$i; uptime >/dev/null\" & done | \
             sort -u | grep -c number-; wait"
        ),
    )?;
    ensure!(said.out.trim() == "50", "own connections: {said:?}");
    let said = script(
        &lab,
        "operator",
        &format!(
            "ssh -o ControlMaster=yes -o ControlPath=/tmp/weir-ssh-mux -fN {HOST}; \
             for i in $(seq 50); do ssh -o ControlPath=/tmp/weir-ssh-mux {HOST} \"echo number-$i\" & \
             done | sort -u | grep -c number-; wait; \
             ssh -o ControlPath=/tmp/weir-ssh-mux -O exit {HOST} 2>/dev/null"
        ),
    )?;
    ensure!(said.out.trim() == "50", "one connection: {said:?}");
    Ok(())
}

#[test]
fn a_host_that_is_not_weirs_is_noticed_by_the_client() -> Result<()> {
    let lab = Lab::current()?;
    let said = ssh(
        &lab,
        "operator",
        &[
            "-o",
            "GlobalKnownHostsFile=/dev/null",
            "-o",
            "StrictHostKeyChecking=yes",
        ],
        "id",
    )?;
    ensure!(
        said.code == 255 && said.has("verification failed"),
        "{said:?}"
    );
    let said = script(
        &lab,
        "operator",
        &format!("ssh -v {HOST} true 2>&1 | grep -c 'Host certificate\\|host certificate'"),
    )?;
    ensure!(said.out.trim() != "0", "no certificate was shown: {said:?}");
    for weak in [
        &["-o", "KexAlgorithms=diffie-hellman-group14-sha1"][..],
        &["-o", "Ciphers=aes128-cbc"],
        &["-o", "MACs=hmac-sha1", "-o", "Ciphers=aes128-ctr"],
        &["-o", "HostKeyAlgorithms=ssh-rsa"],
    ] {
        let said = ssh(&lab, "operator", weak, "id")?;
        ensure!(said.code == 255, "{weak:?}: {said:?}");
    }
    Ok(())
}

#[test]
fn a_live_session_is_ended_by_an_administrator() -> Result<()> {
    let lab = Lab::current()?;
    let running = lab.started("operator", &["ssh", HOST, "echo begun; sleep 60"])?;
    let id = until("the flow", Duration::from_secs(20), || {
        let flows = lab.weir_json(&["flows"])?;
        Ok(flows.as_array().into_iter().flatten().find_map(|row| {
            (row["target"] == "host").then(|| row["session"].as_str().map(str::to_owned))?
        }))
    })?;
    until("the command", Duration::from_secs(20), || {
        let row =
            lab.store("SELECT count() FROM weir.fact WHERE statement = 'echo begun; sleep 60'")?;
        Ok((row.trim() != "0").then_some(()))
    })?;
    let said = lab.weir(&["flows", "--kill", &id])?;
    ensure!(said.code == 0, "{said:?}");
    let said = lab::finish(running)?;
    ensure!(said.code == 255, "{said:?}");
    ensure!(said.err.contains("administrator ended"), "{said:?}");
    Ok(())
}

/// paramiko offers a password, as its users do; it proves nothing and is not kept.
const PARAMIKO: &str = "
import paramiko, hashlib, io, os
client = paramiko.SSHClient()
known = '/tmp/weir-ssh-known'
with open('/run/ssh/known_hosts') as all: open(known, 'w').writelines(l for l in all if not l.startswith('@'))
client.load_system_host_keys(known)
client.connect(os.environ['PGHOST'], username='deploy', password='secret-of-mine', allow_agent=False, look_for_keys=False)
_, out, err = client.exec_command('echo out; echo err >&2; exit 3')
print('exec', out.read(), err.read(), out.channel.recv_exit_status())
_, out, err = client.exec_command('touch /etc/x && cat < /etc/shadow')
print('denied', err.read(), out.channel.recv_exit_status())
sftp = client.open_sftp()
data = os.urandom(2_000_000)
sftp.putfo(io.BytesIO(data), 'from-paramiko')
back = io.BytesIO(); sftp.getfo('from-paramiko', back)
print('same', back.getvalue() == data, sorted(sftp.listdir('.'))[:1])
try: sftp.open('/etc/passwd').read(); print('read it')
except IOError as e: print('refused', e)
client.close()
";

#[test]
fn paramiko_works_and_its_password_is_not_kept() -> Result<()> {
    let lab = Lab::current()?;
    let said = lab.python("operator", PARAMIKO)?;
    ensure!(said.code == 0, "{said:?}");
    ensure!(said.has("exec b'out\\n' b'err\\n' 3"), "{said:?}");
    ensure!(
        said.has("ssh-no-system-files") && said.has("126"),
        "{said:?}"
    );
    ensure!(said.has("same True"), "{said:?}");
    ensure!(said.has("refused") && !said.has("read it"), "{said:?}");
    std::fs::remove_file(home(&lab, "from-paramiko")?)?;
    let kept = lab.store(
        "SELECT count() FROM weir.fact WHERE position(concat(statement, parameters, reason, \
         response_masked), 'secret-of-mine') > 0",
    )?;
    ensure!(kept.trim() == "0", "the password is in the record");
    Ok(())
}

#[test]
fn what_was_done_is_recorded_with_who_and_what() -> Result<()> {
    let lab = Lab::current()?;
    let said = ssh(&lab, "analyst", &[], "uname -s; df / | tail -1")?;
    ensure!(said.code == 0, "{said:?}");
    let row = until("the request in the store", Duration::from_secs(20), || {
        let row = lab.store(
            "SELECT workload, decision, rule, arrayStringConcat(effects, ','), \
             arrayStringConcat(objects, ','), comm FROM weir.fact WHERE target = 'host' \
             AND kind = 'request' AND statement LIKE 'uname -s; df%' LIMIT 1",
        )?;
        Ok((!row.trim().is_empty()).then_some(row))
    })?;
    for part in [
        "analyst",
        "allow",
        "ssh-look",
        "exec,readOutput,run",
        "Program:host/deploy/df",
        "Program:host/deploy/uname",
        "ssh",
    ] {
        ensure!(row.contains(part), "{part} is not in {row}");
    }
    Ok(())
}
