//! One attribute.

use std::fmt;
use std::sync::Arc;

use super::validators::{self, Validator};
use crate::value::{Type, Value};

/// One attribute of a schema, built by chaining.
#[derive(Debug, Clone)]
pub struct Attribute {
    name: String,
    kind: AttributeKind,
    description: String,
    required: bool,
    optional: bool,
    computed: bool,
    sensitive: bool,
    write_only: bool,
    deprecated: Option<String>,
    validators: Vec<Validator>,
    default: Option<AttributeDefault>,
    use_state_for_unknown: bool,
    replace: Replace,
}

/// What values an attribute takes.
#[derive(Debug, Clone)]
pub enum AttributeKind {
    /// A plain type.
    Plain(Type),
    /// Objects with attributes of their own.
    Nested(Nesting, Vec<Attribute>),
}

/// How nested objects are arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nesting {
    /// One object.
    Single,
    /// Objects in order.
    List,
    /// Distinct objects.
    Set,
    /// Objects by key.
    Map,
}

/// The value of an attribute that the configuration leaves out.
#[derive(Clone)]
pub enum AttributeDefault {
    /// Always the same.
    Static(Value),
    /// Computed from the whole configuration; has to be deterministic. Null means no default.
    With(Arc<dyn Fn(&Value) -> Value + Send + Sync>),
}

/// Whether a change of an attribute replaces the resource.
#[derive(Clone, Default)]
pub enum Replace {
    /// Changed in place.
    #[default]
    Never,
    /// Destroyed and created again.
    Always,
    /// Only when this says so; has to be deterministic.
    If(Arc<dyn Fn(&ReplaceCtx<'_>) -> bool + Send + Sync>),
}

/// What a replacement rule may look at: the attribute's values and the whole objects.
#[derive(Debug, Clone, Copy)]
pub struct ReplaceCtx<'a> {
    /// The attribute's value in the configuration.
    pub config: &'a Value,
    /// The attribute's stored value.
    pub prior: &'a Value,
    /// The attribute's planned value, which differs from the stored one.
    pub planned: &'a Value,
    /// The whole planned object.
    pub planned_object: &'a Value,
    /// The whole stored object.
    pub prior_object: &'a Value,
}

// === impl Attribute ===

impl Attribute {
    /// An attribute of any type.
    pub fn of(name: impl Into<String>, ty: Type) -> Self {
        Self::new(name, AttributeKind::Plain(ty))
    }

    /// Text.
    pub fn string(name: impl Into<String>) -> Self {
        Self::of(name, Type::String)
    }

    /// A number, also with fractions.
    pub fn number(name: impl Into<String>) -> Self {
        Self::of(name, Type::Number)
    }

    /// A whole number of 64 bits.
    pub fn int64(name: impl Into<String>) -> Self {
        Self::of(name, Type::Number).validate(validators::whole())
    }

    /// True or false.
    pub fn bool(name: impl Into<String>) -> Self {
        Self::of(name, Type::Bool)
    }

    /// A list of this element type.
    pub fn list(name: impl Into<String>, element: Type) -> Self {
        Self::of(name, Type::list(element))
    }

    /// A set of this element type.
    pub fn set(name: impl Into<String>, element: Type) -> Self {
        Self::of(name, Type::set(element))
    }

    /// A map to this element type.
    pub fn map(name: impl Into<String>, element: Type) -> Self {
        Self::of(name, Type::map(element))
    }

    /// A value of any type, which it brings with it.
    pub fn dynamic(name: impl Into<String>) -> Self {
        Self::of(name, Type::Dynamic)
    }

    /// One nested object: `x = { a = 1 }`.
    pub fn object(
        name: impl Into<String>,
        attributes: impl IntoIterator<Item = Attribute>,
    ) -> Self {
        Self::nested(name, Nesting::Single, attributes)
    }

    /// Nested objects in order: `x = [{ a = 1 }]`.
    pub fn nested_list(
        name: impl Into<String>,
        attributes: impl IntoIterator<Item = Attribute>,
    ) -> Self {
        Self::nested(name, Nesting::List, attributes)
    }

    /// Distinct nested objects.
    pub fn nested_set(
        name: impl Into<String>,
        attributes: impl IntoIterator<Item = Attribute>,
    ) -> Self {
        Self::nested(name, Nesting::Set, attributes)
    }

    /// Nested objects by key: `x = { k = { a = 1 } }`.
    pub fn nested_map(
        name: impl Into<String>,
        attributes: impl IntoIterator<Item = Attribute>,
    ) -> Self {
        Self::nested(name, Nesting::Map, attributes)
    }

    fn nested(
        name: impl Into<String>,
        nesting: Nesting,
        attributes: impl IntoIterator<Item = Attribute>,
    ) -> Self {
        Self::new(
            name,
            AttributeKind::Nested(nesting, attributes.into_iter().collect()),
        )
    }

    fn new(name: impl Into<String>, kind: AttributeKind) -> Self {
        Self {
            name: name.into(),
            kind,
            description: String::new(),
            required: false,
            optional: false,
            computed: false,
            sensitive: false,
            write_only: false,
            deprecated: None,
            validators: Vec::new(),
            default: None,
            use_state_for_unknown: false,
            replace: Replace::Never,
        }
    }

    /// Has to be set.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// May be set.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// The provider sets it; together with [`optional`](Self::optional) only where the user does not.
    #[must_use]
    pub fn computed(mut self) -> Self {
        self.computed = true;
        self
    }

    /// Hidden in what Terraform prints.
    #[must_use]
    pub fn sensitive(mut self) -> Self {
        self.sensitive = true;
        self
    }

    /// Only ever in the configuration, never in plan or state. The framework nulls it there.
    #[must_use]
    pub fn write_only(mut self) -> Self {
        self.write_only = true;
        self
    }

    /// Warns whoever sets it; the message says what to use instead.
    #[must_use]
    pub fn deprecated(mut self, message: impl Into<String>) -> Self {
        self.deprecated = Some(message.into());
        self
    }

    /// What it means, in Markdown.
    #[must_use]
    pub fn description(mut self, markdown: impl Into<String>) -> Self {
        self.description = markdown.into();
        self
    }

    /// Adds a check of its known, non-null values.
    #[must_use]
    pub fn validate(mut self, validator: Validator) -> Self {
        self.validators.push(validator);
        self
    }

    /// The value when the configuration has none. Makes the attribute computed, as Terraform demands.
    #[must_use]
    pub fn default(mut self, value: impl Into<Value>) -> Self {
        self.computed = true;
        self.default = Some(AttributeDefault::Static(value.into()));
        self
    }

    /// Like [`default`](Self::default), computed from the whole configuration. Has to be
    /// deterministic; unknown parts of the configuration have to give [`Value::unknown`].
    #[must_use]
    pub fn default_with(mut self, f: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        self.computed = true;
        self.default = Some(AttributeDefault::With(Arc::new(f)));
        self
    }

    /// A computed value, once known, is planned to stay as it is.
    #[must_use]
    pub fn use_state_for_unknown(mut self) -> Self {
        self.use_state_for_unknown = true;
        self
    }

    /// A change destroys the resource and creates it again.
    #[must_use]
    pub fn requires_replace(mut self) -> Self {
        self.replace = Replace::Always;
        self
    }

    /// A change for which this is true destroys the resource and creates it again.
    #[must_use]
    pub fn requires_replace_if(
        mut self,
        f: impl Fn(&ReplaceCtx<'_>) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.replace = Replace::If(Arc::new(f));
        self
    }

    /// The name in HCL.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What values it takes.
    #[must_use]
    pub fn kind(&self) -> &AttributeKind {
        &self.kind
    }

    /// The attributes of nested objects; empty for plain types.
    #[must_use]
    pub fn nested_attributes(&self) -> &[Attribute] {
        match &self.kind {
            AttributeKind::Plain(_) => &[],
            AttributeKind::Nested(_, attributes) => attributes,
        }
    }

    /// The type of its values.
    #[must_use]
    pub fn ty(&self) -> Type {
        match &self.kind {
            AttributeKind::Plain(ty) => ty.clone(),
            AttributeKind::Nested(nesting, attributes) => {
                let object = super::object_type(attributes, &[]);
                match nesting {
                    Nesting::Single => object,
                    Nesting::List => Type::list(object),
                    Nesting::Set => Type::set(object),
                    Nesting::Map => Type::map(object),
                }
            }
        }
    }

    /// Has to be set.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// May be set.
    #[must_use]
    pub fn is_optional(&self) -> bool {
        self.optional
    }

    /// The provider may set it.
    #[must_use]
    pub fn is_computed(&self) -> bool {
        self.computed
    }

    /// Hidden in what Terraform prints.
    #[must_use]
    pub fn is_sensitive(&self) -> bool {
        self.sensitive
    }

    /// Only ever in the configuration.
    #[must_use]
    pub fn is_write_only(&self) -> bool {
        self.write_only
    }

    /// What to use instead, when deprecated.
    #[must_use]
    pub fn deprecation(&self) -> Option<&str> {
        self.deprecated.as_deref()
    }

    /// The description, in Markdown.
    #[must_use]
    pub fn description_text(&self) -> &str {
        &self.description
    }

    /// The checks of its values, each with a description.
    #[must_use]
    pub fn validators(&self) -> &[Validator] {
        &self.validators
    }

    /// The default, when there is one.
    #[must_use]
    pub fn default_value(&self) -> Option<&AttributeDefault> {
        self.default.as_ref()
    }

    /// Whether a change replaces the resource.
    #[must_use]
    pub fn replacement(&self) -> &Replace {
        &self.replace
    }

    pub(crate) fn keeps_state(&self) -> bool {
        self.use_state_for_unknown
    }
}

impl fmt::Debug for AttributeDefault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static(value) => write!(f, "Static({value})"),
            Self::With(_) => f.write_str("With(..)"),
        }
    }
}

impl fmt::Debug for Replace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Never => "Never",
            Self::Always => "Always",
            Self::If(_) => "If(..)",
        })
    }
}
