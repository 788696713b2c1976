//! The description of the service, as it serves it.

use std::collections::BTreeMap;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// A description, ready to be asked.
#[derive(Debug)]
pub struct Document {
    /// All schemas, for references into them.
    components: Value,
    operations: Vec<Operation>,
}

/// One call of the service.
#[derive(Debug)]
pub struct Operation {
    /// Its method, in capitals.
    pub method: String,
    /// Its path, with its parameters in braces.
    pub path: String,
    /// Its parameters in the path.
    pub in_path: Vec<Parameter>,
    /// Its parameters in the query.
    pub in_query: Vec<Parameter>,
    /// Its body, if it takes one.
    pub body: Option<RequestBody>,
    answers: BTreeMap<u16, BTreeMap<String, Content>>,
}

/// A parameter.
#[derive(Debug)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Whether it must be there.
    pub required: bool,
    /// What it may be.
    pub schema: Value,
    /// The same, compiled.
    pub validator: Validator,
}

/// A body in JSON.
#[derive(Debug)]
pub struct RequestBody {
    /// Whether it must be there.
    pub required: bool,
    /// What it may be.
    pub schema: Value,
    /// The same, compiled.
    pub validator: Validator,
}

/// What an answer of some status and media type holds.
#[derive(Debug)]
pub enum Content {
    /// JSON that this validates.
    Json(Validator),
    /// Text.
    Text,
}

/// What a method and a path lead to.
#[derive(Debug, Clone, Copy)]
pub enum Destination<'a> {
    /// A call.
    Operation(&'a Operation),
    /// A path that takes other methods.
    OtherMethod,
    /// Nothing.
    Nowhere,
}

impl Document {
    /// Reads a description.
    ///
    /// # Panics
    ///
    /// When it is no description, or one of its schemas is none.
    pub fn new(text: &Value) -> Self {
        let components = text["components"].clone();
        let paths = text["paths"].as_object().expect("a description has paths");
        let operations = paths.iter().flat_map(|(path, item)| {
            let calls = item.as_object().expect("a path has methods");
            calls.iter().map(|(method, call)| operation(&components, method, path, call)).collect::<Vec<_>>()
        });
        Self { operations: operations.collect(), components }
    }

    /// All calls.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// What a method and a path lead to. HEAD leads where GET does.
    pub fn destination(&self, method: &str, path: &[u8]) -> Destination<'_> {
        let method = if method == "HEAD" { "GET" } else { method };
        let mut destination = Destination::Nowhere;
        for operation in self.operations.iter().filter(|operation| operation.parts_of(path).is_some()) {
            if operation.method == method {
                return Destination::Operation(operation);
            }
            destination = Destination::OtherMethod;
        }
        destination
    }

    /// Follows a reference to its schema; any other schema is itself.
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let Some(reference) = schema["$ref"].as_str() else { return schema };
        let pointer = reference.strip_prefix("#/components").expect("references lead to the components");
        self.components.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"))
    }

    /// A validator of problem documents.
    pub fn problem(&self) -> Validator {
        validator(&self.components, &json!({"$ref": "#/components/schemas/Problem"}))
    }
}

impl Operation {
    /// Those segments of `path` that are this path's parameters, in their order, still encoded; `None` if
    /// `path` is another one.
    pub fn parts_of<'p>(&self, path: &'p [u8]) -> Option<Vec<&'p [u8]>> {
        let segments: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let names: Vec<&str> = self.path.split('/').collect();
        if segments.len() != names.len() {
            return None;
        }
        let mut parts = Vec::new();
        for (segment, name) in segments.into_iter().zip(names) {
            match name.starts_with('{') {
                true if segment.is_empty() => return None,
                true => parts.push(segment),
                false if segment != name.as_bytes() => return None,
                false => {}
            }
        }
        Some(parts)
    }

    /// The statuses it may answer.
    pub fn statuses(&self) -> impl Iterator<Item = u16> {
        self.answers.keys().copied()
    }

    /// What it may answer with a status: by media type.
    pub fn contents(&self, status: u16) -> Option<&BTreeMap<String, Content>> {
        self.answers.get(&status)
    }
}

fn operation(components: &Value, method: &str, path: &str, call: &Value) -> Operation {
    let parameters = |place: &str| {
        let all = call["parameters"].as_array().into_iter().flatten();
        all.filter(|parameter| parameter["in"] == place)
            .map(|parameter| Parameter {
                name: parameter["name"].as_str().expect("a parameter has a name").to_owned(),
                required: parameter["required"] == true,
                validator: validator(components, &parameter["schema"]),
                schema: parameter["schema"].clone(),
            })
            .collect()
    };
    let body = call.get("requestBody").map(|body| {
        let schema = body["content"]["application/json"]["schema"].clone();
        RequestBody { required: body["required"] == true, validator: validator(components, &schema), schema }
    });
    let answers = call["responses"].as_object().expect("a call has responses").iter();
    Operation {
        method: method.to_uppercase(),
        path: path.to_owned(),
        in_path: parameters("path"),
        in_query: parameters("query"),
        body,
        answers: answers
            .map(|(status, answer)| (status.parse().expect("a status"), contents(components, answer)))
            .collect(),
    }
}

fn contents(components: &Value, answer: &Value) -> BTreeMap<String, Content> {
    let documented = answer["content"].as_object().into_iter().flatten();
    documented
        .map(|(media, content)| match media.ends_with("json") {
            true => (media.clone(), Content::Json(validator(&closed(components), &content["schema"]))),
            false => (media.clone(), Content::Text),
        })
        .collect()
}

fn validator(components: &Value, schema: &Value) -> Validator {
    let whole = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "components": components,
        "allOf": [schema],
    });
    let options = jsonschema::options().should_validate_formats(true);
    options.build(&whole).unwrap_or_else(|error| panic!("{schema}: {error}"))
}

/// The same schemas, but their objects hold nothing that is not described: an answer may not.
fn closed(schemas: &Value) -> Value {
    match schemas {
        Value::Object(fields) => {
            let mut closed_fields: Map<_, _> =
                fields.iter().map(|(name, value)| (name.clone(), closed(value))).collect();
            if fields.get("properties").is_some_and(Value::is_object) && fields.contains_key("type") {
                closed_fields.insert("additionalProperties".to_owned(), Value::Bool(false));
            }
            Value::Object(closed_fields)
        }
        Value::Array(items) => items.iter().map(closed).collect(),
        other => other.clone(),
    }
}
