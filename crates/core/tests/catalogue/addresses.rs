//! Addresses of databases, good and bad.

use std::path::PathBuf;

use pricing_core::catalogue::{Catalogue, DatabaseSettings};
use pricing_core::causes::causes;
use pricing_harness::edits::EditCatalogue as _;

use crate::{TIME_LIMIT, cents, product_id};

fn settings(url: &str) -> DatabaseSettings {
    DatabaseSettings {
        database_url: Some(url.into()),
        database_url_file: None,
        demo_catalogue: false,
        catalogue_currency: None,
    }
}

/// The error with its causes, as a log shows it.
async fn refusal(settings: &DatabaseSettings) -> String {
    let opened = Catalogue::open(settings, TIME_LIMIT).await;
    let Err(error) = opened else { panic!("{:?} is accepted", settings.database_url) };
    causes(&error).to_string()
}

#[tokio::test]
async fn a_bad_address_is_refused_by_the_name_of_its_setting() {
    let folder = tempfile::tempdir().unwrap();
    let a_folder = format!("sqlite://{}", folder.path().join("sub").display());
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    let below_a_file = "sqlite:///dev/null/pricing.db";
    let unreachable = "postgres://someone:hush@127.0.0.1:1/pricing";
    for url in [
        "",
        "pricing.db",
        "mysql://localhost/pricing",
        "sqlite::memory:",
        "sqlite://",
        &a_folder,
        below_a_file,
        "postgres://",
        "postgres://some one:hush@[/pricing",
        "postgres://someone:hush@127.0.0.1:99999/pricing",
        "postgres://someone:hush@no-such-host.invalid/pricing",
        unreachable,
    ] {
        let message = refusal(&settings(url)).await;
        assert!(message.contains("DATABASE_URL"), "{url}: {message}");
        assert!(!message.contains("hush"), "{url}: {message}");
    }
}

#[tokio::test]
async fn an_address_given_twice_or_in_a_missing_file_is_refused() {
    let file = PathBuf::from("/no/such/file");
    let twice = DatabaseSettings { database_url_file: Some(file.clone()), ..settings("sqlite://x") };
    assert!(refusal(&twice).await.contains("DATABASE_URL and DATABASE_URL_FILE are both set"));
    let missing = DatabaseSettings {
        database_url: None,
        database_url_file: Some(file),
        demo_catalogue: false,
        catalogue_currency: None,
    };
    assert!(refusal(&missing).await.contains("DATABASE_URL_FILE: cannot read /no/such/file"));
}

#[tokio::test]
async fn an_sqlite_address_is_the_path_of_the_file_whatever_its_characters() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["plain.db", "with space.db", "ünïcödé.db", "per%20cent.db", "#1.db", "new/sub/x.db"] {
        let path = folder.path().join(name);
        let settings = settings(&format!("sqlite://{}", path.display()));
        let catalogue =
            Catalogue::open(&settings, TIME_LIMIT).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
        catalogue.set_base_price(&product_id("mine"), cents(1)).await;
        catalogue.close().await;
        assert!(path.is_file(), "{name}");
        let again = Catalogue::open(&settings, TIME_LIMIT).await.unwrap();
        assert_eq!(again.count_products().await.unwrap(), 1, "{name}");
    }
}

#[tokio::test]
async fn parameters_of_an_sqlite_address_are_understood_or_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prices.db");
    for parameters in ["?mode=rwc", "?"] {
        Catalogue::open(&settings(&format!("sqlite://{}{parameters}", path.display())), TIME_LIMIT)
            .await
            .unwrap();
    }
    for (bad, name) in [
        ("mode=ro", "mode"),
        ("mode=memory", "mode"),
        ("cache=shared", "cache"),
        ("mode=rwc2", "mode"),
        ("x", "…"), // it may be a misplaced password
    ] {
        let url = format!("sqlite://{}?mode=rwc&{bad}", path.display());
        let message = refusal(&settings(&url)).await;
        assert!(message.contains("DATABASE_URL") && message.contains(&format!("{name:?}")), "{message}");
    }
    let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name());
    for file in files {
        assert!(!file.to_string_lossy().contains('?'), "{file:?}");
    }
}

#[tokio::test]
async fn an_unknown_parameter_of_a_postgres_address_is_refused_without_its_value() {
    for bad in ["pasword=hush", "sslmode=disable&pass=hush", "user=x&Password=hush&port=1"] {
        let message = refusal(&settings(&format!("postgres://127.0.0.1:1/pricing?{bad}"))).await;
        assert!(message.contains("DATABASE_URL: the parameter"), "{message}");
        assert!(!message.contains("hush"), "{message}");
    }
    for bad in ["127.0.0.1:1/pricing?hush", "x:pa?hush@127.0.0.1:1/p", "x:pa?hush=1@127.0.0.1:1/p"] {
        let message = refusal(&settings(&format!("postgres://{bad}"))).await;
        assert!(!message.contains("hush"), "{message}");
    }
    let known = "postgres://127.0.0.1:1/pricing?user=x&password=hush&sslmode=disable";
    assert!(refusal(&settings(known)).await.contains("cannot connect to the database"));
}

/// Whoever logs settings or the catalogue by `Debug` logs no password.
#[tokio::test]
async fn debug_output_has_no_password() {
    let settings = settings("postgres://someone:hush@127.0.0.1:1/pricing");
    let (catalogue, preparation) = Catalogue::lazy(&settings, TIME_LIMIT).unwrap();
    let signal = catalogue.change_signal();
    for shown in [
        format!("{settings:?}"),
        format!("{catalogue:?}"),
        format!("{preparation:?}"),
        format!("{signal:?}"),
        format!("{:?}", preparation.run().await.unwrap_err()),
    ] {
        assert!(!shown.contains("hush"), "{shown}");
    }
}

#[tokio::test]
async fn an_sqlite_address_may_be_relative_to_the_working_directory() {
    let folder = tempfile::tempdir().unwrap();
    let here = std::env::current_dir().unwrap();
    let up = "../".repeat(here.components().count() - 1);
    let below_root = folder.path().join("sub/../Relative.db");
    let relative = format!("{up}{}", below_root.strip_prefix("/").unwrap().display());
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    let catalogue = Catalogue::open(&settings(&format!("sqlite://{relative}")), TIME_LIMIT).await.unwrap();
    catalogue.set_base_price(&product_id("mine"), cents(1)).await;
    assert!(folder.path().join("Relative.db").is_file());
}

#[tokio::test]
async fn the_address_may_stand_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let (secret, path) = (folder.path().join("secret"), folder.path().join("pricing.db"));
    std::fs::write(&secret, format!("sqlite://{}\n", path.display())).unwrap();
    let settings = DatabaseSettings {
        database_url: None,
        database_url_file: Some(secret),
        demo_catalogue: true,
        catalogue_currency: None,
    };
    assert_eq!(Catalogue::open(&settings, TIME_LIMIT).await.unwrap().count_products().await.unwrap(), 900);
    assert!(path.is_file());
}
