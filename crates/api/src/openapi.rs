//! The document that describes the service, generated from the code.

use pricing_service::health::HealthReport;
use utoipa::OpenApi as _;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, Response, ResponseBuilder};

use crate::auth::Role;
use crate::problem::{FieldError, PROBLEM_JSON, Problem};

/// The security scheme of calls: a key, with one of the roles that the call lists.
pub(crate) const KEY: &str = "key";

/// Statuses that every call may answer.
const ALWAYS: &[(&str, &str)] = &[
    ("500", "The service failed"),
    ("503", "A dependency is down, the service is overloaded, or the request timed out: try again"),
];
/// Statuses of calls with a body.
const WITH_BODY: &[(&str, &str)] = &[
    ("400", "The body is not JSON, or is nested deeper than 128 levels"),
    ("408", "The body came too slowly: 2 seconds, and one more for every 16 KiB"),
    ("413", "The body is longer than 64 KiB"),
    ("415", "The body is not declared as application/json"),
    ("422", "Fields of the body are missing or wrong"),
];
/// Statuses of calls that browsers take for ones that change something.
const UNSAFE: &[(&str, &str)] = &[("403", "A browser makes the call for a page of another origin")];
/// Statuses of calls when keys are on.
const WITH_KEYS: &[(&str, &str)] = &[
    ("401", "There is no key, or one that is not known"),
    ("403", "The key has no role that allows the call, or a browser makes it for a page of another origin"),
    ("429", "The calls of the key, or from the address, exceed their limit"),
];
/// Statuses of calls with parameters.
const WITH_PARAMETERS: &[(&str, &str)] = &[
    ("400", "The path is not UTF-8"),
    ("414", "Path and query are longer than 8 KiB together"),
    ("422", "Parameters are missing or wrong"),
];

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Pricing API",
        description = "Prices on the fast path, market events and recalculations on the slow one. \
                       Errors are problem documents (RFC 9457); only a request that is not HTTP/1.1, or whose \
                       head is too large, is answered 400 or 431 without a body."
    ),
    servers((url = "/")),
    paths(live, ready, metrics),
    components(schemas(Problem, FieldError))
)]
struct Document;

/// The document without the calls of the API.
pub(crate) fn document() -> OpenApi {
    Document::openapi()
}

/// Adds what calls have in common to each call of the API: problems, and the keys that they need if keys are on.
pub(crate) fn complete(mut document: OpenApi, needs_keys: bool) -> OpenApi {
    if needs_keys {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.description = Some("A key, as `pricing-api keys new` makes it".to_owned());
        document.components.get_or_insert_default().add_security_scheme(KEY, SecurityScheme::Http(scheme));
    }
    let metrics = document.paths.paths.get_mut("/metrics").and_then(|item| item.get.as_mut());
    for call in metrics.into_iter().filter(|_| needs_keys) {
        call.security = Some(vec![SecurityRequirement::new(KEY, [Role::Operate.as_str()])]);
        add_problems(call, WITH_KEYS);
    }
    let calls = document.paths.paths.iter_mut().filter(|(path, _)| path.starts_with("/api/"));
    for (_, item) in calls {
        let PathItem { get, put, post, delete, patch, .. } = item;
        get.iter_mut().for_each(|call| complete_call(call, &[], needs_keys));
        let unsafe_calls = [put, post, delete, patch].into_iter().flatten();
        unsafe_calls.for_each(|call| complete_call(call, UNSAFE, needs_keys));
    }
    document
}

fn complete_call(call: &mut Operation, of_method: &[(&str, &str)], needs_keys: bool) {
    let of_keys = if needs_keys { WITH_KEYS } else { &[] };
    if !needs_keys {
        call.security = None;
    }
    let body = call.request_body.as_ref().map_or(&[][..], |_| WITH_BODY);
    let parameters = call.parameters.as_ref().map_or(&[][..], |_| WITH_PARAMETERS);
    for statuses in [ALWAYS, body, parameters, of_keys, of_method] {
        add_problems(call, statuses);
    }
}

fn add_problems(call: &mut Operation, statuses: &[(&str, &str)]) {
    for (status, description) in statuses {
        let responses = &mut call.responses.responses;
        responses.entry((*status).to_owned()).or_insert_with(|| problem(status, description).into());
    }
}

fn problem(status: &str, description: &str) -> Response {
    let schema = Ref::from_schema_name("Problem");
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let response = ResponseBuilder::new().description(description).content(PROBLEM_JSON, content);
    match status {
        "429" | "503" => {
            let seconds = HeaderBuilder::new().description(Some("Seconds until it is worth trying again"));
            response.header("Retry-After", seconds.build()).build()
        }
        _ => response.build(),
    }
}

/// Check liveness
#[utoipa::path(
    get, path = "/health/live", tag = "operation",
    responses((status = 200, description = "The process is alive", body = String, content_type = "text/plain"))
)]
#[expect(dead_code, reason = "describes a call that pricing_service::admin serves")]
fn live() {}

/// Check readiness
#[utoipa::path(
    get, path = "/health/ready", tag = "operation",
    responses(
        (status = 200, description = "The process is ready, even if a dependency is down", body = HealthReport),
        (status = 503, description = "It is starting, stalled or draining", body = HealthReport),
    )
)]
#[expect(dead_code, reason = "describes a call that pricing_service::admin serves")]
fn ready() {}

/// Get metrics
#[utoipa::path(
    get, path = "/metrics", tag = "operation",
    responses((status = 200, description = "Prometheus text", body = String, content_type = "text/plain"))
)]
#[expect(dead_code, reason = "describes a call that pricing_service::admin serves")]
fn metrics() {}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn described() -> Value {
        serde_json::to_value(complete(crate::router::calls(document()).1, false)).unwrap()
    }

    #[test]
    fn every_call_is_described() {
        let document = described();
        let mut paths: Vec<_> = document["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        paths.sort_unstable();
        assert_eq!(
            paths,
            [
                "/api/v1/markets",
                "/api/v1/markets/{location}",
                "/api/v1/markets/{location}/history",
                "/api/v1/price",
                "/api/v1/price/{product_id}",
                "/api/v1/prices",
                "/api/v1/products",
                "/api/v1/products/batch",
                "/api/v1/products/{product_id}",
                "/api/v1/products/{product_id}/history",
                "/api/v1/publish-market-event",
                "/api/v1/recalculate",
                "/api/v1/tasks",
                "/api/v1/tasks/{task_id}",
                "/api/v1/tasks/{task_id}/replay",
                "/health/live",
                "/health/ready",
                "/metrics",
            ]
        );
    }

    #[test]
    fn a_call_lists_every_status_it_may_answer() {
        let document = described();
        let statuses = |path: &str, method: &str| -> Vec<String> {
            let responses = &document["paths"][path][method]["responses"];
            responses.as_object().unwrap().keys().cloned().collect()
        };
        let all = ["200", "400", "403", "404", "408", "413", "415", "422", "500", "503"];
        assert_eq!(statuses("/api/v1/price", "post"), all);
        assert_eq!(
            statuses("/api/v1/price/{product_id}", "get"),
            ["200", "304", "400", "404", "414", "422", "500", "503"]
        );
        assert_eq!(
            statuses("/api/v1/recalculate", "post"),
            ["200", "400", "403", "408", "413", "415", "422", "500", "503"]
        );
    }

    #[test]
    fn a_call_lists_the_roles_that_it_takes_if_keys_are_on() {
        let with_keys = serde_json::to_value(complete(crate::router::calls(document()).1, true)).unwrap();
        let call = &with_keys["paths"]["/api/v1/tasks/{task_id}"]["get"];
        assert_eq!(call["security"], serde_json::json!([{"key": ["publish", "operate"]}]));
        assert_eq!(call["responses"]["429"]["headers"]["Retry-After"]["schema"]["type"], "string");
        assert_eq!(with_keys["components"]["securitySchemes"]["key"]["scheme"], "bearer");
        let without = described();
        assert_eq!(without["paths"]["/api/v1/tasks/{task_id}"]["get"]["security"], Value::Null);
        assert_eq!(without["components"]["securitySchemes"], Value::Null);
    }

    #[test]
    fn bounds_are_part_of_the_description() {
        let document = described();
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["Identifier"]["pattern"], "^[A-Za-z0-9._-]{1,64}$");
        let ids = &schemas["PricesRequest"]["properties"]["product_ids"];
        assert_eq!((&ids["minItems"], &ids["maxItems"]), (&Value::from(1), &Value::from(500)));
        let optional = &document["paths"]["/api/v1/recalculate"]["post"]["requestBody"];
        assert_ne!(optional["required"], true, "{optional}");
    }

    #[test]
    fn readiness_is_described_as_it_is_sent() {
        let document = described();
        let report = &document["components"]["schemas"]["HealthReport"];
        assert_eq!(report["required"], serde_json::json!(["status", "redis", "degraded"]));
        assert_eq!(report["properties"]["stalled"]["type"], "array");
        let phase = &document["components"]["schemas"]["Phase"];
        assert!(phase.to_string().contains("stalled"), "{phase}");
        let answer = &document["paths"]["/health/ready"]["get"]["responses"]["503"]["content"];
        assert_eq!(answer["application/json"]["schema"]["$ref"], "#/components/schemas/HealthReport");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = described();
        let text = document.to_string();
        for reference in text.split(r##""$ref":"#"##).skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
    }
}
