//! Whether an answer is what the description says.

use jsonschema::Validator;
use serde_json::Value;

use super::document::{Content, Document, Operation};
use super::expectation::{Expectation, Fit, expectation};
use super::request::Request;
use crate::raw_http::{NoAnswer, RawAnswer};

/// Statuses that say that a request was not taken.
const REFUSALS: &[u16] = &[400, 413, 415, 422];
/// What an HTTP server says by itself, without a body, of what is no HTTP.
const IMPROPER: &[u16] = &[400, 414, 431];
/// Below this path are the pages that show the description. It does not describe them.
const PAGES: &[u8] = b"/docs/";
const PROBLEM: &str = "application/problem+json";

/// Judges answers.
#[derive(Debug)]
pub struct Judge {
    problem: Validator,
}

impl Judge {
    /// One who knows the problem documents of `document`.
    pub fn new(document: &Document) -> Self {
        Self { problem: document.problem() }
    }

    /// Checks what came of a request.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn check(
        &self,
        document: &Document,
        request: &Request,
        outcome: &Result<RawAnswer, NoAnswer>,
    ) -> Result<(), String> {
        let expected = expectation(document, request);
        let answer = match (outcome, expected) {
            (Ok(answer), _) => answer,
            (Err(NoAnswer::Closed), Expectation::Improper) => return Ok(()),
            (Err(NoAnswer::Closed), _) => return Err("no answer: the connection was closed".to_owned()),
            (Err(NoAnswer::Nonsense(what)), _) => return Err(format!("no HTTP: {what}")),
        };
        if answer.status >= 500 {
            return Err("a failure of the service".to_owned());
        }
        let is_head = request.is_head();
        match expected {
            Expectation::Improper => self.check_improper(answer),
            Expectation::Nowhere if request.path().starts_with(PAGES) => {
                self.check_problem(answer, &[400, 404, 405], is_head)
            }
            Expectation::Nowhere => self.check_problem(answer, &[404], is_head),
            Expectation::OtherMethod => {
                answer.header("allow").ok_or("a 405 without Allow")?;
                self.check_problem(answer, &[405], is_head)
            }
            Expectation::Of(call, fit) => {
                check_fit(answer.status, fit)?;
                check_content(call, answer, is_head)?;
                match answer.status {
                    200..300 => check_named(answer),
                    status => self.check_problem(answer, &[status], is_head),
                }
            }
        }
    }

    fn check_improper(&self, answer: &RawAnswer) -> Result<(), String> {
        match (answer.status, answer.body.is_empty()) {
            (status, true) if IMPROPER.contains(&status) => Ok(()),
            // What was odd about it did not matter after all, or it ended up as a HEAD.
            (200, _) | (400..500, true) => check_named(answer),
            (status, _) => self.check_problem(answer, &[status], false),
        }
    }

    fn check_problem(&self, answer: &RawAnswer, statuses: &[u16], is_head: bool) -> Result<(), String> {
        if !statuses.contains(&answer.status) {
            return Err(format!("should be one of {statuses:?}"));
        }
        check_named(answer)?;
        if answer.header("content-type") != Some(PROBLEM) {
            return Err("an error that is no problem document".to_owned());
        }
        if is_head {
            return Ok(());
        }
        let problem = json(answer)?;
        self.problem.validate(&problem).map_err(|error| format!("{}: {error}", error.instance_path()))?;
        match problem["status"] == answer.status {
            true => Ok(()),
            false => Err("the problem has another status than the answer".to_owned()),
        }
    }
}

fn check_fit(status: u16, fit: Fit) -> Result<(), String> {
    match (fit, REFUSALS.contains(&status)) {
        (Fit::Fits, true) => Err("refused, although the description allows it".to_owned()),
        (Fit::Breaks, false) => Err("taken, although the description does not allow it".to_owned()),
        _ => Ok(()),
    }
}

fn check_content(call: &Operation, answer: &RawAnswer, is_head: bool) -> Result<(), String> {
    let Some(contents) = call.contents(answer.status) else {
        let documented: Vec<u16> = call.statuses().collect();
        return Err(format!("{} {} has no such status, but {documented:?}", call.method, call.path));
    };
    let declared = answer.header("content-type").unwrap_or_default();
    let media = declared.split(';').next().unwrap_or_default();
    match contents.get(media) {
        None => Err(format!("{declared:?} is not documented for this status")),
        Some(_) if is_head && answer.body.is_empty() => Ok(()),
        Some(_) if is_head => Err("an answer to HEAD with a body".to_owned()),
        Some(Content::Text) => match std::str::from_utf8(&answer.body) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("no UTF-8: {error}")),
        },
        Some(Content::Json(validator)) => {
            let body = json(answer)?;
            validator.validate(&body).map_err(|error| format!("{}: {error}", error.instance_path()))
        }
    }
}

fn check_named(answer: &RawAnswer) -> Result<(), String> {
    match answer.header("x-request-id") {
        Some(id) if !id.is_empty() => Ok(()),
        _ => Err("an answer without x-request-id".to_owned()),
    }
}

fn json(answer: &RawAnswer) -> Result<Value, String> {
    serde_json::from_slice(&answer.body).map_err(|error| format!("no JSON: {error}"))
}
