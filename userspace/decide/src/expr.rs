//! Conditions of policies, compiled from Cedar's JSON form, and their evaluation.
//!
//! The subset covers everything that strict validation lets through over our own schema, but for
//! extension types and records: a policy that holds one of those stays with Cedar itself. Results
//! and errors are Cedar's: `&&`, `||` and `if` do not look at what they do not need, arithmetic
//! that overflows is an error, and an error is the policy's.

use std::sync::Arc;

use weir_model::request::{AttrValue, Object};
use weir_model::time::{Cuts, TimesRead};

use crate::moment::{self, Moment};

/// Evaluation failed, as it would in Cedar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed;

/// A literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Literal {
    Bool(bool),
    Long(i64),
    String(Arc<str>),
    /// Of the other three; never of sets.
    Set(Box<[Literal]>),
}

/// What has attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    Workload,
    Tenant,
    Kind,
    OnBehalfOf,
    /// The resource's own name.
    Name,
    /// When it is asked; see [`crate::moment`].
    Moment(&'static str),
    Context(Arc<str>),
}

/// One piece of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Any,
    Char(char),
}

/// A compiled expression. Entities are numbers that [`crate::names::Names`] gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expr {
    Literal(Literal),
    Attribute(Attribute),
    Has(Attribute),
    /// The principal is one of these or below one of them.
    PrincipalIn(Box<[u32]>),
    /// The principal is one of these.
    PrincipalIs(Box<[u32]>),
    ResourceIn(Box<[u32]>),
    ResourceIs(Box<[u32]>),
    /// The action is one of these.
    ActionIs(Box<[u32]>),
    /// The resource is of this kind.
    ResourceKind {
        namespace: Arc<str>,
        kind: Arc<str>,
    },
    Not(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    If(Box<Expr>, Box<Expr>, Box<Expr>),
    Equal(Box<Expr>, Box<Expr>),
    Less(Box<Expr>, Box<Expr>),
    LessOrEqual(Box<Expr>, Box<Expr>),
    Arithmetic(Operator, Box<Expr>, Box<Expr>),
    Negative(Box<Expr>),
    Contains(Box<Expr>, Box<Expr>),
    ContainsAll(Box<Expr>, Box<Expr>),
    ContainsAny(Box<Expr>, Box<Expr>),
    IsEmpty(Box<Expr>),
    Like(Box<Expr>, Box<[Piece]>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
}

/// The principal's texts and the numbers of everything it is or is in.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) itself: Option<u32>,
    /// Sorted; the principal itself included, when a policy names it.
    pub(crate) among: Vec<u32>,
    pub(crate) workload: Arc<str>,
    pub(crate) tenant: Arc<str>,
    pub(crate) kind: &'static str,
    pub(crate) on_behalf_of: Option<Arc<str>>,
}

/// One question: may this principal do that action on this object.
pub(crate) struct Asked<'a> {
    pub(crate) who: &'a Who,
    pub(crate) action: u32,
    pub(crate) namespace: &'static str,
    pub(crate) object: &'a Object,
    /// Numbers of the object and of what it is in, where a policy names them.
    pub(crate) nodes: &'a [u32],
    /// The object's own number.
    pub(crate) itself: Option<u32>,
    pub(crate) context: &'a [(&'static str, AttrValue)],
    pub(crate) moment: Moment,
}

/// Part of the time compared with numbers that are known; `None`, and nothing added, for all else.
fn compared(a: &Expr, b: &Expr, read: &mut TimesRead) -> Option<()> {
    let (name, with) = match (a, b) {
        (Expr::Attribute(Attribute::Moment(name)), Expr::Literal(with))
        | (Expr::Literal(with), Expr::Attribute(Attribute::Moment(name))) => (name, with),
        _ => return None,
    };
    let numbers = match with {
        Literal::Set(members) => members,
        one @ (Literal::Bool(_) | Literal::Long(_) | Literal::String(_)) => {
            std::slice::from_ref(one)
        }
    };
    let cuts: Vec<i64> = numbers
        .iter()
        .map(|number| match number {
            Literal::Long(number) => Some(*number),
            Literal::Bool(_) | Literal::String(_) | Literal::Set(_) => None,
        })
        .collect::<Option<_>>()?;
    let part = moment::part(read, name)?;
    cuts.into_iter().for_each(|cut| part.add(cut));
    Some(())
}

enum Value<'a> {
    Bool(bool),
    Long(i64),
    Text(&'a str),
    Texts(&'a [Arc<str>]),
    Literals(&'a [Literal]),
}

/// An element of a set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Element<'a> {
    Bool(bool),
    Long(i64),
    Text(&'a str),
}

impl<'a> Value<'a> {
    fn boolean(&self) -> Result<bool, Failed> {
        match self {
            Self::Bool(value) => Ok(*value),
            Self::Long(_) | Self::Text(_) | Self::Texts(_) | Self::Literals(_) => Err(Failed),
        }
    }

    fn long(&self) -> Result<i64, Failed> {
        match self {
            Self::Long(value) => Ok(*value),
            Self::Bool(_) | Self::Text(_) | Self::Texts(_) | Self::Literals(_) => Err(Failed),
        }
    }

    fn text(&self) -> Result<&'a str, Failed> {
        match self {
            Self::Text(value) => Ok(value),
            Self::Bool(_) | Self::Long(_) | Self::Texts(_) | Self::Literals(_) => Err(Failed),
        }
    }

    /// `None` for a set.
    fn element(&self) -> Option<Element<'a>> {
        match self {
            Self::Bool(value) => Some(Element::Bool(*value)),
            Self::Long(value) => Some(Element::Long(*value)),
            Self::Text(value) => Some(Element::Text(value)),
            Self::Texts(_) | Self::Literals(_) => None,
        }
    }

    fn elements(&self) -> Result<Elements<'a>, Failed> {
        match self {
            Self::Texts(texts) => Ok(Elements::Texts(texts)),
            Self::Literals(literals) => Ok(Elements::Literals(literals)),
            Self::Bool(_) | Self::Long(_) | Self::Text(_) => Err(Failed),
        }
    }
}

#[derive(Clone, Copy)]
enum Elements<'a> {
    Texts(&'a [Arc<str>]),
    Literals(&'a [Literal]),
}

impl<'a> Elements<'a> {
    const fn len(self) -> usize {
        match self {
            Self::Texts(texts) => texts.len(),
            Self::Literals(literals) => literals.len(),
        }
    }

    fn get(self, index: usize) -> Option<Element<'a>> {
        match self {
            Self::Texts(texts) => texts.get(index).map(|text| Element::Text(text)),
            Self::Literals(literals) => literals.get(index).and_then(Literal::element),
        }
    }

    fn iter(self) -> impl Iterator<Item = Element<'a>> {
        (0..self.len()).filter_map(move |index| self.get(index))
    }

    fn holds(self, element: Element<'_>) -> bool {
        self.iter().any(|have| have == element)
    }

    fn holds_all(self, other: Self) -> bool {
        other.iter().all(|element| self.holds(element))
    }
}

impl Literal {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Long(value) => Value::Long(*value),
            Self::String(value) => Value::Text(value),
            Self::Set(values) => Value::Literals(values),
        }
    }

    fn element(&self) -> Option<Element<'_>> {
        match self {
            Self::Bool(value) => Some(Element::Bool(*value)),
            Self::Long(value) => Some(Element::Long(*value)),
            Self::String(value) => Some(Element::Text(value)),
            Self::Set(_) => None,
        }
    }
}

impl Expr {
    /// Does it hold?
    ///
    /// # Errors
    /// [`Failed`] where Cedar reports an evaluation error.
    pub(crate) fn holds(&self, asked: &Asked<'_>) -> Result<bool, Failed> {
        Ok(match self {
            Self::PrincipalIn(any) => any
                .iter()
                .any(|id| asked.who.among.binary_search(id).is_ok()),
            Self::PrincipalIs(any) => asked.who.itself.is_some_and(|id| any.contains(&id)),
            Self::ResourceIn(any) => any.iter().any(|id| asked.nodes.contains(id)),
            Self::ResourceIs(any) => asked.itself.is_some_and(|id| any.contains(&id)),
            Self::ActionIs(any) => any.contains(&asked.action),
            Self::ResourceKind { namespace, kind } => {
                **namespace == *asked.namespace && **kind == *asked.object.kind
            }
            Self::Has(attribute) => has(attribute, asked),
            Self::Not(inner) => !inner.holds(asked)?,
            Self::And(left, right) => left.holds(asked)? && right.holds(asked)?,
            Self::Or(left, right) => left.holds(asked)? || right.holds(asked)?,
            Self::If(test, yes, no) => {
                let chosen = if test.holds(asked)? { yes } else { no };
                chosen.holds(asked)?
            }
            Self::Equal(left, right) => equal(&left.value(asked)?, &right.value(asked)?),
            Self::Less(left, right) => left.value(asked)?.long()? < right.value(asked)?.long()?,
            Self::LessOrEqual(left, right) => {
                left.value(asked)?.long()? <= right.value(asked)?.long()?
            }
            Self::Contains(set, element) => {
                let (set, element) = (set.value(asked)?, element.value(asked)?);
                let elements = set.elements()?;
                element.element().is_some_and(|one| elements.holds(one))
            }
            Self::ContainsAll(set, other) => {
                let (set, other) = (set.value(asked)?, other.value(asked)?);
                set.elements()?.holds_all(other.elements()?)
            }
            Self::ContainsAny(set, other) => {
                let (set, other) = (set.value(asked)?, other.value(asked)?);
                let (set, other) = (set.elements()?, other.elements()?);
                other.iter().any(|element| set.holds(element))
            }
            Self::IsEmpty(set) => set.value(asked)?.elements()?.len() == 0,
            Self::Like(text, pattern) => like(text.value(asked)?.text()?, pattern),
            Self::Literal(_) | Self::Attribute(_) | Self::Arithmetic(..) | Self::Negative(_) => {
                self.value(asked)?.boolean()?
            }
        })
    }

    fn value<'a>(&'a self, asked: &Asked<'a>) -> Result<Value<'a>, Failed> {
        match self {
            Self::Literal(literal) => Ok(literal.value()),
            Self::Attribute(attribute) => value_of(attribute, asked).ok_or(Failed),
            Self::Arithmetic(operator, left, right) => {
                let (left, right) = (left.value(asked)?.long()?, right.value(asked)?.long()?);
                let result = match operator {
                    Operator::Add => left.checked_add(right),
                    Operator::Subtract => left.checked_sub(right),
                    Operator::Multiply => left.checked_mul(right),
                };
                result.map(Value::Long).ok_or(Failed)
            }
            Self::Negative(inner) => {
                let result = inner.value(asked)?.long()?.checked_neg();
                result.map(Value::Long).ok_or(Failed)
            }
            Self::If(test, yes, no) => {
                let chosen = if test.holds(asked)? { yes } else { no };
                chosen.value(asked)
            }
            Self::Has(_)
            | Self::PrincipalIn(_)
            | Self::PrincipalIs(_)
            | Self::ResourceIn(_)
            | Self::ResourceIs(_)
            | Self::ActionIs(_)
            | Self::ResourceKind { .. }
            | Self::Not(_)
            | Self::And(..)
            | Self::Or(..)
            | Self::Equal(..)
            | Self::Less(..)
            | Self::LessOrEqual(..)
            | Self::Contains(..)
            | Self::ContainsAll(..)
            | Self::ContainsAny(..)
            | Self::IsEmpty(_)
            | Self::Like(..) => self.holds(asked).map(Value::Bool),
        }
    }

    /// Adds what the answer depends on of when it is asked.
    pub(crate) fn times(&self, read: &mut TimesRead) {
        match self {
            Self::Attribute(attribute) | Self::Has(attribute) => {
                if let Attribute::Moment(name) = attribute
                    && let Some(part) = moment::part(read, name)
                {
                    *part = Cuts::Each;
                }
            }
            Self::Literal(_)
            | Self::PrincipalIn(_)
            | Self::PrincipalIs(_)
            | Self::ResourceIn(_)
            | Self::ResourceIs(_)
            | Self::ActionIs(_)
            | Self::ResourceKind { .. } => {}
            Self::Not(inner)
            | Self::IsEmpty(inner)
            | Self::Like(inner, _)
            | Self::Negative(inner) => inner.times(read),
            Self::Equal(a, b)
            | Self::Less(a, b)
            | Self::LessOrEqual(a, b)
            | Self::Contains(a, b) => {
                if compared(a, b, read).is_none() {
                    a.times(read);
                    b.times(read);
                }
            }
            Self::And(a, b)
            | Self::Or(a, b)
            | Self::Arithmetic(_, a, b)
            | Self::ContainsAll(a, b)
            | Self::ContainsAny(a, b) => {
                a.times(read);
                b.times(read);
            }
            Self::If(a, b, c) => [a, b, c].into_iter().for_each(|one| one.times(read)),
        }
    }

    /// Whether evaluation cannot fail, once strict validation has passed.
    pub(crate) fn is_total(&self) -> bool {
        match self {
            Self::Arithmetic(..) | Self::Negative(_) => false,
            Self::Literal(_)
            | Self::Attribute(_)
            | Self::Has(_)
            | Self::PrincipalIn(_)
            | Self::PrincipalIs(_)
            | Self::ResourceIn(_)
            | Self::ResourceIs(_)
            | Self::ActionIs(_)
            | Self::ResourceKind { .. } => true,
            Self::Not(inner) | Self::IsEmpty(inner) | Self::Like(inner, _) => inner.is_total(),
            Self::And(a, b)
            | Self::Or(a, b)
            | Self::Equal(a, b)
            | Self::Less(a, b)
            | Self::LessOrEqual(a, b)
            | Self::Contains(a, b)
            | Self::ContainsAll(a, b)
            | Self::ContainsAny(a, b) => a.is_total() && b.is_total(),
            Self::If(a, b, c) => a.is_total() && b.is_total() && c.is_total(),
        }
    }
}

fn has(attribute: &Attribute, asked: &Asked<'_>) -> bool {
    match attribute {
        Attribute::Workload
        | Attribute::Tenant
        | Attribute::Kind
        | Attribute::Name
        | Attribute::Moment(_) => true,
        Attribute::OnBehalfOf => asked.who.on_behalf_of.is_some(),
        Attribute::Context(name) => in_context(name, asked).is_some(),
    }
}

fn in_context<'a>(name: &str, asked: &Asked<'a>) -> Option<&'a AttrValue> {
    let found = asked.context.iter().find(|(have, _)| *have == name);
    found.map(|(_, value)| value)
}

fn value_of<'a>(attribute: &'a Attribute, asked: &Asked<'a>) -> Option<Value<'a>> {
    Some(match attribute {
        Attribute::Workload => Value::Text(&asked.who.workload),
        Attribute::Tenant => Value::Text(&asked.who.tenant),
        Attribute::Kind => Value::Text(asked.who.kind),
        Attribute::OnBehalfOf => Value::Text(asked.who.on_behalf_of.as_deref()?),
        Attribute::Name => Value::Text(asked.object.path.last()?),
        Attribute::Moment(name) => Value::Long(asked.moment.attribute(name)?),
        Attribute::Context(name) => match in_context(name, asked)? {
            AttrValue::Bool(value) => Value::Bool(*value),
            AttrValue::Long(value) => Value::Long(*value),
            AttrValue::String(value) => Value::Text(value),
            AttrValue::StringSet(values) => Value::Texts(values),
        },
    })
}

/// Values of different types are unequal, sets are compared as sets.
fn equal(left: &Value<'_>, right: &Value<'_>) -> bool {
    match (left.element(), right.element()) {
        (Some(left), Some(right)) => left == right,
        (None, None) => match (left.elements(), right.elements()) {
            (Ok(left), Ok(right)) => left.holds_all(right) && right.holds_all(left),
            (Ok(_) | Err(_), _) => false,
        },
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// `*` stands for any number of characters. Linear but for the steps back to the last `*`.
fn like(text: &str, pattern: &[Piece]) -> bool {
    let (mut rest, mut at) = (text, 0);
    let mut back: Option<(&str, usize)> = None;
    loop {
        let next = rest.chars().next();
        match (pattern.get(at), next) {
            (Some(Piece::Any), _) => {
                at += 1;
                back = Some((rest, at));
                continue;
            }
            (Some(Piece::Char(want)), Some(have)) if *want == have => {
                at += 1;
                rest = rest.get(have.len_utf8()..).unwrap_or_default();
                continue;
            }
            (None, None) => return true,
            (Some(Piece::Char(_)) | None, _) => {}
        }
        let Some((from, after)) = back else {
            return false;
        };
        let Some(skipped) = from.chars().next() else {
            return false;
        };
        rest = from.get(skipped.len_utf8()..).unwrap_or_default();
        at = after;
        back = Some((rest, after));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Vec<Piece> {
        text.chars()
            .map(|c| match c {
                '*' => Piece::Any,
                other => Piece::Char(other),
            })
            .collect()
    }

    #[test]
    fn patterns_match_as_cedar_says() {
        for (text, like_this) in [
            ("", ""),
            ("", "*"),
            ("abc", "abc"),
            ("abc", "*"),
            ("abc", "a*c"),
            ("abc", "**b**"),
            ("aaab", "*ab"),
            ("/api/v1/pods", "/api*"),
            ("ünï", "*n*"),
            ("mississippi", "*iss*ip*"),
        ] {
            assert!(like(text, &pattern(like_this)), "{text} {like_this}");
        }
        for (text, not_this) in [
            ("abc", ""),
            ("", "a"),
            ("abc", "ab"),
            ("abc", "*ab"),
            ("aaac", "*ab"),
            ("mississippi", "*iss*ix*"),
        ] {
            assert!(!like(text, &pattern(not_this)), "{text} {not_this}");
        }
    }
}
