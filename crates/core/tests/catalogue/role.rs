//! The role of the composed database, made by the statements that the container runs.

use std::time::Duration;

use pricing_core::catalogue::{Catalogue, DatabaseSettings};
use pricing_harness::postgres::{Cluster, programs};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

const STATEMENTS: &str = include_str!("../../../../deploy/postgres.sql");

async fn run(url: &str, statement: &str) -> sqlx::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
    connection.close().await
}

#[tokio::test]
async fn the_role_of_the_services_owns_its_schema_and_nothing_else() {
    let programs = programs().expect("PostgreSQL is installed");
    let cluster = Cluster::start(&programs).await.expect("PostgreSQL starts");
    run(&cluster.url(), "CREATE DATABASE pricing").await.unwrap();
    let superuser = format!("postgres://postgres@{}/pricing", cluster.address());
    for statement in STATEMENTS.lines() {
        run(&superuser, statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    let url = format!("postgres://pricing@{}/pricing", cluster.address());
    let settings = DatabaseSettings {
        database_url: Some(url.clone().into()),
        database_url_file: None,
        demo_catalogue: true,
        catalogue_currency: None,
    };
    let catalogue = Catalogue::open(&settings, Duration::from_secs(14)).await.expect("it can migrate");
    catalogue.close().await;
    run(&url, "UPDATE products SET base_price_minor = 5999 WHERE id = 'P-100'").await.unwrap();

    for refused in [
        "CREATE TABLE public.mine (id INTEGER)",
        "CREATE SCHEMA mine",
        "CREATE TEMPORARY TABLE mine (id INTEGER)",
        "CREATE DATABASE mine",
        "CREATE ROLE mine",
        "DROP DATABASE pricing",
        "ALTER ROLE pricing SUPERUSER",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT pg_read_file('/etc/passwd')",
        "ALTER SYSTEM SET log_statement = 'all'",
    ] {
        assert!(run(&url, refused).await.is_err(), "{refused}");
    }
    let mut connection = PgConnection::connect(&superuser).await.unwrap();
    let owned = "SELECT string_agg(nspname, ',') FROM pg_namespace WHERE nspowner = 'pricing'::regrole";
    let owned: String = sqlx::query_scalar(owned).fetch_one(&mut connection).await.unwrap();
    assert_eq!(owned, "pricing");
}
