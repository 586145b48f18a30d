//! `pods/log`.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::reply::{Reply, pieces, typed};
use crate::server::Query;
use crate::store::now;

/// The lines that every pod has written.
const LINES: [&str; 4] = [
    "listening on :8080",
    "connected to database as shop",
    "GET /cart 200 3ms",
    "GET /checkout 200 12ms",
];
/// How often a followed log grows.
const TICK: Duration = Duration::from_millis(200);

/// The seeded lines; with `follow`, one more each 200 ms until the client leaves.
pub(crate) fn log(pod: &str, query: &Query) -> Reply {
    let stamped = query.flag("timestamps");
    let line = |text: &str| {
        if stamped {
            format!("{} {pod}: {text}\n", now())
        } else {
            format!("{pod}: {text}\n")
        }
    };
    let tail = query.number("tailLines").unwrap_or(u64::MAX);
    let skip = LINES
        .len()
        .saturating_sub(usize::try_from(tail).unwrap_or(usize::MAX));
    let mut text: String = LINES.iter().skip(skip).map(|l| line(l)).collect();
    if let Some(limit) = query.number("limitBytes") {
        text.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    if !query.flag("follow") {
        return typed(200, "text/plain", text);
    }
    let (sender, receiver) = mpsc::channel(4);
    let pod = pod.to_owned();
    tokio::spawn(async move {
        let mut next = Bytes::from(text);
        let mut count = 0_u64;
        while sender.send(next).await.is_ok() {
            tokio::time::sleep(TICK).await;
            count += 1;
            let stamp = if stamped { now() + " " } else { String::new() };
            next = Bytes::from(format!("{stamp}{pod}: tick {count}\n"));
        }
    });
    pieces("text/plain", receiver)
}
