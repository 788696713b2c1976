//! Begins runs of delivered entries, several with one script.

use crate::entries::{Delivery, Entries};
use crate::error::QueueError;
use crate::lease::LeaseToken;
use crate::record::TaskRecord;
use crate::scripts::SCRIPTS;
use crate::store::{GROUP, Store};

/// A script begins no further run after so many bytes of payloads.
const MAX_PAYLOADS: usize = 256 * 1_024;

/// What runs on the worker beside the run that begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    Others,
    Nothing,
}

/// What became of a delivery.
#[expect(clippy::large_enum_variant, reason = "most deliveries begin a run")]
pub(crate) enum Begun {
    /// The run has begun. If it is poisoned, its job is not to be called.
    Run { record: TaskRecord, token: LeaseToken, is_poisoned: bool },
    /// Nothing has begun: the task must run alone.
    Suspect,
    /// Nothing has begun, and need not.
    Gone,
    /// No run can be made of it.
    Invalid(QueueError),
}

impl Entries {
    /// Begins runs, each under a lease of its own. Returns what became of the first deliveries, at least one; the others
    /// have not begun, because the payloads before them are large.
    pub(crate) async fn begin(
        &self,
        deliveries: &[Delivery],
        beside: Beside,
    ) -> Result<Vec<Begun>, QueueError> {
        let Store { keys, options, commands, .. } = &self.store;
        let tokens: Vec<LeaseToken> = deliveries.iter().map(|_| LeaseToken::new(&self.name)).collect();
        let mut call = SCRIPTS.begin.key(&keys.stream);
        call.arg(GROUP).arg(&self.name).arg(options.max_deliveries);
        call.arg(if beside == Beside::Nothing { "alone" } else { "" }).arg(MAX_PAYLOADS);
        for (delivery, token) in deliveries.iter().zip(&tokens) {
            call.key(keys.record(&delivery.task_id)).arg(&delivery.entry).arg(token.as_str());
        }
        let replies: Vec<(String, Vec<Option<Vec<u8>>>)> = call.invoke_async(&mut commands.clone()).await?;
        if replies.is_empty() {
            return Err(QueueError::Reply("none".to_owned()));
        }
        let begun = replies.into_iter().zip(deliveries).zip(tokens);
        begun
            .map(|(((outcome, fields), delivery), token)| decode(&outcome, fields, delivery, token))
            .collect()
    }
}

fn decode(
    outcome: &str,
    fields: Vec<Option<Vec<u8>>>,
    delivery: &Delivery,
    token: LeaseToken,
) -> Result<Begun, QueueError> {
    let is_poisoned = match outcome {
        "run" => false,
        "poisoned" => true,
        "suspect" => return Ok(Begun::Suspect),
        "gone" => return Ok(Begun::Gone),
        "damaged" => {
            return Ok(Begun::Invalid(QueueError::Record { id: delivery.task_id.clone(), field: "all" }));
        }
        _ => return Err(QueueError::Reply(outcome.to_owned())),
    };
    Ok(match TaskRecord::begun(&delivery.task_id, fields) {
        Ok(record) => Begun::Run { record, token, is_poisoned },
        Err(error) => Begun::Invalid(error),
    })
}
