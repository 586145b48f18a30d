//! Lines to a service that keeps them: one call, answered once they are kept.

use bytes::Bytes;
use zeroize::Zeroizing;

use crate::config::Address;
use crate::http::HttpClient;

/// A service that takes lines of JSON by POST and answers 2xx once it has them.
pub struct Post {
    client: HttpClient,
    authorization: Option<Zeroizing<String>>,
}

impl Post {
    /// # Errors
    /// The address is neither https nor loopback, or its authority cannot be used.
    pub fn new(address: &Address, bearer: Option<&str>) -> Result<Self, String> {
        Ok(Self {
            client: HttpClient::new(address)?,
            authorization: bearer.map(|token| Zeroizing::new(format!("Bearer {token}"))),
        })
    }

    /// # Errors
    /// No answer within 15 s, or another one than 2xx.
    pub async fn lines(&self, body: Bytes) -> Result<(), String> {
        let mut headers = vec![("content-type", "application/x-ndjson")];
        if let Some(authorization) = &self.authorization {
            headers.push(("authorization", authorization));
        }
        let answer = self.client.post("", &headers, body).await;
        let answer = answer.map_err(|error| error.to_string())?;
        match answer.status {
            200..=299 => Ok(()),
            status => Err(format!("it answered {status}")),
        }
    }
}
