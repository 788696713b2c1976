//! A database of one's own, of either kind.

use std::path::Path;

use tempfile::TempDir;

/// An empty database. Dropping it removes it.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Sqlite {
        _directory: Option<TempDir>,
    },
    #[cfg(feature = "engine")]
    Postgres {
        server: String,
        name: String,
    },
}

impl TestDatabase {
    /// An SQLite database in a temporary directory; the file is made when it is first opened.
    pub fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let url = sqlite_url(&directory.path().join("pricing.db"));
        Self { url, kind: Kind::Sqlite { _directory: Some(directory) } }
    }

    /// The SQLite database in `file`, which is kept.
    pub fn sqlite_at(file: &Path) -> Self {
        Self { url: sqlite_url(file), kind: Kind::Sqlite { _directory: None } }
    }

    /// `DATABASE_URL` of this database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether this is SQLite, for statements that differ.
    pub fn is_sqlite(&self) -> bool {
        matches!(self.kind, Kind::Sqlite { .. })
    }
}

fn sqlite_url(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}

#[cfg(feature = "engine")]
mod engine {
    use std::time::Duration;

    use pricing_core::catalogue::{Catalogue, DatabaseSettings};
    use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection, query_scalar, raw_sql};

    use super::{Kind, TestDatabase};

    /// Time limit of a statement.
    const TIME_LIMIT: Duration = Duration::from_secs(14);

    impl TestDatabase {
        /// A database of its own in the PostgreSQL server of `TEST_POSTGRES_URL`.
        pub async fn postgres() -> Self {
            let Ok(server) = std::env::var("TEST_POSTGRES_URL") else {
                panic!("TEST_POSTGRES_URL is not set: run `cargo xtask test`, which starts PostgreSQL");
            };
            Self::postgres_in(server).await
        }

        /// A database of its own in the PostgreSQL server whose superuser's URL is `server`.
        pub async fn postgres_in(server: String) -> Self {
            let name = format!("pricing_{:032x}", rand::random::<u128>());
            administer(&server, &format!("CREATE DATABASE {name}")).await;
            let (address, _) = server.rsplit_once('/').expect("TEST_POSTGRES_URL ends in /postgres");
            Self { url: format!("{address}/{name}"), kind: Kind::Postgres { server, name } }
        }

        /// Settings that lead here.
        pub fn settings(&self, demo_catalogue: bool) -> DatabaseSettings {
            DatabaseSettings {
                database_url: Some(self.url.clone().into()),
                database_url_file: None,
                demo_catalogue,
                catalogue_currency: None,
            }
        }

        /// The catalogue in this database, empty unless something was put there.
        pub async fn open(&self) -> Catalogue {
            Catalogue::open(&self.settings(false), TIME_LIMIT).await.expect("the catalogue opens")
        }

        /// The demo catalogue in this database.
        pub async fn open_demo(&self) -> Catalogue {
            Catalogue::open(&self.settings(true), TIME_LIMIT).await.expect("the catalogue opens")
        }

        /// Runs statements one after the other as somebody who does not use our code would.
        pub async fn execute(&self, statements: &[&str]) {
            self.run(statements).await.unwrap_or_else(|error| panic!("{error}"));
        }

        /// Runs statements like [`TestDatabase::execute`]. Returns whether the database took them.
        pub async fn try_execute(&self, statements: &str) -> bool {
            self.run(&[statements]).await.is_ok()
        }

        async fn run(&self, statements: &[&str]) -> Result<(), String> {
            match self.kind {
                Kind::Sqlite { .. } => run::<SqliteConnection>(&self.url, statements).await,
                Kind::Postgres { .. } => run::<PgConnection>(&self.url, statements).await,
            }
        }

        /// The one number that a statement selects.
        pub async fn select(&self, statement: &str) -> i64 {
            let query = AssertSqlSafe(statement);
            let selected = match self.kind {
                Kind::Sqlite { .. } => {
                    query_scalar(query).fetch_one(&mut connect::<SqliteConnection>(&self.url).await).await
                }
                Kind::Postgres { .. } => {
                    query_scalar(query).fetch_one(&mut connect::<PgConnection>(&self.url).await).await
                }
            };
            selected.unwrap_or_else(|error| panic!("{statement}: {error}"))
        }

        /// Adds products `X-00000` and so on, so that a scan takes longer.
        pub async fn add_products(&self, number: u32) {
            let rows = format!(
                "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {}) \
             INSERT INTO products (id, base_price_minor) SELECT 'X-' || substr('0000' || n, -5), 1000 + n FROM numbers",
                number - 1
            );
            self.execute(&[&rows]).await;
        }

        /// Makes sure that the database refuses a statement.
        pub async fn refuses(&self, statement: &str) {
            assert!(!self.try_execute(statement).await, "the database accepted {statement}");
        }
    }

    impl Drop for TestDatabase {
        fn drop(&mut self) {
            if let Kind::Postgres { server, name } = &self.kind {
                let statement = format!("DROP DATABASE {name} WITH (FORCE)");
                let drop = || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                    runtime.expect("a runtime starts").block_on(administer(server, &statement));
                };
                // In a thread of its own, for it may not block on a runtime inside the test's runtime. When it
                // fails, for the server is gone, there is nothing to remove.
                let _ = std::thread::scope(|scope| scope.spawn(drop).join());
            }
        }
    }

    async fn administer(server: &str, statement: &str) {
        run::<PgConnection>(server, &[statement]).await.unwrap_or_else(|error| panic!("{error}"));
    }

    async fn connect<C: Connection>(url: &str) -> C {
        C::connect(url).await.expect("the database is there")
    }

    /// Runs statements on a connection of their own. The error begins with the statement that failed.
    async fn run<C: Connection>(url: &str, statements: &[&str]) -> Result<(), String>
    where
        for<'c> &'c mut C: Executor<'c, Database = C::Database>,
    {
        let mut connection = connect::<C>(url).await;
        for statement in statements {
            let done = raw_sql(AssertSqlSafe(*statement)).execute(&mut connection).await;
            done.map_err(|error| format!("{statement}: {error}"))?;
        }
        connection.close().await.map_err(|error| error.to_string())
    }
}
