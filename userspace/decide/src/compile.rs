//! From policy files to a compiled set; every problem is reported, with its place.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::str::FromStr;
use std::sync::Arc;

use cedar_policy::{
    ActionConstraint, Effect, EntityUid, Policy, PolicyId, Schema, ValidationMode, Validator,
};
use miette::Diagnostic;
use weir_model::ident::Principal;
use weir_model::vocabulary::Vocabulary;

use crate::bind::{Bound, TargetRef};
use crate::outcome::{MaskKind, Span};
use crate::schema;

/// One policy file.
#[derive(Clone, Debug)]
pub struct PolicySource {
    /// File name, for problems.
    pub name: String,
    pub text: String,
}

/// What policies may refer to.
#[derive(Clone, Debug, Default)]
pub struct PolicySettings {
    /// Names usable in `@hold(…)`.
    pub reviewer_groups: BTreeSet<String>,
    pub targets: Vec<String>,
    /// Readable name → Entra group object id.
    pub group_aliases: BTreeMap<String, String>,
}

/// One thing that is wrong in the policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyProblem {
    pub file: String,
    /// From 1; 0 when it concerns the whole file.
    pub line: usize,
    pub message: String,
}

impl std::fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line == 0 {
            write!(f, "{}: {}", self.file, self.message)
        } else {
            write!(f, "{}:{}: {}", self.file, self.line, self.message)
        }
    }
}

/// What an annotated forbid asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    Hold {
        groups: Vec<Arc<str>>,
    },
    Mask(MaskKind),
    /// Values are looked through by the detectors of the configuration.
    Detect,
    Limit {
        rows: Option<u64>,
        bytes: Option<u64>,
    },
}

/// A rule's texts for people.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    pub(crate) reason: String,
    pub(crate) advice: Option<String>,
}

/// A compiled, immutable policy set.
pub struct PolicySet {
    /// Permits and plain forbids.
    pub(crate) base: cedar_policy::PolicySet,
    /// Annotated forbids.
    pub(crate) annotated: cedar_policy::PolicySet,
    /// Permits with `@predicate("masked")`, and plain forbids.
    pub(crate) predicate: cedar_policy::PolicySet,
    pub(crate) duties: HashMap<PolicyId, Duty>,
    pub(crate) words: HashMap<PolicyId, Words>,
    pub(crate) vocabularies: Vec<&'static Vocabulary>,
    /// Namespaces of protocols that a mask is for.
    pub(crate) masked: BTreeSet<&'static str>,
    pub(crate) aliases: BTreeMap<String, String>,
    schema_text: String,
    version: u32,
}

impl std::fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicySet")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

struct Compiler<'a> {
    vocabularies: &'a [&'static Vocabulary],
    settings: &'a PolicySettings,
    problems: Vec<PolicyProblem>,
    ids: HashMap<String, String>,
    all: cedar_policy::PolicySet,
    places: HashMap<PolicyId, (String, usize)>,
    duties: HashMap<PolicyId, Duty>,
    words: HashMap<PolicyId, Words>,
    /// Permits with `@predicate("masked")`.
    lifting: BTreeSet<PolicyId>,
    masked: BTreeSet<&'static str>,
}

impl PolicySet {
    /// Parses, validates and sorts policies.
    ///
    /// # Errors
    /// Every problem: syntax, names the schema does not know, missing or repeated ids, wrong
    /// annotations, rules that can never apply.
    pub fn compile(
        sources: &[PolicySource],
        vocabularies: &[&'static Vocabulary],
        settings: &PolicySettings,
    ) -> Result<Self, Vec<PolicyProblem>> {
        let mut compiler = Compiler {
            vocabularies,
            settings,
            problems: Vec::new(),
            ids: HashMap::new(),
            all: cedar_policy::PolicySet::new(),
            places: HashMap::new(),
            duties: HashMap::new(),
            words: HashMap::new(),
            lifting: BTreeSet::new(),
            masked: BTreeSet::new(),
        };
        let schema_text = schema::text(vocabularies);
        let schema = match Schema::from_cedarschema_str(&schema_text) {
            Ok((schema, _warnings)) => schema,
            Err(error) => {
                return Err(vec![PolicyProblem {
                    file: "(schema)".to_owned(),
                    line: 0,
                    message: error.to_string(),
                }]);
            }
        };
        for source in sources {
            compiler.file(source);
        }
        compiler.validate(schema);
        if !compiler.problems.is_empty() {
            return Err(compiler.problems);
        }
        let version = version(sources, settings, &schema_text);
        Ok(compiler.finish(vocabularies, schema_text, version))
    }

    /// From the content; equal content has an equal version.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// The generated schema, for editors and documentation.
    #[must_use]
    pub fn schema_text(&self) -> &str {
        &self.schema_text
    }

    /// Ready to decide for one principal at one target.
    #[must_use]
    pub fn bind(self: &Arc<Self>, principal: &Principal, target: &TargetRef) -> Bound {
        Bound::new(Arc::clone(self), (principal, None), target)
    }

    /// Binds the subject of a token that the workload `attested` presented: both have to be
    /// permitted.
    #[must_use]
    pub fn bind_presented(
        self: &Arc<Self>,
        principal: &Principal,
        attested: &Principal,
        target: &TargetRef,
    ) -> Bound {
        Bound::new(Arc::clone(self), (principal, Some(attested)), target)
    }
}

impl Compiler<'_> {
    fn say(&mut self, file: &str, line: usize, message: impl Into<String>) {
        self.problems.push(PolicyProblem {
            file: file.to_owned(),
            line,
            message: message.into(),
        });
    }

    fn file(&mut self, source: &PolicySource) {
        let parsed = match cedar_policy::PolicySet::from_str(&source.text) {
            Ok(parsed) => parsed,
            Err(errors) => {
                for error in errors.iter() {
                    let line = first_label_line(error, &source.text);
                    self.say(&source.name, line, error.to_string());
                }
                return;
            }
        };
        for template in parsed.templates() {
            self.say(
                &source.name,
                0,
                format!("template {} is not supported", template.id()),
            );
        }
        for policy in parsed.policies() {
            self.policy(source, policy);
        }
    }

    fn policy(&mut self, source: &PolicySource, policy: &Policy) {
        let Some(id) = policy.annotation("id").filter(|id| !id.is_empty()) else {
            let head: String = policy.to_string().chars().take(60).collect();
            self.say(&source.name, 0, format!("a policy has no @id: {head}…"));
            return;
        };
        let line = line_of(&source.text, &format!("@id(\"{id}\")"));
        if id.starts_with("weir:") {
            self.say(
                &source.name,
                line,
                format!("{id}: ids that start with weir: are ours"),
            );
        }
        if let Some(other) = self.ids.insert(id.to_owned(), source.name.clone()) {
            self.say(
                &source.name,
                line,
                format!("{id} is used twice (also in {other})"),
            );
            return;
        }
        let renamed = policy.new_id(PolicyId::new(id));
        let known = [
            "id",
            "reason",
            "advice",
            "hold",
            "mask",
            "limit",
            "predicate",
            "detect",
        ];
        for (key, _value) in policy.annotations() {
            if !known.contains(&key) {
                self.say(&source.name, line, format!("{id}: @{key} is not known"));
            }
        }
        self.duty(source, line, policy, id);
        self.lifts(source, line, policy, id);
        for uid in policy.entity_literals() {
            if let Some(message) = self.stray(&uid) {
                self.say(&source.name, line, format!("{id}: {message}"));
            }
        }
        self.words.insert(
            PolicyId::new(id),
            Words {
                reason: policy.annotation("reason").unwrap_or_default().to_owned(),
                advice: policy.annotation("advice").map(ToOwned::to_owned),
            },
        );
        self.places
            .insert(PolicyId::new(id), (source.name.clone(), line));
        if let Err(error) = self.all.add(renamed) {
            self.say(&source.name, line, error.to_string());
        }
    }

    fn duty(&mut self, source: &PolicySource, line: usize, policy: &Policy, id: &str) {
        let parsed = [
            policy.annotation("hold").map(|text| self.hold(text)),
            policy.annotation("mask").map(mask),
            policy.annotation("limit").map(limit),
            policy.annotation("detect").map(detect),
        ];
        let mut duties: Vec<Result<Duty, String>> = parsed.into_iter().flatten().collect();
        if duties.is_empty() {
            return;
        }
        if policy.effect() == Effect::Permit {
            self.say(
                &source.name,
                line,
                format!("{id}: obligations stand on forbid, not permit"),
            );
        }
        if duties.len() > 1 {
            self.say(
                &source.name,
                line,
                format!("{id}: one of @hold, @mask, @limit, @detect, not several"),
            );
        }
        match duties.swap_remove(0) {
            Ok(duty) => {
                let constraint = policy.action_constraint();
                if matches!(duty, Duty::Mask(_) | Duty::Detect) && !self.maskable(&constraint) {
                    let message = format!(
                        "{id}: @mask and @detect need actions that read values: {}",
                        self.maskable_names()
                    );
                    self.say(&source.name, line, message);
                }
                if matches!(duty, Duty::Mask(_)) {
                    self.masked.extend(self.namespaces(&constraint));
                }
                self.duties.insert(PolicyId::new(id), duty);
            }
            Err(message) => self.say(&source.name, line, format!("{id}: {message}")),
        }
    }

    /// Checks `@predicate`, which lets a masked column decide which rows come back.
    fn lifts(&mut self, source: &PolicySource, line: usize, policy: &Policy, id: &str) {
        let message = match policy.annotation("predicate") {
            None => return,
            Some(text) if text != "masked" => "@predicate is masked",
            Some(_) if policy.effect() != Effect::Permit => "@predicate stands on permit",
            Some(_) if !self.predicates(&policy.action_constraint()) => {
                "@predicate needs an action that is a predicate, such as usePredicate"
            }
            Some(_) => {
                self.lifting.insert(PolicyId::new(id));
                return;
            }
        };
        self.say(&source.name, line, format!("{id}: {message}"));
    }

    fn maskable(&self, constraint: &ActionConstraint) -> bool {
        all_actions(constraint, |uid| {
            self.vocabulary_of(uid)
                .is_some_and(|known| known.maskable.contains(&action_name(uid)))
        })
    }

    /// The protocols whose actions a constraint names.
    fn namespaces(&self, constraint: &ActionConstraint) -> Vec<&'static str> {
        let uids = match constraint {
            ActionConstraint::Any => &[][..],
            ActionConstraint::In(uids) => uids,
            ActionConstraint::Eq(uid) => std::slice::from_ref(uid),
        };
        let known = uids.iter().filter_map(|uid| self.vocabulary_of(uid));
        known.map(|vocabulary| vocabulary.namespace).collect()
    }

    fn predicates(&self, constraint: &ActionConstraint) -> bool {
        all_actions(constraint, |uid| {
            self.vocabulary_of(uid)
                .and_then(|known| known.predicate)
                .is_some_and(|kind| kind.action == action_name(uid))
        })
    }

    /// The protocol that an action is of.
    fn vocabulary_of(&self, action: &EntityUid) -> Option<&'static Vocabulary> {
        let kind = action.type_name().to_string();
        let namespace = kind.strip_suffix("::Action")?;
        let mut known = self.vocabularies.iter().copied();
        known.find(|vocabulary| vocabulary.namespace == namespace)
    }

    fn maskable_names(&self) -> String {
        let names: Vec<String> = self
            .vocabularies
            .iter()
            .flat_map(|known| {
                known
                    .maskable
                    .iter()
                    .map(|action| format!("{}::Action::\"{action}\"", known.namespace))
            })
            .collect();
        names.join(", ")
    }

    /// What is wrong with a name that no request can ever have: its rule would protect nothing.
    fn stray(&self, uid: &EntityUid) -> Option<String> {
        let kind = uid.type_name().to_string();
        let name = uid.id().unescaped();
        if kind == "Weir::Target" {
            return self.stray_target(name);
        }
        if kind == "Weir::Group" {
            let known = self.settings.group_aliases.contains_key(name) || is_guid(name);
            return (!known).then(|| format!("group {name} is neither a known name nor a GUID"));
        }
        let (vocabulary, kind) = self.vocabularies.iter().find_map(|vocabulary| {
            let (namespace, kind) = kind.rsplit_once("::")?;
            (namespace == vocabulary.namespace).then_some((vocabulary, kind))
        })?;
        // Actions are no objects; the schema knows their names.
        let mut object = vocabulary.objects.iter().find(|known| known.name == kind)?;
        let mut segments = 2;
        while let Some(parent) = object.parent {
            object = vocabulary
                .objects
                .iter()
                .find(|known| known.name == parent)?;
            segments += 1;
        }
        if name.split('/').count() != segments {
            return Some(format!("{uid} does not have {segments} parts"));
        }
        self.stray_target(name.split('/').next().unwrap_or_default())
    }

    fn stray_target(&self, name: &str) -> Option<String> {
        let plain = name.replace("%2F", "/").replace("%25", "%");
        (!self.settings.targets.contains(&plain))
            .then(|| format!("target {plain} is not configured"))
    }

    fn hold(&self, text: &str) -> Result<Duty, String> {
        let groups: Vec<Arc<str>> = text.split(',').map(|name| Arc::from(name.trim())).collect();
        for group in &groups {
            if !self.settings.reviewer_groups.contains(&**group) {
                return Err(format!(
                    "@hold names {group}, which approvals.reviewer_groups lacks"
                ));
            }
        }
        Ok(Duty::Hold { groups })
    }

    fn validate(&mut self, schema: Schema) {
        let result = Validator::new(schema).validate(&self.all, ValidationMode::Strict);
        let mut found = Vec::new();
        for error in result.validation_errors() {
            found.push((error.policy_id().clone(), error.to_string()));
        }
        for warning in result.validation_warnings() {
            // An impossible policy is a warning to Cedar; here it is a rule that protects nothing.
            found.push((warning.policy_id().clone(), warning.to_string()));
        }
        for (id, message) in found {
            let (file, line) = self.places.get(&id).cloned().unwrap_or_default();
            self.say(&file, line, message);
        }
    }

    fn finish(
        self,
        vocabularies: &[&'static Vocabulary],
        schema_text: String,
        version: u32,
    ) -> PolicySet {
        let mut base = cedar_policy::PolicySet::new();
        let mut annotated = cedar_policy::PolicySet::new();
        let mut predicate = cedar_policy::PolicySet::new();
        for policy in self.all.policies() {
            let permit = policy.effect() == Effect::Permit;
            let duty = self.duties.contains_key(policy.id());
            // Ids are unique, so adding cannot fail.
            if duty {
                let _unique = annotated.add(policy.clone());
            } else {
                let _unique = base.add(policy.clone());
                if !permit || self.lifting.contains(policy.id()) {
                    let _unique = predicate.add(policy.clone());
                }
            }
        }
        PolicySet {
            base,
            annotated,
            predicate,
            duties: self.duties,
            words: self.words,
            vocabularies: vocabularies.to_vec(),
            masked: self.masked,
            aliases: self.settings.group_aliases.clone(),
            schema_text,
            version,
        }
    }
}

fn mask(text: &str) -> Result<Duty, String> {
    const KINDS: &str = "@mask is null, redact, hash, token, partial:N or range:…";
    let kind = match text.split_once(':') {
        None => match text {
            "null" => MaskKind::Null,
            "redact" => MaskKind::Redact,
            "hash" => MaskKind::Hash,
            "token" => MaskKind::Token,
            _ => return Err(KINDS.to_owned()),
        },
        Some(("partial", count)) => match count.parse() {
            Ok(keep_last) if keep_last <= 8 => MaskKind::Partial { keep_last },
            _ => return Err("@mask(\"partial:N\") keeps 0 to 8 characters".to_owned()),
        },
        Some(("range", span)) => MaskKind::Range(range(span)?),
        Some(_) => return Err(KINDS.to_owned()),
    };
    Ok(Duty::Mask(kind))
}

fn detect(text: &str) -> Result<Duty, String> {
    if text == "all" {
        Ok(Duty::Detect)
    } else {
        Err("@detect is all: the detectors and patterns of the configuration".to_owned())
    }
}

fn range(span: &str) -> Result<Span, String> {
    match span {
        "month" => Ok(Span::Month),
        "year" => Ok(Span::Year),
        "decade" => Ok(Span::Decade),
        step => match step.parse() {
            Ok(step) if (2..=1_000_000_000_000).contains(&step) => Ok(Span::Step(step)),
            _ => {
                Err("@mask(\"range:…\") is month, year, decade or a step of at least 2".to_owned())
            }
        },
    }
}

fn limit(text: &str) -> Result<Duty, String> {
    let (mut rows, mut bytes) = (None, None);
    for part in text.split(',') {
        match part.trim().split_once(':') {
            Some(("rows", count)) if rows.is_none() => rows = Some(amount(count)?),
            Some(("bytes", count)) if bytes.is_none() => bytes = Some(amount(count)?),
            _ => return Err("@limit is rows:N, bytes:N or both".to_owned()),
        }
    }
    Ok(Duty::Limit { rows, bytes })
}

fn amount(count: &str) -> Result<u64, String> {
    count
        .trim()
        .parse()
        .map_err(|_not_a_number| format!("@limit: {} is not a number", count.trim()))
}

fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

fn action_name(uid: &EntityUid) -> &str {
    uid.id().unescaped()
}

/// True when the constraint names actions and `test` holds for each.
fn all_actions(constraint: &ActionConstraint, test: impl Fn(&EntityUid) -> bool) -> bool {
    match constraint {
        ActionConstraint::Any => false,
        ActionConstraint::In(uids) => uids.iter().all(test),
        ActionConstraint::Eq(uid) => test(uid),
    }
}

fn line_of(text: &str, needle: &str) -> usize {
    text.find(needle).map_or(0, |at| {
        text.get(..at).unwrap_or_default().matches('\n').count() + 1
    })
}

/// Line of the first place that Cedar points at; 0 when it points nowhere.
fn first_label_line(error: &cedar_policy::ParseError, text: &str) -> usize {
    let Some(label) = error.labels().and_then(|mut labels| labels.next()) else {
        return 0;
    };
    let before = text.as_bytes().get(..label.offset()).unwrap_or_default();
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

/// From everything that enters a decision, so that a change of settings is a new version too.
fn version(sources: &[PolicySource], settings: &PolicySettings, schema_text: &str) -> u32 {
    let mut hasher = blake3::Hasher::new();
    let mut list = |texts: &mut dyn ExactSizeIterator<Item = &String>| {
        hasher.update(&(texts.len() as u64).to_le_bytes());
        for text in texts {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
    };
    list(&mut sources.iter().map(|source| &source.name));
    list(&mut sources.iter().map(|source| &source.text));
    list(&mut settings.reviewer_groups.iter());
    list(&mut settings.targets.iter());
    list(&mut settings.group_aliases.keys());
    list(&mut settings.group_aliases.values());
    list(&mut std::iter::once(&schema_text.to_owned()));
    let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
    u32::from_le_bytes([a, b, c, d])
}
