//! Which policies can apply to a question, found by hashing instead of looking at all of them.
//!
//! A policy is filed under what it surely needs: the principals, actions and resources of its
//! scope, or of conditions that every satisfied evaluation passes. A policy that is not found is one
//! that Cedar would have evaluated to false, without an error.

use std::collections::HashMap;

use crate::expr::{Expr, Who};
use crate::form::Conjuncts;
use crate::names::Names;

/// "Any" in a key.
const ANY: u32 = u32::MAX;

/// What a policy needs; `None` is anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) principals: Option<Vec<u32>>,
    pub(crate) actions: Option<Vec<u32>>,
    pub(crate) resources: Option<Vec<u32>>,
}

impl Keys {
    /// From the conjuncts before the first one that may fail: behind it, a false conjunct does not
    /// make up for an error.
    pub(crate) fn of(conjuncts: &Conjuncts, names: &Names) -> Self {
        let mut keys = Self::default();
        for conjunct in conjuncts.list.iter().take_while(|one| one.is_total()) {
            if let Some(ids) = one_of(conjunct, &principals) {
                let smaller = keys
                    .principals
                    .as_ref()
                    .is_none_or(|have| ids.len() < have.len());
                if smaller {
                    keys.principals = Some(ids);
                }
            } else if let Some(mut ids) = one_of(conjunct, &actions) {
                if let Some(have) = keys.actions.take() {
                    ids.retain(|id| have.contains(id));
                }
                keys.actions = Some(ids);
            } else if let Some(ids) = one_of(conjunct, &resources) {
                let better = keys
                    .resources
                    .as_ref()
                    .is_none_or(|have| narrowness(&ids, names) > narrowness(have, names));
                if better {
                    keys.resources = Some(ids);
                }
            }
        }
        keys
    }
}

/// Greater is narrower: deep objects before shallow ones, few before many.
fn narrowness(resources: &[u32], names: &Names) -> (usize, std::cmp::Reverse<usize>) {
    let least = resources.iter().map(|id| names.depth(*id)).min();
    (
        least.unwrap_or(usize::MAX),
        std::cmp::Reverse(resources.len()),
    )
}

pub(crate) fn principals(expr: &Expr) -> Option<&[u32]> {
    if let Expr::PrincipalIn(ids) | Expr::PrincipalIs(ids) = expr {
        Some(ids)
    } else {
        None
    }
}

pub(crate) fn actions(expr: &Expr) -> Option<&[u32]> {
    if let Expr::ActionIs(ids) = expr {
        Some(ids)
    } else {
        None
    }
}

pub(crate) fn resources(expr: &Expr) -> Option<&[u32]> {
    if let Expr::ResourceIn(ids) | Expr::ResourceIs(ids) = expr {
        Some(ids)
    } else {
        None
    }
}

/// The ids of `a || b || c` when each of them is of the wanted sort.
pub(crate) fn one_of(expr: &Expr, sort: &impl Fn(&Expr) -> Option<&[u32]>) -> Option<Vec<u32>> {
    let mut ids = if let Expr::Or(left, right) = expr {
        let mut ids = one_of(left, sort)?;
        ids.extend(one_of(right, sort)?);
        ids
    } else {
        sort(expr)?.to_vec()
    };
    ids.sort_unstable();
    ids.dedup();
    Some(ids)
}

#[derive(Debug, Default)]
struct Cell {
    anyone: Vec<u32>,
    by_principal: HashMap<u32, Vec<u32>>,
}

/// Policies, by number, under what they need.
#[derive(Debug, Default)]
pub(crate) struct Index {
    cells: HashMap<(u32, u32), Cell>,
}

impl Index {
    pub(crate) fn file(&mut self, policy: u32, keys: &Keys) {
        let any = [ANY];
        let or_any = |ids: &'_ Option<Vec<u32>>| ids.clone().unwrap_or_else(|| any.to_vec());
        for action in or_any(&keys.actions) {
            for resource in or_any(&keys.resources) {
                let cell = self.cells.entry((action, resource)).or_default();
                match &keys.principals {
                    None => cell.anyone.push(policy),
                    Some(ids) => {
                        for id in ids {
                            cell.by_principal.entry(*id).or_default().push(policy);
                        }
                    }
                }
            }
        }
    }

    /// Every policy filed under one of these, or under anything; unordered, with repetitions.
    pub(crate) fn filed(
        &self,
        principal: Option<u32>,
        action: Option<u32>,
        nodes: &[u32],
    ) -> Vec<u32> {
        let mut found = Vec::new();
        for action in action.into_iter().chain([ANY]) {
            for resource in nodes.iter().copied().chain([ANY]) {
                let Some(cell) = self.cells.get(&(action, resource)) else {
                    continue;
                };
                found.extend_from_slice(&cell.anyone);
                let own = principal.and_then(|id| cell.by_principal.get(&id));
                found.extend(own.into_iter().flatten());
            }
        }
        found
    }

    /// Every policy that can apply, ascending. `nodes` are the object and what it is in.
    pub(crate) fn candidates(&self, who: &Who, action: u32, nodes: &[u32], found: &mut Vec<u32>) {
        found.clear();
        for action in [action, ANY] {
            for resource in nodes.iter().copied().chain([ANY]) {
                let Some(cell) = self.cells.get(&(action, resource)) else {
                    continue;
                };
                found.extend_from_slice(&cell.anyone);
                if cell.by_principal.len() < who.among.len() {
                    for (id, policies) in &cell.by_principal {
                        if who.among.binary_search(id).is_ok() {
                            found.extend_from_slice(policies);
                        }
                    }
                } else {
                    for id in &who.among {
                        if let Some(policies) = cell.by_principal.get(id) {
                            found.extend_from_slice(policies);
                        }
                    }
                }
            }
        }
        found.sort_unstable();
        found.dedup();
    }
}
