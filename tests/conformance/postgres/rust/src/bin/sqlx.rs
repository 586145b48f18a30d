//! sqlx: each step is a line, and the lines have to be the same both ways.

use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions, PgRow};
use sqlx::types::Json;
use sqlx::{Column, ConnectOptions, Connection, Error, Executor, PgPool, Row, TypeInfo};
use weir_conformance_drivers::{ERRORS, QUERIES, place, said};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let options = options();
    let mut connection = options.connect().await?;
    for text in QUERIES {
        let rows = connection.fetch_all(text).await?;
        said(text, (rows.len(), rows.first().map(columns)));
        let rows = sqlx::query(text).fetch_all(&mut connection).await?;
        said("prepared", (rows.len(), rows.first().map(columns)));
        said(
            "described",
            connection
                .describe(text)
                .await
                .map(|about| about.columns().len())
                .map_err(shape),
        );
    }
    for text in ERRORS {
        said(
            text,
            connection
                .execute(text)
                .await
                .map(|done| done.rows_affected())
                .map_err(shape),
        );
        said(
            text,
            sqlx::query(text)
                .execute(&mut connection)
                .await
                .map(|done| done.rows_affected())
                .map_err(shape),
        );
    }
    values(&mut connection).await?;
    transactions(&mut connection).await?;
    copies(&mut connection).await?;
    connection.close().await?;
    let pool = PgPoolOptions::new()
        .max_connections(3)
        .connect_with(options)
        .await?;
    pooled(&pool).await?;
    pool.close().await;
    Ok(())
}

fn options() -> PgConnectOptions {
    let options = PgConnectOptions::new_without_pgpass()
        .username(&place("PGUSER"))
        .database(&place("PGDATABASE"));
    let options = options
        .port(place("PGPORT").parse().expect("a port"))
        .application_name("sqlx");
    let host = place("PGHOST");
    if host.starts_with('/') {
        options.socket(host)
    } else {
        options.host(&host)
    }
}

fn columns(row: &PgRow) -> Vec<(String, String)> {
    row.columns()
        .iter()
        .map(|column| {
            (
                column.name().to_owned(),
                column.type_info().name().to_owned(),
            )
        })
        .collect()
}

fn shape(error: Error) -> String {
    let Error::Database(error) = error else {
        return error.to_string();
    };
    format!(
        "{:?} {} {:?} {:?}",
        error.code(),
        error.message(),
        error.constraint(),
        error.table()
    )
}

async fn values(connection: &mut PgConnection) -> Result<(), Error> {
    for n in 0..4_i32 {
        let row: (
            i32,
            Option<String>,
            Vec<i32>,
            f64,
            Vec<u8>,
            bool,
            Json<Vec<i32>>,
        ) = sqlx::query_as(
            "select $1::int4 + 1, $2::text, $3::int4[], $4::float8, $5::bytea, $6::bool, $7::jsonb",
        )
        .bind(n)
        .bind((n % 2 == 0).then_some("text"))
        .bind(vec![n, n + 1])
        .bind(2.5_f64)
        .bind(vec![0_u8, 255])
        .bind(n == 1)
        .bind(Json(vec![n]))
        .fetch_one(&mut *connection)
        .await?;
        said("values", row);
    }
    let name: Option<String> = sqlx::query_scalar("select name from person where id = $1")
        .bind(99)
        .fetch_optional(&mut *connection)
        .await?;
    said("none", name);
    let mut sum = 0;
    {
        let mut rows =
            sqlx::query("select n from generate_series(1, 300) n").fetch(&mut *connection);
        while let Some(row) = rows.try_next().await? {
            sum += row.get::<i32, _>(0);
        }
    }
    said("streamed", sum);
    // One that is left in the middle.
    let mut rows = sqlx::query("select n from generate_series(1, 5000) n").fetch(&mut *connection);
    said(
        "first",
        rows.try_next().await?.map(|row| row.get::<i32, _>(0)),
    );
    drop(rows);
    said(
        "next",
        sqlx::query("select 'next'")
            .fetch_one(connection)
            .await?
            .get::<String, _>(0),
    );
    Ok(())
}

async fn transactions(connection: &mut PgConnection) -> Result<(), Error> {
    let mut outer = Connection::begin(&mut *connection).await?;
    said(
        "inserted",
        sqlx::query("insert into audit values ($1), ($2)")
            .bind("a")
            .bind("b")
            .execute(&mut *outer)
            .await?
            .rows_affected(),
    );
    let mut inner = Connection::begin(&mut *outer).await?;
    said(
        "fails",
        sqlx::query("select 1/0")
            .execute(&mut *inner)
            .await
            .map(|done| done.rows_affected())
            .map_err(shape),
    );
    inner.rollback().await?;
    said(
        "inside",
        sqlx::query_scalar::<_, i64>("select count(*) from audit")
            .fetch_one(&mut *outer)
            .await?,
    );
    outer.rollback().await?;
    said(
        "outside",
        sqlx::query_scalar::<_, i64>("select count(*) from audit")
            .fetch_one(&mut *connection)
            .await?,
    );
    // Dropped: rolled back before the next statement.
    let mut dropped = Connection::begin(&mut *connection).await?;
    sqlx::query("insert into audit values ('dropped')")
        .execute(&mut *dropped)
        .await?;
    drop(dropped);
    said(
        "dropped",
        sqlx::query_scalar::<_, i64>("select count(*) from audit")
            .fetch_one(&mut *connection)
            .await?,
    );
    sqlx::raw_sql("create temp table mine (a int); insert into mine values (1), (2)")
        .execute(&mut *connection)
        .await?;
    said(
        "temporary",
        sqlx::query_scalar::<_, i32>("select a from mine order by a")
            .fetch_all(connection)
            .await?,
    );
    Ok(())
}

async fn copies(connection: &mut PgConnection) -> Result<(), Error> {
    let mut copy = connection.copy_in_raw("copy audit from stdin").await?;
    copy.send("copied one\ncopied two\n".as_bytes()).await?;
    said("copy in", copy.finish().await?);
    let mut copy = connection.copy_in_raw("copy audit from stdin").await?;
    copy.send("never\n".as_bytes()).await?;
    said("copy given up", copy.abort("enough").await.map_err(shape));
    let out: Vec<_> = connection
        .copy_out_raw("copy (select what from audit order by what) to stdout")
        .await?
        .try_collect()
        .await?;
    said("copy out", out.concat());
    Ok(())
}

async fn pooled(pool: &PgPool) -> Result<(), Error> {
    for n in 0..6_i32 {
        said(
            "pool",
            sqlx::query_scalar::<_, i32>("select $1::int4 * 2")
                .bind(n)
                .fetch_one(pool)
                .await?,
        );
    }
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen("news").await?;
    sqlx::query("select pg_notify('news', 'fresh')")
        .execute(pool)
        .await?;
    let heard = tokio::time::timeout(Duration::from_secs(20), listener.recv()).await;
    said(
        "heard",
        heard
            .map(|note| {
                note.map(|note| (note.channel().to_owned(), note.payload().to_owned()))
                    .map_err(shape)
            })
            .map_err(|_| "nothing"),
    );
    Ok(())
}
