//! Instructions per cached read.

use std::path::Path;

use anyhow::{Context as _, Result};
use pricing_harness::http_load::Products;
use pricing_harness::side::{Setup, Side};
use pricing_harness::{callgrind, packages};
use serde::Serialize;
use serde_json::json;

use super::collector::Collector;
use super::server::{ApiVariant, Tracing, floor};
use crate::measure::progress;
use crate::measure::report::Section;
use crate::measure::table::{Table, number, ratio};

/// The instructions of one server.
#[derive(Debug, Serialize)]
struct Counted {
    server: String,
    per_read: u64,
}

/// Counts instructions of `api`, which was built for valgrind.
pub(crate) async fn instructions(api: Option<&Path>) -> Result<Vec<Section>> {
    let api =
        api.context("no api was built for valgrind: run `cargo xtask bench instructions`, which builds it")?;
    let valgrind = packages::valgrind()?;
    let collector = Collector::start().await?;
    progress("instructions: floor");
    let floor = count(&valgrind, floor("floor")?).await?;
    let mut counted = vec![Counted { server: "floor".to_owned(), per_read: floor }];
    let mut table =
        Table::new(&["server", "instructions per cached read", "ratio to floor", "ratio to plain"]);
    let mut row = |server: &str, per_read: u64, plain: f64| {
        let count = per_read as f64;
        table.row([server.to_owned(), number(count), ratio(count / floor as f64), ratio(count / plain)]);
    };
    row("floor", floor, f64::NAN);
    for (cache, near_cache) in [("near-cache", true), ("Redis", false)] {
        let plain = ApiVariant { near_cache, ..ApiVariant::default() };
        let mut first = None;
        for (name, variant) in [
            ("plain", plain),
            ("with a key", ApiVariant { has_key: true, ..plain }),
            ("1 % of reads traced", ApiVariant { tracing: Tracing::Share(0.01), ..plain }),
            ("all reads traced", ApiVariant { tracing: Tracing::Share(1.0), ..plain }),
        ] {
            let server = format!("{cache}, {name}");
            progress(&format!("instructions: {server}"));
            let setup = Setup { binary: api.to_owned(), ..variant.setup(&server, None, &collector) };
            let per_read = count(&valgrind, setup).await?;
            row(&server, per_read, *first.get_or_insert(per_read) as f64);
            counted.push(Counted { server, per_read });
        }
    }
    Ok(vec![Section {
        title: "Instructions".to_owned(),
        text: "Counted by valgrind: one connection, one runtime thread, (I(2N) − I(N)) / N. They do not depend on what else \
               runs on the machine."
            .to_owned(),
        table,
        figures: json!(counted),
    }])
}

/// Counts the instructions of one server, with all that is asked for in its cache.
async fn count(valgrind: &Path, setup: Setup) -> Result<u64> {
    let side = Side::start(setup).await?;
    let service = side.serve().await?;
    side.fill(service.address(), &Products::demo()).await?;
    drop(service);
    callgrind::per_read(valgrind, &side).await
}
