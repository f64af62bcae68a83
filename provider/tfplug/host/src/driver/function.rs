//! One provider function.

use serde_json::Value as Json;
use tfplug::proto::tfplugin6 as wire;
use tfplug::{Path, Value};

use crate::check::{self, Rule, Violation};
use crate::host::{decode_as, encode_as, no_violations, rpc};
use crate::schema::{FunctionSchema, ParameterSchema};
use crate::{Host, HostError, config};

/// Plays core's part for one function.
#[derive(Debug)]
pub struct FunctionDriver<'h> {
    host: &'h Host,
    name: String,
    schema: FunctionSchema,
}

/// What a function refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionFailure {
    /// The reason.
    pub text: String,
    /// The argument at fault, counted from 0, the variadic ones included.
    pub argument: Option<usize>,
}

// === impl Host ===

impl Host {
    /// A driver for the function `name`.
    ///
    /// # Errors
    /// [`HostError::UnknownType`], or as [`Host::schema`].
    pub async fn function(&self, name: &str) -> Result<FunctionDriver<'_>, HostError> {
        let provider = self.schema().await?;
        let schema =
            provider
                .functions
                .get(name)
                .cloned()
                .ok_or_else(|| HostError::UnknownType {
                    kind: "function",
                    name: name.to_owned(),
                    known: provider.functions.keys().cloned().collect(),
                })?;
        Ok(FunctionDriver {
            host: self,
            name: name.to_owned(),
            schema,
        })
    }
}

// === impl FunctionDriver ===

impl FunctionDriver<'_> {
    /// The function's signature.
    #[must_use]
    pub fn schema(&self) -> &FunctionSchema {
        &self.schema
    }

    /// Calls with JSON arguments, twice, with F1: the result or the function's own refusal.
    ///
    /// # Errors
    /// [`HostError::Value`] when the arguments do not fit, [`HostError::Violations`] when the answer is unsound.
    pub async fn call(
        &self,
        arguments: &[Json],
    ) -> Result<Result<Value, FunctionFailure>, HostError> {
        let values = self.arguments(arguments)?;
        self.call_values(&values).await
    }

    /// As [`FunctionDriver::call`], with values that may be unknown.
    ///
    /// # Errors
    /// As [`FunctionDriver::call`].
    pub async fn call_values(
        &self,
        arguments: &[Value],
    ) -> Result<Result<Value, FunctionFailure>, HostError> {
        let (first, second) = (self.once(arguments).await?, self.once(arguments).await?);
        let named = format!("CallFunction of {}", self.name);
        match (first, second) {
            (Ok(first), Ok(second)) => {
                no_violations(
                    &named,
                    check::result::check_function(arguments, &first, &second),
                )?;
                Ok(Ok(first))
            }
            (Err(first), Err(second)) if first == second => {
                let count = arguments.len();
                if first.argument.is_some_and(|index| index >= count) {
                    let message = format!("argument {:?} of {count} is at fault", first.argument);
                    no_violations(&named, vec![Violation::new(Rule::F1, "", message)])?;
                }
                Ok(Err(first))
            }
            (first, second) => {
                let message =
                    format!("not pure: {first:?} and then {second:?} for the same arguments");
                no_violations(&named, vec![Violation::new(Rule::F1, "", message)])?;
                Ok(first)
            }
        }
    }

    /// JSON arguments as values of the parameters' types.
    ///
    /// # Errors
    /// [`HostError::Value`] when there are too few or too many, or one does not fit.
    pub fn arguments(&self, arguments: &[Json]) -> Result<Vec<Value>, HostError> {
        let parameters = self.parameters(arguments.len())?;
        let all = parameters.iter().zip(arguments);
        all.map(|(one, json)| config::plain(&one.ty, json, &Path::root(&one.name)))
            .collect()
    }

    fn parameters(&self, count: usize) -> Result<Vec<&ParameterSchema>, HostError> {
        let fixed = self.schema.parameters.len();
        if count < fixed || (count > fixed && self.schema.variadic.is_none()) {
            return Err(HostError::Value {
                what: format!("arguments of {}", self.name),
                reason: format!("{count} are given, {fixed} are wanted"),
            });
        }
        let rest = self.schema.variadic.iter().cycle().take(count - fixed);
        Ok(self.schema.parameters.iter().chain(rest).collect())
    }

    async fn once(&self, arguments: &[Value]) -> Result<Result<Value, FunctionFailure>, HostError> {
        let call = "CallFunction";
        let parameters = self.parameters(arguments.len())?;
        let encoded = parameters
            .iter()
            .zip(arguments)
            .map(|(one, value)| encode_as(&one.ty, value));
        let request = wire::call_function::Request {
            name: self.name.clone(),
            arguments: encoded.collect::<Result<_, _>>()?,
        };
        let answer = self.host.client().call_function(request).await;
        let response = answer.map_err(|status| rpc(call, status))?.into_inner();
        if let Some(error) = response.error {
            let argument = error
                .function_argument
                .and_then(|index| usize::try_from(index).ok());
            return Ok(Err(FunctionFailure {
                text: error.text,
                argument,
            }));
        }
        let named = format!("{call} of {}", self.name);
        match decode_as(&self.schema.result, response.result.as_ref()) {
            Ok(Some(value)) => Ok(Ok(value)),
            Ok(None) => {
                no_violations(
                    &named,
                    vec![Violation::new(
                        Rule::F1,
                        "",
                        "neither a result nor an error",
                    )],
                )?;
                Ok(Ok(Value::Null))
            }
            Err(reason) => {
                no_violations(&named, vec![Violation::new(Rule::F1, "", reason)])?;
                Ok(Ok(Value::Null))
            }
        }
    }
}
