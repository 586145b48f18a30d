//! Every query of the record's dashboard runs against the real schema.

#[path = "running/store.rs"]
mod running;

use running::{Scratch, Store};
use serde_json::Value;
use weir_record::{migrate, query};

const DASHBOARD: &str = include_str!("../../../deploy/dashboards/weir-record.json");

/// What Grafana's ClickHouse data source makes of its macros.
fn expanded(sql: &str) -> String {
    let mut out = String::new();
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once("$__time") {
        out.push_str(before);
        let (name, after) = after.split_once('(').unwrap();
        let (column, after) = after.split_once(')').unwrap();
        out.push_str(&match name {
            "Filter" => {
                format!("{column} >= toDateTime(1800000000) AND {column} <= toDateTime(1800003600)")
            }
            "Interval" => format!("toStartOfInterval(toDateTime({column}), INTERVAL 60 second)"),
            _ => panic!("a macro that is not known: {sql}"),
        });
        rest = after;
    }
    out.push_str(rest);
    out.replace("$__fromTime", "toDateTime(1800000000)")
        .replace("$__toTime", "toDateTime(1800003600)")
        .replace("${workload:singlequote}", "'analyst','operator'")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_dashboard_runs() {
    let scratch = Scratch::new("dashboards");
    let store = Store::start(&scratch, "127.0.0.1:0");
    let admin = store.address("migrator").client();
    migrate::migrate(&admin, "weir", migrate::Layout::Local)
        .await
        .unwrap();
    let reader = store.address("reader").client();
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            queries.push(target["rawSql"].as_str().unwrap());
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if variable["type"] == "query" {
            queries.push(variable["query"].as_str().unwrap());
        }
    }
    assert!(queries.len() > 10);
    for sql in queries {
        let sql = expanded(sql);
        let rows: Result<Vec<Value>, _> = query::fetch(reader.query_raw(&sql)).await;
        assert!(rows.is_ok(), "{sql}: {rows:?}");
    }
    store.kill();
}
