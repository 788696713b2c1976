//! The measurements run: `cargo xtask bench --short`, without building.

use std::process::Command;

use clap::ValueEnum as _;
use pricing_bench::args::Part;
use serde_json::Value;

#[test]
fn every_part_of_the_short_form_has_figures() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("figures.json");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_pricing-bench"));
    let output = bench.arg("--short").arg("--json").arg(&file).output().unwrap();
    let (tables, progress) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{progress}");

    let report: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let sections = report["sections"].as_array().unwrap();
    for part in Part::value_variants() {
        let name = part.to_possible_value().unwrap();
        let of_part: Vec<&Value> =
            sections.iter().filter(|section| section["part"] == name.get_name()).collect();
        assert_eq!(of_part.is_empty(), *part == Part::Instructions, "{name:?}");
        for section in of_part {
            let title = section["title"].as_str().unwrap();
            assert!(tables.contains(&format!("### {title}\n")), "{title} is not printed: {tables}");
            assert!(has_only_figures(&section["figures"]), "{title}: {}", section["figures"]);
        }
    }
}

/// Whether there is something, and nothing is missing but what the floor and closed loops do not have.
fn has_only_figures(figures: &Value) -> bool {
    let may_be_missing = ["redis_us", "rate"];
    match figures {
        Value::Array(values) => !values.is_empty() && values.iter().all(has_only_figures),
        Value::Object(fields) => fields
            .iter()
            .all(|(name, value)| may_be_missing.contains(&name.as_str()) || has_only_figures(value)),
        Value::Null => false,
        _ => true,
    }
}
