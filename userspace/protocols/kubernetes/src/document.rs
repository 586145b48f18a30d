//! Where secrets stand in the API's documents.

use serde_json::{Map, Value};
use weir_decide::MaskKind;
use weir_mask::{DocumentRules, Encoding, MaskKey, Masked, Member, Unreadable, document};

/// Holds the last configuration that `kubectl apply` was given, as text.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What is masked, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Masking<'a> {
    /// Values of Secrets; `None` where policy lets them be read.
    pub secrets: Option<MaskKind>,
    /// Values of ConfigMaps.
    pub configs: Option<MaskKind>,
    /// Only values under these keys, `*` for any text; all when empty.
    pub config_keys: &'a [String],
}

impl Masking<'_> {
    fn masks_key(&self, name: &str) -> bool {
        self.config_keys.is_empty() || self.config_keys.iter().any(|glob| fits(glob, name))
    }
}

/// Whether a name fits a pattern in which `*` stands for any text. Case does not matter: `PASSWORD`
/// is as secret as `password`.
fn fits(glob: &str, name: &str) -> bool {
    let (glob, name) = (glob.to_ascii_lowercase(), name.to_ascii_lowercase());
    let mut parts = glob.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// What is known of a place in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    secret: bool,
    config: bool,
    /// Inside a ConfigMap's values, and how they are written.
    values: Option<Encoding>,
    /// The resource that was asked for; a Secret elsewhere is masked whatever policy says.
    asked: bool,
}

struct Rules<'a>(&'a Masking<'a>);

impl DocumentRules for Rules<'_> {
    type Place = Place;

    fn object(&self, place: Place, object: &Map<String, Value>) -> Place {
        match object.get("kind").and_then(Value::as_str) {
            Some("Secret" | "SecretList") if !place.secret => Place {
                secret: true,
                asked: false,
                ..place
            },
            Some("ConfigMap" | "ConfigMapList") => Place {
                config: true,
                ..place
            },
            Some(_) | None => place,
        }
    }

    fn member(&self, place: Place, name: &str) -> Member<Place> {
        if let Some(encoding) = place.values {
            return match self.0.configs {
                Some(kind) if self.0.masks_key(name) => Member::Mask(kind, encoding),
                Some(_) | None => Member::Walk(place),
            };
        }
        match name {
            LAST_APPLIED => Member::Embedded(place),
            "data" | "stringData" if place.secret => {
                let encoding = if name == "data" {
                    Encoding::Base64
                } else {
                    Encoding::Plain
                };
                match (self.0.secrets, place.asked) {
                    (Some(kind), _) => Member::Mask(kind, encoding),
                    (None, false) => Member::Mask(MaskKind::Redact, encoding),
                    (None, true) => Member::Walk(place),
                }
            }
            "data" if place.config => Member::Walk(Place {
                values: Some(Encoding::Plain),
                ..place
            }),
            "binaryData" if place.config => Member::Walk(Place {
                values: Some(Encoding::Base64),
                ..place
            }),
            _ => Member::Walk(place),
        }
    }
}

/// Masks one document of the API: an object, a list, a table, a watch event. `secrets`: the request
/// was for Secrets, so that items without a kind of their own are Secrets.
///
/// # Errors
/// [`Unreadable`]; nothing of it may be given on.
pub fn mask(
    bytes: &[u8],
    masking: &Masking<'_>,
    secrets: bool,
    key: &MaskKey,
) -> Result<Masked, Unreadable> {
    let place = Place {
        secret: secrets,
        config: false,
        values: None,
        asked: secrets,
    };
    document(bytes, &Rules(masking), place, key)
}
