//! From Cedar's JSON form of a policy to [`Expr`], one conjunct after the other.
//!
//! The JSON form is documented and stable, unlike the library's own syntax tree.

use std::sync::Arc;

use serde_json::Value;
use weir_model::vocabulary::Vocabulary;

use crate::expr::{Attribute, Expr, Literal, Operator, Piece};
use crate::moment;
use crate::names::{Entity, Names};

/// What a policy asks for: all of these, in this order.
#[derive(Debug, Default)]
pub(crate) struct Conjuncts {
    pub(crate) list: Vec<Expr>,
    /// False when the list ends where the subset does: Cedar has to evaluate the policy.
    pub(crate) whole: bool,
}

/// Reads a policy's scope and conditions.
pub(crate) fn conjuncts(
    names: &mut Names,
    vocabularies: &[&'static Vocabulary],
    policy: &Value,
) -> Conjuncts {
    let mut reader = Reader {
        names,
        vocabularies,
    };
    let mut list = Vec::new();
    let whole = reader.policy(policy, &mut list).is_some();
    Conjuncts { list, whole }
}

/// `a && b && c` → `a`, `b`, `c`; evaluated in the same order, with the same stops.
fn flatten(expr: Expr, list: &mut Vec<Expr>) {
    if let Expr::And(left, right) = expr {
        flatten(*left, list);
        flatten(*right, list);
    } else {
        list.push(expr);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Variable {
    Principal,
    Action,
    Resource,
    Context,
}

struct Reader<'a> {
    names: &'a mut Names,
    vocabularies: &'a [&'static Vocabulary],
}

impl Reader<'_> {
    fn policy(&mut self, policy: &Value, list: &mut Vec<Expr>) -> Option<()> {
        for variable in ["principal", "action", "resource"] {
            self.scope(variable, policy.get(variable)?, list)?;
        }
        for condition in policy.get("conditions")?.as_array()? {
            let body = self.expr(condition.get("body")?)?;
            match condition.get("kind")?.as_str()? {
                "when" => flatten(body, list),
                "unless" => list.push(Expr::Not(Box::new(body))),
                _ => return None,
            }
        }
        Some(())
    }

    fn scope(&mut self, variable: &str, scope: &Value, list: &mut Vec<Expr>) -> Option<()> {
        let variable = variable_of(variable)?;
        let one = |reader: &mut Self| Some(vec![reader.entity(scope.get("entity")?)?]);
        match scope.get("op")?.as_str()? {
            "All" => {}
            "==" => {
                let entities = one(self)?;
                list.push(among(variable, &entities, true)?);
            }
            "in" => {
                let entities = match scope.get("entities") {
                    Some(many) => {
                        let each = many.as_array()?.iter();
                        each.map(|uid| self.entity(uid)).collect::<Option<_>>()?
                    }
                    None => one(self)?,
                };
                list.push(among(variable, &entities, false)?);
            }
            "is" => {
                list.push(kind_is(variable, scope.get("entity_type")?.as_str()?)?);
                if let Some(inside) = scope.get("in") {
                    let entities = vec![self.entity(inside.get("entity")?)?];
                    list.push(among(variable, &entities, false)?);
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn entity(&mut self, uid: &Value) -> Option<Entity> {
        let uid = uid.get("__entity").unwrap_or(uid);
        let (kind, id) = (uid.get("type")?.as_str()?, uid.get("id")?.as_str()?);
        Some(self.names.note(self.vocabularies, kind, id))
    }

    fn expr(&mut self, expr: &Value) -> Option<Expr> {
        let (operator, body) = only_pair(expr)?;
        match operator {
            "Value" => literal(body).map(Expr::Literal),
            "Set" => set(body).map(Expr::Literal),
            "!" => Some(Expr::Not(Box::new(self.expr(body.get("arg")?)?))),
            "neg" => Some(Expr::Negative(Box::new(self.expr(body.get("arg")?)?))),
            "isEmpty" => Some(Expr::IsEmpty(Box::new(self.expr(body.get("arg")?)?))),
            "==" => self.equal(body),
            "!=" => Some(Expr::Not(Box::new(self.equal(body)?))),
            "in" => self.inside(body),
            "contains" => self.contains(body),
            "." => attribute(body).map(Expr::Attribute),
            "has" => attribute(body).map(Expr::Has),
            "like" => {
                let text = self.expr(body.get("left")?)?;
                Some(Expr::Like(Box::new(text), pattern(body.get("pattern")?)?))
            }
            "is" => self.is(body),
            "if-then-else" => {
                let test = Box::new(self.expr(body.get("if")?)?);
                let yes = Box::new(self.expr(body.get("then")?)?);
                let no = Box::new(self.expr(body.get("else")?)?);
                Some(Expr::If(test, yes, no))
            }
            "+" => self.arithmetic(Operator::Add, body),
            "-" => self.arithmetic(Operator::Subtract, body),
            "*" => self.arithmetic(Operator::Multiply, body),
            other => self.binary(other, body),
        }
    }

    fn arithmetic(&mut self, operator: Operator, body: &Value) -> Option<Expr> {
        let (left, right) = self.both(body)?;
        Some(Expr::Arithmetic(operator, left, right))
    }

    fn binary(&mut self, operator: &str, body: &Value) -> Option<Expr> {
        let make = match operator {
            "&&" => Expr::And,
            "||" => Expr::Or,
            "<" => Expr::Less,
            "<=" => Expr::LessOrEqual,
            "containsAll" => Expr::ContainsAll,
            "containsAny" => Expr::ContainsAny,
            ">" | ">=" => {
                // Both sides are looked at in either order; an error is an error.
                let (left, right) = self.both(body)?;
                return Some(if operator == ">" {
                    Expr::Less(right, left)
                } else {
                    Expr::LessOrEqual(right, left)
                });
            }
            _ => return None,
        };
        let (left, right) = self.both(body)?;
        Some(make(left, right))
    }

    fn both(&mut self, body: &Value) -> Option<(Box<Expr>, Box<Expr>)> {
        let left = Box::new(self.expr(body.get("left")?)?);
        let right = Box::new(self.expr(body.get("right")?)?);
        Some((left, right))
    }

    /// `a == b`, where either side may be a variable and the other an entity.
    fn equal(&mut self, body: &Value) -> Option<Expr> {
        let (left, right) = (body.get("left")?, body.get("right")?);
        for (variable, entity) in [(left, right), (right, left)] {
            if let (Some(variable), Some(entities)) = (variable_in(variable), self.uids(entity)) {
                return among(variable, &entities, true);
            }
        }
        let (left, right) = self.both(body)?;
        Some(Expr::Equal(left, right))
    }

    fn inside(&mut self, body: &Value) -> Option<Expr> {
        let variable = variable_in(body.get("left")?)?;
        let entities = self.uids(body.get("right")?)?;
        among(variable, &entities, false)
    }

    /// `[a, b].contains(variable)` asks whether it is one of them.
    fn contains(&mut self, body: &Value) -> Option<Expr> {
        let (left, right) = (body.get("left")?, body.get("right")?);
        if let (Some(entities), Some(variable)) = (self.uids(left), variable_in(right)) {
            return among(variable, &entities, true);
        }
        let (left, right) = self.both(body)?;
        Some(Expr::Contains(left, right))
    }

    fn is(&mut self, body: &Value) -> Option<Expr> {
        let variable = variable_in(body.get("left")?)?;
        let kind = kind_is(variable, body.get("entity_type")?.as_str()?)?;
        match body.get("in") {
            None => Some(kind),
            Some(inside) => {
                let entities = self.uids(inside)?;
                let below = among(variable, &entities, false)?;
                Some(Expr::And(Box::new(kind), Box::new(below)))
            }
        }
    }

    /// One entity literal, or a set of nothing else.
    fn uids(&mut self, expr: &Value) -> Option<Vec<Entity>> {
        let (operator, body) = only_pair(expr)?;
        match operator {
            "Value" if body.get("__entity").is_some() => Some(vec![self.entity(body)?]),
            "Set" => {
                let each = body.as_array()?;
                if each.is_empty() {
                    return None;
                }
                let mut list = Vec::new();
                for element in each {
                    let (operator, value) = only_pair(element)?;
                    if operator != "Value" || value.get("__entity").is_none() {
                        return None;
                    }
                    list.push(self.entity(value)?);
                }
                Some(list)
            }
            _ => None,
        }
    }
}

fn only_pair(expr: &Value) -> Option<(&str, &Value)> {
    let object = expr.as_object()?;
    let mut pairs = object.iter();
    let (operator, body) = pairs.next()?;
    pairs.next().is_none().then_some((operator.as_str(), body))
}

fn variable_of(name: &str) -> Option<Variable> {
    Some(match name {
        "principal" => Variable::Principal,
        "action" => Variable::Action,
        "resource" => Variable::Resource,
        "context" => Variable::Context,
        _ => return None,
    })
}

fn variable_in(expr: &Value) -> Option<Variable> {
    let (operator, body) = only_pair(expr)?;
    if operator == "Var" {
        variable_of(body.as_str()?)
    } else {
        None
    }
}

/// Entities of another class than the variable's are never equal to it.
fn among(variable: Variable, entities: &[Entity], exact: bool) -> Option<Expr> {
    let ids: Box<[u32]> = entities
        .iter()
        .filter_map(|entity| match (variable, entity) {
            (Variable::Principal, Entity::Principal(id))
            | (Variable::Resource, Entity::Resource(id))
            | (Variable::Action, Entity::Action(id)) => Some(*id),
            (
                Variable::Principal | Variable::Resource | Variable::Action | Variable::Context,
                Entity::Principal(_) | Entity::Resource(_) | Entity::Action(_) | Entity::Nothing,
            ) => None,
        })
        .collect();
    Some(match (variable, exact) {
        (Variable::Principal, true) => Expr::PrincipalIs(ids),
        (Variable::Principal, false) => Expr::PrincipalIn(ids),
        (Variable::Resource, true) => Expr::ResourceIs(ids),
        (Variable::Resource, false) => Expr::ResourceIn(ids),
        // Actions are in no groups.
        (Variable::Action, _) => Expr::ActionIs(ids),
        (Variable::Context, _) => return None,
    })
}

fn kind_is(variable: Variable, entity_type: &str) -> Option<Expr> {
    match variable {
        Variable::Principal => Some(Expr::Literal(Literal::Bool(entity_type == "Weir::Agent"))),
        Variable::Resource => {
            let (namespace, kind) = entity_type.rsplit_once("::")?;
            Some(Expr::ResourceKind {
                namespace: Arc::from(namespace),
                kind: Arc::from(kind),
            })
        }
        Variable::Action | Variable::Context => None,
    }
}

fn attribute(body: &Value) -> Option<Attribute> {
    let name = body.get("attr")?.as_str()?;
    match (variable_in(body.get("left")?)?, name) {
        (Variable::Principal, "workload") => Some(Attribute::Workload),
        (Variable::Principal, "tenant") => Some(Attribute::Tenant),
        (Variable::Principal, "kind") => Some(Attribute::Kind),
        (Variable::Principal, "onBehalfOf") => Some(Attribute::OnBehalfOf),
        (Variable::Resource, "name") => Some(Attribute::Name),
        (Variable::Context, name) => {
            let moment = [moment::DATE, moment::TIME, moment::WEEKDAY];
            match moment.into_iter().find(|ours| *ours == name) {
                Some(ours) => Some(Attribute::Moment(ours)),
                None => Some(Attribute::Context(Arc::from(name))),
            }
        }
        (Variable::Principal | Variable::Resource | Variable::Action, _) => None,
    }
}

fn literal(value: &Value) -> Option<Literal> {
    match value {
        Value::Bool(value) => Some(Literal::Bool(*value)),
        Value::Number(value) => value.as_i64().map(Literal::Long),
        Value::String(value) => Some(Literal::String(Arc::from(value.as_str()))),
        Value::Array(values) => plain_set(values.iter().map(literal)),
        Value::Null | Value::Object(_) => None,
    }
}

fn set(body: &Value) -> Option<Literal> {
    plain_set(body.as_array()?.iter().map(|element| {
        let (operator, value) = only_pair(element)?;
        if operator == "Value" {
            literal(value)
        } else {
            None
        }
    }))
}

fn plain_set(elements: impl Iterator<Item = Option<Literal>>) -> Option<Literal> {
    let elements: Vec<Literal> = elements.collect::<Option<_>>()?;
    let nested = elements
        .iter()
        .any(|element| matches!(element, Literal::Set(_)));
    (!nested).then(|| Literal::Set(elements.into()))
}

fn pattern(value: &Value) -> Option<Box<[Piece]>> {
    let mut pieces = Vec::new();
    for element in value.as_array()? {
        if element.as_str() == Some("Wildcard") {
            pieces.push(Piece::Any);
        } else {
            let text = element.get("Literal")?.as_str()?;
            pieces.extend(text.chars().map(Piece::Char));
        }
    }
    Some(pieces.into())
}
