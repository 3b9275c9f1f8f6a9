//! How one operation is described: what it is for, what it takes, every answer it can give. The
//! path and the method of a route are those of its description, so that none is without one.

use axum::handler::Handler;
use axum::routing::{MethodFilter, MethodRouter, on};
use serde_json::{Value as Json, json};
use storysync_engine::trust::envelope::MEDIA_TYPE;
use utoipa::ToSchema;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathItem, Paths,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{Schema, SchemaFormat, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{
    ContentBuilder, Object, ObjectBuilder, Ref, RefOr, Required, ResponseBuilder,
};
use utoipa_axum::router::UtoipaMethodRouter;

use super::bodies::Refused;
use crate::net::sealed::SEALED_HEADER;

/// Name of the security scheme of the loopback listener.
pub(super) const ADMIN_TOKEN: &str = "admin_token";
/// Name of the security scheme of paired devices.
pub(super) const SEALED: &str = "sealed";
/// What says, in an operation, what is inside sealed bodies.
pub(super) const SEALED_EXTENSION: &str = "x-sealed";

/// What a listener answers whoever asks, before anything looks at the request.
const ANYBODY: &[(u16, &str)] = &[
    (403, "The request comes from a web page of others."),
    (421, "`Host` names another machine."),
];
const BODY: &[(u16, &str)] = &[
    (408, "The body did not arrive in time."),
    (413, "The body is too long."),
    (422, "The body is not what is documented, or can't be done."),
];
const ENGINE: &[(u16, &str)] = &[
    (500, "Something went wrong in the node; its log says what."),
    (503, "The database is locked by another program, or the node is stopping; try again."),
    (507, "The disk is full."),
];
/// What is told in plain text to whoever is not recognised.
const NOT_RECOGNISED: &[(u16, &str)] = &[
    (401, "Not recognised, for whatever reason. Plain, and a hint, never a fact."),
    (408, "The body did not arrive in time. Plain."),
    (409, "`need_prekey`: ask for status under kid 0, and seal the request anew. Plain."),
    (413, "The body is too long: 16 MiB sealed."),
    (429, "Too many failed registrations from this address; wait a minute. Plain."),
];
/// What a recognised device may be refused with, sealed.
const SEALED_REFUSALS: &[(u16, &str)] = &[
    (400, "Sealed: damaged compression. Plain: a path or query that can't be read."),
    (403, "Sealed: not yours to do. Plain: the request comes from a web page of others."),
    (404, "Sealed: no such row, conflict or device. Plain: there is nothing here."),
    (422, "Sealed: the body is not what is documented, or can't be done."),
    (500, "Something went wrong in the node; its log says what."),
    (503, "The database is locked by another program; try again."),
    (507, "The disk is full."),
];

/// Where a path's operation stands in the document, and what it is.
pub(crate) struct Description {
    method: HttpMethod,
    path: &'static str,
    operation: OperationBuilder,
    schemas: Vec<(String, RefOr<Schema>)>,
}

impl std::fmt::Debug for Description {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Description").field("path", &self.path).finish_non_exhaustive()
    }
}

fn plain(kind: Type) -> Object {
    ObjectBuilder::new().schema_type(kind).build()
}

fn binary() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::Custom("binary".to_owned())))
        .build()
}

impl Description {
    fn new(
        method: HttpMethod,
        path: &'static str,
        name: &'static str,
        group: &'static str,
        summary: &'static str,
    ) -> Self {
        let operation =
            OperationBuilder::new().operation_id(Some(name)).tag(group).summary(Some(summary));
        Self { method, path, operation, schemas: Vec::new() }.refuses(ANYBODY)
    }

    /// What is read.
    pub(super) fn get(
        path: &'static str,
        name: &'static str,
        group: &'static str,
        summary: &'static str,
    ) -> Self {
        Self::new(HttpMethod::Get, path, name, group, summary)
    }

    /// What is done.
    pub(super) fn post(
        path: &'static str,
        name: &'static str,
        group: &'static str,
        summary: &'static str,
    ) -> Self {
        Self::new(HttpMethod::Post, path, name, group, summary)
    }

    /// What is removed.
    pub(super) fn delete(
        path: &'static str,
        name: &'static str,
        group: &'static str,
        summary: &'static str,
    ) -> Self {
        Self::new(HttpMethod::Delete, path, name, group, summary)
    }

    /// More than fits into one line.
    pub(super) fn says(mut self, words: &str) -> Self {
        self.operation = self.operation.description(Some(words));
        self
    }

    fn component<T: ToSchema>(&mut self) -> Ref {
        let name = T::name().into_owned();
        if !self.schemas.iter().any(|(known, _)| *known == name) {
            self.schemas.push((name.clone(), T::schema()));
            T::schemas(&mut self.schemas);
        }
        Ref::from_schema_name(name)
    }

    /// Asks for the admin token.
    pub(super) fn with_token(mut self) -> Self {
        self.operation =
            self.operation.security(SecurityRequirement::new(ADMIN_TOKEN, [] as [&str; 0]));
        self.refuses(&[(401, "The admin token is missing or wrong.")])
    }

    /// Asks the engine: what can go wrong with the app's file.
    pub(super) fn asks_engine(self) -> Self {
        self.refuses(ENGINE)
    }

    /// A part of the path.
    pub(super) fn part(mut self, name: &str, words: &str, example: &str) -> Self {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some(words))
            .schema(Some(plain(Type::String)))
            .example(Some(example.into()));
        self.operation = self.operation.parameter(parameter);
        self.refuses(&[(400, "A part of the path is not UTF-8.")])
    }

    /// What may be said after a question mark.
    pub(super) fn query(mut self, name: &str, kind: Type, words: &str) -> Self {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some(words))
            .schema(Some(plain(kind)));
        self.operation = self.operation.parameter(parameter);
        self.refuses(&[(400, "The query is not what is documented.")])
    }

    /// A body in plain JSON.
    pub(super) fn takes<T: ToSchema>(mut self, example: Json) -> Self {
        let schema = self.component::<T>();
        let content = ContentBuilder::new().schema(Some(schema)).example(Some(example)).build();
        let body = RequestBodyBuilder::new()
            .required(Some(Required::True))
            .content("application/json", content)
            .build();
        self.operation = self.operation.request_body(Some(body));
        self.refuses(BODY)
    }

    /// What is answered when all is well.
    pub(super) fn answers<T: ToSchema>(mut self, words: &str, example: Json) -> Self {
        let schema = self.component::<T>();
        let content = ContentBuilder::new().schema(Some(schema)).example(Some(example)).build();
        let response =
            ResponseBuilder::new().description(words).content("application/json", content);
        self.operation = self.operation.response("200", response);
        self
    }

    /// The same, where it is not JSON.
    pub(super) fn answers_as(mut self, media_type: &str, words: &str) -> Self {
        let schema = if media_type.starts_with("text/") { plain(Type::String) } else { binary() };
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new().description(words).content(media_type, content);
        self.operation = self.operation.response("200", response);
        self
    }

    /// Events, one after the other; each of them is JSON of this shape.
    pub(super) fn streams<T: ToSchema>(mut self, words: &str) -> Self {
        let event = self.component::<T>();
        let extension =
            ExtensionsBuilder::new().add("x-event", json!({ "$ref": event.ref_location })).build();
        let content = ContentBuilder::new().schema(Some(plain(Type::String))).build();
        let response = ResponseBuilder::new()
            .description(words)
            .content("text/event-stream", content)
            .extensions(Some(extension));
        self.operation = self.operation.response("200", response);
        self
    }

    /// What is answered otherwise: a status, and when.
    pub(super) fn refuses(mut self, refusals: &[(u16, &str)]) -> Self {
        let schema = self.component::<Refused>();
        for (status, words) in refusals {
            let content = ContentBuilder::new().schema(Some(schema.clone())).build();
            let response =
                ResponseBuilder::new().description(*words).content("application/json", content);
            self.operation = self.operation.response(status.to_string(), response);
        }
        self
    }

    /// Sealed, for paired devices: `Q` is inside the request, `A` inside the answer.
    pub(super) fn sealed<Q: ToSchema, A: ToSchema>(mut self, request: Json, answer: Json) -> Self {
        let asked = self.component::<Q>();
        let answered = self.component::<A>();
        let refused = self.component::<Refused>();
        let inner = json!({
            "media_type": MEDIA_TYPE,
            "described_in": "PROTOCOL.md, section 3 (Sealed bodies)",
            "request": { "$ref": asked.ref_location },
            "request_example": request,
            "response": { "$ref": answered.ref_location },
            "response_example": answer,
            "refusal": { "$ref": refused.ref_location },
        });
        self.operation = self
            .operation
            .security(SecurityRequirement::new(SEALED, [] as [&str; 0]))
            .extensions(Some(ExtensionsBuilder::new().add(SEALED_EXTENSION, inner).build()));
        self.in_envelope().refuses(NOT_RECOGNISED).may_be_refused(SEALED_REFUSALS)
    }

    /// The envelope: the body of a POST, a header of everything else.
    fn in_envelope(mut self) -> Self {
        let envelope = || ContentBuilder::new().schema(Some(binary())).build();
        if self.method == HttpMethod::Post {
            let body = RequestBodyBuilder::new()
                .required(Some(Required::True))
                .description(Some("An envelope; what is inside says `x-sealed`."))
                .content(MEDIA_TYPE, envelope())
                .build();
            self.operation = self.operation.request_body(Some(body));
        } else {
            let header = ParameterBuilder::new()
                .name(SEALED_HEADER)
                .parameter_in(ParameterIn::Header)
                .required(Required::True)
                .description(Some("An envelope that seals an empty body, in base64url."))
                .schema(Some(plain(Type::String)));
            self.operation = self.operation.parameter(header);
        }
        let response = ResponseBuilder::new()
            .description("An envelope; what is inside says `x-sealed`.")
            .content(MEDIA_TYPE, envelope());
        self.operation = self.operation.response("200", response);
        self
    }

    /// Another status whose body is sealed.
    pub(super) fn answers_sealed(mut self, status: u16, words: &str) -> Self {
        let content = ContentBuilder::new().schema(Some(binary())).build();
        let response = ResponseBuilder::new().description(words).content(MEDIA_TYPE, content);
        self.operation = self.operation.response(status.to_string(), response);
        self
    }

    /// Asks for no token after all: what it is sealed with is proof enough.
    pub(super) fn without_token(mut self) -> Self {
        self.operation = self.operation.securities(None::<[SecurityRequirement; 0]>);
        self
    }

    /// Refusals that are sealed for whoever was recognised, and plain for others.
    pub(super) fn may_be_refused(mut self, refusals: &[(u16, &str)]) -> Self {
        let schema = self.component::<Refused>();
        for (status, words) in refusals {
            let response = ResponseBuilder::new()
                .description(*words)
                .content(MEDIA_TYPE, ContentBuilder::new().schema(Some(binary())).build())
                .content(
                    "application/json",
                    ContentBuilder::new().schema(Some(schema.clone())).build(),
                );
            self.operation = self.operation.response(status.to_string(), response);
        }
        self
    }

    /// A route of what is described: `handler` answers it.
    pub(crate) fn by<H, T, S>(self, handler: H) -> UtoipaMethodRouter<S>
    where
        H: Handler<T, S>,
        T: 'static,
        S: Clone + Send + Sync + 'static,
    {
        let filter = match self.method {
            HttpMethod::Post => MethodFilter::POST,
            HttpMethod::Delete => MethodFilter::DELETE,
            _ => MethodFilter::GET,
        };
        let routed: MethodRouter<S> = on(filter, handler);
        let mut paths = Paths::new();
        paths.paths.insert(self.path.to_owned(), PathItem::new(self.method, self.operation));
        (self.schemas, paths, routed)
    }
}
