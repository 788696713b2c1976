//! Each change is in the history, whoever makes it, and the history leads to what there is.

use pricing_core::audit::AuditCaller;
use pricing_core::catalogue::{
    Action, Catalogue, ChangeOrigin, HistoryFilter, ListPrice, Locked, MarketChange, MarketEdit,
    Precondition, ProductChange, ProductEdit,
};
use pricing_core::ids::TaskId;
use pricing_harness::databases::TestDatabase;
use rand::RngExt as _;

use crate::edits::fields;
use crate::{cents, location, product_id};

on_both_databases!(
    a_change_says_who_made_it_and_what_it_changed,
    a_change_by_hand_is_recorded,
    a_market_has_its_terms_before_and_after,
    a_history_is_read_in_parts_and_by_time,
    old_changes_are_pruned,
    the_history_of_random_changes_leads_to_the_final_state,
);

async fn history(catalogue: &Catalogue, id: &str) -> Vec<ProductChange> {
    catalogue.product_history(&product_id(id), &HistoryFilter::default()).await.unwrap()
}

async fn put(catalogue: &Catalogue, id: &str, json: &str, origin: &ChangeOrigin) {
    let action = Action::Put(fields(json));
    let edit = ProductEdit { id: product_id(id), action, precondition: Precondition::None };
    catalogue.edit_products(&[edit], origin).await.unwrap().remove(0).unwrap();
}

async fn a_change_says_who_made_it_and_what_it_changed(database: &TestDatabase) {
    let catalogue = database.open().await;
    let shop = ChangeOrigin::caller(&AuditCaller::Key("shop".to_owned()));
    put(&catalogue, "P-1", r#"{"base_price":10,"floor":5}"#, &shop).await;
    put(&catalogue, "P-1", r#"{"base_price":10,"floor":5,"category":"shoes"}"#, &shop).await; // no price depends on it
    let product = catalogue.product(&product_id("P-1")).await.unwrap().unwrap();
    let task = ChangeOrigin::task(&TaskId::parse("T-7").unwrap());
    let price = ListPrice { id: product_id("P-1"), version: product.version, price: Some(cents(900)) };
    catalogue.record_list_prices(&[price], &task, Locked::Wait).await.unwrap();
    put(
        &catalogue,
        "P-1",
        r#"{"base_price":11,"ceiling":12}"#,
        &ChangeOrigin::caller(&AuditCaller::Anonymous),
    )
    .await;

    let history = history(&catalogue, "P-1").await;
    let what: Vec<_> = history
        .iter()
        .map(|change| {
            (
                change.change.as_str(),
                change.changed_by.as_str(),
                change.base_price_minor,
                change.list_price_minor,
            )
        })
        .collect();
    assert_eq!(
        what,
        [
            ("edited", "anonymous", Some(1_100), None),
            ("recalculated", "task:T-7", Some(1_000), Some(900)),
            ("created", "key:shop", Some(1_000), None),
        ]
    );
    let latest = &history[0];
    assert_eq!(
        (latest.old_list_price_minor, latest.old_floor_minor, latest.floor_minor),
        (Some(900), Some(500), None)
    );
    assert_eq!((latest.old_ceiling_minor, latest.ceiling_minor), (None, Some(1_200)));
    let now = catalogue.product(&product_id("P-1")).await.unwrap().unwrap();
    assert_eq!(latest.version.unsigned_abs(), now.version);
}

async fn a_change_by_hand_is_recorded(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    database.execute(&["UPDATE products SET base_price_minor = 1 WHERE id = 'P-100'"]).await;
    database.execute(&["UPDATE products SET id = 'renamed' WHERE id = 'P-100'"]).await;
    database.execute(&["DELETE FROM products WHERE id = 'renamed'"]).await;
    let changes = |history: Vec<ProductChange>| -> Vec<String> {
        history.into_iter().map(|change| change.change).collect()
    };
    let old = history(&catalogue, "P-100").await;
    assert!(old[0].changed_by.starts_with("sql"), "{}", old[0].changed_by);
    assert_eq!(changes(old), ["deleted", "edited", "created"]);
    let new = history(&catalogue, "renamed").await;
    assert_eq!((new[0].old_base_price_minor, new[0].base_price_minor), (Some(1), None));
    assert_eq!(changes(new), ["deleted", "created"]);
}

async fn a_market_has_its_terms_before_and_after(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let action = Action::Patch(serde_json::from_str(r#"{"member_discount":0.07}"#).unwrap());
    let edit = MarketEdit {
        location: location("NY"),
        action,
        precondition: Precondition::None,
        is_confirmed: false,
    };
    let origin = ChangeOrigin::caller(&AuditCaller::Key("shop".to_owned()));
    catalogue.edit_market(&edit, &origin).await.unwrap().unwrap();
    database.execute(&["DELETE FROM markets WHERE location = 'NY'"]).await;
    let history = catalogue.market_history(&location("NY"), &HistoryFilter::default()).await.unwrap();
    let [deleted, edited, created] = &history[..] else { panic!("{history:?}") };
    let discounts = |change: &MarketChange| {
        [change.old, change.new].map(|terms| terms.map(|terms| terms.member_discount.get()))
    };
    assert_eq!(discounts(created), [None, Some(50_000)]);
    assert_eq!(discounts(edited), [Some(50_000), Some(70_000)]);
    assert_eq!(discounts(deleted), [Some(70_000), None]);
    assert_eq!((edited.changed_by.as_str(), edited.change.as_str()), ("key:shop", "edited"));
}

async fn a_history_is_read_in_parts_and_by_time(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    for price in 1..=5 {
        database
            .execute(&[&format!("UPDATE products SET base_price_minor = {price} WHERE id = 'P-100'")])
            .await;
    }
    let all = history(&catalogue, "P-100").await;
    assert_eq!(all.len(), 6);
    let (mut parts, mut filter) = (Vec::new(), HistoryFilter { limit: 4, ..HistoryFilter::default() });
    loop {
        let part = catalogue.product_history(&product_id("P-100"), &filter).await.unwrap();
        let Some(last) = part.last() else { break };
        filter.before_id = last.id;
        parts.extend(part);
    }
    assert_eq!(parts, all);
    let middle = all[2].changed_at_ms;
    for (from_ms, to_ms) in [(middle, i64::MAX), (i64::MIN, middle)] {
        let filter = HistoryFilter { from_ms, to_ms, ..HistoryFilter::default() };
        let some = catalogue.product_history(&product_id("P-100"), &filter).await.unwrap();
        let expected: Vec<_> =
            all.iter().filter(|change| (from_ms..to_ms).contains(&change.changed_at_ms)).cloned().collect();
        assert_eq!(some, expected);
    }
}

async fn old_changes_are_pruned(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    assert_eq!(catalogue.prune_history(1_000).await.unwrap(), 0);
    assert_eq!(catalogue.prune_history(i64::MAX).await.unwrap(), 904, "900 products and 4 markets");
    assert_eq!(history(&catalogue, "P-100").await, []);
}

async fn the_history_of_random_changes_leads_to_the_final_state(database: &TestDatabase) {
    let catalogue = database.open().await;
    let origin = ChangeOrigin::caller(&AuditCaller::Anonymous);
    for step in 0..300 {
        let (id, price) =
            (format!("P-{}", rand::rng().random_range(0..5)), rand::rng().random_range(1..1_000));
        match rand::rng().random_range(0..8) {
            0 => put(&catalogue, &id, &format!(r#"{{"base_price":{price}}}"#), &origin).await,
            1 => put(&catalogue, &id, &format!(r#"{{"base_price":1,"floor":{price}}}"#), &origin).await,
            2 => {
                let edit = ProductEdit {
                    id: product_id(&id),
                    action: Action::Delete,
                    precondition: Precondition::None,
                };
                let _ = catalogue.edit_products(&[edit], &origin).await.unwrap();
            }
            3 => {
                database
                    .execute(&[&format!("UPDATE products SET list_price_minor = {price} WHERE id = '{id}'")])
                    .await
            }
            4 => {
                database
                    .execute(&[&format!("UPDATE products SET base_price_minor = {price} WHERE id = '{id}'")])
                    .await
            }
            5 => database.execute(&[&format!("DELETE FROM products WHERE id = '{id}'")]).await,
            6 => {
                let rename = format!("UPDATE products SET id = 'P-{}' WHERE id = '{id}'", step % 5);
                database.try_execute(&rename).await; // unless there is one
            }
            _ => {
                if let Some(product) = catalogue.product(&product_id(&id)).await.unwrap() {
                    let price = Some(cents(price)).filter(|price| *price != product.base_price);
                    let price = ListPrice { id: product_id(&id), version: product.version, price };
                    catalogue.record_list_prices(&[price], &origin, Locked::Wait).await.unwrap();
                }
            }
        }
    }
    for id in (0..5).map(|n| format!("P-{n}")) {
        let mut state = None;
        for change in history(&catalogue, &id).await.into_iter().rev() {
            let old = change
                .old_base_price_minor
                .map(|base| (base, change.old_list_price_minor, change.old_floor_minor));
            assert_eq!(old, state, "{id}: {change:?}");
            state = change.base_price_minor.map(|base| (base, change.list_price_minor, change.floor_minor));
        }
        let product = catalogue.product(&product_id(&id)).await.unwrap();
        let now = product.map(|product| {
            let minor = |money: Option<pricing_core::money::Money>| money.map(|money| money.minor());
            (product.base_price.minor(), minor(product.list_price), minor(product.floor))
        });
        assert_eq!(state, now, "{id}");
    }
}
