//! A signed bundle of one session: what was recorded, in a file that proves itself without the node.
//!
//! Lines of JSON. The first says whose session it is and what `audit verify` found when it was made; then come the
//! facts in order; the last has a digest of every fact and of each of its columns, and the node's signature over
//! all digests. What is signed is BLAKE3 of the first line and of each fact's line, so whoever has the node's
//! public key can tell which fact was changed, moved, doubled, put in or left out, and in a changed one
//! which columns.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_spool::{SegmentId, end_is_signed};

use crate::anchor::Mark;
use crate::audit::{Report, Verdict};
use crate::fields::number;
use crate::hex::{hex, unhex};
use crate::keys::{Change, KeyHistory, Signer};

/// Bytes of one bundle.
const BUNDLE_BYTES_MAX: usize = 1024 * 1024 * 1024;
const VERSION: u32 = 1;

/// A signed end, or an anchor, of a segment that holds facts of the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    pub epoch: u32,
    pub lane: u32,
    pub number: u32,
    /// Facts of the segment up to its end.
    pub facts: u32,
    /// Hexadecimal.
    pub hash: String,
    pub signature: String,
    /// When it reached ClickHouse, seconds since 1970.
    pub sealed_s: i64,
    /// Of a segment that had not ended: when this was signed, milliseconds since 1970. 0 for a signed end.
    #[serde(default)]
    pub at_ms: i64,
}

impl Anchor {
    /// Of a segment that has no signed end yet.
    pub(crate) fn open(id: SegmentId, mark: &Mark) -> Self {
        Self {
            epoch: id.epoch,
            lane: id.lane,
            number: id.number,
            facts: mark.position,
            hash: hex(&mark.hash),
            signature: hex(&mark.signature),
            sealed_s: mark.at_ms.div_euclid(1000),
            at_ms: mark.at_ms,
        }
    }

    fn is_signed(&self, hash: [u8; 32], signature: [u8; 64], key: &VerifyingKey) -> bool {
        if self.at_ms == 0 {
            return end_is_signed(self.facts, &hash, &signature, key);
        }
        let mark = Mark {
            position: self.facts,
            at_ms: self.at_ms,
            hash,
            signature,
        };
        mark.is_signed(key)
    }

    const fn id(&self) -> SegmentId {
        SegmentId {
            epoch: self.epoch,
            lane: self.lane,
            number: self.number,
        }
    }

    fn name(&self) -> String {
        format!("{}-{}-{}", self.epoch, self.lane, self.number)
    }
}

/// The first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Head {
    weir_bundle: u32,
    session: String,
    node: String,
    /// Of the spool, hexadecimal.
    node_id: String,
    /// Public key, hexadecimal.
    key: String,
    /// Changes of the node's key up to that one.
    #[serde(default)]
    keys: Vec<Change>,
    made_s: i64,
    facts: usize,
    /// What was found in ClickHouse when it was made.
    findings: Vec<String>,
    anchors: Vec<Anchor>,
}

/// The last line.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct End {
    /// Digest of the first line.
    head: String,
    facts: Vec<Print>,
    signature: String,
}

/// Digests of one fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Print {
    seq: u64,
    /// 16 bytes of BLAKE3 of the line, hexadecimal.
    line: String,
    /// 3 bytes for each column, in the order of their names, hexadecimal.
    columns: String,
}

const COLUMN_DIGITS: usize = 6;

fn digest(bytes: &[u8], digits: usize) -> String {
    let mut text = blake3::hash(bytes).to_hex().to_string();
    text.truncate(digits);
    text
}

/// Of a line of JSON; `None` when it is no object.
fn print_of(line: &str) -> Option<(Print, BTreeMap<String, Value>)> {
    let fact: BTreeMap<String, Value> = serde_json::from_str(line).ok()?;
    let columns = fact
        .values()
        .map(|value| digest(value.to_string().as_bytes(), COLUMN_DIGITS));
    let print = Print {
        seq: number(fact.get("seq")),
        line: digest(line.as_bytes(), 32),
        columns: columns.collect(),
    };
    Some((print, fact))
}

fn signed(head: &str, facts: &[Print]) -> Vec<u8> {
    let mut message = format!("weir bundle {VERSION}\n{head}\n");
    for print in facts {
        message.push_str(&format!("{} {} {}\n", print.seq, print.line, print.columns));
    }
    message.into_bytes()
}

/// Whose session it is.
pub struct Origin<'a> {
    pub session: &'a str,
    pub node: &'a str,
    pub node_id: u128,
    pub made_s: i64,
    /// Changes of the node's key, which end with the one that signs.
    pub keys: &'a [Change],
}

/// Makes a bundle. `facts` are lines of JSON in order of `seq`; `report` and `anchors` are of the segments that
/// they lie in.
///
/// # Errors
/// A line that is no JSON object.
pub fn make(
    origin: &Origin<'_>,
    facts: &[String],
    (report, anchors): (&Report, Vec<Anchor>),
    key: &SigningKey,
) -> Result<String, String> {
    let head = Head {
        weir_bundle: VERSION,
        session: origin.session.to_owned(),
        node: origin.node.to_owned(),
        node_id: format!("{:032x}", origin.node_id),
        key: hex(key.verifying_key().as_bytes()),
        keys: origin.keys.to_vec(),
        made_s: origin.made_s,
        facts: facts.len(),
        findings: report.findings.clone(),
        anchors,
    };
    let head = serde_json::to_string(&head).map_err(|error| error.to_string())?;
    let prints: Option<Vec<Print>> = facts
        .iter()
        .map(|line| print_of(line).map(|(print, _)| print))
        .collect();
    let prints = prints.ok_or("a fact is no JSON object")?;
    let head_digest = digest(head.as_bytes(), 64);
    let signature = key.sign(&signed(&head_digest, &prints));
    let end = End {
        head: head_digest,
        facts: prints,
        signature: hex(&signature.to_bytes()),
    };
    let end = serde_json::to_string(&end).map_err(|error| error.to_string())?;
    let mut out = head;
    for line in facts.iter().chain([&end]) {
        out.push('\n');
        out.push_str(line);
    }
    out.push('\n');
    Ok(out)
}

/// What a bundle proves.
#[derive(Debug, Default, Serialize)]
pub struct Proof {
    pub session: String,
    pub node: String,
    pub made_s: i64,
    pub facts: usize,
    /// Facts behind the last signed end of their lane when the bundle was made.
    pub unproven: usize,
    /// The bundle is signed by a key that was replaced at this time, seconds since 1970; 0 for the newest key. Whoever
    /// has that key may have made it since, so all of it is unproven.
    pub key_replaced_s: i64,
    /// Newest of the signed ends, as `epoch-lane-number`; empty without.
    pub last_anchor: String,
    /// When that end reached ClickHouse, seconds since 1970.
    pub last_anchor_s: i64,
    pub findings: Vec<String>,
}

impl Proof {
    fn say(&mut self, text: impl Into<String>) {
        self.findings.push(text.into());
    }

    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        if !self.findings.is_empty() {
            Verdict::Findings
        } else if self.unproven > 0 {
            Verdict::Unproven
        } else {
            Verdict::Clean
        }
    }
}

/// A bundle's text.
///
/// # Errors
/// The file cannot be read, or is larger than a bundle may be (1 GiB).
pub fn read(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let limit = BUNDLE_BYTES_MAX as u64;
    File::open(file)?
        .take(limit + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(std::io::Error::other("it is larger than 1 GiB"));
    }
    Ok(text)
}

/// Verifies a bundle by a public key of the node that the caller trusts, with the changes of it that he knows of;
/// input is untrusted. The bundle's own changes lead from that key to the one that signed.
#[must_use]
pub fn verify(text: &str, (key, known): (&VerifyingKey, &[Change])) -> Proof {
    let mut proof = Proof::default();
    let mut lines: Vec<&str> = text.lines().collect();
    let end = lines
        .pop()
        .and_then(|line| serde_json::from_str::<End>(line).ok());
    let Some(end) = end else {
        proof.say("its signed last line is missing: the bundle was cut off");
        return proof;
    };
    let Some((head_line, facts)) = lines.split_first() else {
        proof.say("its first line is missing");
        return proof;
    };
    if digest(head_line.as_bytes(), 64) != end.head {
        proof.say("the first line was changed");
    }
    proof.facts = facts.len();
    compare(&mut proof, facts, &end.facts);
    let head = serde_json::from_str::<Head>(head_line).ok();
    let keys = keys(&mut proof, head.as_ref(), (key, known));
    signed_by(&mut proof, &end, &keys, head.as_ref());
    match head {
        Some(head) if head.weir_bundle == VERSION => anchored(&mut proof, &head, facts, &keys),
        Some(head) => proof.say(format!("the bundle is of version {}", head.weir_bundle)),
        None => proof.say("the first line cannot be read"),
    }
    if proof.key_replaced_s > 0 {
        proof.unproven = proof.facts;
    }
    proof
}

/// The keys that a bundle may be signed by.
fn keys(
    proof: &mut Proof,
    head: Option<&Head>,
    (key, known): (&VerifyingKey, &[Change]),
) -> KeyHistory {
    let Some(head) = head else {
        return KeyHistory::of(*key);
    };
    for own in &head.keys {
        let other = known.iter().find(|change| change.number == own.number);
        if other.is_some_and(|other| other != own) {
            proof.say(format!(
                "key change {}: the bundle has another one than the key file, one of them is forged",
                own.number
            ));
        }
    }
    let longer = if known.len() >= head.keys.len() {
        known
    } else {
        &head.keys
    };
    let node_id = u128::from_str_radix(&head.node_id, 16).unwrap_or_default();
    let (keys, problems) = KeyHistory::trusting(longer, node_id, key);
    for problem in problems {
        proof.say(problem);
    }
    keys
}

fn signed_by(proof: &mut Proof, end: &End, keys: &KeyHistory, head: Option<&Head>) {
    let Some(signature) = unhex::<64>(&end.signature) else {
        proof.say("the signature cannot be read");
        return;
    };
    let message = signed(&end.head, &end.facts);
    let signature = ed25519_dalek::Signature::from_bytes(&signature);
    let newest = SegmentId {
        epoch: u32::MAX,
        lane: 0,
        number: u32::MAX,
    };
    match keys.signer(newest, |key| key.verify_strict(&message, &signature).is_ok()) {
        Signer::Valid => {}
        Signer::Replaced { at_s } => {
            proof.key_replaced_s = at_s;
            if head.is_none_or(|head| head.made_s >= at_s) {
                proof.say(format!(
                    "the signature is of an expired key, which was replaced at {at_s} (seconds since 1970), \
                     before the bundle was made"
                ));
            }
        }
        Signer::TooEarly | Signer::Unknown => proof.say(
            "the signature is not of this key: the bundle is another node's, or its last line was changed",
        ),
    }
}

/// Names every line that is not the one that was signed.
fn compare(proof: &mut Proof, facts: &[&str], signed: &[Print]) {
    let by_line: BTreeMap<&str, usize> = signed
        .iter()
        .enumerate()
        .map(|(at, print)| (print.line.as_str(), at))
        .collect();
    let mut present = BTreeSet::new();
    let mut changed = Vec::new();
    let mut newest = None;
    for line in facts {
        let Some((print, fact)) = print_of(line) else {
            proof.say("a line that is no fact was put in");
            continue;
        };
        match by_line.get(print.line.as_str()).copied() {
            Some(at) if !present.insert(at) => proof.say(format!("fact {}: doubled", print.seq)),
            Some(at) => {
                if newest.is_some_and(|newest| at < newest) {
                    proof.say(format!("fact {}: moved, it stands out of order", print.seq));
                }
                newest = newest.max(Some(at));
            }
            None => changed.push((print, fact)),
        }
    }
    for (print, fact) in changed {
        let original = signed
            .iter()
            .enumerate()
            .find(|(at, one)| one.seq == print.seq && !present.contains(at));
        let Some((at, original)) = original else {
            proof.say(format!("fact {}: put in, it was not signed", print.seq));
            continue;
        };
        present.insert(at);
        let names = differing(&fact, &print, original);
        proof.say(format!("fact {}: changed: {names}", print.seq));
    }
    for (at, print) in signed.iter().enumerate() {
        if !present.contains(&at) {
            proof.say(format!("fact {}: missing", print.seq));
        }
    }
}

fn differing(fact: &BTreeMap<String, Value>, print: &Print, original: &Print) -> String {
    if print.columns.len() != original.columns.len() {
        return "columns were added or left out".to_owned();
    }
    let part = |text: &str, at: usize| text.get(at..at + COLUMN_DIGITS).map(str::to_owned);
    let names: Vec<&str> = fact
        .keys()
        .enumerate()
        .filter(|(index, _)| {
            let at = index * COLUMN_DIGITS;
            part(&print.columns, at) != part(&original.columns, at)
        })
        .map(|(_, name)| name.as_str())
        .collect();
    if names.is_empty() {
        "how its line is written".to_owned()
    } else {
        names.join(", ")
    }
}

/// What was said when it was made, and which facts lie before a signed end.
fn anchored(proof: &mut Proof, head: &Head, facts: &[&str], keys: &KeyHistory) {
    proof.session.clone_from(&head.session);
    proof.node.clone_from(&head.node);
    proof.made_s = head.made_s;
    for finding in &head.findings {
        proof.say(format!("when it was made: {finding}"));
    }
    let mut good = Vec::new();
    for anchor in &head.anchors {
        let hash = unhex::<32>(&anchor.hash);
        let signature = unhex::<64>(&anchor.signature);
        let signer = match (hash, signature) {
            (Some(hash), Some(signature)) => {
                keys.signer(anchor.id(), |key| anchor.is_signed(hash, signature, key))
            }
            _ => Signer::Unknown,
        };
        match signer.wrong() {
            None => good.push(anchor),
            Some(wrong) => proof.say(format!(
                "segment {}: the signature of its end {wrong}",
                anchor.name()
            )),
        }
    }
    for line in facts {
        let Some((_, fact)) = print_of(line) else {
            continue;
        };
        let proven = good.iter().any(|anchor| {
            u64::from(anchor.epoch) == number(fact.get("epoch"))
                && anchor.id().packed() == number(fact.get("segment"))
                && u64::from(anchor.facts) >= number(fact.get("position"))
        });
        proof.unproven += usize::from(!proven);
    }
    if let Some(last) = good.iter().max_by_key(|anchor| anchor.sealed_s) {
        proof.last_anchor = last.name();
        proof.last_anchor_s = last.sealed_s;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn fact(seq: u32, position: u32) -> String {
        format!(
            r#"{{"seq":{seq},"epoch":1,"segment":4294967298,"position":{position},"statement":"select {seq}","rule":"r"}}"#
        )
    }

    fn anchor(facts: u32) -> Anchor {
        let hash = [9; 32];
        let mut message = b"weir segment 1".to_vec();
        message.extend_from_slice(&facts.to_le_bytes());
        message.extend_from_slice(&hash);
        Anchor {
            epoch: 1,
            lane: 1,
            number: 2,
            facts,
            hash: hex(&hash),
            signature: hex(&key().sign(&message).to_bytes()),
            sealed_s: 5,
            at_ms: 0,
        }
    }

    fn bundle(anchors: Vec<Anchor>) -> Vec<String> {
        let facts: Vec<String> = (1..=6).map(|seq| fact(seq, seq * 2)).collect();
        let origin = Origin {
            session: "s",
            node: "n1",
            node_id: 1,
            made_s: 1,
            keys: &[],
        };
        let text = make(&origin, &facts, (&Report::default(), anchors), &key()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn found(lines: &[String]) -> Vec<String> {
        verify(&lines.join("\n"), (&key().verifying_key(), &[])).findings
    }

    #[test]
    fn a_bundle_proves_itself_and_what_lies_behind_the_last_anchor_is_unproven() {
        let whole = bundle(vec![anchor(12)]).join("\n");
        let proof = verify(&whole, (&key().verifying_key(), &[]));
        assert_eq!(proof.findings, Vec::<String>::new());
        assert_eq!(proof.verdict(), Verdict::Clean);
        assert_eq!((proof.facts, proof.last_anchor.as_str()), (6, "1-1-2"));
        // Its last two facts stand behind the signed end.
        let proof = verify(
            &bundle(vec![anchor(8)]).join("\n"),
            (&key().verifying_key(), &[]),
        );
        assert_eq!((proof.unproven, proof.verdict()), (2, Verdict::Unproven));
        let proof = verify(
            &bundle(Vec::new()).join("\n"),
            (&key().verifying_key(), &[]),
        );
        assert_eq!((proof.unproven, proof.last_anchor.as_str()), (6, ""));
    }

    #[test]
    fn whatever_is_changed_is_named() {
        let whole = bundle(vec![anchor(12)]);
        let with = |change: &dyn Fn(&mut Vec<String>)| {
            let mut lines = whole.clone();
            change(&mut lines);
            found(&lines)
        };
        let says = |findings: Vec<String>, words: &str| {
            assert!(
                findings.iter().any(|finding| finding.contains(words)),
                "{words}: {findings:?}"
            );
        };
        let replace = |at: usize, from: &'static str, to: &'static str| {
            move |lines: &mut Vec<String>| {
                let new = lines[at].replace(from, to);
                assert_ne!(new, lines[at]);
                lines[at] = new;
            }
        };
        says(
            with(&replace(3, "select 3", "select 9")),
            "fact 3: changed: statement",
        );
        says(
            with(&replace(3, "\"rule\":\"r\"", "\"rule\":\"x\"")),
            "fact 3: changed: rule",
        );
        says(with(&replace(3, ",", ", ")), "how its line is written");
        says(with(&|lines| drop(lines.remove(3))), "fact 3: missing");
        says(
            with(&|lines| lines.insert(3, lines[4].clone())),
            "fact 4: doubled",
        );
        says(
            with(&|lines| lines.swap(3, 4)),
            "moved, it stands out of order",
        );
        says(
            with(&|lines| lines.insert(3, fact(99, 99))),
            "fact 99: put in",
        );
        says(
            with(&|lines| lines.insert(3, "x".to_owned())),
            "no fact was put in",
        );
        says(with(&replace(0, "n1", "n2")), "the first line was changed");
        says(with(&|lines| drop(lines.pop())), "cut off");
        says(with(&|lines| lines.truncate(4)), "cut off");
        says(
            with(&replace(7, "\"seq\":3", "\"seq\":4")),
            "not of this key",
        );
        let other = SigningKey::from_bytes(&[8; 32]).verifying_key();
        says(
            verify(&whole.join("\n"), (&other, &[])).findings,
            "not of this key",
        );
        let forged = Anchor {
            facts: 99,
            ..anchor(12)
        };
        says(found(&bundle(vec![forged])), "segment 1-1-2");
    }
}
