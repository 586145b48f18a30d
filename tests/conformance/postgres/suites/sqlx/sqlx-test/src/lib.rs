//! What the tests of sqlx take from `sqlx-test`, which was never published: connections by `DATABASE_URL`, and tests
//! of a type, each value of which is sent and received.

use sqlx::pool::PoolOptions;
use sqlx::{Connection, Database, Pool};

#[doc(hidden)]
pub use paste::paste;

pub fn setup_if_needed() {}

fn url() -> anyhow::Result<String> {
    Ok(std::env::var("DATABASE_URL")?)
}

/// A connection of its own.
pub async fn new<DB: Database>() -> anyhow::Result<DB::Connection> {
    Ok(DB::Connection::connect(&url()?).await?)
}

/// A pool of few connections, none of which is tried before it is given out.
pub async fn pool<DB: Database>() -> anyhow::Result<Pool<DB>> {
    let options = PoolOptions::<DB>::new().min_connections(0).max_connections(5);
    Ok(options.test_before_acquire(true).connect(&url()?).await?)
}

/// Both ways of sending.
#[macro_export]
macro_rules! test_type {
    ($name:ident<$ty:ty>($db:ident, $sql:literal, $($text:literal == $value:expr),+ $(,)?)) => {
        $crate::test_prepared_type!($name<$ty>($db, $sql, $($text == $value),+));
        $crate::test_unprepared_type!($name<$ty>($db, $($text == $value),+));
    };
    ($name:ident<$ty:ty>($db:ident, $($text:literal == $value:expr),+ $(,)?)) => {
        $crate::test_prepared_type!($name<$ty>($db, $($text == $value),+));
        $crate::test_unprepared_type!($name<$ty>($db, $($text == $value),+));
    };
    ($name:ident($db:ident, $($text:literal == $value:expr),+ $(,)?)) => {
        $crate::test_type!($name<$name>($db, $($text == $value),+));
    };
}

/// Received as text, by the simple protocol.
#[macro_export]
macro_rules! test_unprepared_type {
    ($name:ident<$ty:ty>($db:ident, $($text:literal == $value:expr),+ $(,)?)) => {
        $crate::paste! {
            #[sqlx_macros::test]
            async fn [<test_unprepared_type_ $name>]() -> anyhow::Result<()> {
                use sqlx::{Executor as _, Row as _};
                let mut connection = $crate::new::<$db>().await?;
                $(
                    let query = concat!("SELECT ", $text);
                    let row = connection.fetch_one(query).await?;
                    let received = row.try_get::<$ty, _>(0)?;
                    assert_eq!($value, received, "{query}");
                )+
                Ok(())
            }
        }
    };
}

/// Received in the type's binary format.
#[macro_export]
macro_rules! test_decode_type {
    ($name:ident<$ty:ty>($db:ident, $($text:literal == $value:expr),+ $(,)?)) => {
        $crate::paste! {
            #[sqlx_macros::test]
            async fn [<test_decode_type_ $name>]() -> anyhow::Result<()> {
                use sqlx::Row as _;
                let mut connection = $crate::new::<$db>().await?;
                $(
                    let query = concat!("SELECT ", $text);
                    let row = sqlx::query(query).fetch_one(&mut connection).await?;
                    let received = row.try_get::<$ty, _>(0)?;
                    assert_eq!($value, received, "{query}");
                )+
                Ok(())
            }
        }
    };
    ($name:ident($db:ident, $($text:literal == $value:expr),+ $(,)?)) => {
        $crate::test_decode_type!($name<$name>($db, $($text == $value),+));
    };
}

/// Sent and received in the type's binary format; the query says first whether the server finds them equal.
#[macro_export]
macro_rules! test_prepared_type {
    ($name:ident<$ty:ty>($db:ident, $sql:literal, $($text:literal == $value:expr),+ $(,)?)) => {
        $crate::paste! {
            #[sqlx_macros::test]
            async fn [<test_prepared_type_ $name>]() -> anyhow::Result<()> {
                use sqlx::Row as _;
                let mut connection = $crate::new::<$db>().await?;
                $(
                    let query = format!($sql, $text);
                    let bound = sqlx::query(&query).bind($value).bind($value);
                    let row = bound.fetch_one(&mut connection).await?;
                    assert_eq!(row.try_get::<i32, _>(0)?, 1, "{query}");
                    assert_eq!($value, row.try_get::<$ty, _>(1)?, "{query}");
                    assert_eq!($value, row.try_get::<$ty, _>(2)?, "{query}");
                )+
                Ok(())
            }
        }
    };
    ($name:ident<$ty:ty>($db:ident, $($text:literal == $value:expr),+ $(,)?)) => {
        $crate::test_prepared_type!($name<$ty>(
            $db,
            "SELECT ({0} is not distinct from $1)::int4, {0} as _2, $2 as _3",
            $($text == $value),+
        ));
    };
    ($name:ident($db:ident, $($text:literal == $value:expr),+ $(,)?)) => {
        $crate::test_prepared_type!($name<$name>($db, $($text == $value),+));
    };
}
