//! Functions: pure, offline, deterministic.

use crate::proto::tfplugin6 as pb;
use crate::value::{Type, Value};

/// A function that HCL calls as `provider::name::function(..)`.
pub trait Function: Send + Sync + 'static {
    /// The name, without a prefix.
    fn name(&self) -> &str;

    /// Parameters, result and documentation.
    fn signature(&self) -> Signature;

    /// The result for these arguments: one per parameter, then the variadic ones. Equal
    /// arguments give equal results.
    ///
    /// # Errors
    /// What is wrong, with the argument at fault.
    fn call(&self, arguments: &[Value]) -> Result<Value, FunctionError>;
}

/// What a function takes and gives.
#[derive(Debug, Clone)]
pub struct Signature {
    pub(crate) summary: String,
    pub(crate) description: String,
    pub(crate) deprecated: Option<String>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) variadic: Option<Parameter>,
    pub(crate) result: Type,
}

/// One parameter.
#[derive(Debug, Clone)]
pub struct Parameter {
    name: String,
    pub(crate) ty: Type,
    description: String,
    allow_null: bool,
    allow_unknown: bool,
}

/// Why a function has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct FunctionError {
    /// What is wrong and what to do about it.
    pub text: String,
    /// The argument at fault, counted from 0.
    pub argument: Option<usize>,
}

// === impl Signature ===

impl Signature {
    /// A function without parameters.
    #[must_use]
    pub fn returns(result: Type) -> Self {
        let (summary, description) = (String::new(), String::new());
        Self {
            summary,
            description,
            deprecated: None,
            parameters: Vec::new(),
            variadic: None,
            result,
        }
    }

    /// One line.
    #[must_use]
    pub fn summary(mut self, summary: impl Into<String>) -> Self {
        self.summary = summary.into();
        self
    }

    /// The documentation, in Markdown.
    #[must_use]
    pub fn description(mut self, markdown: impl Into<String>) -> Self {
        self.description = markdown.into();
        self
    }

    /// Marks it as deprecated; the message says what to use instead.
    #[must_use]
    pub fn deprecated(mut self, message: impl Into<String>) -> Self {
        self.deprecated = Some(message.into());
        self
    }

    /// Adds a parameter.
    #[must_use]
    pub fn parameter(mut self, parameter: Parameter) -> Self {
        self.parameters.push(parameter);
        self
    }

    /// Takes any number of further arguments.
    #[must_use]
    pub fn variadic(mut self, parameter: Parameter) -> Self {
        self.variadic = Some(parameter);
        self
    }

    /// One line.
    #[must_use]
    pub fn summary_text(&self) -> &str {
        &self.summary
    }

    /// The documentation, in Markdown.
    #[must_use]
    pub fn description_text(&self) -> &str {
        &self.description
    }

    /// The parameters in order.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The parameter of further arguments.
    #[must_use]
    pub fn variadic_parameter(&self) -> Option<&Parameter> {
        self.variadic.as_ref()
    }

    /// The type of the result.
    #[must_use]
    pub fn result(&self) -> &Type {
        &self.result
    }

    pub(crate) fn to_proto(&self) -> pb::Function {
        pb::Function {
            parameters: self.parameters.iter().map(Parameter::to_proto).collect(),
            variadic_parameter: self.variadic.as_ref().map(Parameter::to_proto),
            r#return: Some(pb::function::Return {
                r#type: self.result.to_json_bytes(),
            }),
            summary: self.summary.clone(),
            description: self.description.clone(),
            description_kind: pb::StringKind::Markdown.into(),
            deprecation_message: self.deprecated.clone().unwrap_or_default(),
        }
    }
}

// === impl Parameter ===

impl Parameter {
    /// A parameter whose arguments are known and not null.
    pub fn new(name: impl Into<String>, ty: Type, description: impl Into<String>) -> Self {
        let (name, description) = (name.into(), description.into());
        Self {
            name,
            ty,
            description,
            allow_null: false,
            allow_unknown: false,
        }
    }

    /// Arguments may be null.
    #[must_use]
    pub fn allow_null(mut self) -> Self {
        self.allow_null = true;
        self
    }

    /// Arguments may be unknown; otherwise an unknown argument makes the result unknown without a call.
    #[must_use]
    pub fn allow_unknown(mut self) -> Self {
        self.allow_unknown = true;
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type of arguments.
    #[must_use]
    pub fn ty(&self) -> &Type {
        &self.ty
    }

    /// What it means.
    #[must_use]
    pub fn description_text(&self) -> &str {
        &self.description
    }

    fn to_proto(&self) -> pb::function::Parameter {
        pb::function::Parameter {
            name: self.name.clone(),
            r#type: self.ty.to_json_bytes(),
            allow_null_value: self.allow_null,
            allow_unknown_values: self.allow_unknown,
            description: self.description.clone(),
            description_kind: pb::StringKind::Markdown.into(),
        }
    }
}

// === impl FunctionError ===

impl FunctionError {
    /// An error of the call as a whole.
    pub fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            argument: None,
        }
    }

    /// An error of one argument, counted from 0.
    pub fn argument(index: usize, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            argument: Some(index),
        }
    }
}
