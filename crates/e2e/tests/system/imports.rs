//! Imports of files by the program, as an operator runs it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use pricing_harness::databases::TestDatabase;
use pricing_harness::process::Process;
use pricing_harness::service::Binary;
use pricing_harness::waiting::eventually;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(120);
/// Rows of the large file.
const ROWS: u32 = 50_000;
/// Times that an import of it is killed.
const KILLS: u32 = 5;

fn command(database: &TestDatabase, arguments: &[&str]) -> Command {
    let mut command =
        Binary::Worker.command(&BTreeMap::from([("DATABASE_URL".to_owned(), database.url().to_owned())]));
    command.args(arguments);
    command
}

fn run(database: &TestDatabase, arguments: &[&str]) -> Output {
    command(database, arguments).stdin(Stdio::null()).output().expect("it is built")
}

fn text(output: &Output) -> String {
    String::from_utf8([&*output.stdout, &*output.stderr].concat()).expect("text")
}

fn file(folder: &TempDir, name: &str, content: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, content).expect("a file is written");
    path
}

fn name(path: &Path) -> &str {
    path.to_str().expect("text")
}

/// Each row has a floor one below its price, so half a row would show.
fn large_file() -> String {
    let mut csv = "floor,product_id,base_price,category\n".to_owned();
    for n in 0..ROWS {
        // Not in the order of the ids.
        let id = n.wrapping_mul(48_271) % 65_537;
        writeln!(csv, "{n}.99,K-{id:05},{}.99,c{}", n + 1, n % 7).expect("a text takes all");
    }
    csv
}

/// Whole products, each with its history and its pending change.
async fn is_consistent(database: &TestDatabase, products: i64) {
    let whole = "SELECT COUNT(*) FROM products WHERE floor_minor = base_price_minor - 100 AND category IS NOT NULL \
                 AND revision = version AND version > 0";
    let history = "SELECT COUNT(*) FROM products JOIN product_history ON product_id = products.id \
                   AND product_history.version = products.version AND change = 'created' \
                   AND product_history.base_price_minor = products.base_price_minor AND changed_by LIKE 'cli:%'";
    let pending = "SELECT COUNT(*) FROM products JOIN pending_changes ON kind = 'product' \
                   AND pending_changes.id = products.id AND pending_changes.version = products.version";
    for statement in [whole, history, pending] {
        assert_eq!(database.select(statement).await, products, "{statement}");
    }
    assert_eq!(database.select("SELECT COUNT(*) FROM product_history").await, products);
    assert_eq!(database.select("SELECT COUNT(*) FROM pending_changes").await, products);
}

async fn a_killed_import_leaves_whole_rows_and_the_same_command_does_the_rest(database: TestDatabase) {
    database.open().await.close().await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder, "large.csv", &large_file());
    let count = "SELECT COUNT(*) FROM products";
    let mut before = 0;
    for kill in 0..KILLS {
        let mut command = command(&database, &["import", name(&path)]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut import = Process::spawn("import", command).expect("it is built");
        // Kept apart from each other, and at any moment of a batch.
        let enough = before + i64::from(rand::random_range(0..ROWS / (KILLS + 1)));
        eventually(DEADLINE, "part of the import", async || {
            let is_enough = database.select(count).await >= enough || import.exit_status().is_some();
            is_enough.then_some(())
        })
        .await;
        import.kill();
        import.wait().await;
        // The server may still end the statement that it had.
        let after = eventually(DEADLINE, "quiet", async || {
            let (first, version) = (database.select(count).await, last_version(&database).await);
            pricing_harness::waiting::pause(Duration::from_millis(100)).await;
            let is_quiet = first == database.select(count).await && version == last_version(&database).await;
            is_quiet.then_some(first)
        })
        .await;
        assert!(after >= before && after < i64::from(ROWS), "kill {kill}: {before} -> {after}");
        is_consistent(&database, after).await;
        before = after;
    }
    let rest = run(&database, &["import", name(&path)]);
    assert!(rest.status.success(), "{}", text(&rest));
    is_consistent(&database, i64::from(ROWS)).await;
    let version = last_version(&database).await;
    let again = run(&database, &["import", "--strict", name(&path)]);
    assert!(text(&again).contains("0 created, 0 changed, 50,000 unchanged, 0 bad"), "{}", text(&again));
    assert_eq!(last_version(&database).await, version);
}

async fn last_version(database: &TestDatabase) -> i64 {
    database.select("SELECT last_value FROM catalogue_version").await
}

#[tokio::test]
async fn on_sqlite_a_killed_import_leaves_whole_rows_and_the_same_command_does_the_rest() {
    a_killed_import_leaves_whole_rows_and_the_same_command_does_the_rest(TestDatabase::sqlite()).await;
}

#[tokio::test]
async fn on_postgres_a_killed_import_leaves_whole_rows_and_the_same_command_does_the_rest() {
    a_killed_import_leaves_whole_rows_and_the_same_command_does_the_rest(TestDatabase::postgres().await)
        .await;
}

#[tokio::test]
async fn the_exit_code_tells_skipped_rows_from_failures() {
    let database = TestDatabase::sqlite();
    let folder = tempfile::tempdir().expect("a folder");
    let bad = file(&folder, "bad.csv", "product_id,base_price\nP-1,12.5\nP-2,\nP-3,x\n");
    let strict = run(&database, &["import", "--strict", name(&bad)]);
    assert_eq!(strict.status.code(), Some(1), "{}", text(&strict));
    assert_eq!(database.select("SELECT COUNT(*) FROM products").await, 0);
    let skipping = run(&database, &["import", name(&bad)]);
    assert_eq!(skipping.status.code(), Some(3));
    let printed = text(&skipping);
    for expected in ["line 3: base_price is required", "line 4: base_price must be", "1 created", "2 bad"] {
        assert!(printed.contains(expected), "{printed}");
    }
    for (name_of, content, expected) in [
        ("unknown.csv", "product_id,prize\n", "there is no column \"prize\""),
        ("empty.csv", "", "a header must name the columns"),
        ("a.txt", "", "--format csv"),
    ] {
        let path = file(&folder, name_of, content);
        let refused = run(&database, &["import", name(&path)]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused).contains(expected), "{}", text(&refused));
    }
    let audit = text(&run(&database, &["audit"]));
    assert!(audit.contains("catalogue.import  bad.csv") && audit.contains("1 created"), "{audit}");
}

#[test]
fn nobody_makes_a_database_by_looking_for_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = file(&folder, "good.csv", "product_id,base_price\nP-1,12.5\n");
    let missing = TestDatabase::sqlite_at(&folder.path().join("missing.db"));
    for arguments in [&["export"][..], &["history", "P-1"], &["import", "--dry-run", name(&good)]] {
        let refused = run(&missing, arguments);
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}");
        assert!(text(&refused).contains("set DATABASE_URL"), "{}", text(&refused));
    }
    // Without an address even an import would make one beside that of the services.
    let mut nowhere = Binary::Worker.command(&BTreeMap::new());
    nowhere.env_remove("DATABASE_URL").args(["import", name(&good)]).current_dir(folder.path());
    let refused = nowhere.stdin(Stdio::null()).output().expect("it is built");
    assert!(text(&refused).contains("set DATABASE_URL"), "{}", text(&refused));
    let files = std::fs::read_dir(&folder).expect("a folder").count();
    assert_eq!(files, 1, "the CSV file only");

    let imported = run(&missing, &["import", name(&good)]);
    assert!(text(&imported).contains(missing.url()), "{}", text(&imported));
}

#[tokio::test]
async fn a_dry_run_tells_what_an_import_would_do_and_does_nothing() {
    let database = TestDatabase::sqlite();
    let folder = tempfile::tempdir().expect("a folder");
    let all: String = (10..30).map(|n| format!("P-{n},{n}\n")).collect();
    let all = file(&folder, "all.csv", &format!("product_id,base_price\n{all}"));
    assert!(run(&database, &["import", name(&all)]).status.success());
    let rest: String = (11..30).map(|n| format!("P-{n},9{n}\n")).collect();
    let rest = file(&folder, "rest.csv", &format!("product_id,base_price\n{rest}"));
    let bad = file(&folder, "bad.csv", "product_id,base_price\nP-1,12.5\nP-2,\n");
    let few = file(&folder, "few.csv", "product_id,base_price\nP-10,10\n");
    let delete = ["import", "--delete-missing", "--dry-run"];
    for (arguments, code, expected) in [
        ([&delete[..], &[name(&rest)]].concat(), 0, "19 changed, 0 unchanged, 0 bad, 1 deleted (P-10)"),
        ([&delete[..], &[name(&few)]].concat(), 1, "--delete-at-most"),
        ([&delete[..], &[name(&bad)]].concat(), 1, "nothing would be imported, for rows are bad: 1 of 2"),
        (vec!["import", "--strict", "--dry-run", name(&bad)], 1, "nothing would be imported"),
        (vec!["import", "--dry-run", name(&bad)], 3, "1 created"),
    ] {
        let told = run(&database, &arguments);
        assert_eq!(told.status.code(), Some(code), "{arguments:?}: {}", text(&told));
        assert!(text(&told).contains(expected), "{arguments:?}: {}", text(&told));
    }
    let changed =
        "SELECT COUNT(*) FROM products WHERE base_price_minor <> CAST(SUBSTR(id, 3) AS INTEGER) * 100";
    assert_eq!(database.select(changed).await, 0);
    assert_eq!(database.select("SELECT COUNT(*) FROM products").await, 20);
}

#[tokio::test]
async fn what_is_exported_is_imported_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let products = file(
        &folder,
        "p.jsonl",
        "{\"product_id\":\"P-1\",\"base_price\":10.50,\"floor\":1,\"category\":\"a, \\\"b\\\"\",\"tags\":[\"x|y\",\"[z\"]}\n\
         {\"product_id\":\"P-2\",\"base_price\":0,\"ceiling\":9999999999.99}\n",
    );
    let markets = file(
        &folder,
        "m.csv",
        "location,multiplier,currency,exchange_rate,increment,ending\nPAR,0.95,EUR,0.93,1,0.99\nNY,1,,,,\n",
    );
    let (from, to) = (TestDatabase::sqlite(), TestDatabase::postgres().await);
    assert!(run(&from, &["import", name(&products)]).status.success());
    assert!(run(&from, &["import", "--markets", name(&markets)]).status.success());
    for format in ["csv", "jsonl"] {
        for kind in [&["--format", format][..], &["--format", format, "--markets"]] {
            let exported = run(&from, &[&["export"], kind].concat()).stdout;
            let path = folder.path().join("out");
            std::fs::write(&path, &exported).expect("a file is written");
            let imported = run(&to, &[&["import", name(&path)], kind].concat());
            assert!(imported.status.success(), "{}", text(&imported));
            assert_eq!(run(&to, &[&["export"], kind].concat()).stdout, exported);
            let unchanged = run(&from, &[&["import", "--strict", name(&path)], kind].concat());
            let printed = text(&unchanged);
            assert!(printed.contains("0 created, 0 changed, 2 unchanged, 0 bad"), "{printed}");
        }
    }
}

#[tokio::test]
async fn an_export_names_the_rows_that_it_leaves_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let products = file(&folder, "p.csv", "product_id,base_price\nP-1,1\nP-2,2\n");
    let database = TestDatabase::sqlite();
    assert!(run(&database, &["import", name(&products)]).status.success());
    let damage = "UPDATE products SET tags = 'none' WHERE id = 'P-1'";
    database.execute(&["PRAGMA ignore_check_constraints = ON", damage]).await;
    let exported = run(&database, &["export"]);
    assert_eq!(exported.status.code(), Some(3), "{}", text(&exported));
    assert_eq!(String::from_utf8_lossy(&exported.stdout).lines().count(), 2, "{}", text(&exported));
    let errors = String::from_utf8_lossy(&exported.stderr);
    assert!(errors.contains("invalid tags for P-1") && errors.contains("1 left out"), "{errors}");
}

#[tokio::test]
async fn the_history_tells_who_made_what_of_which_value() {
    let folder = tempfile::tempdir().expect("a folder");
    let import = |kind: &[&str], database: &TestDatabase, content: &str| {
        let path = file(&folder, "in.csv", content);
        let imported = run(database, &[&["import", name(&path)], kind].concat());
        assert!(imported.status.success(), "{}", text(&imported));
    };
    for database in [TestDatabase::sqlite(), TestDatabase::postgres().await] {
        import(&[], &database, "product_id,base_price,floor\nP-1,1,\nP-2,2,\n");
        import(&[], &database, "product_id,base_price,floor\nP-1,1.50,0.90\n");
        database.execute(&["DELETE FROM products WHERE id = 'P-1'"]).await;
        let lines = |arguments: &[&str]| {
            let printed = run(&database, arguments);
            assert!(printed.status.success(), "{}", text(&printed));
            text(&printed).lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let history = lines(&["history", "P-1"]);
        for (line, (change, values)) in history.iter().zip([
            ("deleted  sql", "base_price 1.50 -> -, floor 0.90 -> -"),
            ("edited  cli:", "base_price 1.00 -> 1.50, floor - -> 0.90"),
            ("created  cli:", "base_price - -> 1.00"),
        ]) {
            assert!(line.contains(change) && line.ends_with(values), "{line}");
        }
        assert_eq!(history.len(), 3, "{history:?}");
        let first = lines(&["history", "P-1", "--limit", "2"]);
        let more = first[2].strip_prefix("more: --after ").expect("there is more");
        assert_eq!(lines(&["history", "P-1", "--after", more]), history[2..]);
        assert!(lines(&["history", "P-none"])[0].starts_with("no change is known of P-none in "));

        import(&["--markets"], &database, "location,multiplier,increment\nPAR,1,\n");
        import(&["--markets"], &database, "location,multiplier,increment\nPAR,1.1,0.05\n");
        let line = &lines(&["history", "--market", "PAR"])[0];
        assert!(line.ends_with("multiplier 1 -> 1.1, increment 0.01 -> 0.05"), "{line}");
    }
}
