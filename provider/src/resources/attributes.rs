//! Attributes that several resources share.

use gpuloom_api::tls::CaPin;
use gpuloom_api::{Endpoints, MAX_ENDPOINTS};
use tfplug::{Attribute, IdentitySchema, Type, Validator, Value, validators};

/// The attributes of a connection as another resource takes it.
fn wanted_connection() -> [Attribute; 3] {
    [
        Attribute::string("id")
            .required()
            .description(
                "The fleet's own id. Another id is another fleet: a change replaces the resource, and so does an id \
                 that is known only after apply.",
            )
            .validate(validators::length(1..=128))
            .requires_replace(),
        Attribute::list("endpoints", Type::String)
            .required()
            .description("`host:port` of each agent that may answer; the first that does is used.")
            .validate(validators::size(1..=MAX_ENDPOINTS))
            .validate(validators::each(endpoint())),
        Attribute::string("ca_pin")
            .required()
            .description("`sha256:` and 64 hexadecimal digits: the fleet's certificate authority, which is trusted and no other.")
            .validate(ca_pin()),
    ]
}

/// `fleet`: the connection of the fleet that the resource belongs to.
pub(crate) fn fleet_attribute() -> Attribute {
    Attribute::object("fleet", wanted_connection())
        .required()
        .description("The fleet: `gpuloom_fleet.<name>.connection`, or written out for a fleet that another configuration owns.")
}

/// The attributes of a connection as a fleet gives it.
pub(crate) fn connection_attributes() -> [Attribute; 3] {
    [
        Attribute::string("id")
            .computed()
            .description("The fleet's own id."),
        Attribute::list("endpoints", Type::String)
            .computed()
            .description("`host:port` of each agent that may answer."),
        Attribute::string("ca_pin")
            .computed()
            .description("`sha256:` and 64 hexadecimal digits: the fleet's certificate authority."),
    ]
}

/// `name`: cannot change.
pub(super) fn name_attribute(of: &str) -> Attribute {
    Attribute::string("name")
        .required()
        .description(format!(
            "The {of}'s name, unique in its fleet: 1 to 63 lower-case letters, digits and hyphens, first a letter, \
             last not a hyphen. A change replaces it."
        ))
        .requires_replace()
}

/// `generation`: counts changes.
pub(super) fn generation_attribute() -> Attribute {
    Attribute::number("generation")
        .computed()
        .description("Counts up from 1 with every change; a change from elsewhere is refused until it has been read.")
}

/// `{ gpus, gpu_memory_gib }` and what else belongs to it.
pub(super) fn amounts(name: &str, more: Option<Attribute>) -> Attribute {
    let both = [
        Attribute::number("gpus")
            .optional()
            .description("GPUs, with at most three decimals: `2`, `0.25`."),
        Attribute::number("gpu_memory_gib")
            .optional()
            .description("GPU memory in GiB (2^30 bytes)."),
    ];
    Attribute::object(name, both.into_iter().chain(more)).optional()
}

/// What names an object for ever: its fleet's id and its own name.
pub(super) fn object_identity() -> IdentitySchema {
    IdentitySchema::new(0)
        .required("fleet_id", Type::String, "The fleet's own id.")
        .required("name", Type::String, "The object's name in its fleet.")
}

/// See [`object_identity`]; `None` while a part is not known.
pub(super) fn identity_of_object(state: &Value) -> Option<Value> {
    let id = state.get("fleet").get("id").as_str()?;
    let name = state.get("name").as_str()?;
    Some(Value::object([("fleet_id", id), ("name", name)]))
}

/// `host:port`, as the client takes it.
pub(crate) fn endpoint() -> Validator {
    validators::parses("host:port", |s: &str| Endpoints::new([s]))
}

/// `sha256:` and 64 hexadecimal digits, as the client takes it.
pub(crate) fn ca_pin() -> Validator {
    validators::parses("`sha256:` and 64 hexadecimal digits", |s: &str| {
        s.parse::<CaPin>()
    })
}
