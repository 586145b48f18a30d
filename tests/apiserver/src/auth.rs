//! Bearer tokens and impersonation.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result};
use http::HeaderMap;

use crate::reply::Failure;

/// Who somebody is.
#[derive(Clone, Debug, Default)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

/// Who sent a request, and whom they act as.
pub(crate) struct Caller {
    pub(crate) user: User,
    pub(crate) acting: Option<User>,
}

impl Caller {
    pub(crate) fn effective(&self) -> &User {
        self.acting.as_ref().unwrap_or(&self.user)
    }
}

/// All tokens; the first is the administrator's.
pub(crate) struct Tokens {
    admin: String,
    others: Mutex<BTreeMap<String, User>>,
}

/// Tokens made by `serviceaccounts/token` that are kept at most.
const MAX_TOKENS: usize = 10_000;

impl Tokens {
    /// Writes `dir/admin.token`.
    pub(crate) fn create(dir: &Path) -> Result<Tokens> {
        let admin = random_hex()?;
        std::fs::write(dir.join("admin.token"), &admin).context("admin.token")?;
        Ok(Tokens {
            admin,
            others: Mutex::default(),
        })
    }

    /// A new token of a service account.
    pub(crate) fn issue(&self, namespace: &str, name: &str) -> Result<String, Failure> {
        let token = random_hex().map_err(|e| Failure::new(500, "InternalError", e.to_string()))?;
        if let Ok(mut others) = self.others.lock() {
            if others.len() >= MAX_TOKENS {
                return Err(Failure::new(429, "TooManyRequests", "too many tokens"));
            }
            others.insert(token.clone(), service_account(namespace, name));
        }
        Ok(token)
    }

    /// 401 without a known token; 403 for impersonation by anybody but the administrator.
    pub(crate) fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Failure> {
        let refuse = || Failure::new(401, "Unauthorized", "Unauthorized");
        let value = headers.get("authorization").ok_or_else(refuse)?;
        let text = value.to_str().map_err(|_| refuse())?;
        let (scheme, token) = text.split_once(' ').ok_or_else(refuse)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(refuse());
        }
        let token = token.trim();
        let admin = token == self.admin;
        let user = if admin {
            service_account("kube-system", "admin")
        } else {
            let others = self.others.lock().map_err(|_| refuse())?;
            others.get(token).cloned().ok_or_else(refuse)?
        };
        let acting = acting(headers)?;
        if acting.is_some() && !admin {
            let message = format!("{} cannot impersonate", user.name);
            return Err(Failure::new(403, "Forbidden", message));
        }
        Ok(Caller { user, acting })
    }
}

fn acting(headers: &HeaderMap) -> Result<Option<User>, Failure> {
    let mut user = User::default();
    let mut any = false;
    for (name, value) in headers {
        let Some(field) = name.as_str().strip_prefix("impersonate-") else {
            continue;
        };
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        any = true;
        match field {
            "user" => user.name = value,
            "uid" => user.uid = value,
            "group" => user.groups.push(value),
            _ => {
                let key = field
                    .strip_prefix("extra-")
                    .ok_or_else(|| Failure::bad(format!("unknown header impersonate-{field}")))?;
                let key = percent(key);
                user.extra.entry(key).or_default().push(value);
            }
        }
    }
    if any && user.name.is_empty() {
        return Err(Failure::bad("impersonation without Impersonate-User"));
    }
    if any && user.name != "system:anonymous" {
        let all = "system:authenticated";
        if !user.groups.iter().any(|g| g == all) {
            user.groups.push(all.to_owned());
        }
    }
    Ok(any.then_some(user))
}

fn service_account(namespace: &str, name: &str) -> User {
    User {
        name: format!("system:serviceaccount:{namespace}:{name}"),
        uid: format!("uid-{namespace}-{name}"),
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".to_owned(),
        ],
        extra: BTreeMap::new(),
    }
}

/// Percent-decoding that leaves what is no escape as it is; what is no UTF-8 becomes U+FFFD.
pub(crate) fn percent(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escape = tail.get(..2).and_then(|d| std::str::from_utf8(d).ok());
        let decoded = escape.and_then(|d| u8::from_str_radix(d, 16).ok());
        match (byte, decoded) {
            (b'%', Some(value)) => {
                out.push(value);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn random_hex() -> Result<String> {
    let mut bytes = [0; 24];
    aws_lc_rs::rand::fill(&mut bytes).context("random")?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
