//! The contract of the API as `OpenAPI`, made of the handlers and of the tables' own schemas.

use utoipa::{
    Modify, OpenApi,
    openapi::{
        self,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use super::{api, feedback, pictures};

/// The API as `OpenAPI` 3.1: `schemas/openapi.json`, and what `/api/v1/openapi.json` answers.
#[must_use]
pub fn open_api() -> serde_json::Value {
    // Names and texts only: it can be written as JSON.
    serde_json::to_value(Contract::openapi()).unwrap_or_default()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Eventide",
        version = "1",
        description = "Events of videos, found and told. Names are those of the tables; times of a video are \
            milliseconds from its start, half-open, and moments of the clock are UTC.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(
        api::about,
        api::search,
        api::groups,
        api::videos,
        api::video,
        api::events,
        api::captions,
        api::transcripts,
        api::references,
        api::runs,
        api::failures,
        feedback::marks,
        feedback::mark,
        pictures::picture
    ),
    modifiers(&Token)
)]
struct Contract;

/// The token, for servers that ask for one.
struct Token;

impl Modify for Token {
    fn modify(&self, contract: &mut openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The token of the server, where it was started with one."))
            .build();
        let components = contract.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
        let none = SecurityRequirement::default();
        let token = SecurityRequirement::new("token", [""; 0]);
        contract.security = Some(vec![none, token]);
    }
}
