//! Functions: pure, offline.

use gpuloom_fleet::{Bytes, Precision, vram_required};
use tfplug::{Function, FunctionError, Number, Parameter, Signature, Type, Value};

use crate::convert::gib_from_bytes;

/// Every function.
pub(crate) fn all() -> Vec<Box<dyn Function>> {
    vec![Box::new(VramRequired)]
}

/// `vram_required(parameters_billion, precision, training)`.
struct VramRequired;

const PARTS: [&str; 4] = ["weights_gib", "training_gib", "overhead_gib", "total_gib"];

impl Function for VramRequired {
    fn name(&self) -> &str {
        "vram_required"
    }

    fn signature(&self) -> Signature {
        Signature::returns(Type::object(PARTS.map(|part| (part, Type::Number))))
            .summary("GPU memory that a model needs")
            .description(
                "Estimates the GPU memory for a model, in GiB (2^30 bytes) and in its parts. To serve: the weights and \
                 20% for activations, cache and fragmentation. To train: gradients, Adam's two moments and a master \
                 copy in fp32 come on top (12 bytes a parameter). The 20% is a rule of thumb, not a bound.",
            )
            .parameter(Parameter::new(
                "parameters_billion",
                Type::Number,
                "The model's parameters in billions, with at most three decimals: 0.001 to 100,000.",
            ))
            .parameter(Parameter::new(
                "precision",
                Type::String,
                "The weights' format: `fp32`, `fp16`, `bf16`, `fp8`, `int8` or `int4`.",
            ))
            .parameter(Parameter::new(
                "training",
                Type::Bool,
                "Whether the model is trained (in fp32, fp16 or bf16) or served.",
            ))
    }

    fn call(&self, arguments: &[Value]) -> Result<Value, FunctionError> {
        let [parameters, precision, training] = arguments else {
            return Err(FunctionError::new("expected three arguments"));
        };
        let millions = parameters.as_number().and_then(millions).ok_or_else(|| {
            let text =
                "expected a number of billions with at most three decimals, such as 7 or 0.5";
            FunctionError::argument(0, text)
        })?;
        let word = precision.as_str().unwrap_or_default();
        let precision: Precision = word.parse().map_err(|e| refused(1, &e))?;
        let estimate = vram_required(millions, precision, training.as_bool().unwrap_or(false))
            .map_err(|problems| {
                let at_precision = problems.0.iter().any(|p| p.field == "precision");
                refused(usize::from(at_precision), &problems)
            })?;
        let parts = [
            estimate.weights,
            estimate.training,
            estimate.overhead,
            estimate.total,
        ];
        Ok(Value::object(PARTS.into_iter().zip(parts.map(gib))))
    }
}

/// Billions with three decimals are millions.
fn millions(billions: &Number) -> Option<u64> {
    crate::convert::milli_from_number(billions).map(|m| m.0)
}

fn gib(bytes: Bytes) -> Value {
    gib_from_bytes(bytes)
}

fn refused(argument: usize, problems: &gpuloom_fleet::Problems) -> FunctionError {
    FunctionError::argument(argument, problems.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(parameters: &str, precision: &str, training: bool) -> Result<Value, FunctionError> {
        let parameters: Number = parameters.parse().expect("a number");
        VramRequired.call(&[parameters.into(), precision.into(), training.into()])
    }

    #[test]
    fn a_7b_model_needs_15_65_gib_to_serve_in_fp16() {
        let total = call("7", "fp16", false)
            .expect("an estimate")
            .get("total_gib")
            .clone();
        let exact = "15.646219253540039062500000000000"
            .parse::<Number>()
            .expect("a number");
        assert_eq!(total.as_number(), Some(&exact));
        assert_eq!(call("7", "bf16", false), call("7", "fp16", false));
    }

    #[test]
    fn what_is_wrong_is_told_at_its_argument() {
        for (parameters, precision, training, at) in [
            ("0.0001", "fp16", false, 0),
            ("0", "fp16", false, 0),
            ("100000.001", "fp16", false, 0),
            ("-1", "fp16", false, 0),
            ("7", "fp64", false, 1),
            ("7", "int4", true, 1),
        ] {
            let error = call(parameters, precision, training).expect_err("refused");
            assert_eq!(
                error.argument,
                Some(at),
                "{parameters} {precision}: {error}"
            );
        }
    }
}
