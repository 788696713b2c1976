//! Short forms of edits of the catalogue.

use pricing_core::audit::AuditCaller;
use pricing_core::catalogue::{
    Action, Catalogue, ChangeOrigin, MarketEdit, MarketFields, Number, Precondition, ProductEdit,
    ProductFields,
};
use pricing_core::ids::{Location, ProductId};
use pricing_core::money::{Amount, Money, Ppm};

/// Edits that a test takes for granted.
pub trait EditCatalogue {
    /// Sets the base price of a product, which is created when it is new.
    fn set_base_price(&self, id: &ProductId, price: Money) -> impl Future<Output = ()> + Send;

    /// Sets the multiplier of a market, which is created when it is new.
    fn set_multiplier(&self, location: &Location, multiplier: Ppm) -> impl Future<Output = ()> + Send;
}

impl EditCatalogue for Catalogue {
    async fn set_base_price(&self, id: &ProductId, price: Money) {
        let currency = self.currency().expect("the catalogue is prepared");
        let price = Number::parse(&Amount { money: price, currency }.to_string());
        let fields = ProductFields { base_price: Some(Some(price)), ..ProductFields::default() };
        let edit =
            ProductEdit { id: id.clone(), action: Action::Upsert(fields), precondition: Precondition::None };
        let edited = self.edit_products(&[edit], &origin()).await.expect("the database answers");
        edited.into_iter().for_each(|outcome| drop(outcome.expect("the price is valid")));
    }

    async fn set_multiplier(&self, location: &Location, multiplier: Ppm) {
        let multiplier = Number::parse(&multiplier.to_string());
        let fields = MarketFields { multiplier: Some(Some(multiplier)), ..MarketFields::default() };
        let revision = self.catalogue_market(location).await.expect("the database answers");
        let revision =
            revision.map_or(Precondition::Absent, |market| Precondition::Revision(market.revision));
        let edit = MarketEdit {
            location: location.clone(),
            action: Action::Upsert(fields),
            precondition: revision,
            is_confirmed: true,
        };
        self.edit_market(&edit, &origin()).await.expect("the database answers").expect("the terms are valid");
    }
}

fn origin() -> ChangeOrigin {
    ChangeOrigin::caller(&AuditCaller::Anonymous)
}
