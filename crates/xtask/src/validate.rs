//! `cargo xtask validate`: the promises of the README, checked over HTTP against a running stack.

mod concurrency;
mod customers;
mod events;
mod pages;
mod reads;
mod refusals;
mod report;
mod stack;
mod trace;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use crate::validate::report::Report;
use crate::validate::stack::Stack;

/// Check a running stack, wherever it runs, over HTTP only: one line per check with its figure.
///
/// Reads fall back to the database and come from the cache afterwards; every customer gets their own price;
/// an event becomes an updated catalogue; concurrent recalculations do not overlap; bad input is refused; with
/// --jaeger, one trace spans the three services. The stack must have the demo catalogue.
///
/// The exit code is 1 when a check failed.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {
    /// The API, such as http://localhost:8000.
    #[arg(long, value_name = "URL")]
    api: String,
    /// Jaeger's UI, such as http://localhost:16686; the trace is not checked without it.
    #[arg(long, value_name = "URL")]
    jaeger: Option<String>,
    /// How long one check may wait: for an entry to leave the cache, a task to end, a trace to arrive.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    wait_seconds: u64,
}

/// Runs the command.
pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let stack = Stack::new(&args.api, Duration::from_secs(args.wait_seconds));
    let mut report = Report::default();
    if report.check("the stack is ready", pages::ready(&stack).await).is_some() {
        check_all(&stack, args.jaeger.as_deref(), &mut report).await;
    }
    Ok(report.finish())
}

async fn check_all(stack: &Stack, jaeger: Option<&str>, report: &mut Report) {
    let product = report.check("first read from the database", reads::first(stack).await);
    if let Some(product) = product {
        report.check("second read from the cache", reads::second(stack, &product).await);
        report.check("95 % of cached reads below 5 ms", reads::latency(stack, &product).await);
        report.check("GET and POST answer alike", reads::get_and_post_agree(stack, &product).await);
        report.check("every customer gets their own price", customers::own_prices(stack, &product).await);
    }
    let task = report.check("market event ends in an updated catalogue", events::update(stack).await);
    report.check("read after it from the cache", reads::after_recalculation(stack).await);
    report.check("a job starts within 20 ms", events::start(stack).await);
    report.check("concurrent recalculations do not overlap", concurrency::exclusive(stack).await);
    for refusal in refusals::ALL {
        report.check(refusal.title, refusal.check(stack).await);
    }
    report.check("metrics have the latency histogram", pages::metrics(stack).await);
    report.check("documentation is served", pages::documentation(stack).await);
    if let (Some(jaeger), Some(task)) = (jaeger, task) {
        report.check(
            "one trace spans the three services",
            trace::spans_services(jaeger, &task, stack.patience()).await,
        );
    }
}
