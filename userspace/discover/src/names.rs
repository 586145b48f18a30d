//! Addresses of DNS names, as Weir's own resolver says.
//!
//! A name's old addresses count for a while after the last answer that held them: a workload may
//! still have them. An answer that fails takes nothing away.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use weir_model::time::Now;

/// Addresses of one name, old ones included; the newest count.
const ADDRESSES_MAX: usize = 256;
/// A name is asked for again after its time to live, within these.
const AGAIN_MIN_S: u32 = 1;
const AGAIN_MAX_S: u32 = 60;
/// After a failure.
const RETRY_S: u32 = 5;
/// Both families together.
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct NamesConfig {
    /// How long an address counts after the last answer that held it.
    pub keep_s: u32,
}

/// What is known of some names.
#[derive(Debug)]
pub struct Names {
    config: NamesConfig,
    by_name: BTreeMap<String, Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// When each was last in an answer, microseconds.
    seen_us: BTreeMap<IpAddr, u64>,
    /// When to ask again.
    due_us: u64,
    /// Warned of too many addresses already.
    crowded: bool,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    pub addresses: Vec<IpAddr>,
    pub ttl_s: u32,
    /// Both families were answered: what is missing is gone.
    pub complete: bool,
}

impl Names {
    #[must_use]
    pub fn new(config: NamesConfig, names: impl IntoIterator<Item = String>) -> Self {
        let by_name = names.into_iter().map(|name| (name, Known::default()));
        Self {
            config,
            by_name: by_name.collect(),
        }
    }

    /// A name that is to be asked for now.
    #[must_use]
    pub fn due(&self, now: Now) -> Option<String> {
        let mut due = self.by_name.iter();
        due.find(|(_, known)| known.due_us <= now.mono_us)
            .map(|(name, _)| name.clone())
    }

    /// Until the next one is, microseconds.
    #[must_use]
    pub fn wait_us(&self, now: Now) -> u64 {
        let next = self.by_name.values().map(|known| known.due_us).min();
        next.unwrap_or(u64::MAX).saturating_sub(now.mono_us)
    }

    /// Takes an answer, or that there was none; true when addresses came or went.
    pub fn answer(&mut self, name: &str, lookup: Option<&Lookup>, now: Now) -> bool {
        let Some(known) = self.by_name.get_mut(name) else {
            return false;
        };
        let now_us = now.mono_us;
        let Some(lookup) = lookup.filter(|lookup| !lookup.addresses.is_empty()) else {
            known.due_us = now_us + u64::from(RETRY_S) * 1_000_000;
            return false;
        };
        let again_s = lookup.ttl_s.clamp(AGAIN_MIN_S, AGAIN_MAX_S);
        known.due_us = now_us + u64::from(again_s) * 1_000_000;
        let before: Vec<IpAddr> = known.seen_us.keys().copied().collect();
        for address in &lookup.addresses {
            known.seen_us.insert(address.to_canonical(), now_us);
        }
        let keep_us = u64::from(self.config.keep_s) * 1_000_000;
        if lookup.complete {
            known
                .seen_us
                .retain(|_, seen| now_us.saturating_sub(*seen) <= keep_us);
        }
        known.limit(name);
        !known.seen_us.keys().copied().eq(before)
    }

    /// Every address that counts, of one name.
    #[must_use]
    pub fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let known = self.by_name.get(name);
        known.map_or_else(Vec::new, |known| known.seen_us.keys().copied().collect())
    }

    /// Was every one of these answered at least once.
    #[must_use]
    pub fn answered<'a>(&self, mut names: impl Iterator<Item = &'a String>) -> bool {
        names.all(|name| {
            let known = self.by_name.get(name);
            known.is_some_and(|known| !known.seen_us.is_empty())
        })
    }
}

impl Known {
    fn limit(&mut self, name: &str) {
        let over = self.seen_us.len().saturating_sub(ADDRESSES_MAX);
        if over == 0 {
            return;
        }
        if !self.crowded {
            tracing::error!(
                name,
                "a name has more than {ADDRESSES_MAX} addresses: the oldest do not count"
            );
            self.crowded = true;
        }
        let mut oldest: Vec<(u64, IpAddr)> =
            self.seen_us.iter().map(|(ip, seen)| (*seen, *ip)).collect();
        oldest.sort_unstable();
        for (_, address) in oldest.into_iter().take(over) {
            self.seen_us.remove(&address);
        }
    }
}

/// The machine's own resolvers (`/etc/resolv.conf`), or those that are named.
///
/// # Errors
/// The machine's configuration cannot be read; a text for the operator.
pub fn resolver(servers: &[SocketAddr]) -> Result<Resolver, String> {
    let provider = TokioRuntimeProvider::default();
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut builder = if servers.is_empty() {
        TokioResolver::builder(provider).map_err(|error| text(&error))?
    } else {
        let named = servers.iter().map(name_server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), named);
        TokioResolver::builder_with_config(config, provider)
    };
    let options = builder.options_mut();
    // What is known is kept here, with its time to live.
    options.cache_size = 0;
    options.timeout = Duration::from_secs(2);
    options.attempts = 2;
    let resolver = builder.build().map_err(|error| text(&error))?;
    Ok(Resolver(resolver))
}

/// Asks for both families.
pub struct Resolver(TokioResolver);

fn name_server(addr: &SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = addr.port();
    }
    NameServerConfig::new(addr.ip(), false, connections)
}

impl Resolver {
    /// `None` when neither family was answered with an address; said to the operator.
    pub async fn lookup(&self, name: &str) -> Option<Lookup> {
        // Absolute: the machine's search list is for people.
        let absolute = format!("{}.", name.trim_end_matches('.'));
        let both = async {
            tokio::join!(
                self.0.lookup(absolute.as_str(), RecordType::A),
                self.0.lookup(absolute.as_str(), RecordType::AAAA)
            )
        };
        let Ok((v4, v6)) = tokio::time::timeout(LOOKUP_TIME_MAX, both).await else {
            tracing::warn!(name, "no answer from DNS");
            return None;
        };
        let mut found = Lookup {
            addresses: Vec::new(),
            ttl_s: AGAIN_MAX_S,
            complete: true,
        };
        for answer in [v4, v6] {
            match answer {
                Ok(answer) => {
                    for record in answer.answers() {
                        found.ttl_s = found.ttl_s.min(record.ttl);
                        // The others are aliases on the way.
                        if let RData::A(addr) = &record.data {
                            found.addresses.push(IpAddr::V4(addr.0));
                        } else if let RData::AAAA(addr) = &record.data {
                            found.addresses.push(IpAddr::V6(addr.0));
                        }
                    }
                }
                // The name has none of this family.
                Err(error) if error.is_no_records_found() && !error.is_nx_domain() => {}
                Err(error) => {
                    tracing::warn!(name, %error, "DNS");
                    found.complete = false;
                }
            }
        }
        (!found.addresses.is_empty()).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "db.example";

    fn now(seconds: u64) -> Now {
        Now {
            mono_us: seconds * 1_000_000,
            wall_us: 0,
        }
    }

    fn names() -> Names {
        Names::new(NamesConfig { keep_s: 100 }, [NAME.to_owned()])
    }

    fn found(addresses: &[&str], ttl_s: u32) -> Lookup {
        Lookup {
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            ttl_s,
            complete: true,
        }
    }

    fn texts(names: &Names) -> Vec<String> {
        let addresses = names.addresses(NAME).into_iter();
        addresses.map(|addr| addr.to_string()).collect()
    }

    #[test]
    fn old_addresses_count_for_a_while_after_the_last_answer_that_held_them() {
        let mut names = names();
        assert!(names.answer(NAME, Some(&found(&["10.0.0.1"], 30)), now(1)));
        assert!(!names.answer(NAME, Some(&found(&["10.0.0.1"], 30)), now(31)));
        assert!(names.answer(NAME, Some(&found(&["10.0.0.2"], 30)), now(61)));
        assert_eq!(texts(&names), ["10.0.0.1", "10.0.0.2"]);
        assert!(!names.answer(NAME, Some(&found(&["10.0.0.2"], 30)), now(131)));
        assert!(names.answer(NAME, Some(&found(&["10.0.0.2"], 30)), now(132)));
        assert_eq!(texts(&names), ["10.0.0.2"]);
    }

    #[test]
    fn an_answer_that_fails_takes_nothing_away() {
        let mut names = names();
        names.answer(NAME, Some(&found(&["10.0.0.1"], 30)), now(1));
        for at in [1_000, 2_000] {
            assert!(!names.answer(NAME, None, now(at)));
            assert!(!names.answer(NAME, Some(&found(&[], 30)), now(at)));
        }
        assert_eq!(texts(&names), ["10.0.0.1"]);
        // Half an answer adds and takes nothing away either.
        let half = Lookup {
            complete: false,
            ..found(&["10.0.0.2"], 30)
        };
        assert!(names.answer(NAME, Some(&half), now(3_000)));
        assert_eq!(texts(&names), ["10.0.0.1", "10.0.0.2"]);
    }

    #[test]
    fn a_name_is_asked_for_again_after_its_time_within_bounds() {
        let mut names = names();
        assert_eq!(names.due(now(1)), Some(NAME.to_owned()));
        for (ttl_s, again_s) in [(0, 1), (30, 30), (86_400, 60)] {
            names.answer(NAME, Some(&found(&["10.0.0.1"], ttl_s)), now(10));
            assert_eq!(names.due(now(10)), None);
            assert_eq!(names.wait_us(now(10)), again_s * 1_000_000);
            assert_eq!(names.due(now(10 + again_s)), Some(NAME.to_owned()));
        }
        names.answer(NAME, None, now(10));
        assert_eq!(names.wait_us(now(10)), 5_000_000);
    }

    #[test]
    fn the_number_of_addresses_is_limited_and_the_newest_count() {
        let mut names = names();
        names.answer(NAME, Some(&found(&["192.0.2.1"], 30)), now(1));
        let many: Vec<String> = (0..ADDRESSES_MAX)
            .map(|number| format!("10.0.{}.{}", number / 256, number % 256))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        names.answer(NAME, Some(&found(&many, 30)), now(2));
        let kept = texts(&names);
        assert_eq!(kept.len(), ADDRESSES_MAX);
        assert!(!kept.contains(&"192.0.2.1".to_owned()));
    }

    #[test]
    fn a_mapped_address_is_the_address_itself() {
        let mut names = names();
        names.answer(NAME, Some(&found(&["::ffff:10.0.0.1"], 30)), now(1));
        assert_eq!(texts(&names), ["10.0.0.1"]);
    }

    #[test]
    fn only_names_that_were_asked_for_are_answered() {
        let mut names = names();
        let own = [NAME.to_owned()];
        assert!(!names.answered(own.iter()));
        assert!(!names.answer("other.example", Some(&found(&["10.0.0.1"], 30)), now(1)));
        names.answer(NAME, Some(&found(&["10.0.0.1"], 30)), now(1));
        assert!(names.answered(own.iter()));
    }
}
