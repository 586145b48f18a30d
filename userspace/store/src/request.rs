//! What a request says: bearer, control parameters, settings, query parameters.

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};

use crate::answer::Failure;

/// The three secrets.
pub(crate) struct Bearers {
    pub(crate) writer: String,
    pub(crate) reader: String,
    pub(crate) migrator: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Writer,
    Reader,
    Migrator,
}

/// Takes the same time wherever the first difference is.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |acc, (l, r)| acc | (l ^ r)) == 0
}

impl Bearers {
    pub(crate) fn role(&self, headers: &HeaderMap) -> Result<Role, Failure> {
        let given = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
            .unwrap_or_default();
        for (bearer, role) in [
            (&self.writer, Role::Writer),
            (&self.reader, Role::Reader),
            (&self.migrator, Role::Migrator),
        ] {
            if same(bearer.as_bytes(), given) {
                return Ok(role);
            }
        }
        Err(Failure::new(516, "Authentication failed: no known bearer"))
    }
}

/// Settings that a client may give; any other name is refused, never ignored.
const SETTINGS: &[&str] = &[
    "insert_deduplication_token",
    "insert_deduplicate",
    "async_insert",
    "max_partitions_per_insert_block",
    "wait_for_async_insert",
    "max_execution_time",
    "max_memory_usage",
    "max_result_rows",
    "max_result_bytes",
    "result_overflow_mode",
    "date_time_output_format",
    "output_format_json_quote_64bit_integers",
    "output_format_json_named_tuples_as_objects",
    "output_format_json_quote_denormals",
    "describe_include_subcolumns",
    "input_format_skip_unknown_fields",
];
/// Names that are understood, or have no meaning here, and are no settings.
const CONTROL: &[&str] = &[
    "query_id",
    "compress",
    "enable_http_compression",
    "wait_end_of_query",
    "buffer_size",
    "send_progress_in_http_headers",
    "client_protocol_version",
    "http_write_exception_in_output_format",
    "stacktrace",
];
/// Longest value of a setting or parameter.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Parameters of one request.
const PARAMETERS_MAX: usize = 64;

/// The URL, taken apart.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) query: String,
    pub(crate) database: Option<String>,
    pub(crate) format: Option<String>,
    pub(crate) decompress: bool,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) parameters: Vec<(String, String)>,
}

impl Request {
    /// # Errors
    /// 115 for a name that is neither known nor allowed.
    pub(crate) fn parse(url_query: &str) -> Result<Self, Failure> {
        let mut request = Self::default();
        for (count, (name, value)) in url::form_urlencoded::parse(url_query.as_bytes()).enumerate()
        {
            if count >= PARAMETERS_MAX {
                return Err(Failure::new(36, "too many URL parameters"));
            }
            match name.as_ref() {
                "query" => request.query = value.into_owned(),
                "database" => request.database = Some(database(&value)?),
                "default_format" => request.format = Some(word(&value)?),
                "decompress" => request.decompress = value == "1",
                name if CONTROL.contains(&name) => {}
                name if name.starts_with("param_") => request.parameter(name, &value)?,
                name if SETTINGS.contains(&name) => {
                    short(&value)?;
                    request.settings.push((name.to_owned(), value.into_owned()));
                }
                name => {
                    let text = format!("Unknown or forbidden setting {name}");
                    return Err(Failure::new(115, text));
                }
            }
        }
        Ok(request)
    }

    fn parameter(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        short(value)?;
        if self.parameters.len() >= PARAMETERS_MAX {
            return Err(Failure::new(36, "too many query parameters"));
        }
        let name = name.strip_prefix("param_").unwrap_or(name);
        self.parameters.push((word(name)?, value.to_owned()));
        Ok(())
    }

    /// Adds what the body says: SQL, or the parts of a form with SQL and parameters.
    pub(crate) fn body(&mut self, headers: &HeaderMap, body: &[u8]) -> Result<(), Failure> {
        let kind = headers
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        let text =
            std::str::from_utf8(body).map_err(|_| Failure::new(62, "the query is not UTF-8"))?;
        let Some(boundary) = kind.strip_prefix("multipart/form-data; boundary=") else {
            if !self.query.is_empty() && !text.is_empty() {
                self.query.push('\n');
            }
            self.query.push_str(text);
            return Ok(());
        };
        for (name, value) in parts(text, boundary)? {
            if name == "query" {
                self.query = value.to_owned();
            } else if name.starts_with("param_") {
                self.parameter(name, value)?;
            } else {
                return Err(Failure::new(
                    36,
                    "a form part is neither query nor parameter",
                ));
            }
        }
        Ok(())
    }
}

fn short(value: &str) -> Result<(), Failure> {
    if value.len() > VALUE_BYTES_MAX || value.contains('\0') {
        return Err(Failure::new(36, "a value is too long or holds a NUL byte"));
    }
    Ok(())
}

fn word(text: &str) -> Result<String, Failure> {
    let plain = !text.is_empty()
        && text.len() <= 128
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain {
        Ok(text.to_owned())
    } else {
        Err(Failure::new(36, "not a plain name"))
    }
}

fn database(text: &str) -> Result<String, Failure> {
    word(text)
}

/// Name and value of each part (RFC 7578; only `Content-Disposition: form-data; name="…"`).
fn parts<'a>(body: &'a str, boundary: &str) -> Result<Vec<(&'a str, &'a str)>, Failure> {
    let bad = || Failure::new(36, "the form is malformed");
    if boundary.is_empty() || boundary.len() > 70 {
        return Err(bad());
    }
    let mark = format!("--{boundary}");
    let mut rest = body.strip_prefix(mark.as_str()).ok_or_else(bad)?;
    let end = format!("\r\n{mark}");
    let mut out = Vec::new();
    while !rest.starts_with("--") {
        if out.len() > PARAMETERS_MAX {
            return Err(bad());
        }
        let part = rest
            .strip_prefix("\r\nContent-Disposition: form-data; name=\"")
            .ok_or_else(bad)?;
        let (name, after) = part.split_once("\"\r\n\r\n").ok_or_else(bad)?;
        let (value, after) = after.split_once(end.as_str()).ok_or_else(bad)?;
        out.push((name, value));
        rest = after;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_and_dangerous_names_are_refused() {
        for name in [
            "insert_deduplication_tokem",
            "path",
            "config-file",
            "backups.allowed_path",
            "readonly",
            "role",
        ] {
            let failure = Request::parse(&format!("{name}=1")).unwrap_err();
            assert_eq!(failure.code, 115, "{name}");
        }
        let request = Request::parse("insert_deduplication_token=a%3Ab&database=weir").unwrap();
        assert_eq!(
            request.settings,
            [("insert_deduplication_token".into(), "a:b".into())]
        );
    }

    #[test]
    fn forms_are_read_and_malformed_ones_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            "multipart/form-data; boundary=xx".parse().unwrap(),
        );
        let part = |name: &str, value: &str| {
            format!("--xx\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let body = format!(
            "{}{}--xx--\r\n",
            part("query", "SELECT {a:String}"),
            part("param_a", "v")
        );
        let mut request = Request::default();
        request.body(&headers, body.as_bytes()).unwrap();
        assert_eq!(request.query, "SELECT {a:String}");
        assert_eq!(request.parameters, [("a".to_owned(), "v".to_owned())]);
        for length in 0..body.len() - 4 {
            let mut request = Request::default();
            assert!(
                request.body(&headers, &body.as_bytes()[..length]).is_err(),
                "{length}"
            );
        }
    }

    #[test]
    fn only_known_bearers_have_a_role() {
        let bearers = Bearers {
            writer: "w".repeat(20),
            reader: "r".repeat(20),
            migrator: "m".repeat(20),
        };
        let role = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            bearers.role(&headers).map_err(|failure| failure.code)
        };
        assert_eq!(
            role(&format!("Bearer {}", "r".repeat(20))),
            Ok(Role::Reader)
        );
        assert_eq!(role("Bearer rrr"), Err(516));
        assert_eq!(role("Bearer "), Err(516));
        assert_eq!(
            bearers.role(&HeaderMap::new()).map_err(|f| f.code),
            Err(516)
        );
    }
}
