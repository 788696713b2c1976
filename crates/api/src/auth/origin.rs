//! What a request says of where it comes from: pages of others, and names that others chose, may not use a browser.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::http::{HeaderMap, Request, header};

const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Whether a browser makes this call for a page of another site: one that may change something, with
/// `Sec-Fetch-Site: cross-site` or an `Origin` that is not the host it is sent to. Other clients send neither header.
pub(super) fn is_foreign<B>(request: &Request<B>) -> bool {
    if request.method().is_safe() {
        return false;
    }
    let headers = request.headers();
    let is_cross_site = headers.get(SEC_FETCH_SITE).is_some_and(|site| site.as_bytes() == b"cross-site");
    let host = headers.get(header::HOST).map(|host| host.as_bytes());
    let is_own = |origin: &[u8]| {
        let rest = [&b"http://"[..], b"https://"].iter().find_map(|scheme| origin.strip_prefix(*scheme));
        rest.zip(host).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
    };
    is_cross_site || headers.get_all(header::ORIGIN).iter().any(|origin| !is_own(origin.as_bytes()))
}

/// Whether a call may change something or shows what others asked for: any but reads of prices and of pages.
pub(super) fn is_sensitive<B>(request: &Request<B>) -> bool {
    !request.method().is_safe() || request.uri().path().starts_with("/api/v1/tasks")
}

/// Whether a request names its host by an address or as `localhost`, or not at all. A page whose name was made to lead
/// to this host (DNS rebinding) makes a browser send that name.
pub(super) fn names_this_host(headers: &HeaderMap) -> bool {
    headers.get_all(header::HOST).iter().all(|host| host.to_str().is_ok_and(is_this_host))
}

/// Whether `host`, with or without a port, is an address or `localhost`.
fn is_this_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let version_6 = |host: &str| host.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    name.eq_ignore_ascii_case("localhost") || name.parse::<Ipv4Addr>().is_ok() || version_6(name).is_some()
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::*;

    fn request(method: &Method, headers: &[(&str, &str)]) -> Request<()> {
        let request =
            Request::builder().method(method).uri("/api/v1/recalculate").header("host", "shop.example:8000");
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
    }

    #[test]
    fn a_page_of_another_site_changes_nothing() {
        let foreign = |headers: &[(&str, &str)]| is_foreign(&request(&Method::POST, headers));
        assert!(!foreign(&[]), "no browser");
        assert!(!foreign(&[("sec-fetch-site", "same-origin"), ("origin", "https://Shop.Example:8000")]));
        assert!(!foreign(&[("sec-fetch-site", "none")]), "typed by a person");
        assert!(foreign(&[("sec-fetch-site", "cross-site")]));
        for origin in [
            "null",
            "https://evil.example",
            "http://shop.example",
            "http://shop.example:8000.evil.example",
            "shop.example:8000",
        ] {
            assert!(foreign(&[("origin", origin)]), "{origin}");
        }
        assert!(foreign(&[("origin", "http://shop.example:8000"), ("origin", "http://evil.example")]));
        assert!(
            !is_foreign(&request(&Method::GET, &[("sec-fetch-site", "cross-site")])),
            "a GET changes nothing"
        );
    }

    #[test]
    fn a_name_that_was_made_to_lead_here_is_no_name_of_this_host() {
        let names = |hosts: &[&str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append("host", host.parse().unwrap());
            }
            names_this_host(&headers)
        };
        for hosts in [
            &[][..],
            &["localhost"],
            &["LocalHost:8000"],
            &["127.0.0.1:8000"],
            &["[::1]:8000"],
            &["[::1]"],
            &["192.0.2.1"],
        ] {
            assert!(names(hosts), "{hosts:?}");
        }
        for hosts in [
            &["evil.example:8000"][..],
            &["localhost.evil.example"],
            &["127.0.0.1.evil.example"],
            &["localhost", "evil.example"],
            &["localhost@evil.example"],
            &["evil@localhost"],
            &["localhost:80:80"],
            &["::1"],
            &[""],
        ] {
            assert!(!names(hosts), "{hosts:?}");
        }
    }

    #[test]
    fn calls_by_name_read_prices_and_pages_only() {
        let is_sensitive = |method: &Method, path: &str| {
            is_sensitive(&Request::builder().method(method).uri(path).body(()).unwrap())
        };
        for path in ["/api/v1/price", "/api/v1/recalculate"] {
            assert!(is_sensitive(&Method::POST, path), "{path}");
        }
        assert!(
            is_sensitive(&Method::GET, "/api/v1/tasks") && is_sensitive(&Method::GET, "/api/v1/tasks/T-1")
        );
        assert!(!is_sensitive(&Method::GET, "/api/v1/price/P-1") && !is_sensitive(&Method::GET, "/metrics"));
    }
}
