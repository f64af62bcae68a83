//! `provider::demo::join`

use tfplug::{Function, FunctionError, Parameter, Signature, Type, Value};

pub(crate) struct Join;

impl Function for Join {
    fn name(&self) -> &str {
        "join"
    }

    fn signature(&self) -> Signature {
        Signature::returns(Type::String)
            .summary("Joins texts.")
            .description("Joins any number of non-empty texts with a separator.")
            .parameter(Parameter::new(
                "separator",
                Type::String,
                "What stands between them.",
            ))
            .variadic(Parameter::new("texts", Type::String, "What is joined."))
    }

    fn call(&self, arguments: &[Value]) -> Result<Value, FunctionError> {
        let texts: Vec<&str> = arguments.iter().filter_map(Value::as_str).collect();
        match texts.iter().skip(1).position(|text| text.is_empty()) {
            Some(i) => Err(FunctionError::argument(
                i + 1,
                "A text to join must not be empty.",
            )),
            None => Ok(texts[1..].join(texts[0]).into()),
        }
    }
}
