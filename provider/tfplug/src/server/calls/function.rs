//! Calling functions.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::function::{FunctionError, Signature};
use crate::proto::tfplugin6 as pb;
use crate::server::service::{Service, panicked};
use crate::value::Value;

type Response = pb::call_function::Response;

/// The result or the error.
pub(crate) fn call(service: &Service, request: &pb::call_function::Request) -> Response {
    match attempt(service, request) {
        Ok(result) => Response {
            result: Some(result),
            error: None,
        },
        Err(error) => {
            let function_argument = error.argument.and_then(|i| i64::try_from(i).ok());
            Response {
                result: None,
                error: Some(pb::FunctionError {
                    text: error.text,
                    function_argument,
                }),
            }
        }
    }
}

fn attempt(
    service: &Service,
    request: &pb::call_function::Request,
) -> Result<pb::DynamicValue, FunctionError> {
    let Some((function, signature)) = service.registry().functions.get(&request.name) else {
        return Err(FunctionError::new(format!(
            "This provider has no function {:?}.",
            request.name
        )));
    };
    let signature = signature.get_or_init(|| function.signature());
    let arguments = arguments(signature, &request.arguments)?;
    let result = catch_unwind(AssertUnwindSafe(|| function.call(&arguments)))
        .map_err(|panic| FunctionError::new(panicked("The function", panic.as_ref()).detail))??;
    let bytes = result.to_msgpack(&signature.result);
    let bytes = bytes.map_err(|e| {
        FunctionError::new(format!("The provider's result does not fit its type: {e}."))
    })?;
    Ok(pb::DynamicValue {
        msgpack: bytes,
        json: Vec::new(),
    })
}

fn arguments(
    signature: &Signature,
    sent: &[pb::DynamicValue],
) -> Result<Vec<Value>, FunctionError> {
    let wanted = signature.parameters.len();
    if sent.len() < wanted || sent.len() > wanted && signature.variadic.is_none() {
        return Err(FunctionError::new(format!(
            "Expected {wanted} arguments, got {}.",
            sent.len()
        )));
    }
    let parameters = signature
        .parameters
        .iter()
        .chain(std::iter::repeat_with(|| signature.variadic.as_ref()).flatten());
    let pairs = sent.iter().zip(parameters).enumerate();
    pairs
        .map(|(i, (message, parameter))| {
            super::decode(Some(message), &parameter.ty).map_err(|problems| {
                let text = problems
                    .iter()
                    .next()
                    .map(|d| d.detail.clone())
                    .unwrap_or_default();
                FunctionError::argument(i, text)
            })
        })
        .collect()
}
