//! The number of files, and so of connections, that the process may have open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files that the process opens beside the connections of its HTTP server.
const OTHER_FILES: u64 = 256;

/// Raises the limit of open files for this many connections, and warns if the system allows less.
pub fn allow_connections(connections: u32) {
    let wanted = u64::from(connections) + OTHER_FILES;
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let limit = soft.max(wanted.min(hard));
        setrlimit(Resource::RLIMIT_NOFILE, limit, hard).map(|()| limit)
    });
    match raised {
        Ok(limit) if limit >= wanted => {}
        Ok(limit) => tracing::warn!(
            limit,
            wanted,
            "the limit of open files (ulimit -n) is too low for MAX_CONNECTIONS: raise it, or lower the setting"
        ),
        Err(error) => tracing::warn!(%error, "the limit of open files is unknown"),
    }
}
