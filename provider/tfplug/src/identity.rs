//! Identities: what names an object for ever, outside of its state.

use crate::proto::tfplugin6 as pb;
use crate::value::{Type, Value};

/// The flat schema of an identity.
#[derive(Debug, Clone)]
pub struct IdentitySchema {
    version: i64,
    attributes: Vec<IdentityAttribute>,
}

/// One attribute of an identity.
#[derive(Debug, Clone)]
pub struct IdentityAttribute {
    name: String,
    ty: Type,
    description: String,
    required: bool,
}

// === impl IdentitySchema ===

impl IdentitySchema {
    /// An empty identity schema; `version` counts from 0.
    #[must_use]
    pub fn new(version: i64) -> Self {
        Self {
            version,
            attributes: Vec::new(),
        }
    }

    /// Adds an attribute that an import has to name. Its type is primitive or a list of primitives.
    #[must_use]
    pub fn required(
        self,
        name: impl Into<String>,
        ty: Type,
        description: impl Into<String>,
    ) -> Self {
        self.attribute(name, ty, description, true)
    }

    /// Adds an attribute that an import may leave out.
    #[must_use]
    pub fn optional(
        self,
        name: impl Into<String>,
        ty: Type,
        description: impl Into<String>,
    ) -> Self {
        self.attribute(name, ty, description, false)
    }

    fn attribute(
        mut self,
        name: impl Into<String>,
        ty: Type,
        description: impl Into<String>,
        required: bool,
    ) -> Self {
        let (name, description) = (name.into(), description.into());
        self.attributes.push(IdentityAttribute {
            name,
            ty,
            description,
            required,
        });
        self
    }

    /// The version of stored identities.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.version
    }

    /// The attributes in the order of declaration.
    #[must_use]
    pub fn attribute_list(&self) -> &[IdentityAttribute] {
        &self.attributes
    }

    /// The type of its values.
    #[must_use]
    pub fn ty(&self) -> Type {
        Type::object(
            self.attributes
                .iter()
                .map(|a| (a.name.clone(), a.ty.clone())),
        )
    }

    /// The attributes of the same names of a state; `None` while a required one is null or any is unknown.
    #[must_use]
    pub fn value_of(&self, state: &Value) -> Option<Value> {
        let mut members = Vec::new();
        for attribute in &self.attributes {
            let value = state.get(&attribute.name);
            if !value.is_wholly_known() || attribute.required && value.is_null() {
                return None;
            }
            members.push((attribute.name.clone(), value.clone()));
        }
        Some(Value::object(members))
    }

    pub(crate) fn to_proto(&self) -> pb::ResourceIdentitySchema {
        let attribute = |a: &IdentityAttribute| pb::resource_identity_schema::IdentityAttribute {
            name: a.name.clone(),
            r#type: a.ty.to_json_bytes(),
            required_for_import: a.required,
            optional_for_import: !a.required,
            description: a.description.clone(),
        };
        pb::ResourceIdentitySchema {
            version: self.version,
            identity_attributes: self.attributes.iter().map(attribute).collect(),
        }
    }
}

// === impl IdentityAttribute ===

impl IdentityAttribute {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type.
    #[must_use]
    pub fn ty(&self) -> &Type {
        &self.ty
    }

    /// What it means.
    #[must_use]
    pub fn description_text(&self) -> &str {
        &self.description
    }

    /// True when an import has to name it.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.required
    }
}
