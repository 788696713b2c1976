//! The machine and the programs that figures are from.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What figures depend on.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    commit: String,
    began_at: String,
    cores: usize,
    processor: String,
    system: String,
    redis: String,
    /// Whether the programs were built with optimisations.
    is_release: bool,
}

impl Machine {
    /// This machine.
    pub(crate) fn here() -> Self {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        Self {
            commit: first_line("git", &["describe", "--always", "--dirty= and changes", "--exclude=*"]),
            began_at: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
            cores,
            processor: model.map(|(_, model)| model.to_owned()).unwrap_or_default(),
            system: first_line("uname", &["-sr"]),
            redis: first_line("redis-server", &["--version"]),
            is_release: !cfg!(debug_assertions),
        }
    }

    /// One sentence for the top of a report.
    pub(crate) fn sentence(&self) -> String {
        let Self { commit, began_at, cores, processor, system, redis, is_release } = self;
        let build = if *is_release { "release build" } else { "DEBUG BUILD: THE FIGURES MEAN NOTHING" };
        let redis = redis.split(" sha=").next().unwrap_or_default();
        format!("Commit {commit}, {build}, {began_at}; {cores} cores ({processor}), {system}, {redis}.")
    }
}

/// The first line that a program prints, empty if it fails.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(program);
    if source.exists() {
        command.current_dir(source);
    }
    let output = command.args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}
