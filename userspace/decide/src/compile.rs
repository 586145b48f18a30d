//! From policy files to a compiled set; every problem is reported, with its place.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use cedar_policy::{
    ActionConstraint, Effect, EntityUid, Policy, PolicyId, Schema, ValidationMode, Validator,
};
use miette::Diagnostic;
use weir_model::ident::Principal;
use weir_model::time::TimesRead;
use weir_model::vocabulary::Vocabulary;

use crate::annotation;
use crate::bind::{Bound, Engine, TargetRef};
use crate::form::{self, Conjuncts};
use crate::index::{Index, Keys};
use crate::names::Names;
use crate::oracle::Whole;
use crate::rule::{Duty, Rule, RuleKind, Test, Words};
use crate::schema;
use crate::source::{PolicyProblem, PolicySettings, PolicySource};

/// Threads that validate; a policy set is compiled beside live traffic.
const VALIDATORS: usize = 2;
/// Fewer policies than this are not worth a second thread.
const ALONE_MAX: usize = 64;

/// A compiled, immutable policy set.
pub struct PolicySet {
    /// By id, so that a rule's number sorts as its id does.
    pub(crate) rules: Vec<Rule>,
    pub(crate) keys: Vec<Keys>,
    pub(crate) conjuncts: Vec<Conjuncts>,
    pub(crate) index: Index,
    pub(crate) names: Names,
    pub(crate) vocabularies: Vec<&'static Vocabulary>,
    /// Entra group → its readable names.
    pub(crate) aliases: HashMap<String, Vec<String>>,
    /// File and place of each rule, in the order of `rules`.
    pub(crate) places: Vec<Place>,
    /// As Cedar has them, for the slow path and the oracle.
    pub(crate) all: cedar_policy::PolicySet,
    pub(crate) whole: OnceLock<Whole>,
    /// Namespaces of protocols that a mask is for.
    pub(crate) masked: BTreeSet<&'static str>,
    /// Namespaces of protocols whose values detectors look through.
    pub(crate) detected: BTreeSet<&'static str>,
    /// What answers depend on of when they are asked for.
    pub(crate) times: TimesRead,
    sources: Vec<PolicySource>,
    schema_text: String,
    version: u32,
}

/// Where a policy stands.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Index into the sources.
    pub(crate) source: usize,
    pub(crate) span: Range<usize>,
}

impl std::fmt::Debug for PolicySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicySet")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// One policy as far as it is understood.
struct Read {
    id: Arc<str>,
    policy: Policy,
    place: Place,
    kind: RuleKind,
    words: Words,
}

struct Compiler<'a> {
    sources: &'a [PolicySource],
    vocabularies: &'a [&'static Vocabulary],
    settings: &'a PolicySettings,
    targets: BTreeSet<&'a str>,
    problems: Vec<PolicyProblem>,
    read: BTreeMap<Arc<str>, Read>,
}

impl PolicySet {
    /// Parses, validates and compiles policies.
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
            sources,
            vocabularies,
            settings,
            targets: settings.targets.iter().map(String::as_str).collect(),
            problems: Vec::new(),
            read: BTreeMap::new(),
        };
        let schema_text = schema::text(vocabularies);
        let schema = match Schema::from_cedarschema_str(&schema_text) {
            Ok((schema, _warnings)) => schema,
            Err(error) => {
                return Err(vec![PolicyProblem {
                    file: "(schema)".to_owned(),
                    line: 0,
                    column: 0,
                    span: None,
                    message: error.to_string(),
                    help: None,
                }]);
            }
        };
        for index in 0..sources.len() {
            compiler.file(index);
        }
        compiler.validate(&schema);
        if !compiler.problems.is_empty() {
            let mut problems = compiler.problems;
            problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
            return Err(problems);
        }
        let version = version(sources, settings, &schema_text);
        Ok(compiler.finish(schema_text, version))
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
        self.bind_by(principal, target, Engine::Compiled)
    }

    /// The same, answered by another engine.
    #[must_use]
    pub fn bind_by(
        self: &Arc<Self>,
        principal: &Principal,
        target: &TargetRef,
        engine: Engine,
    ) -> Bound {
        Bound::new(Arc::clone(self), (principal, None), target, engine)
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
        let both = (principal, Some(attested));
        Bound::new(Arc::clone(self), both, target, Engine::Compiled)
    }

    /// What answers depend on of when they are asked for.
    #[must_use]
    pub const fn times(&self) -> &TimesRead {
        &self.times
    }

    /// Number of policies.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rules.len()
    }

    /// True without any policy: everything is denied.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Where a policy stands, `file:line`, and its texts; `None` for names of ours (`weir:…`).
    #[must_use]
    pub fn about(&self, id: &str) -> Option<AboutRule<'_>> {
        let at = self
            .rules
            .binary_search_by(|rule| (*rule.id).cmp(id))
            .ok()?;
        let (rule, place) = (self.rules.get(at)?, self.places.get(at)?);
        let source = self.sources.get(place.source)?;
        let problem = PolicyProblem::at(source, Some(place.span.clone()), "");
        Some(AboutRule {
            file: &source.name,
            line: problem.line,
            reason: &rule.words.reason,
            advice: rule.words.advice.as_deref(),
        })
    }

    /// A problem at one rule.
    pub(crate) fn problem(&self, rule: usize, message: String) -> PolicyProblem {
        let place = self.places.get(rule);
        let found = place.and_then(|place| Some((self.sources.get(place.source)?, place)));
        match found {
            Some((source, place)) => PolicyProblem::at(source, Some(place.span.clone()), message),
            // Every rule has a place.
            None => PolicyProblem::at(
                &PolicySource {
                    name: String::new(),
                    text: String::new(),
                },
                None,
                message,
            ),
        }
    }
}

/// A policy's place and texts.
#[derive(Clone, Copy, Debug)]
pub struct AboutRule<'a> {
    pub file: &'a str,
    pub line: usize,
    pub reason: &'a str,
    pub advice: Option<&'a str>,
}

impl Compiler<'_> {
    fn say(&mut self, source: usize, span: Option<Range<usize>>, message: impl Into<String>) {
        if let Some(source) = self.sources.get(source) {
            self.problems.push(PolicyProblem::at(source, span, message));
        }
    }

    fn file(&mut self, index: usize) {
        let Some(source) = self.sources.get(index) else {
            return;
        };
        let parsed = match cedar_policy::PolicySet::from_str(&source.text) {
            Ok(parsed) => parsed,
            Err(errors) => {
                for error in errors.iter() {
                    let mut problem = PolicyProblem::at(source, label(error), error.to_string());
                    problem.help = error.help().map(|text| text.to_string());
                    self.problems.push(problem);
                }
                return;
            }
        };
        for template in parsed.templates() {
            let message = format!("template {} is not supported", template.id());
            self.say(index, None, message);
        }
        let starts = Starts::of(&source.text);
        for policy in parsed.policies() {
            self.policy(index, policy, &starts);
        }
    }

    fn policy(&mut self, source: usize, policy: &Policy, starts: &Starts<'_>) {
        let Some(id) = policy.annotation("id").filter(|id| !id.is_empty()) else {
            let head: String = policy.to_string().chars().take(60).collect();
            self.say(source, None, format!("a policy has no @id: {head}…"));
            return;
        };
        let span = starts.of_id(id);
        if id.starts_with("weir:") {
            let message = format!("{id}: ids that start with weir: are ours");
            self.say(source, Some(span.clone()), message);
        }
        if let Some(other) = self.read.get(id) {
            let file = self.sources.get(other.place.source);
            let file = file.map_or("", |source| source.name.as_str());
            let message = format!("{id} is used twice (also in {file})");
            self.say(source, Some(span), message);
            return;
        }
        for (key, _value) in policy.annotations() {
            if !annotation::KNOWN.contains(&key) {
                self.say(
                    source,
                    Some(span.clone()),
                    format!("{id}: @{key} is not known"),
                );
            }
        }
        for uid in policy.entity_literals() {
            if let Some(message) = self.stray(&uid) {
                self.say(source, Some(span.clone()), format!("{id}: {message}"));
            }
        }
        let kind = match self.kind(policy) {
            Ok(kind) => kind,
            Err(messages) => {
                for message in messages {
                    self.say(source, Some(span.clone()), format!("{id}: {message}"));
                }
                RuleKind::Forbid
            }
        };
        let read = Read {
            id: Arc::from(id),
            policy: policy.new_id(PolicyId::new(id)),
            place: Place { source, span },
            kind,
            words: Words {
                reason: policy.annotation("reason").unwrap_or_default().to_owned(),
                advice: policy.annotation("advice").map(ToOwned::to_owned),
            },
        };
        self.read.insert(Arc::clone(&read.id), read);
    }

    /// What the policy is, or everything that is wrong with its annotations.
    fn kind(&self, policy: &Policy) -> Result<RuleKind, Vec<String>> {
        let mut wrong = Vec::new();
        let permit = policy.effect() == Effect::Permit;
        let mut duties = annotation::duties(policy, &self.settings.reviewer_groups);
        let lifting = match self.lifts(policy) {
            Ok(lifting) => lifting,
            Err(message) => {
                wrong.push(message.to_owned());
                false
            }
        };
        if permit && !duties.is_empty() {
            wrong.push("obligations stand on forbid, not permit".to_owned());
        }
        if duties.len() > 1 {
            wrong.push(
                "one of @hold, @mask, @limit, @budget, @detect, @record, not several".to_owned(),
            );
        }
        let duty = if duties.is_empty() {
            None
        } else {
            Some(duties.swap_remove(0))
        };
        let kind = match duty {
            None if permit => RuleKind::Permit { lifting },
            None => RuleKind::Forbid,
            Some(Ok(duty)) => {
                let constraint = policy.action_constraint();
                if matches!(duty, Duty::Mask(_) | Duty::Detect) && !self.maskable(&constraint) {
                    let names = self.names(|known| known.maskable);
                    wrong.push(format!(
                        "@mask and @detect need actions that read values: {names}"
                    ));
                }
                let shows = matches!(&duty, Duty::Hold(hold) if hold.effect);
                if shows && !self.showable(&constraint) {
                    let names = self.names(|known| known.showable);
                    wrong.push(format!(
                        "@approve(\"effect\") needs actions whose effect can be shown: {names}"
                    ));
                }
                RuleKind::Duty(duty)
            }
            Some(Err(message)) => {
                wrong.push(message);
                RuleKind::Forbid
            }
        };
        if wrong.is_empty() {
            Ok(kind)
        } else {
            Err(wrong)
        }
    }

    /// Whether `@predicate` lets a masked column decide which rows come back.
    fn lifts(&self, policy: &Policy) -> Result<bool, &'static str> {
        match policy.annotation("predicate") {
            None => Ok(false),
            Some(text) if text != "masked" => Err("@predicate is masked"),
            Some(_) if policy.effect() != Effect::Permit => Err("@predicate stands on permit"),
            Some(_) if !self.predicates(&policy.action_constraint()) => {
                Err("@predicate needs an action that is a predicate, such as usePredicate")
            }
            Some(_) => Ok(true),
        }
    }

    fn maskable(&self, constraint: &ActionConstraint) -> bool {
        all_actions(constraint, |uid| {
            self.vocabulary_of(uid)
                .is_some_and(|known| known.maskable.contains(&action_name(uid)))
        })
    }

    fn showable(&self, constraint: &ActionConstraint) -> bool {
        all_actions(constraint, |uid| {
            self.vocabulary_of(uid)
                .is_some_and(|known| known.showable.contains(&action_name(uid)))
        })
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

    fn names(&self, of: fn(&Vocabulary) -> &'static [&'static str]) -> String {
        let names: Vec<String> = self
            .vocabularies
            .iter()
            .flat_map(|known| {
                of(known)
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
        (!self.targets.contains(plain.as_str()))
            .then(|| format!("target {plain} is not configured"))
    }

    /// Cedar's own validation, policy by policy, so that it can be shared between threads.
    fn validate(&mut self, schema: &Schema) {
        let policies: Vec<&Read> = self.read.values().collect();
        let found = if policies.len() <= ALONE_MAX {
            validate(schema, &policies)
        } else {
            let share = policies.len().div_ceil(VALIDATORS);
            std::thread::scope(|scope| {
                let shares: Vec<_> = policies
                    .chunks(share)
                    .map(|share| scope.spawn(move || validate(schema, share)))
                    .collect();
                let mut found = Vec::new();
                for share in shares {
                    match share.join() {
                        Ok(more) => found.extend(more),
                        Err(panic) => std::panic::resume_unwind(panic),
                    }
                }
                found
            })
        };
        for problem in found {
            let Some(read) = self.read.get(&*problem.id) else {
                continue;
            };
            let Place { source, span } = read.place.clone();
            let span = problem.span.unwrap_or(span);
            if let Some(source) = self.sources.get(source) {
                let mut said = PolicyProblem::at(source, Some(span), problem.message);
                said.help = problem.help;
                self.problems.push(said);
            }
        }
    }

    fn finish(self, schema_text: String, version: u32) -> PolicySet {
        let mut names = Names::new(self.vocabularies);
        let mut index = Index::default();
        let mut all = cedar_policy::PolicySet::new();
        let (mut rules, mut places) = (Vec::new(), Vec::new());
        let (mut every_keys, mut every_conjuncts) = (Vec::new(), Vec::new());
        for (number, (_, read)) in (0..).zip(self.read) {
            // Ids are unique, so adding cannot fail.
            let _unique = all.add(read.policy.clone());
            let conjuncts = match read.policy.to_json() {
                Ok(json) => form::conjuncts(&mut names, self.vocabularies, &json),
                Err(_unlikely) => Conjuncts::default(),
            };
            let keys = Keys::of(&conjuncts, &names);
            index.file(number, &keys);
            let test = if conjuncts.whole {
                Test::Own(conjuncts.list.clone().into())
            } else {
                let mut alone = cedar_policy::PolicySet::new();
                let _unique = alone.add(read.policy);
                Test::Cedar(Box::new(alone))
            };
            rules.push(Rule {
                id: read.id,
                kind: read.kind,
                words: read.words,
                test,
            });
            places.push(read.place);
            every_keys.push(keys);
            every_conjuncts.push(conjuncts);
        }
        let namespaces = |of: fn(&Duty) -> bool| -> BTreeSet<&'static str> {
            let with_keys = rules.iter().zip(&every_keys);
            with_keys
                .filter(|(rule, _)| matches!(&rule.kind, RuleKind::Duty(duty) if of(duty)))
                .flat_map(|(_, keys)| names.namespaces(keys.actions.as_deref()))
                .collect()
        };
        let masked = namespaces(|duty| matches!(duty, Duty::Mask(_)));
        let detected = namespaces(|duty| matches!(duty, Duty::Detect));
        let mut aliases: HashMap<String, Vec<String>> = HashMap::new();
        for (alias, of) in &self.settings.group_aliases {
            aliases.entry(of.clone()).or_default().push(alias.clone());
        }
        PolicySet {
            rules,
            keys: every_keys,
            times: times_of(&every_conjuncts),
            conjuncts: every_conjuncts,
            index,
            names,
            vocabularies: self.vocabularies.to_vec(),
            aliases,
            places,
            all,
            whole: OnceLock::new(),
            masked,
            detected,
            sources: self.sources.to_vec(),
            schema_text,
            version,
        }
    }
}

fn times_of(every: &[Conjuncts]) -> TimesRead {
    let mut times = TimesRead::default();
    for conjuncts in every {
        if !conjuncts.whole {
            // What Cedar evaluates is not looked into.
            return TimesRead::each();
        }
        conjuncts
            .list
            .iter()
            .for_each(|expr| expr.times(&mut times));
    }
    times
}

struct Found {
    id: String,
    span: Option<Range<usize>>,
    message: String,
    help: Option<String>,
}

fn validate(schema: &Schema, policies: &[&Read]) -> Vec<Found> {
    let mut set = cedar_policy::PolicySet::new();
    for read in policies {
        // Ids are unique, so adding cannot fail.
        let _unique = set.add(read.policy.clone());
    }
    let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
    let errors = result.validation_errors().map(|error| Found {
        id: AsRef::<str>::as_ref(error.policy_id()).to_owned(),
        span: label(error),
        message: error.to_string(),
        help: error.help().map(|text| text.to_string()),
    });
    // An impossible policy is a warning to Cedar; here it is a rule that protects nothing.
    let warnings = result.validation_warnings().map(|warning| Found {
        id: AsRef::<str>::as_ref(warning.policy_id()).to_owned(),
        span: label(warning),
        message: warning.to_string(),
        help: warning.help().map(|text| text.to_string()),
    });
    errors.chain(warnings).collect()
}

/// Where each policy's `@id` stands in a file, found in one pass.
struct Starts<'a>(HashMap<&'a str, Range<usize>>);

impl<'a> Starts<'a> {
    fn of(text: &'a str) -> Self {
        const HEAD: &str = "@id(\"";
        let mut starts = HashMap::new();
        for (at, _) in text.match_indices(HEAD) {
            let rest = text.get(at + HEAD.len()..).unwrap_or_default();
            if let Some(end) = rest.find('"') {
                let id = rest.get(..end).unwrap_or_default();
                // A second one is a policy of the same id, or a comment behind it.
                starts.entry(id).or_insert(at..at + HEAD.len() + end + 2);
            }
        }
        Self(starts)
    }

    fn of_id(&self, id: &str) -> Range<usize> {
        self.0.get(id).cloned().unwrap_or(0..0)
    }
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

/// The first place that Cedar points at.
fn label(error: &dyn Diagnostic) -> Option<Range<usize>> {
    let label = error.labels()?.next()?;
    Some(label.offset()..label.offset() + label.len())
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
