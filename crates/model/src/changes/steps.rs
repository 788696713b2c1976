//! The steps of drains, scans and fills.

use super::state::{Actor, Kind, Pending, Read, State, Step};
use super::{Changes, Protection};

impl Changes {
    /// A drain, scan or fill that takes the time and learns which Redis it works on.
    pub(super) fn begin(&self, state: &State, kind: Kind) -> Actor {
        let step = match kind {
            Kind::Drain if self.has(Protection::SelectBeforeRead) => Step::Select,
            _ => Step::Read,
        };
        let seen = state.entry.filter(|entry| entry.product.is_some()).map(|entry| entry.version);
        let selected = seen.filter(|_| kind == Kind::Fill);
        let (redis, terms) = (state.redis, state.terms);
        Actor { kind, step, is_late: false, redis, terms, selected, range: None, read: None }
    }

    /// Carries out the next step of an actor. Returns the actor, `None` when it is done.
    pub(super) fn step(&self, state: &mut State, mut actor: Actor) -> Option<Actor> {
        actor.step = match actor.step {
            Step::Select => {
                let due = |row: &Pending| row.is_due(state.redis);
                actor.selected = state.pending.filter(due).map(|row| row.version);
                actor.range = state.range.filter(due).map(|row| row.version);
                if actor.selected.is_none() && actor.range.is_none() {
                    return None;
                }
                if self.has(Protection::SelectBeforeRead) { Step::Read } else { Step::Record }
            }
            Step::Read => {
                actor.read = Some(Read { as_of: state.committed, row: state.row });
                match actor.kind {
                    Kind::Fill => Step::Store,
                    Kind::Drain if !self.has(Protection::SelectBeforeRead) => Step::Select,
                    Kind::Drain | Kind::Scan => Step::Record,
                }
            }
            Step::Record => {
                self.record(state, &mut actor);
                Step::Store
            }
            Step::Store => {
                let is_stored = self.store(state, &actor);
                let has_rows = actor.selected.is_some() || actor.range.is_some();
                let may_mark = is_stored || !self.has(Protection::MarkOnlyIfStored);
                if actor.kind == Kind::Fill || !has_rows || !may_mark {
                    return None;
                }
                Step::Mark
            }
            Step::Mark => {
                self.mark(state, &actor);
                return None;
            }
        };
        Some(actor)
    }

    /// One drain, with nobody else.
    pub(super) fn drain(&self, state: &State) -> State {
        let mut state = state.clone();
        state.actors.clear();
        let mut drain = Some(self.begin(&state, Kind::Drain));
        while let Some(actor) = drain {
            drain = self.step(&mut state, actor);
        }
        state
    }
}
