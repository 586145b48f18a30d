//! Answers as ClickHouse gives them: status, exception code, text.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{Response, StatusCode};

pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A ClickHouse error: its number and its text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    pub(crate) code: u32,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(code: u32, text: impl std::fmt::Display) -> Self {
        Self {
            code,
            text: format!("Code: {code}. DB::Exception: {text}"),
        }
    }

    /// From the engine's text; 1002 when it names no code.
    pub(crate) fn of_engine(text: String) -> Self {
        let code = text
            .find("Code: ")
            .and_then(|at| text.get(at + 6..))
            .map(|rest| {
                rest.chars()
                    .take_while(char::is_ascii_digit)
                    .collect::<String>()
            })
            .and_then(|digits| digits.parse().ok())
            .unwrap_or(1002);
        Self { code, text }
    }

    fn status(&self) -> StatusCode {
        match self.code {
            10 | 47 | 60 | 81 => StatusCode::NOT_FOUND,
            6 | 26 | 27 | 33 | 36 | 42 | 43 | 44 | 46 | 53 | 62 | 70 | 115 | 117 => {
                StatusCode::BAD_REQUEST
            }
            164 | 497 => StatusCode::FORBIDDEN,
            192..=194 | 516 => StatusCode::UNAUTHORIZED,
            159 => StatusCode::REQUEST_TIMEOUT,
            202 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = Response::new(full(format!("{}\n", self.text)));
        *response.status_mut() = self.status();
        response
            .headers_mut()
            .insert("X-ClickHouse-Exception-Code", self.code.into());
        response
    }
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A 200 in the given format.
pub(crate) fn success(body: Body, format: &str) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(
        "X-ClickHouse-Timezone",
        hyper::header::HeaderValue::from_static("UTC"),
    );
    headers.insert(
        "X-ClickHouse-Server-Display-Name",
        hyper::header::HeaderValue::from_static("weir-store"),
    );
    if let Ok(value) = hyper::header::HeaderValue::from_str(format) {
        headers.insert("X-ClickHouse-Format", value);
    }
    response
}
