//! How a command ended, from its error channel.

use serde_json::{Value, json};

/// Of a status; a longer one is given on but not understood.
const STATUS_BYTES_MAX: usize = 64 * 1024;

/// What the server said on the error channel.
#[derive(Debug, Default)]
pub(super) struct Exit(Vec<u8>);

impl Exit {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = STATUS_BYTES_MAX.saturating_sub(self.0.len());
        self.0
            .extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or(&[]));
    }

    /// As the record has it: `ok`, `exit:N`, `error`; `aborted` when the server said nothing.
    pub(super) fn status(&self) -> String {
        if self.0.is_empty() {
            return "aborted".to_owned();
        }
        let Ok(status) = serde_json::from_slice::<Value>(&self.0) else {
            return "error".to_owned();
        };
        if status.get("status").and_then(Value::as_str) == Some("Success") {
            return "ok".to_owned();
        }
        let causes = status.pointer("/details/causes").and_then(Value::as_array);
        let code = causes.into_iter().flatten().find_map(|cause| {
            let exit = cause.get("reason").and_then(Value::as_str) == Some("ExitCode");
            let code = cause.get("message").and_then(Value::as_str)?;
            exit.then(|| code.parse::<u8>().ok()).flatten()
        });
        code.map_or_else(|| "error".to_owned(), |code| format!("exit:{code}"))
    }
}

/// Our own words on the error channel.
pub(super) fn status(text: &str) -> Vec<u8> {
    let status = json!({
        "metadata": {},
        "status": "Failure",
        "reason": "Forbidden",
        "message": text,
        "code": 403,
    });
    status.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_named() {
        for (said, expected) in [
            ("", "aborted"),
            (r#"{"metadata":{},"status":"Success"}"#, "ok"),
            (
                r#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[
                    {"reason":"ExitCode","message":"3"}]}}"#,
                "exit:3",
            ),
            (
                r#"{"status":"Failure","reason":"InternalError","code":500}"#,
                "error",
            ),
            (
                r#"{"status":"Failure","details":{"causes":[{"reason":"ExitCode","message":"x"}]}}"#,
                "error",
            ),
            ("no JSON", "error"),
        ] {
            let mut exit = Exit::default();
            exit.push(said.as_bytes());
            assert_eq!(exit.status(), expected, "{said}");
        }
        let mut exit = Exit::default();
        exit.push(&status("weir: x"));
        assert_eq!(exit.status(), "error");
    }
}
