//! Edits through the catalogue: each under the revision that its author has seen.

use pricing_core::audit::AuditCaller;
use pricing_core::catalogue::{
    Action, Catalogue, CatalogueMarket, CatalogueProduct, ChangeOrigin, EditRefusal, Edited, MarketEdit,
    MarketFields, Precondition, ProductEdit, ProductFields,
};
use pricing_core::ids::Location;
use pricing_harness::databases::TestDatabase;

use crate::{location, product_id};

on_both_databases!(
    a_product_is_created_changed_and_deleted,
    a_stale_revision_changes_nothing,
    one_refusal_does_not_hinder_the_other_edits,
    an_edit_that_changes_nothing_makes_no_revision,
    a_recalculation_does_not_invalidate_an_edit,
    a_suspicious_change_of_terms_must_be_confirmed,
    the_default_market_stays,
    concurrent_edits_under_one_revision_succeed_once,
);

pub(crate) fn origin() -> ChangeOrigin {
    ChangeOrigin::caller(&AuditCaller::Key("shop".to_owned()))
}

pub(crate) fn fields(json: &str) -> ProductFields {
    serde_json::from_str(json).unwrap()
}

fn market_fields(json: &str) -> MarketFields {
    serde_json::from_str(json).unwrap()
}

pub(crate) type ProductOutcome = Result<Edited<CatalogueProduct>, EditRefusal>;

pub(crate) async fn edit(
    catalogue: &Catalogue,
    id: &str,
    action: Action<ProductFields>,
    precondition: Precondition,
) -> ProductOutcome {
    let edit = ProductEdit { id: product_id(id), action, precondition };
    catalogue.edit_products(&[edit], &origin()).await.unwrap().remove(0)
}

fn stored(outcome: ProductOutcome) -> (CatalogueProduct, bool) {
    match outcome.unwrap() {
        Edited::Stored { entry, created } => (entry, created),
        deleted => panic!("{deleted:?}"),
    }
}

async fn edit_market(
    catalogue: &Catalogue,
    location: Location,
    action: Action<MarketFields>,
    precondition: Precondition,
    is_confirmed: bool,
) -> Result<Edited<CatalogueMarket>, EditRefusal> {
    let edit = MarketEdit { location, action, precondition, is_confirmed };
    catalogue.edit_market(&edit, &origin()).await.unwrap()
}

async fn a_product_is_created_changed_and_deleted(database: &TestDatabase) {
    let catalogue = database.open().await;
    let full = r#"{"base_price":10.5,"cost":4,"floor":5,"ceiling":20,"category":"shoes","tags":["b","a"]}"#;
    let (created, is_new) =
        stored(edit(&catalogue, "P-1", Action::Put(fields(full)), Precondition::None).await);
    assert!(is_new && created.revision == created.version);
    assert_eq!(created.terms.tags.iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(catalogue.catalogue_product(&created.id).await.unwrap().as_ref(), Some(&created));
    let priced = catalogue.product(&created.id).await.unwrap().unwrap();
    assert_eq!(priced, created.product(priced.currency));

    let patch = Action::Patch(fields(r#"{"floor":null,"category":"boots"}"#));
    let (patched, is_new) = stored(edit(&catalogue, "P-1", patch, Precondition::Exists).await);
    assert!(!is_new && patched.revision > created.revision);
    assert_eq!((patched.terms.floor, patched.terms.ceiling), (None, created.terms.ceiling));

    let (put, _) =
        stored(edit(&catalogue, "P-1", Action::Put(fields(r#"{"base_price":9}"#)), Precondition::None).await);
    assert_eq!((put.terms.ceiling, put.terms.category), (None, None), "a PUT replaces all fields");

    let deleted =
        edit(&catalogue, "P-1", Action::Delete, Precondition::Revision(put.revision)).await.unwrap();
    let Edited::Deleted { version } = deleted else { panic!("{deleted:?}") };
    assert!(version > put.version);
    assert_eq!(catalogue.product(&created.id).await.unwrap(), None);
    for action in [Action::Delete, Action::Patch(fields("{}"))] {
        assert_eq!(edit(&catalogue, "P-1", action, Precondition::None).await, Err(EditRefusal::NotFound));
    }
}

async fn a_stale_revision_changes_nothing(database: &TestDatabase) {
    let catalogue = database.open().await;
    let put = |price: u32| Action::Put(fields(&format!(r#"{{"base_price":{price}}}"#)));
    let (first, _) = stored(edit(&catalogue, "P-1", put(1), Precondition::Absent).await);
    let (second, _) = stored(edit(&catalogue, "P-1", put(2), Precondition::Revision(first.revision)).await);
    let refused = EditRefusal::Precondition { revision: Some(second.revision) };
    for precondition in [Precondition::Revision(first.revision), Precondition::Absent] {
        for action in [put(3), Action::Delete] {
            assert_eq!(edit(&catalogue, "P-1", action, precondition).await, Err(refused.clone()));
        }
    }
    let wrong = Action::Put(fields(r#"{"base_price":-1}"#));
    let wrong = edit(&catalogue, "P-1", wrong, Precondition::Revision(first.revision)).await;
    assert!(
        matches!(wrong, Err(EditRefusal::Fields(_))),
        "what is wrong whatever the revision is said first"
    );
    let missing = edit(&catalogue, "P-2", put(3), Precondition::Exists).await;
    assert_eq!(missing, Err(EditRefusal::Precondition { revision: None }));
    assert_eq!(catalogue.catalogue_product(&first.id).await.unwrap(), Some(second.clone()));

    // A revision is never used again, also not by a product that is created again.
    edit(&catalogue, "P-1", Action::Delete, Precondition::None).await.unwrap();
    let (third, _) = stored(edit(&catalogue, "P-1", put(2), Precondition::None).await);
    assert!(third.revision > second.revision);
}

async fn one_refusal_does_not_hinder_the_other_edits(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let edits = [
        ("P-102", Action::Patch(fields(r#"{"base_price":1}"#))),
        ("P-nowhere", Action::Patch(fields(r#"{"base_price":1}"#))),
        ("P-new", Action::Put(fields(r#"{"base_price":2}"#))),
        ("P-101", Action::Upsert(fields(r#"{"floor":2,"ceiling":1}"#))),
        ("P-100", Action::Delete),
    ];
    let edits = edits.map(|(id, action)| ProductEdit {
        id: product_id(id),
        action,
        precondition: Precondition::None,
    });
    let outcomes = catalogue.edit_products(&edits, &origin()).await.unwrap();
    assert!(
        matches!(&outcomes[0], Ok(Edited::Stored { created: false, entry }) if entry.terms.base_price.minor() == 100)
    );
    assert_eq!(outcomes[1], Err(EditRefusal::NotFound));
    assert!(matches!(&outcomes[2], Ok(Edited::Stored { created: true, .. })));
    assert!(matches!(&outcomes[3], Err(EditRefusal::Fields(errors)) if errors[0].field == "floor"));
    assert!(matches!(&outcomes[4], Ok(Edited::Deleted { .. })));
    assert_eq!(catalogue.count_products().await.unwrap(), 900);
}

async fn an_edit_that_changes_nothing_makes_no_revision(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let before = catalogue.catalogue_product(&product_id("P-100")).await.unwrap().unwrap();
    let last = catalogue.last_version().await.unwrap();
    let (after, _) = stored(edit(&catalogue, "P-100", Action::Patch(fields("{}")), Precondition::None).await);
    assert_eq!(after, before);
    let market = market_fields(r#"{"multiplier":0.95}"#);
    edit_market(&catalogue, location("NY"), Action::Put(market), Precondition::None, false).await.unwrap();
    assert_eq!(catalogue.last_version().await.unwrap(), last);
}

async fn a_recalculation_does_not_invalidate_an_edit(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let before = catalogue.catalogue_product(&product_id("P-100")).await.unwrap().unwrap();
    database.execute(&["UPDATE products SET list_price_minor = 4000 WHERE id = 'P-100'"]).await;
    let category = Action::Patch(fields(r#"{"category":"shoes"}"#));
    let (edited, _) =
        stored(edit(&catalogue, "P-100", category, Precondition::Revision(before.revision)).await);
    assert_eq!(edited.list_price.map(|price| price.minor()), Some(4_000), "the base price is as it was");
    let (dearer, _) = stored(
        edit(&catalogue, "P-100", Action::Patch(fields(r#"{"base_price":60}"#)), Precondition::None).await,
    );
    assert_eq!(dearer.list_price, None, "it was made of the old base price");
}

async fn a_suspicious_change_of_terms_must_be_confirmed(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let put = Action::Put(market_fields(r#"{"multiplier":1,"currency":"EUR","exchange_rate":1.08}"#));
    let market = edit_market(&catalogue, location("DE"), put, Precondition::None, false).await.unwrap();
    let Edited::Stored { entry, created: true } = market else { panic!("{market:?}") };
    let slip = Action::Patch(market_fields(r#"{"exchange_rate":0.0108}"#));
    for (precondition, is_confirmed) in [
        (Precondition::None, false),
        (Precondition::None, true),
        (Precondition::Revision(entry.revision), false),
    ] {
        let refused = edit_market(&catalogue, location("DE"), slip.clone(), precondition, is_confirmed).await;
        let Err(EditRefusal::Suspicious { change, revision }) = refused else { panic!("{refused:?}") };
        assert_eq!((&*change.old, &*change.new, revision), ("1.08", "0.0108", entry.revision));
    }
    let confirmed = Precondition::Revision(entry.revision);
    let market = edit_market(&catalogue, location("DE"), slip, confirmed, true).await.unwrap();
    assert!(
        matches!(market, Edited::Stored { entry, .. } if entry.market.exchange_rate.unwrap().to_string() == "0.0108")
    );
}

async fn the_default_market_stays(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let delete = |name| edit_market(&catalogue, location(name), Action::Delete, Precondition::None, false);
    assert_eq!(delete("default").await, Err(EditRefusal::DefaultMarket));
    assert!(matches!(delete("NY").await, Ok(Edited::Deleted { .. })));
    assert_eq!(delete("NY").await, Err(EditRefusal::NotFound));
}

async fn concurrent_edits_under_one_revision_succeed_once(database: &TestDatabase) {
    let catalogue = database.open_demo().await;
    let before = catalogue.catalogue_product(&product_id("P-100")).await.unwrap().unwrap();
    let edits = (1..=16).map(|price| {
        let action = Action::Put(fields(&format!(r#"{{"base_price":{price}}}"#)));
        edit(&catalogue, "P-100", action, Precondition::Revision(before.revision))
    });
    let outcomes = futures_util::future::join_all(edits).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let created = (1..=16).map(|price| {
        edit(
            &catalogue,
            "new",
            Action::Put(fields(&format!(r#"{{"base_price":{price}}}"#))),
            Precondition::None,
        )
    });
    for outcome in futures_util::future::join_all(created).await {
        outcome.unwrap();
    }
    assert_eq!(catalogue.count_products().await.unwrap(), 901);
    let first = (1..=16).map(|price| {
        let action = Action::Put(fields(&format!(r#"{{"base_price":{price}}}"#)));
        edit(&catalogue, "newer", action, Precondition::Absent)
    });
    let outcomes = futures_util::future::join_all(first).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "one has created it");
}
