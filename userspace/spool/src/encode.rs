//! A fact as one RowBinary row.
//!
//! Source: ClickHouse documentation, "RowBinary": integers little-endian, strings and arrays
//! prefixed with a LEB128 length, maps as arrays of pairs, DateTime64(3) as milliseconds.

use weir_model::fact::{Fact, FactContext};

fn leb128(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn text(out: &mut Vec<u8>, value: &str) {
    leb128(out, value.len());
    out.extend_from_slice(value.as_bytes());
}

fn texts(out: &mut Vec<u8>, values: &[String]) {
    leb128(out, values.len());
    for value in values {
        text(out, value);
    }
}

/// The columns that are the same for all facts of a session.
pub(crate) fn context(out: &mut Vec<u8>, c: &FactContext) {
    out.extend_from_slice(&c.session_id.to_le_bytes());
    for value in [
        &c.cluster,
        &c.node,
        &c.workload,
        &c.agent,
        &c.target,
        &c.protocol,
        &c.tenant,
        &c.principal,
        &c.application,
        &c.on_behalf_of,
    ] {
        text(out, value);
    }
    texts(out, &c.groups);
    texts(out, &c.roles);
    text(out, &c.token_id);
    text(out, &c.evidence);
    for value in [c.uid, c.pid, c.ppid] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    for value in [&c.comm, &c.exe, &c.exe_id, &c.exe_sha256, &c.argv] {
        text(out, value);
    }
    texts(out, &c.parents);
    out.extend_from_slice(&c.cgroup_id.to_le_bytes());
    for value in [&c.cgroup_path, &c.container, &c.pod, &c.lineage] {
        text(out, value);
    }
    out.extend_from_slice(&c.netns_inode.to_le_bytes());
    text(out, &c.client_addr);
    text(out, &c.server_addr);
    out.extend_from_slice(&c.policy_version.to_le_bytes());
}

/// The rest, up to the columns that say where the row lies.
pub(crate) fn event(out: &mut Vec<u8>, f: &Fact) {
    out.push(f.kind as u8);
    out.extend_from_slice(&f.event_time_us.div_euclid(1000).to_le_bytes());
    out.extend_from_slice(&f.seq.to_le_bytes());
    out.extend_from_slice(&f.reply_to.to_le_bytes());
    text(out, &f.statement);
    text(out, &f.parameters);
    out.extend_from_slice(&f.shape.to_le_bytes());
    texts(out, &f.effects);
    texts(out, &f.objects);
    out.push(f.decision as u8);
    text(out, &f.rule);
    text(out, &f.reason);
    out.extend_from_slice(&f.approval_id.to_le_bytes());
    text(out, &f.approver);
    out.extend_from_slice(&f.held_ms.to_le_bytes());
    for value in [f.duration_us, f.server_us] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    for value in [
        f.identify_us,
        f.credential_us,
        f.decode_us,
        f.decide_us,
        f.mask_us,
    ] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    for value in [f.rows, f.bytes_in, f.bytes_out] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    text(out, &f.response_masked);
    out.push(u8::from(f.truncated));
    out.extend_from_slice(&f.reply_digest.to_le_bytes());
    out.extend_from_slice(&f.masked_values.to_le_bytes());
    texts(out, &f.mask_rules);
    text(out, &f.status);
    leb128(out, f.labels.len());
    for (name, value) in &f.labels {
        text(out, name);
        text(out, value);
    }
}

/// Where the row lies, and a digest that locates what was changed.
pub(crate) fn place(out: &mut Vec<u8>, start: usize, epoch: u32, segment: u64, position: u32) {
    out.extend_from_slice(&epoch.to_le_bytes());
    out.extend_from_slice(&segment.to_le_bytes());
    out.extend_from_slice(&position.to_le_bytes());
    let row = out.get(start..).unwrap_or(&[]);
    let mut digest = [0; 8];
    for (to, from) in digest.iter_mut().zip(blake3::hash(row).as_bytes()) {
        *to = *from;
    }
    out.extend_from_slice(&digest);
}
