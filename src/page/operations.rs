//! Operations and schemas of an OpenAPI document as markup. Knows the document, not the node.

use maud::{Markup, html};
use serde_json::{Map, Value as Json};

const NONE: &Json = &Json::Null;

/// A word of a document, or nothing.
pub(super) fn text<'a>(at: &'a Json, name: &str) -> &'a str {
    at.get(name).and_then(Json::as_str).unwrap_or_default()
}

fn at<'a>(value: &'a Json, pointer: &str) -> &'a Json {
    value.pointer(pointer).unwrap_or(NONE)
}

/// Fields by name; none where there is no object.
pub(super) fn fields(value: &Json) -> impl Iterator<Item = (&String, &Json)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn list(value: &Json) -> impl Iterator<Item = &Json> {
    value.as_array().into_iter().flatten()
}

/// Prose with `code` in it.
pub(super) fn prose(words: &str) -> Markup {
    html! {
        @for (number, part) in words.split('`').enumerate() {
            @if number % 2 == 0 { (part) } @else { code { (part) } }
        }
    }
}

/// One operation of a document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation<'a> {
    /// Tells ids of one document from those of the other.
    pub(super) prefix: &'a str,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) it: &'a Json,
}

impl Operation<'_> {
    /// The operations of a group, by path.
    pub(super) fn of_group<'a>(
        prefix: &'a str,
        document: &'a Json,
        group: &'a str,
    ) -> impl Iterator<Item = Operation<'a>> {
        fields(at(document, "/paths")).flat_map(move |(path, item)| {
            fields(item)
                .filter(move |(_, it)| list(at(it, "/tags")).any(|tag| tag == group))
                .map(move |(method, it)| Operation { prefix, method, path, it })
        })
    }

    pub(super) fn id(&self) -> String {
        format!("{}-{}", self.prefix, text(self.it, "operationId"))
    }

    /// Everything about it. `host` is where the reader has found this page.
    pub(super) fn show(&self, host: &str) -> Markup {
        let sealed = at(self.it, "/x-sealed");
        html! {
            article.operation id=(self.id()) {
                h4 { span.method { (self.method.to_uppercase()) } " " code { (self.path) } }
                p { (prose(text(self.it, "summary"))) "." }
                @if !text(self.it, "description").is_empty() {
                    p { (prose(text(self.it, "description"))) }
                }
                (self.parameters())
                @if sealed.is_object() { (self.inner(sealed)) } @else { (self.bodies()) }
                (self.answers())
                @if !sealed.is_object() { (self.curl(host)) }
            }
        }
    }

    fn parameters(&self) -> Markup {
        html! {
            @if list(at(self.it, "/parameters")).next().is_some() {
                h5 { "Parameters" }
                dl {
                    @for parameter in list(at(self.it, "/parameters")) {
                        dt { code { (text(parameter, "name")) } " in the " (text(parameter, "in")) }
                        dd {
                            (kind(self.prefix, at(parameter, "/schema")))
                            @if parameter.get("required") != Some(&Json::Bool(true)) {
                                ", may be left out"
                            }
                            ". " (prose(text(parameter, "description")))
                            @if let Some(example) = parameter.get("example") {
                                " Example: " code { (plain(example)) }
                            }
                        }
                    }
                }
            }
        }
    }

    fn bodies(&self) -> Markup {
        html! {
            @for (media_type, content) in fields(at(self.it, "/requestBody/content")) {
                h5 { "Body" }
                p { code { (media_type) } ": " (kind(self.prefix, at(content, "/schema"))) }
                (example(at(content, "/example")))
            }
            @for (media_type, content) in fields(at(self.it, "/responses/200/content")) {
                h5 { "Answer" }
                p { code { (media_type) } ": " (kind(self.prefix, at(content, "/schema"))) }
                @if let Some(event) = self.it.pointer("/responses/200/x-event") {
                    p { "Each event: " (kind(self.prefix, event)) }
                }
                (example(at(content, "/example")))
            }
        }
    }

    fn inner(&self, sealed: &Json) -> Markup {
        html! {
            p.quiet { "Sealed: " code { (text(sealed, "media_type")) } "; "
                (text(sealed, "described_in")) "." }
            h5 { "Inside the request" }
            p { (kind(self.prefix, at(sealed, "/request"))) }
            (example(at(sealed, "/request_example")))
            h5 { "Inside the answer" }
            p { (kind(self.prefix, at(sealed, "/response"))) }
            (example(at(sealed, "/response_example")))
        }
    }

    fn answers(&self) -> Markup {
        html! {
            details {
                summary { "Statuses" }
                dl {
                    @for (status, answer) in fields(at(self.it, "/responses")) {
                        dt { (status) }
                        dd { (prose(text(answer, "description"))) }
                    }
                }
            }
        }
    }

    fn curl(&self, host: &str) -> Markup {
        let id = format!("curl-{}", self.id());
        html! {
            div.copied {
                label for=(id) { "With curl" }
                textarea readonly rows="2" id=(id) { (self.curl_line(host)) }
                button type="button" data-copy=(id) { "Copy" }
            }
        }
    }

    fn curl_line(&self, host: &str) -> String {
        let mut line = "curl".to_owned();
        if self.method != "get" {
            line.push_str(&format!(" -X {}", self.method.to_uppercase()));
        }
        let answered = at(self.it, "/responses/200/content");
        if answered.get("text/event-stream").is_some() {
            line.push_str(" -N");
        } else if answered.get("image/png").is_some() {
            line.push_str(" -o code.png");
        }
        if list(at(self.it, "/security")).next().is_some() {
            line.push_str(" -H \"Authorization: Bearer $TOKEN\"");
        }
        let body = at(self.it, "/requestBody/content/application~1json/example");
        if !body.is_null() {
            line.push_str(&format!(" --json {}", quoted(&body.to_string())));
        }
        let mut path = self.path.to_owned();
        for parameter in list(at(self.it, "/parameters")) {
            let name = format!("{{{}}}", text(parameter, "name"));
            path = path.replace(&name, text(parameter, "example"));
        }
        format!("{line} {}", quoted(&format!("http://{host}{path}")))
    }
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn plain(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn example(value: &Json) -> Markup {
    html! {
        @if !value.is_null() {
            pre tabindex="0" { code { (serde_json::to_string_pretty(value).unwrap_or_default()) } }
        }
    }
}

/// What a value is, in words, with links to what is described elsewhere.
fn kind(prefix: &str, schema: &Json) -> Markup {
    let reference = text(schema, "$ref");
    let alternatives: Vec<&Json> = ["/oneOf", "/anyOf"]
        .into_iter()
        .flat_map(|name| list(at(schema, name)))
        .filter(|one| text(one, "type") != "null" || schema.get("description").is_some())
        .collect();
    let types: Vec<&str> = match at(schema, "/type") {
        Json::String(one) => vec![one],
        several => list(several).filter_map(Json::as_str).collect(),
    };
    html! {
        @if let Some(name) = reference.strip_prefix("#/components/schemas/") {
            a href={ "#" (prefix) "-schema-" (name) } { (name) }
        } @else if !alternatives.is_empty() {
            @for (number, one) in alternatives.iter().enumerate() {
                @if number > 0 { " or " }
                (kind(prefix, one))
            }
        } @else if types.contains(&"array") {
            "list of " (kind(prefix, at(schema, "/items")))
        } @else if schema.get("additionalProperties").is_some_and(Json::is_object) {
            "by name: " (kind(prefix, at(schema, "/additionalProperties")))
        } @else if schema.get("properties").is_some() {
            "object with "
            @for (name, _) in fields(at(schema, "/properties")) { code { (name) } " " }
        } @else if types.is_empty() { "anything" } @else {
            (types.join(" or "))
            @if !text(schema, "format").is_empty() { " (" (text(schema, "format")) ")" }
        }
        @if schema.get("enum").is_some() {
            ": "
            @for (number, word) in list(at(schema, "/enum")).enumerate() {
                @if number > 0 { ", " }
                code { (plain(word)) }
            }
        }
    }
}

/// One schema of a document, field by field.
pub(super) fn schema(prefix: &str, name: &str, schema: &Json) -> Markup {
    let required = |field: &str| list(at(schema, "/required")).any(|known| known == field);
    html! {
        article.operation id={ (prefix) "-schema-" (name) } {
            h4 { (name) }
            p { (prose(text(schema, "description"))) }
            @if schema.get("properties").is_none() { p { (kind(prefix, schema)) } }
            dl {
                @for (field, it) in fields(at(schema, "/properties")) {
                    dt { code { (field) } }
                    dd {
                        (kind(prefix, it))
                        @if !required(field) { ", may be missing or null" }
                        ". " (prose(text(it, "description")))
                    }
                }
            }
        }
    }
}
