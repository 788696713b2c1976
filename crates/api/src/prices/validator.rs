//! Whether a client has a price already (RFC 9110, section 13).

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use pricing_core::price::{Membership, PriceDetail};

use super::quote::Customer;

/// The weak `ETag` of a price: all that the price depends on. `source` and `age_ms` of the answer are no part of it.
pub(super) fn tag(detail: &PriceDetail, customer: &Customer, is_explained: bool) -> HeaderValue {
    let membership = match customer.membership {
        Membership::Standard => "standard",
        Membership::Prime => "prime",
    };
    let explained = if is_explained { "+explained" } else { "" };
    let (product, market, location) = (detail.version, detail.market_version, customer.location.as_str());
    let tag = format!("W/\"{product}-{market}-{membership}{explained}-{location}\"");
    HeaderValue::try_from(tag).expect("invariant: an id holds only what a header can")
}

/// The tags of answers that the client has, from `If-None-Match`.
pub(crate) struct IfNoneMatch(Vec<HeaderValue>);

impl<S: Send + Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.headers.get_all(header::IF_NONE_MATCH).into_iter().cloned().collect()))
    }
}

impl IfNoneMatch {
    /// Whether one of the tags is this one, or is `*`. Weak and strong tags compare alike.
    ///
    /// Our tags hold no comma, so a comma inside another tag makes no difference.
    pub(super) fn has(&self, tag: &HeaderValue) -> bool {
        let opaque = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
        let tag = opaque(tag.as_bytes());
        let mut listed = self.0.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        listed.any(|listed| {
            let listed = listed.trim_ascii();
            listed == b"*" || opaque(listed) == tag
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use pricing_core::ids::Location;
    use pricing_core::money::{Currency, Money, Ppm};
    use pricing_core::price::{Market, Product, price};

    use super::*;

    async fn has(headers: &[&str], tag: &'static str) -> bool {
        let request = headers
            .iter()
            .fold(Request::builder(), |request, value| request.header(header::IF_NONE_MATCH, *value));
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let Ok(listed) = IfNoneMatch::from_request_parts(&mut parts, &()).await;
        listed.has(&HeaderValue::from_static(tag))
    }

    #[tokio::test]
    async fn a_tag_is_found_among_those_listed() {
        const TAG: &str = "W/\"7-12-prime-NY\"";
        for headers in [
            &[TAG][..],
            &["\"7-12-prime-NY\""],
            &["*"],
            &["\"1\", W/\"7-12-prime-NY\""],
            &["\"a,b\",W/\"7-12-prime-NY\" , \"c\""],
            &["\"1\"", TAG],
        ] {
            assert!(has(headers, TAG).await, "{headers:?}");
        }
        for headers in [
            &[][..],
            &[""],
            &["7-12-prime-NY"],
            &["W/\"7-12-prime-NY"],
            &["W/\"7-12-standard-NY\""],
            &["w/\"7-12-prime-NY\""],
            &["\"*\""],
        ] {
            assert!(!has(headers, TAG).await, "{headers:?}");
        }
    }

    #[test]
    fn all_that_a_price_depends_on_is_in_its_tag() {
        let tag = |product, market, membership, location, is_explained| {
            let product = Product::new(Money::base(5_499).unwrap(), Currency::USD, product);
            let market = Market::new(Ppm::ONE, Currency::USD, market);
            let customer = Customer { location: Location::parse(location).unwrap(), membership };
            tag(&price(&product, &market, membership).unwrap(), &customer, is_explained)
        };
        let tags = [
            tag(7, 12, Membership::Standard, "NY", false),
            tag(8, 12, Membership::Standard, "NY", false),
            tag(7, 13, Membership::Standard, "NY", false),
            tag(7, 12, Membership::Prime, "NY", false),
            tag(7, 12, Membership::Standard, "LA", false),
            tag(7, 12, Membership::Standard, "NY", true),
        ];
        assert_eq!(tags[0], "W/\"7-12-standard-NY\"");
        for (position, one) in tags.iter().enumerate() {
            assert!(!tags[..position].contains(one), "{one:?}");
        }
    }
}
