//! Imports: only what differs is written, and what is refused does not hinder the rest.

use pricing_core::audit::AuditCaller;
use pricing_core::catalogue::{
    Applied, Catalogue, ChangeOrigin, Extent, ImportError, ImportKind, ImportOptions, ImportRow,
    MarketFields, Page, ProductFields, RowRefusal, Tally,
};
use pricing_core::money::{Currency, Money};
use pricing_harness::databases::TestDatabase;

use crate::{location, product_id};

on_both_databases!(
    only_what_differs_is_written,
    a_refused_row_is_passed_over_or_undoes_the_import,
    a_dry_run_tells_what_an_import_would_do,
    rows_of_one_product_are_applied_in_the_order_of_their_lines,
    missing_products_are_deleted_up_to_a_limit,
    a_product_that_was_changed_meanwhile_is_not_missing,
    a_suspicious_change_of_a_market_must_be_confirmed,
    what_is_exported_changes_nothing_when_it_is_imported,
);

const ROWS: ImportOptions =
    ImportOptions { extent: Extent::Rows, confirms_terms: false, delete_at_most: None };
const STRICT: ImportOptions = ImportOptions { extent: Extent::AllOrNothing, ..ROWS };
const DRY: ImportOptions = ImportOptions { extent: Extent::DryRun, ..ROWS };

fn origin() -> ChangeOrigin {
    ChangeOrigin::caller(&AuditCaller::CommandLine("shop".to_owned()))
}

fn products(lines: &[String]) -> Vec<ImportRow> {
    let row = |(line, json): (u64, &String)| {
        let fields: ProductFields = serde_json::from_str(json).unwrap();
        ImportRow::product(line, fields, Currency::USD).unwrap()
    };
    (1..).zip(lines).map(row).collect()
}

async fn apply(
    catalogue: &Catalogue,
    kind: ImportKind,
    rows: &[ImportRow],
    options: ImportOptions,
) -> (Result<Applied, ImportError>, Tally) {
    let mut import = catalogue.begin_import(kind).await.unwrap();
    for part in rows.chunks(700) {
        import.stage(part).await.unwrap();
    }
    let mut total = Tally::default();
    let applied = import
        .apply(&origin(), &options, |tally| {
            total.created += tally.created;
            total.changed += tally.changed;
            total.unchanged += tally.unchanged;
            total.refused.extend(tally.refused.clone());
        })
        .await;
    (applied, total)
}

async fn import(catalogue: &Catalogue, lines: &[&str], options: ImportOptions) -> (Applied, Tally) {
    let lines: Vec<_> = lines.iter().map(|line| (*line).to_owned()).collect();
    let (applied, tally) = apply(catalogue, ImportKind::Products, &products(&lines), options).await;
    (applied.unwrap(), tally)
}

fn counts(applied: &Applied) -> (u64, u64, u64, u64) {
    (applied.created, applied.changed, applied.unchanged, applied.refused)
}

async fn only_what_differs_is_written(database: &TestDatabase) {
    let catalogue = database.open().await;
    let file = [
        r#"{"product_id":"P-1","base_price":10,"floor":5,"category":"a\\b\"c","tags":["x|y","\\N"]}"#,
        r#"{"product_id":"P-2","base_price":20}"#,
    ];
    let (applied, _) = import(&catalogue, &file, ROWS).await;
    assert_eq!(counts(&applied), (2, 0, 0, 0));
    let stored = catalogue.catalogue_product(&product_id("P-1")).await.unwrap().unwrap();
    assert_eq!(stored.terms.category.as_ref().unwrap().as_str(), "a\\b\"c");
    assert_eq!(stored.terms.tags.iter().collect::<Vec<_>>(), ["\\N", "x|y"]);
    let version = catalogue.last_version().await.unwrap();
    let (applied, _) = import(&catalogue, &file, ROWS).await;
    assert_eq!(counts(&applied), (0, 0, 2, 0));
    assert_eq!(catalogue.last_version().await.unwrap(), version, "no row was written");

    let change = [r#"{"product_id":"P-1","floor":null}"#, r#"{"product_id":"P-2","base_price":21}"#];
    let (applied, _) = import(&catalogue, &change, STRICT).await;
    assert_eq!(counts(&applied), (0, 2, 0, 0));
    let changed = catalogue.catalogue_product(&product_id("P-1")).await.unwrap().unwrap();
    assert_eq!((changed.terms.floor, &changed.terms.tags), (None, &stored.terms.tags));
    let history = "SELECT COUNT(*) FROM product_history WHERE changed_by = 'cli:shop'";
    assert_eq!(database.select(history).await, 4);
    assert_eq!(database.select("SELECT COUNT(*) FROM pending_changes WHERE kind = 'product'").await, 2);
}

async fn a_refused_row_is_passed_over_or_undoes_the_import(database: &TestDatabase) {
    let catalogue = database.open().await;
    import(&catalogue, &[r#"{"product_id":"P-1","base_price":10,"ceiling":12}"#], ROWS).await;
    let file = [
        r#"{"product_id":"P-1","floor":13}"#,
        r#"{"product_id":"P-3","floor":1}"#,
        r#"{"product_id":"P-2","base_price":1}"#,
    ];
    let (applied, tally) = import(&catalogue, &file, STRICT).await;
    assert!(applied.is_undone && applied.refused == 2);
    let RowRefusal::Fields(errors) = &tally.refused[0].refusal else { panic!("{tally:?}") };
    assert_eq!((tally.refused[0].line, errors[0].field), (1, "floor"));
    assert_eq!(catalogue.count_products().await.unwrap(), 1);
    let (applied, _) = import(&catalogue, &file, ROWS).await;
    assert_eq!((counts(&applied), applied.is_undone), ((1, 0, 0, 2), false));
    assert_eq!(catalogue.count_products().await.unwrap(), 2);
}

async fn a_dry_run_tells_what_an_import_would_do(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let version = catalogue.last_version().await.unwrap();
    let file = [
        r#"{"product_id":"P-100","base_price":1}"#,
        r#"{"product_id":"P-101","cost":null}"#,
        r#"{"product_id":"P-new","base_price":1}"#,
        r#"{"product_id":"P-bad","cost":1}"#,
    ];
    let (dry, _) = import(&catalogue, &file, DRY).await;
    assert_eq!(counts(&dry), (1, 1, 1, 1));
    assert_eq!(catalogue.last_version().await.unwrap(), version);
    assert_eq!(catalogue.product(&product_id("P-new")).await.unwrap(), None);
    let (applied, _) = import(&catalogue, &file, ROWS).await;
    assert_eq!(applied, dry);
}

async fn rows_of_one_product_are_applied_in_the_order_of_their_lines(database: &TestDatabase) {
    let catalogue = database.open().await;
    let mut lines: Vec<_> =
        (0..2_500).map(|n| format!(r#"{{"product_id":"P-5","base_price":{n}}}"#)).collect();
    lines.extend((0..1_500).map(|n| format!(r#"{{"product_id":"Q-{n:04}","base_price":1}}"#)));
    lines.push(r#"{"product_id":"P-5","cost":7}"#.to_owned());
    lines.push(r#"{"product_id":"A-1","base_price":7}"#.to_owned());
    let (applied, _) = apply(&catalogue, ImportKind::Products, &products(&lines), ROWS).await;
    assert_eq!(counts(&applied.unwrap()), (1_502, 2_500, 0, 0));
    let last = catalogue.catalogue_product(&product_id("P-5")).await.unwrap().unwrap().terms;
    assert_eq!((last.base_price.minor(), last.cost.map(Money::minor)), (249_900, Some(700)));
    assert_eq!(catalogue.count_products().await.unwrap(), 1_502);
}

async fn missing_products_are_deleted_up_to_a_limit(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let line = |n: u32| format!(r#"{{"product_id":"P-{n}","base_price":1}}"#);
    let rows = products(&(190..=999).map(line).collect::<Vec<_>>());
    let delete = |delete_at_most, extent| ImportOptions { delete_at_most, extent, ..ROWS };
    for extent in [Extent::AllOrNothing, Extent::DryRun] {
        let (refused, _) = apply(&catalogue, ImportKind::Products, &rows, delete(Some(9), extent)).await;
        assert!(
            matches!(refused, Err(ImportError::TooManyMissing { missing: 90, products: 900, percent: 9 })),
            "{refused:?}"
        );
    }
    let unchanged = "SELECT COUNT(*) FROM products WHERE base_price_minor > 100";
    assert_eq!(database.select(unchanged).await, 900, "nothing was changed");
    let (dry, _) = apply(&catalogue, ImportKind::Products, &rows, delete(Some(10), Extent::DryRun)).await;
    let applied = delete(Some(10), Extent::AllOrNothing);
    let (applied, _) = apply(&catalogue, ImportKind::Products, &rows, applied).await;
    let applied = applied.unwrap();
    assert_eq!((applied.changed, applied.deleted), (810, 90));
    let mut dry = dry.unwrap();
    let first = std::mem::take(&mut dry.first_to_delete);
    assert_eq!(first, (100..120).map(|n| format!("P-{n}")).collect::<Vec<_>>());
    assert_eq!(dry, applied);
    assert_eq!(catalogue.count_products().await.unwrap(), 810);
    assert_eq!(database.select("SELECT COUNT(*) FROM product_history WHERE change = 'deleted'").await, 90);
}

async fn a_product_that_was_changed_meanwhile_is_not_missing(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let options = ImportOptions { extent: Extent::AllOrNothing, delete_at_most: Some(100), ..ROWS };
    let import = catalogue.begin_import(ImportKind::Products).await.unwrap();
    database.execute(&["UPDATE products SET base_price_minor = 1 WHERE id = 'P-500'"]).await;
    let applied = import.apply(&origin(), &options, |_| ()).await.unwrap();
    assert_eq!(applied.deleted, 899);
    assert!(catalogue.product(&product_id("P-500")).await.unwrap().is_some());
}

async fn a_suspicious_change_of_a_market_must_be_confirmed(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let row = |line, json: &str| ImportRow::market(line, serde_json::from_str(json).unwrap()).unwrap();
    let rows = [
        row(2, r#"{"location":"NY","multiplier":0.5}"#),
        row(3, r#"{"location":"LA","multiplier":1.0,"rounding":{"increment":1,"ending":0.99}}"#),
        row(4, r#"{"location":"PAR","multiplier":1,"currency":"EUR","exchange_rate":0.93}"#),
        row(5, r#"{"location":"PAR","exchange_rate":0.94}"#),
    ];
    let (dry, _) = apply(&catalogue, ImportKind::Markets, &rows, DRY).await;
    let (applied, tally) = apply(&catalogue, ImportKind::Markets, &rows, ROWS).await;
    let applied = applied.unwrap();
    assert_eq!(counts(&applied), (1, 2, 0, 1));
    assert_eq!(dry.unwrap(), applied);
    assert!(matches!(&tally.refused[0].refusal, RowRefusal::Suspicious(change) if change.new == "0.5"));
    let confirmed = ImportOptions { confirms_terms: true, ..STRICT };
    let (applied, _) = apply(&catalogue, ImportKind::Markets, &rows[..1], confirmed).await;
    assert_eq!(counts(&applied.unwrap()), (0, 1, 0, 0));
    let paris = catalogue.catalogue_market(&location("PAR")).await.unwrap().unwrap();
    assert_eq!(paris.market.exchange_rate.unwrap().to_string(), "0.94");
}

async fn what_is_exported_changes_nothing_when_it_is_imported(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let full = r#"{"product_id":"P-1","base_price":10.5,"cost":0,"floor":0.01,"ceiling":9999999999.99,"category":"s","tags":["a"]}"#;
    import(&catalogue, &[full], ROWS).await;
    let Page { rows, last, .. } = catalogue.catalogue_products(None, None, 1_000).await.unwrap();
    assert_eq!((rows.len(), last), (901, None));
    let row = |product: &pricing_core::catalogue::CatalogueProduct| {
        ImportRow::product(1, ProductFields::of(&product.id, &product.terms, Currency::USD), Currency::USD)
            .unwrap()
    };
    let rows: Vec<_> = rows.iter().map(row).collect();
    let (applied, _) = apply(&catalogue, ImportKind::Products, &rows, ROWS).await;
    assert_eq!(counts(&applied.unwrap()), (0, 0, 901, 0));

    let yen = r#"{"location":"TYO","multiplier":1.5,"currency":"JPY","exchange_rate":150.123456,"member_discount":0,"rounding":{"increment":100,"mode":"up","ending":80}}"#;
    let yen = ImportRow::market(1, serde_json::from_str(yen).unwrap()).unwrap();
    let (applied, _) = apply(&catalogue, ImportKind::Markets, &[yen], ROWS).await;
    assert_eq!(applied.unwrap().created, 1);
    let markets = catalogue.catalogue_markets(None, 100).await.unwrap().rows;
    let row = |market: &pricing_core::catalogue::CatalogueMarket| {
        ImportRow::market(1, MarketFields::of(&market.location, &(&market.market).into())).unwrap()
    };
    let rows: Vec<_> = markets.iter().map(row).collect();
    let (applied, _) = apply(&catalogue, ImportKind::Markets, &rows, ROWS).await;
    assert_eq!(counts(&applied.unwrap()), (0, 0, 5, 0));
}
