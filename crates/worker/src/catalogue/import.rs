//! `pricing-worker import`.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};
use indicatif::HumanCount;
use pricing_core::audit::{Audit, AuditAction, AuditEntry};
use pricing_core::catalogue::{
    Applied, Catalogue, ChangeOrigin, DatabaseSettings, Extent, Import, ImportError, ImportKind,
    ImportOptions, RowRefusal, Tally,
};
use pricing_core::causes::printable;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::SKIPPED;
use super::format::Format;
use super::progress::Progress;
use super::rows::{BadRow, Chunk, Rows, reason};
use crate::audit::user;

/// Chunks that are read ahead.
const CHUNKS_AHEAD: usize = 4;
/// Buffer of the file, in bytes.
const BUFFER: usize = 256 * 1024;

/// Import products or markets from a file.
///
/// CSV: the first line names the columns: product_id, base_price, cost, floor, ceiling, category, tags, currency; of
/// markets location, multiplier, member_discount, currency, exchange_rate, increment, rounding_mode, ending. A column that
/// is absent leaves what is stored, an empty cell clears it; an unknown column refuses the file. Tags are separated by |, or
/// a JSON array. JSON Lines: an object with such fields on each line, as in the API; null clears. In these, increment, mode and
/// ending of a market are inside of "rounding": {"location":"PAR","multiplier":1,"rounding":{"increment":1,"ending":0.99}}.
///
/// Amounts are in major units of the catalogue's currency, such as 54.99: that of CATALOGUE_CURRENCY when the database was
/// made, or USD. The database is that of DATABASE_URL. Without a market `default`, only locations with a market of their own
/// have prices. Rows of one product are applied in the order of
/// their lines, so the last one wins. A bad row is named on standard error and skipped; all others are imported.
///
/// Exit code: 0 when all rows were imported, 3 when bad ones were skipped, 1 on a failure. After a failure the same
/// command does the rest; what is as it was gets no new version.
#[derive(Debug, Clone, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ImportArgs {
    /// File to read; - is standard input
    file: PathBuf,
    /// Format of the file, if its name does not end in .csv or .jsonl
    #[arg(long)]
    format: Option<Format>,
    /// Import markets instead of products
    #[arg(long)]
    markets: bool,
    /// Import all rows in one transaction, or none if one is bad. Others who change the catalogue may wait for it
    #[arg(long)]
    strict: bool,
    /// Tell what the import would do, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Take over changes of a multiplier or exchange rate by more than 20 %, and of a market's currency
    #[arg(long, requires = "markets")]
    confirm_terms: bool,
    /// At the end, delete all products that the file does not hold, except those changed since the import began. Implies
    /// --strict
    #[arg(long, conflicts_with = "markets")]
    delete_missing: bool,
    /// Largest share of the products that --delete-missing may delete, in per cent
    #[arg(long, requires = "delete_missing", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=100))]
    delete_at_most: u8,
}

/// What was staged.
#[derive(Default)]
struct Staged {
    rows: u64,
    bad: u64,
}

impl ImportArgs {
    /// # Errors
    ///
    /// When the file cannot be read or is refused, or the database fails.
    pub async fn run(&self, database: &DatabaseSettings) -> Result<ExitCode> {
        let format = Format::of(&self.file, self.format)?;
        let (input, length) = self.input()?;
        let catalogue = match self.dry_run {
            true => super::open_to_read(database).await?,
            false => super::open(database).await?,
        };
        let ended = self.import(&catalogue, format, input, length).await;
        catalogue.close().await;
        ended
    }

    fn input(&self) -> Result<(Box<dyn BufRead + Send>, Option<u64>)> {
        if self.file.as_os_str() == "-" {
            return Ok((Box::new(BufReader::with_capacity(BUFFER, io::stdin())), None));
        }
        let name = || format!("{} cannot be read", self.file.display());
        let file = File::open(&self.file).with_context(name)?;
        let metadata = file.metadata().with_context(name)?;
        let length = Some(metadata.len()).filter(|_| metadata.is_file());
        Ok((Box::new(BufReader::with_capacity(BUFFER, file)), length))
    }

    async fn import(
        &self,
        catalogue: &Catalogue,
        format: Format,
        input: Box<dyn BufRead + Send>,
        length: Option<u64>,
    ) -> Result<ExitCode> {
        let began = Instant::now();
        let kind = if self.markets { ImportKind::Markets } else { ImportKind::Products };
        let currency = catalogue.currency()?;
        let rows = spawn_blocking(move || Rows::new(input, format, kind, currency)).await??;
        let mut import = catalogue.begin_import(kind).await?;
        let mut progress = Progress::begin("reading", length);
        let staged = stage(&mut import, rows, &mut progress).await?;
        if self.is_strict() && staged.bad > 0 && !self.dry_run {
            progress.finish();
            import.abandon().await?;
            bail!("nothing was imported, for rows are bad: {} of {}", staged.bad, staged.rows + staged.bad);
        }
        let audit = Audit::new(catalogue);
        self.record(&audit, &format!("{} rows, {} bad", staged.rows, staged.bad)).await?;
        progress.next(if self.dry_run { "comparing" } else { "importing" }, Some(staged.rows));
        let origin = ChangeOrigin::caller(&user());
        let applied =
            import.apply(&origin, &self.options(staged.bad), |tally| report(&mut progress, tally)).await;
        progress.finish();
        let applied = applied.map_err(named)?;
        let summary = summary(&applied, staged.bad);
        let (bad, all) = (staged.bad + applied.refused, staged.rows + staged.bad);
        if self.dry_run && self.is_strict() && bad > 0 {
            bail!("nothing would be imported, for rows are bad: {bad} of {all}");
        }
        if applied.is_undone {
            bail!("nothing was imported, for rows are bad: {bad} of {all}");
        }
        self.record(&audit, &summary).await?;
        self.print(&summary, &format!("{currency}, {}", catalogue.address()), began);
        let is_complete = bad == 0;
        Ok(if is_complete { ExitCode::SUCCESS } else { ExitCode::from(SKIPPED) })
    }

    fn is_strict(&self) -> bool {
        self.strict || self.delete_missing
    }

    fn options(&self, bad: u64) -> ImportOptions {
        let extent = match (self.dry_run, self.is_strict()) {
            (true, _) => Extent::DryRun,
            (false, true) => Extent::AllOrNothing,
            (false, false) => Extent::Rows,
        };
        ImportOptions {
            extent,
            confirms_terms: self.confirm_terms,
            // A dry run with bad rows tells of these: the real one would not come to this step.
            delete_at_most: (self.delete_missing && bad == 0).then_some(self.delete_at_most),
        }
    }

    /// Leaves a row in the audit: one before the first change, and one after the last.
    async fn record(&self, audit: &Audit, detail: &str) -> Result<()> {
        if self.dry_run {
            return Ok(());
        }
        let kind = if self.markets { "markets" } else { "products" };
        let entry = AuditEntry::new(user(), AuditAction::CatalogueImported);
        let file = self.file.file_name().unwrap_or(self.file.as_os_str()).to_string_lossy();
        let entry = entry.on(&file).with_detail(&format!("{kind}: {detail}"));
        audit.record(&entry).await.context("the audit cannot be written")
    }

    #[expect(clippy::print_stdout, reason = "the answer of a command line")]
    fn print(&self, summary: &str, catalogue: &str, began: Instant) {
        let prefix = if self.dry_run { "nothing was changed; an import would do: " } else { "" };
        println!("{prefix}{summary}, in {:.1} s ({catalogue})", began.elapsed().as_secs_f64());
    }
}

/// Reads a file in a thread of its own, and stages its rows.
async fn stage(
    import: &mut Import,
    mut rows: Rows<Box<dyn BufRead + Send>>,
    progress: &mut Progress,
) -> Result<Staged> {
    let (sender, mut chunks) = mpsc::channel::<Result<Chunk>>(CHUNKS_AHEAD);
    spawn_blocking(move || {
        while let Some(chunk) = rows.next_chunk().transpose() {
            let is_last = chunk.is_err();
            if sender.blocking_send(chunk).is_err() || is_last {
                break;
            }
        }
    });
    let mut staged = Staged::default();
    while let Some(chunk) = chunks.recv().await {
        let chunk = chunk?;
        import.stage(&chunk.rows).await?;
        staged.rows += chunk.rows.len() as u64;
        staged.bad += chunk.bad;
        progress.bad(chunk.bad, chunk.named);
        progress.advance(chunk.rows.len() as u64, chunk.bytes);
    }
    Ok(staged)
}

/// An error that names the setting to change.
fn named(error: ImportError) -> anyhow::Error {
    match error {
        ImportError::TooManyMissing { .. } => anyhow!("{error}; --delete-at-most is the limit"),
        _ => error.into(),
    }
}

fn report(progress: &mut Progress, tally: &Tally) {
    let bad = |refused: &pricing_core::catalogue::RefusedRow| {
        let reason = match &refused.refusal {
            RowRefusal::Fields(errors) => reason(errors),
            RowRefusal::Suspicious(change) => format!("{change}: add --confirm-terms"),
            RowRefusal::Stored(error) => error.clone(),
        };
        BadRow::new(refused.line, &reason)
    };
    let named: Vec<_> = tally.refused.iter().map(bad).collect();
    let bad = named.len() as u64;
    progress.bad(bad, named);
    let rows = tally.created + tally.changed + tally.unchanged + bad;
    progress.advance(rows, rows);
}

fn summary(applied: &Applied, bad: u64) -> String {
    let Applied { created, changed, unchanged, refused, deleted, .. } = *applied;
    let mut text = format!(
        "{} created, {} changed, {} unchanged, {} bad",
        HumanCount(created),
        HumanCount(changed),
        HumanCount(unchanged),
        HumanCount(bad + refused)
    );
    if deleted > 0 {
        text += &format!(", {} deleted", HumanCount(deleted));
    }
    if !applied.first_to_delete.is_empty() {
        let first = printable(&applied.first_to_delete.join(" "));
        let others = if applied.first_to_delete.len() as u64 == deleted { "" } else { " …" };
        text += &format!(" ({first}{others})");
    }
    text
}
