//! One session for other programs: lines of JSON, CSV, Parquet, OCSF events.

use clickhouse::Client;

/// Bytes of one export.
const EXPORT_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// What ClickHouse itself writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Jsonl,
    Csv,
    Parquet,
}

impl Format {
    const fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "JSONEachRow",
            Self::Csv => "CSVWithNames",
            Self::Parquet => "Parquet",
        }
    }
}

/// Numbers of 128 bits are texts in every format, and enumerations their names: few programs read either.
const COLUMNS: &str = "* REPLACE (toString(toUUID(UUIDNumToString(toFixedString(reverse(\
    reinterpretAsString(session_id)), 16)))) AS session_id, toString(approval_id) AS approval_id, \
    toString(kind) AS kind, toString(decision) AS decision)";

/// All facts of a session, in order.
///
/// # Errors
/// ClickHouse's, or more than 1 GiB.
pub async fn session(client: &Client, session: u128, format: Format) -> Result<Vec<u8>, String> {
    let sql = format!(
        "SELECT {COLUMNS} FROM (SELECT * FROM fact WHERE session_id = toUInt128({{session:String}})) \
         ORDER BY seq"
    );
    let query = client
        .query_raw(&sql)
        .param("session", session.to_string())
        .with_setting("output_format_json_quote_64bit_integers", "0");
    let mut cursor = query
        .fetch_bytes(format.name())
        .map_err(|error| error.to_string())?;
    let mut out = Vec::new();
    while let Some(chunk) = cursor.next().await.map_err(|error| error.to_string())? {
        if out.len() + chunk.len() > EXPORT_BYTES_MAX {
            return Err("the session is larger than 1 GiB".to_owned());
        }
        out.extend_from_slice(&chunk);
    }
    Ok(out)
}
