//! Identities: what names an object for ever, outside of its state.

use crate::path::Path;
use crate::proto::tfplugin6 as pb;
use crate::schema::{SchemaError, is_name};
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

    /// Breaches of the rule that identities are flat, with names that Terraform takes.
    #[must_use]
    pub fn internal_validate(&self) -> Vec<SchemaError> {
        let primitive = |ty: &Type| matches!(ty, Type::Bool | Type::Number | Type::String);
        let flat =
            |ty: &Type| matches!(ty, Type::List(element) if primitive(element)) || primitive(ty);
        let broken = |a: &IdentityAttribute, rule: &str| SchemaError {
            path: Path::root(a.name.as_str()),
            rule: rule.to_owned(),
        };
        let nested = self.attributes.iter().filter(|a| !flat(&a.ty));
        let nested = nested.map(|a| broken(a, "an identity holds primitives and lists of them"));
        let named = self.attributes.iter().filter(|a| !is_name(&a.name));
        let named = named.map(|a| broken(a, "the name is not one that Terraform takes"));
        nested.chain(named).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_flat_and_complete_or_absent() {
        let schema = IdentitySchema::new(0)
            .required("name", Type::String, "")
            .optional("zones", Type::list(Type::String), "");
        assert_eq!(schema.internal_validate(), vec![]);
        let state = |name: Value| {
            Value::object([("name", name), ("zones", Value::Null), ("size", 1.into())])
        };
        let expected = Value::object([("name", Value::from("a")), ("zones", Value::Null)]);
        assert_eq!(schema.value_of(&state("a".into())), Some(expected));
        assert_eq!(schema.value_of(&state(Value::Null)), None);
        assert_eq!(schema.value_of(&state(Value::unknown())), None);
        let deep = IdentitySchema::new(0).required("Deep", Type::map(Type::String), "");
        assert_eq!(deep.internal_validate().len(), 2);
    }
}
