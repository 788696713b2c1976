//! Instructions per cached read.

use std::path::Path;

use anyhow::{Context as _, Result};
use pricing_harness::http_load::Products;
use pricing_harness::side::{Setup, Side};
use pricing_harness::{callgrind, packages};
use serde::Serialize;
use serde_json::json;

use super::collector::Collector;
use super::server::{ApiVariant, Tracing};
use crate::report::Section;
use crate::run::progress;
use crate::table::{Table, number, ratio};

/// The instructions of one variant.
#[derive(Debug, Serialize)]
struct Counted {
    api: String,
    per_read: u64,
}

/// Counts instructions of `api`, which was built for valgrind.
pub(crate) async fn instructions(api: Option<&Path>) -> Result<Vec<Section>> {
    let api =
        api.context("no api was built for valgrind: run `cargo xtask bench instructions`, which builds it")?;
    let valgrind = packages::valgrind()?;
    let collector = Collector::start().await?;
    let mut counted: Vec<Counted> = Vec::new();
    let mut table = Table::new(&["api", "instructions per cached read", "ratio to plain"]);
    for (cache, near_cache) in [("near-cache", true), ("Redis", false)] {
        let plain = ApiVariant { near_cache, ..ApiVariant::default() };
        let mut first = None;
        for (name, variant) in [
            ("plain", plain),
            ("with a key", ApiVariant { has_key: true, ..plain }),
            ("1 % of reads traced", ApiVariant { tracing: Tracing::Share(0.01), ..plain }),
            ("all reads traced", ApiVariant { tracing: Tracing::Share(1.0), ..plain }),
        ] {
            progress(&format!("instructions: {cache}, {name}"));
            let setup = Setup { binary: api.to_owned(), ..variant.setup(name, None, &collector) };
            let side = Side::start(setup).await?;
            {
                let service = side.serve().await?;
                side.fill(&service, &Products::demo()).await?;
            }
            let per_read = callgrind::per_read(&valgrind, &side).await?;
            let plain = *first.get_or_insert(per_read);
            let api = format!("{cache}, {name}");
            table.row([api.clone(), number(per_read as f64), ratio(per_read as f64 / plain as f64)]);
            counted.push(Counted { api, per_read });
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
