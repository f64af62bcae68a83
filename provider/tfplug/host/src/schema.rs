//! A provider's schema as the checks need it: decoded once, indexed by name.

use std::collections::BTreeMap;

use tfplug::Type;
use tfplug::proto::tfplugin6 as wire;

use crate::HostError;

/// Everything a provider declares.
#[derive(Debug, Clone)]
pub struct ProviderSchema {
    /// The provider block.
    pub provider: BlockSchema,
    /// Managed resources by type name.
    pub resources: BTreeMap<String, ObjectSchema>,
    /// Data sources by type name.
    pub data_sources: BTreeMap<String, ObjectSchema>,
    /// Ephemeral resources by type name.
    pub ephemeral: BTreeMap<String, ObjectSchema>,
    /// Functions by name.
    pub functions: BTreeMap<String, FunctionSchema>,
    /// What the provider says it can do.
    pub capabilities: wire::ServerCapabilities,
    /// The answer itself.
    pub raw: wire::get_provider_schema::Response,
}

/// One versioned block schema.
#[derive(Debug, Clone)]
pub struct ObjectSchema {
    /// The state's schema version.
    pub version: i64,
    /// Its attributes and blocks.
    pub block: BlockSchema,
}

/// What may stand in one block.
#[derive(Debug, Clone, Default)]
pub struct BlockSchema {
    /// Attributes by name.
    pub attributes: BTreeMap<String, AttributeSchema>,
    /// Nested blocks by type name.
    pub blocks: BTreeMap<String, NestedBlockSchema>,
    /// Markdown or plain text.
    pub description: String,
}

/// One attribute.
#[derive(Debug, Clone)]
pub struct AttributeSchema {
    /// Its plain type, or the attributes nested in it.
    pub kind: AttributeKind,
    /// Must be configured.
    pub required: bool,
    /// May be configured.
    pub optional: bool,
    /// The provider may fill it in.
    pub computed: bool,
    /// Hidden in output.
    pub sensitive: bool,
    /// In configuration only; null in plan and state.
    pub write_only: bool,
    /// Use causes a warning.
    pub deprecated: bool,
    /// Markdown or plain text.
    pub description: String,
}

/// What an attribute holds.
#[derive(Debug, Clone)]
pub enum AttributeKind {
    /// A value of this type.
    Plain(Type),
    /// Objects with attributes of their own.
    Nested {
        /// How many objects and how they are told apart; never [`Nesting::Group`].
        nesting: Nesting,
        /// The attributes of each object.
        attributes: BTreeMap<String, AttributeSchema>,
    },
}

/// One type of nested block.
#[derive(Debug, Clone)]
pub struct NestedBlockSchema {
    /// How many blocks and how they are told apart.
    pub nesting: Nesting,
    /// What may stand in each.
    pub block: BlockSchema,
    /// The least number of blocks.
    pub min_items: i64,
    /// The greatest number of blocks; 0 is no limit.
    pub max_items: i64,
}

/// How nested objects are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nesting {
    /// One object or null.
    Single,
    /// One object, never null.
    Group,
    /// In order.
    List,
    /// Without order.
    Set,
    /// By key.
    Map,
}

/// One function's signature.
#[derive(Debug, Clone)]
pub struct FunctionSchema {
    /// Fixed parameters: name, type, whether null is allowed, whether unknown is allowed.
    pub parameters: Vec<ParameterSchema>,
    /// The parameter that takes every further argument.
    pub variadic: Option<ParameterSchema>,
    /// The result's type.
    pub result: Type,
    /// One line.
    pub summary: String,
    /// Markdown or plain text.
    pub description: String,
}

/// One parameter of a function.
#[derive(Debug, Clone)]
pub struct ParameterSchema {
    /// Its name in messages.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// Whether the function takes null.
    pub allow_null: bool,
    /// Whether the function takes unknown values.
    pub allow_unknown: bool,
    /// Markdown or plain text.
    pub description: String,
}

// === impl ProviderSchema ===

impl ProviderSchema {
    /// Decodes the answer to `GetProviderSchema`.
    ///
    /// # Errors
    /// [`HostError::Value`] naming the attribute whose type or nesting cannot be read. [`crate::check::schema`] says the
    /// same and more without stopping at the first.
    pub fn decode(raw: wire::get_provider_schema::Response) -> Result<Self, HostError> {
        let objects = |map: &BTreeMap<String, wire::Schema>| {
            map.iter()
                .map(|(name, schema)| Ok((name.clone(), ObjectSchema::decode(name, schema)?)))
                .collect::<Result<BTreeMap<_, _>, HostError>>()
        };
        let provider = match &raw.provider {
            Some(schema) => ObjectSchema::decode("provider", schema)?.block,
            None => BlockSchema::default(),
        };
        let functions = raw
            .functions
            .iter()
            .map(|(name, function)| Ok((name.clone(), FunctionSchema::decode(name, function)?)))
            .collect::<Result<_, HostError>>()?;
        Ok(Self {
            provider,
            resources: objects(&raw.resource_schemas)?,
            data_sources: objects(&raw.data_source_schemas)?,
            ephemeral: objects(&raw.ephemeral_resource_schemas)?,
            functions,
            capabilities: raw.server_capabilities.unwrap_or_default(),
            raw,
        })
    }
}

// === impl ObjectSchema ===

impl ObjectSchema {
    /// Decodes one schema; `name` is for messages.
    ///
    /// # Errors
    /// [`HostError::Value`] as [`ProviderSchema::decode`].
    pub fn decode(name: &str, schema: &wire::Schema) -> Result<Self, HostError> {
        let empty = wire::schema::Block::default();
        let block = schema.block.as_ref().unwrap_or(&empty);
        Ok(Self {
            version: schema.version,
            block: BlockSchema::decode(name, block)?,
        })
    }
}

// === impl BlockSchema ===

impl BlockSchema {
    /// Decodes one block; `path` is for messages.
    ///
    /// # Errors
    /// [`HostError::Value`] as [`ProviderSchema::decode`].
    pub fn decode(path: &str, block: &wire::schema::Block) -> Result<Self, HostError> {
        let mut blocks = BTreeMap::new();
        for nested in &block.block_types {
            let path = format!("{path}.{}", nested.type_name);
            let empty = wire::schema::Block::default();
            blocks.insert(
                nested.type_name.clone(),
                NestedBlockSchema {
                    nesting: Nesting::of_block(&path, nested.nesting)?,
                    block: Self::decode(&path, nested.block.as_ref().unwrap_or(&empty))?,
                    min_items: nested.min_items,
                    max_items: nested.max_items,
                },
            );
        }
        Ok(Self {
            attributes: attributes(path, &block.attributes)?,
            blocks,
            description: block.description.clone(),
        })
    }

    /// Whether a write-only attribute stands anywhere below.
    #[must_use]
    pub fn has_write_only(&self) -> bool {
        self.attributes
            .values()
            .any(AttributeSchema::has_write_only)
            || self
                .blocks
                .values()
                .any(|nested| nested.block.has_write_only())
    }
}

fn attributes(
    path: &str,
    list: &[wire::schema::Attribute],
) -> Result<BTreeMap<String, AttributeSchema>, HostError> {
    list.iter()
        .map(|attribute| {
            let path = format!("{path}.{}", attribute.name);
            Ok((
                attribute.name.clone(),
                AttributeSchema::decode(&path, attribute)?,
            ))
        })
        .collect()
}

// === impl AttributeSchema ===

impl AttributeSchema {
    fn decode(path: &str, attribute: &wire::schema::Attribute) -> Result<Self, HostError> {
        let kind = match &attribute.nested_type {
            Some(object) => AttributeKind::Nested {
                nesting: Nesting::of_object(path, object.nesting)?,
                attributes: attributes(path, &object.attributes)?,
            },
            None => AttributeKind::Plain(decode_type(path, &attribute.r#type)?),
        };
        Ok(Self {
            kind,
            required: attribute.required,
            optional: attribute.optional,
            computed: attribute.computed,
            sensitive: attribute.sensitive,
            write_only: attribute.write_only,
            deprecated: attribute.deprecated,
            description: attribute.description.clone(),
        })
    }

    /// Whether a person may write it.
    #[must_use]
    pub fn configurable(&self) -> bool {
        self.required || self.optional
    }

    /// Whether it or an attribute nested in it is write-only.
    #[must_use]
    pub fn has_write_only(&self) -> bool {
        self.write_only
            || match &self.kind {
                AttributeKind::Plain(_) => false,
                AttributeKind::Nested { attributes, .. } => {
                    attributes.values().any(Self::has_write_only)
                }
            }
    }
}

// === impl Nesting ===

impl Nesting {
    fn of_block(path: &str, number: i32) -> Result<Self, HostError> {
        use wire::schema::nested_block::NestingMode;
        match NestingMode::try_from(number) {
            Ok(NestingMode::Single) => Ok(Self::Single),
            Ok(NestingMode::Group) => Ok(Self::Group),
            Ok(NestingMode::List) => Ok(Self::List),
            Ok(NestingMode::Set) => Ok(Self::Set),
            Ok(NestingMode::Map) => Ok(Self::Map),
            _ => Err(bad_nesting(path, number)),
        }
    }

    fn of_object(path: &str, number: i32) -> Result<Self, HostError> {
        use wire::schema::object::NestingMode;
        match NestingMode::try_from(number) {
            Ok(NestingMode::Single) => Ok(Self::Single),
            Ok(NestingMode::List) => Ok(Self::List),
            Ok(NestingMode::Set) => Ok(Self::Set),
            Ok(NestingMode::Map) => Ok(Self::Map),
            _ => Err(bad_nesting(path, number)),
        }
    }
}

fn bad_nesting(path: &str, number: i32) -> HostError {
    HostError::Value {
        what: path.to_owned(),
        reason: format!("nesting mode {number} does not exist"),
    }
}

// === impl FunctionSchema ===

impl FunctionSchema {
    fn decode(name: &str, function: &wire::Function) -> Result<Self, HostError> {
        let parameter = |parameter: &wire::function::Parameter| {
            Ok::<_, HostError>(ParameterSchema {
                name: parameter.name.clone(),
                ty: decode_type(&format!("{name}({})", parameter.name), &parameter.r#type)?,
                allow_null: parameter.allow_null_value,
                allow_unknown: parameter.allow_unknown_values,
                description: parameter.description.clone(),
            })
        };
        let empty = wire::function::Return::default();
        let result = function.r#return.as_ref().unwrap_or(&empty);
        Ok(Self {
            parameters: function
                .parameters
                .iter()
                .map(parameter)
                .collect::<Result<_, _>>()?,
            variadic: function
                .variadic_parameter
                .as_ref()
                .map(parameter)
                .transpose()?,
            result: decode_type(name, &result.r#type)?,
            summary: function.summary.clone(),
            description: function.description.clone(),
        })
    }
}

fn decode_type(path: &str, bytes: &[u8]) -> Result<Type, HostError> {
    Type::from_json_bytes(bytes).map_err(|source| HostError::Value {
        what: path.to_owned(),
        reason: source.to_string(),
    })
}
