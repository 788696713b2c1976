//! Who makes a change, and a transaction that says so.

use std::fmt;

use sqlx::query;

use super::database::{Connection, Transaction, statement};
use crate::audit::AuditCaller;
use crate::ids::TaskId;
use crate::trace::current_trace_id;

/// Who makes a change of the catalogue, and in which trace. The history of what is changed keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeOrigin {
    changed_by: String,
    trace_id: Option<String>,
}

impl ChangeOrigin {
    /// A caller of the API, or a person at the command line, in the current trace.
    pub fn caller(caller: &AuditCaller) -> Self {
        match caller {
            AuditCaller::Key(name) => Self::now(format_args!("key:{name}")),
            AuditCaller::CommandLine(_) | AuditCaller::Anonymous => Self::now(caller),
        }
    }

    /// A task, in the current trace.
    pub fn task(task: &TaskId) -> Self {
        Self::now(format_args!("task:{task}"))
    }

    fn now(changed_by: impl fmt::Display) -> Self {
        Self { changed_by: changed_by.to_string(), trace_id: current_trace_id() }
    }
}

/// What a transaction does with list prices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListPrices {
    /// It records them: it takes their versions itself, and leaves one pending row for a range of products.
    Recorded,
    /// They are fields like any other.
    Edited,
}

/// A transaction whose changes have an origin in the history.
pub(super) struct Change<'c>(pub(super) Transaction<'c>);

impl<'c> Change<'c> {
    pub(super) async fn begin(
        connection: Connection<'c>,
        origin: &ChangeOrigin,
        list_prices: ListPrices,
    ) -> sqlx::Result<Self> {
        let mut transaction = connection.begin().await?;
        let recording = list_prices == ListPrices::Recorded;
        let trace_id = origin.trace_id.as_deref();
        transaction
            .run(async |connection| match connection {
                Connection::Sqlite(connection) => {
                    let set = "UPDATE change_origin SET changed_by = $1, trace_id = $2, is_recording = $3";
                    let set = query(set).bind(&*origin.changed_by).bind(trace_id).bind(recording);
                    set.execute(connection).await.map(drop)
                }
                Connection::Postgres(connection) => {
                    let set = "SELECT set_config('pricing.changed_by', $1, TRUE), \
                               set_config('pricing.trace_id', $2, TRUE), set_config('pricing.recording', $3, TRUE)";
                    let set = query(set).bind(&*origin.changed_by).bind(trace_id.unwrap_or_default());
                    set.bind(if recording { "on" } else { "off" }).execute(connection).await.map(drop)
                }
            })
            .await?;
        Ok(Self(transaction))
    }

    /// Commits, and leaves no origin to the next transaction.
    pub(super) async fn commit(mut self) -> sqlx::Result<()> {
        if let Transaction::Sqlite(_) = self.0 {
            let clear = "UPDATE change_origin SET changed_by = NULL, trace_id = NULL, is_recording = 0";
            self.0.run(statement!(execute, query(clear))).await?;
        }
        self.0.commit().await
    }
}
