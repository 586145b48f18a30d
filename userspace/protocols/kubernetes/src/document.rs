//! Where secrets stand in the API's documents.

use serde_json::{Map, Value};
use weir_decide::MaskKind;
use weir_mask::{DocumentRules, Encoding, MaskKey, Masked, Member, Unreadable, document};

/// Holds the last configuration that `kubectl apply` was given, as text.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What is masked, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Masking {
    /// Values of Secrets; `None` where policy lets them be read.
    pub secrets: Option<MaskKind>,
    /// Values of ConfigMaps.
    pub configs: Option<MaskKind>,
}

/// What is known of a place in a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    secret: bool,
    config: bool,
    /// The resource that was asked for; a Secret elsewhere is masked whatever policy says.
    asked: bool,
}

struct Rules<'a>(&'a Masking);

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
            "data" if place.config => match self.0.configs {
                Some(kind) => Member::Mask(kind, Encoding::Plain),
                None => Member::Walk(place),
            },
            "binaryData" if place.config => match self.0.configs {
                Some(kind) => Member::Mask(kind, Encoding::Base64),
                None => Member::Walk(place),
            },
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
    masking: &Masking,
    secrets: bool,
    key: &MaskKey,
) -> Result<Masked, Unreadable> {
    let place = Place {
        secret: secrets,
        config: false,
        asked: secrets,
    };
    document(bytes, &Rules(masking), place, key)
}
