//! Groups that a token does not list, asked of Microsoft Graph by object id.
//!
//! The URL is built here from the configured origin and the kind of object: the one in a token's
//! overage marker is never followed, and a next page only on the same origin.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::json;
use url::Url;
use weir_model::ident::{Groups, PrincipalKind};
use weir_model::time::Now;

use crate::Identify;
use crate::authority::Authority;
use crate::bind::WorkloadIdentity;
use crate::guid::is_guid;
use crate::http::{Answer, HttpClient};
use crate::refusal::Unidentified;
use crate::secret::Secret;

/// A membership is trusted for this long; then it is asked for again.
const FRESH_S: i64 = 600;
/// While Graph is away, an older one serves for this long.
const STALE_S: i64 = 3600;
/// Members are thrown out together beyond this.
const CACHED_MAX: usize = 4096;
/// Twenty pages of 999 are more than a principal has groups.
const PAGES_MAX: usize = 20;
const PAGE: usize = 999;

/// Where and as whom Graph is asked.
#[derive(Clone, Debug)]
pub struct GraphConfig {
    /// Origin, such as `https://graph.microsoft.com`; plain http on loopback only.
    pub origin: String,
    /// Weir's own reader of the directory.
    pub reader: WorkloadIdentity,
    /// What a token lists may be a part: ask Graph even then.
    pub token_lists_part: bool,
}

/// Which principal's groups.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) tenant: Arc<str>,
    pub(crate) oid: Arc<str>,
    pub(crate) kind: PrincipalKind,
}

type Ids = BTreeSet<Arc<str>>;
/// By tenant and object id.
type Cache = HashMap<(Arc<str>, Arc<str>), Cached>;

struct Cached {
    ids: Ids,
    asked_s: i64,
}

pub(crate) struct Graph {
    config: GraphConfig,
    http: HttpClient,
    cache: Mutex<Cache>,
    /// Held while asking, so that waiting callers find the result.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Deserialize)]
struct Ids400 {
    error: Code,
}

#[derive(Deserialize)]
struct Code {
    code: String,
}

#[derive(Deserialize)]
struct MemberObjects {
    value: Vec<String>,
}

/// Of an application or a person.
#[derive(Deserialize)]
struct Account {
    #[serde(rename = "accountEnabled")]
    enabled: bool,
}

#[derive(Deserialize)]
struct Page {
    value: Vec<Object>,
    #[serde(rename = "@odata.nextLink")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Object {
    id: String,
}

const NOT_GRANTED: Unidentified = Unidentified::NotConfigured(
    "Graph refused Weir's reader: grant it Application.Read.All (principals), or User.Read.All and \
     GroupMember.Read.All (people)",
);

const MALFORMED: Unidentified = Unidentified::Malformed {
    what: "Graph's answer",
};

impl Graph {
    /// Makes no call.
    ///
    /// # Errors
    /// The origin is not https, or there are no root certificates.
    pub(crate) fn new(config: GraphConfig, authority: &Authority) -> Result<Self, String> {
        let local = authority.plain && Authority::parse_local(&config.origin).is_ok();
        if !local && !config.origin.starts_with("https://") {
            return Err("origin must be https".to_owned());
        }
        let http = if local {
            HttpClient::beside(None, "Graph")?
        } else {
            HttpClient::new(authority)?
        };
        Ok(Self {
            config,
            http: http.with_lists(),
            cache: Mutex::new(HashMap::new()),
            turn: tokio::sync::Mutex::new(()),
        })
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that are at most `age_s` old.
    fn cached(&self, member: &Member, age_s: i64, now: Now) -> Option<Ids> {
        let key = (Arc::clone(&member.tenant), Arc::clone(&member.oid));
        let cache = self.cache();
        let cached = cache.get(&key)?;
        (now.unix_s() - cached.asked_s < age_s).then(|| cached.ids.clone())
    }

    fn keep(&self, member: &Member, ids: &Ids, now: Now) {
        let mut cache = self.cache();
        if cache.len() >= CACHED_MAX {
            cache.clear();
        }
        let key = (Arc::clone(&member.tenant), Arc::clone(&member.oid));
        let cached = Cached {
            ids: ids.clone(),
            asked_s: now.unix_s(),
        };
        cache.insert(key, cached);
    }

    fn of(&self, member: &Member, call: &str) -> String {
        let objects = match member.kind {
            PrincipalKind::Application => "servicePrincipals",
            PrincipalKind::Person => "users",
        };
        let origin = self.config.origin.trim_end_matches('/');
        format!("{origin}/v1.0/{objects}/{}/{call}", member.oid)
    }

    async fn ask(&self, member: &Member, token: &Secret) -> Result<Ids, Unidentified> {
        let url = self.of(member, "getMemberObjects");
        let body = json!({"securityEnabledOnly": true});
        let answer = self.http.post_json(&url, token.expose(), &body).await?;
        match answer.status {
            200 => {
                let objects: MemberObjects =
                    serde_json::from_slice(&answer.body).map_err(|_| MALFORMED)?;
                ids(objects.value)
            }
            400 if too_many(&answer) => self.pages(member, token).await,
            401 | 403 => Err(NOT_GRANTED),
            404 => Err(Unidentified::NotConfigured(
                "Graph does not know this principal: is identity.graph.origin of the same cloud?",
            )),
            status => Err(Unidentified::unexpected_status("a Graph request", status)),
        }
    }

    async fn is_enabled(&self, member: &Member, token: &Secret) -> Result<bool, Unidentified> {
        let of = self.of(member, "");
        let url = format!("{}?$select=accountEnabled", of.trim_end_matches('/'));
        let answer = self.http.get_bearer(&url, token.expose()).await?;
        match answer.status {
            200 => serde_json::from_slice::<Account>(&answer.body)
                .map(|account| account.enabled)
                .map_err(|_| MALFORMED),
            // Deleted since.
            404 => Ok(false),
            401 | 403 => Err(NOT_GRANTED),
            status => Err(Unidentified::unexpected_status("a Graph request", status)),
        }
    }

    async fn pages(&self, member: &Member, token: &Secret) -> Result<Ids, Unidentified> {
        let call = format!("transitiveMemberOf?$select=id&$top={PAGE}");
        let mut url = self.of(member, &call);
        let mut all = Ids::new();
        for _page in 0..PAGES_MAX {
            let answer = self.http.get_bearer(&url, token.expose()).await?;
            if answer.status != 200 {
                let status = answer.status;
                return Err(Unidentified::unexpected_status("a Graph page", status));
            }
            let page: Page = serde_json::from_slice(&answer.body).map_err(|_| MALFORMED)?;
            all.extend(ids(page
                .value
                .into_iter()
                .map(|object| object.id)
                .collect())?);
            match page.next {
                None => return Ok(all),
                Some(next) if same_origin(&next, &self.config.origin) => url = next,
                Some(_) => return Err(Unidentified::ForeignUrl),
            }
        }
        Err(MALFORMED)
    }
}

fn too_many(answer: &Answer) -> bool {
    serde_json::from_slice::<Ids400>(&answer.body)
        .is_ok_and(|body| body.error.code == "Directory_ResultSizeLimitExceeded")
}

fn ids(values: Vec<String>) -> Result<Ids, Unidentified> {
    if values.iter().all(|id| is_guid(id)) {
        Ok(values.into_iter().map(Arc::from).collect())
    } else {
        Err(MALFORMED)
    }
}

fn same_origin(url: &str, origin: &str) -> bool {
    let parsed = |text: &str| Url::parse(text).ok();
    parsed(url)
        .zip(parsed(origin))
        .is_some_and(|(url, origin)| {
            url.origin() == origin.origin() && url.username().is_empty() && url.password().is_none()
        })
}

impl Identify {
    /// The groups as complete as can be had: what the token says, else what Graph says.
    ///
    /// # Errors
    /// Graph is configured and does not answer, and nothing recent is known: fail closed.
    pub(crate) async fn groups_of(
        &self,
        member: Member,
        claimed: Groups,
        now: Now,
    ) -> Result<Groups, Unidentified> {
        let Some(graph) = &self.graph else {
            return Ok(claimed);
        };
        if matches!(claimed, Groups::Known(_)) && !graph.config.token_lists_part {
            return Ok(claimed);
        }
        let _turn = graph.turn.lock().await;
        if let Some(ids) = graph.cached(&member, FRESH_S, now) {
            return Ok(Groups::Known(ids));
        }
        let asked = async {
            let token = self.graph_token(graph, now).await?;
            graph.ask(&member, &token).await
        };
        match asked.await {
            Ok(ids) => {
                graph.keep(&member, &ids, now);
                Ok(Groups::Known(ids))
            }
            Err(error) if error.is_transient() => match graph.cached(&member, STALE_S, now) {
                Some(ids) => {
                    tracing::warn!(%error, oid = %member.oid, "Graph is away: older groups serve");
                    Ok(Groups::Known(ids))
                }
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }
}

impl Identify {
    async fn graph_token(&self, graph: &Graph, now: Now) -> Result<Secret, Unidentified> {
        let origin = graph.config.origin.trim_end_matches('/');
        let scope = format!("{origin}/.default");
        self.token_for(&graph.config.reader, &scope, now).await
    }

    /// True also without Graph: then nobody can be asked.
    pub(crate) async fn is_enabled(&self, member: &Member) -> Result<bool, Unidentified> {
        let Some(graph) = &self.graph else {
            return Ok(true);
        };
        let token = self.graph_token(graph, weir_clock::now()).await?;
        graph.is_enabled(member, &token).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_pages_stay_on_the_configured_origin() {
        let origin = "https://graph.microsoft.com";
        assert!(same_origin(
            "https://graph.microsoft.com/v1.0/x?$skiptoken=1",
            origin
        ));
        for url in [
            "https://graph.microsoft.com.evil/x",
            "http://graph.microsoft.com/x",
            "https://graph.microsoft.com:444/x",
            "https://a@graph.microsoft.com/x",
            "/relative",
            "",
        ] {
            assert!(!same_origin(url, origin), "{url}");
        }
    }

    #[test]
    fn names_in_place_of_ids_are_refused() {
        assert!(ids(vec!["admins".to_owned()]).is_err());
        assert_eq!(
            ids(Vec::new()).unwrap().len(),
            0,
            "asked and none: known to be empty"
        );
    }
}
