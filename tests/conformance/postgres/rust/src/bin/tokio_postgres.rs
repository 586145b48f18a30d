//! tokio-postgres: each step is a line, and the lines have to be the same both ways.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join_all, poll_fn};
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Config, Error, NoTls, SimpleQueryMessage};
use weir_conformance_drivers::{ERRORS, QUERIES, place, said};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let (mut client, mut told) = connect().await?;
    for text in QUERIES {
        said(text, simple(&client, text).await?);
        let columns = client.prepare(text).await?;
        let columns = columns.columns().iter();
        said(
            "columns",
            columns
                .map(|c| (c.name(), c.type_(), c.table_oid().is_some()))
                .collect::<Vec<_>>(),
        );
        said("rows", client.query(text, &[]).await?.len());
    }
    for text in ERRORS {
        said(text, simple(&client, text).await.map_err(shape));
        said(
            text,
            client
                .query(text, &[])
                .await
                .map(|rows| rows.len())
                .map_err(shape),
        );
    }
    parameters(&client).await?;
    transactions(&mut client).await?;
    copies(&client).await?;
    told_things(&client, &mut told).await?;
    Ok(())
}

async fn connect() -> Result<(Client, mpsc::Receiver<String>), Error> {
    let mut config = Config::new();
    config
        .host(place("PGHOST"))
        .user(place("PGUSER"))
        .dbname(place("PGDATABASE"));
    config.port(place("PGPORT").parse().expect("a port"));
    config.application_name("tokio-postgres");
    let (client, mut connection) = config.connect(NoTls).await?;
    let (tell, told) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            let text = match message {
                AsyncMessage::Notice(notice) => {
                    format!("{} {}", notice.severity(), notice.message())
                }
                AsyncMessage::Notification(note) => {
                    format!("{} {}", note.channel(), note.payload())
                }
                _ => "something else".to_owned(),
            };
            let _gone = tell.send(text).await;
        }
    });
    Ok((client, told))
}

async fn simple(client: &Client, text: &str) -> Result<Vec<String>, Error> {
    let messages = client.simple_query(text).await?;
    Ok(messages
        .iter()
        .map(|message| match message {
            SimpleQueryMessage::Row(row) => (0..row.len())
                .map(|at| row.get(at).unwrap_or("NULL"))
                .collect::<Vec<_>>()
                .join("|"),
            SimpleQueryMessage::CommandComplete(count) => format!("{count} rows"),
            SimpleQueryMessage::RowDescription(columns) => columns
                .iter()
                .map(|c| c.name())
                .collect::<Vec<_>>()
                .join("|"),
            _ => "something else".to_owned(),
        })
        .collect())
}

fn shape(error: Error) -> String {
    let Some(error) = error.as_db_error() else {
        return error.to_string();
    };
    format!(
        "{} {} {:?} {:?} {:?} {:?}",
        error.code().code(),
        error.message(),
        error.detail(),
        error.hint(),
        error.position(),
        error.constraint()
    )
}

async fn parameters(client: &Client) -> Result<(), Error> {
    let statement = client
        .prepare("select $1::int4 + 1, $2::text, $3::int4[], $4::float8, $5::bytea, $6::bool")
        .await?;
    said("types", statement.params());
    for n in 0..5_i32 {
        let text = (n % 2 == 0).then_some("text");
        let row = client
            .query_one(
                &statement,
                &[
                    &n,
                    &text,
                    &vec![Some(n), None],
                    &1.5_f64,
                    &vec![0_u8, 255],
                    &true,
                ],
            )
            .await?;
        said(
            "parameters",
            (
                row.get::<_, i32>(0),
                row.get::<_, Option<String>>(1),
                row.get::<_, Vec<Option<i32>>>(2),
                row.get::<_, f64>(3),
                row.get::<_, Vec<u8>>(4),
                row.get::<_, bool>(5),
            ),
        );
    }
    let one = |n: i32| async move {
        client
            .query_one("select name from person where id = $1", &[&n])
            .await
            .map(|row| row.get::<_, String>(0))
            .map_err(shape)
    };
    said("pipelined", join_all((1..7).map(one)).await);
    let mixed =
        join_all(["select 1", "select 1/0", "select 2"].map(|text| client.query(text, &[]))).await;
    said(
        "pipelined errors",
        mixed
            .into_iter()
            .map(|result| result.map(|rows| rows.len()).map_err(shape))
            .collect::<Vec<_>>(),
    );
    let typed = client
        .prepare_typed("select $1 || 'x'", &[Type::TEXT])
        .await?;
    said(
        "typed",
        client.query_one(&typed, &[&"a"]).await?.get::<_, String>(0),
    );
    let mut rows = pin!(
        client
            .query_raw("select n from generate_series(1, 200) n", Vec::<i32>::new())
            .await?
    );
    let mut sum = 0;
    while let Some(row) = rows.try_next().await? {
        sum += row.get::<_, i32>(0);
    }
    said("streamed", sum);
    Ok(())
}

async fn transactions(client: &mut Client) -> Result<(), Error> {
    let mut transaction = client.transaction().await?;
    said(
        "inserted",
        transaction
            .execute("insert into audit values ($1)", &[&"one"])
            .await?,
    );
    let inner = transaction.savepoint("nested").await?;
    said(
        "fails",
        inner.execute("select 1/0", &[]).await.map_err(shape),
    );
    inner.rollback().await?;
    let portal = transaction
        .bind("select n from generate_series(1, 10) n", &[])
        .await?;
    for most in [3, 4, 0] {
        said(
            "portal",
            transaction
                .query_portal(&portal, most)
                .await?
                .iter()
                .map(|row| row.get::<_, i32>(0))
                .collect::<Vec<_>>(),
        );
    }
    said(
        "inside",
        transaction
            .query("select what from audit", &[])
            .await?
            .len(),
    );
    transaction.rollback().await?;
    said(
        "outside",
        client.query("select what from audit", &[]).await?.len(),
    );
    let transaction = client.build_transaction().read_only(true).start().await?;
    said(
        "read only",
        transaction
            .execute("insert into audit values ('x')", &[])
            .await
            .map_err(shape),
    );
    drop(transaction);
    client.batch_execute("create temp table mine (a int); insert into mine values (1), (2); update mine set a = a + 1").await?;
    said(
        "temporary",
        simple(client, "select * from mine order by a").await?,
    );
    Ok(())
}

async fn copies(client: &Client) -> Result<(), Error> {
    let mut sink = pin!(client.copy_in("copy audit from stdin").await?);
    sink.send(Bytes::from_static(b"copied one\ncopied two\n"))
        .await?;
    said("copy in", sink.finish().await?);
    let sink = client
        .copy_in("copy audit from stdin (format binary)")
        .await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &[Type::TEXT]));
    writer.as_mut().write(&[&"copied in binary"]).await?;
    said("copy in binary", writer.finish().await?);
    let out: Vec<Bytes> = client
        .copy_out("copy (select what from audit order by what) to stdout")
        .await?
        .try_collect()
        .await?;
    said("copy out", out);
    let stream = client
        .copy_out("copy (select id, name from person order by id) to stdout (format binary)")
        .await?;
    let mut rows = pin!(BinaryCopyOutStream::new(stream, &[Type::INT4, Type::TEXT]));
    while let Some(row) = rows.next().await {
        let row = row?;
        said("copy out binary", (row.get::<i32>(0), row.get::<String>(1)));
    }
    Ok(())
}

async fn told_things(
    client: &Client,
    told: &mut mpsc::Receiver<String>,
) -> Result<(), Error> {
    client.batch_execute("select shout('loud')").await?;
    said("notice", told.recv().await);
    client
        .batch_execute("listen news; notify news, 'fresh'")
        .await?;
    said("notification", told.recv().await);
    let cancel = client.cancel_token();
    let (slept, _cancelled) = tokio::join!(client.query("select pg_sleep(30)", &[]), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        cancel.cancel_query(NoTls).await
    });
    said("cancelled", slept.map(|rows| rows.len()).map_err(shape));
    said("afterwards", simple(client, "select 'still here'").await?);
    Ok(())
}
