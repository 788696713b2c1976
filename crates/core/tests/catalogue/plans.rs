//! PostgreSQL finds the rows of each statement by an index, also in tables that it has no statistics of.

use std::time::Duration;

use pricing_core::audit::{Audit, AuditAction, AuditCaller, AuditEntry, AuditFilter};
use pricing_core::cache::Kind;
use pricing_core::catalogue::{
    Action, Catalogue, ChangeOrder, ChangeOrigin, HistoryFilter, Label, ListPrice, Locked, Precondition,
    ProductEdit, ProductFields,
};
use pricing_core::ids::TaskId;
use pricing_core::money::Ppm;
use pricing_harness::databases::TestDatabase;
use pricing_harness::edits::EditCatalogue as _;
use pricing_harness::waiting::eventually;

use crate::{cents, location, product_id};

/// Scans of whole tables by the connections of catalogues that were closed.
async fn table_scans(database: &TestDatabase) -> i64 {
    let connections = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    eventually(Duration::from_secs(30), "the connections to end, which report then", async || {
        (database.select(connections).await == 0).then_some(())
    })
    .await;
    let scans = "SELECT SUM(seq_scan)::BIGINT FROM pg_stat_user_tables \
                 WHERE relname IN ('products', 'markets', 'product_history', 'market_history', 'pending_changes', 'audit')";
    database.select(scans).await
}

#[tokio::test]
async fn no_statement_reads_a_whole_table() {
    let database = TestDatabase::postgres().await;
    database.open_demo().await.close().await;
    let before = table_scans(&database).await;

    let catalogue = database.open().await;
    // A plan is made for the values at first, and for any values from the sixth time on.
    for round in 1..=7 {
        read(&catalogue).await;
        write(&catalogue, round).await;
        follow(&catalogue).await;
        audit(&Audit::new(&catalogue)).await;
    }
    catalogue.close().await;
    assert_eq!(table_scans(&database).await, before);
}

async fn read(catalogue: &Catalogue) {
    catalogue.product(&product_id("P-100")).await.unwrap().unwrap();
    catalogue.market(&location("NY")).await.unwrap().unwrap();
    let products: Vec<_> = (100..600).map(|number| product_id(&format!("P-{number}"))).collect();
    assert_eq!(catalogue.products(&products).await.unwrap().len(), 500);
    assert_eq!(catalogue.markets(&[location("NY"), location("LA")]).await.unwrap().len(), 2);
    assert_eq!(catalogue.products_after(Some("P-200"), 500).await.unwrap().rows.len(), 500);
    assert_eq!(catalogue.markets_after(Some("LA"), 2).await.unwrap().rows.len(), 2);
}

async fn write(catalogue: &Catalogue, round: i64) {
    catalogue.set_base_price(&product_id("P-100"), cents(round)).await;
    catalogue.set_multiplier(&location("NY"), Ppm::multiplier(round).unwrap()).await;
    for (locked, price) in [(Locked::Wait, round), (Locked::Skip, round + 100)] {
        let rows = catalogue.products_after(None, 500).await.unwrap().rows;
        let batch = rows.into_iter().map(|row| ListPrice {
            id: row.id,
            version: row.product.version,
            price: Some(cents(price)),
        });
        let batch: Vec<_> = batch.collect();
        let origin = ChangeOrigin::task(&TaskId::generate());
        let recorded = catalogue.record_list_prices(&batch, &origin, locked).await.unwrap();
        assert_eq!(recorded.versions.len(), 500);
    }
    let filter = HistoryFilter::default();
    assert!(catalogue.product_history(&product_id("P-101"), &filter).await.unwrap().len() >= 2);
    assert!(!catalogue.market_history(&location("NY"), &filter).await.unwrap().is_empty());
    let fields = ProductFields { category: Some(Some(format!("shoes {round}"))), ..ProductFields::default() };
    let edit =
        |id: &str, action| ProductEdit { id: product_id(id), action, precondition: Precondition::None };
    let edits = [
        edit("P-102", Action::Patch(fields)),
        edit("new", Action::Put(serde_json::from_str(r#"{"base_price":1}"#).unwrap())),
    ];
    let origin = ChangeOrigin::task(&TaskId::generate());
    catalogue.edit_products(&edits, &origin).await.unwrap();
    let edits = [edit("new", Action::Delete)];
    catalogue.edit_products(&edits, &origin).await.unwrap();
    let shoes = Label::parse(format!("shoes {round}")).unwrap();
    assert_eq!(catalogue.catalogue_products(Some(&shoes), None, 10).await.unwrap().rows.len(), 1);
    assert!(catalogue.prune_history(i64::MAX).await.unwrap() >= 1_000);
}

async fn follow(catalogue: &Catalogue) {
    let ids: Vec<_> = (0..500).map(|number| format!("X-{number}")).collect();
    let last = catalogue.last_version().await.unwrap();
    catalogue.make_pending(Kind::Product, &ids, last).await.unwrap();
    catalogue.pending_changes(ChangeOrder::Newest, 500).await.unwrap();
    let changes = catalogue.pending_changes(ChangeOrder::Oldest, 2_000).await.unwrap();
    assert!(changes.len() >= 500);
    catalogue.changes_stored(&changes, "one", 1).await.unwrap();
    assert!(catalogue.reopen_changes("another").await.unwrap() >= 500);
    catalogue.changes_stored(&changes, "another", 1).await.unwrap();
    assert!(catalogue.forget_changes("another", 2).await.unwrap() >= 500);
}

async fn audit(audit: &Audit) {
    audit.record(&AuditEntry::new(AuditCaller::Anonymous, AuditAction::TasksListed)).await.unwrap();
    let filter = AuditFilter { caller: Some("anonymous".to_owned()), ..AuditFilter::default() };
    for filter in [filter, AuditFilter::default()] {
        assert_eq!(audit.page(None, 10, &filter).await.unwrap().rows.len(), 1);
    }
    assert_eq!(audit.prune(i64::MAX).await.unwrap(), 1);
}
