//! Terraform's msgpack: the value without its type, which both sides know from the schema.

use std::collections::BTreeMap;

use rmp::Marker;

use super::{CodecError, Number, Refinements, Type, Value};
use crate::path::Path;

/// Extension code of a refined unknown value; a plain one has code 0.
const REFINED: u8 = 12;

// === impl Value ===

impl Value {
    /// Reads a value of this type.
    ///
    /// # Errors
    /// [`CodecError`] when the bytes are malformed, do not fit the type or go on after the value.
    pub fn from_msgpack(bytes: &[u8], ty: &Type) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let value = decode(&mut reader, ty, &Path::empty())?;
        if reader.rest.is_empty() {
            Ok(value)
        } else {
            Err(CodecError::Msgpack("bytes after the value"))
        }
    }

    /// Writes the value as this type: objects with exactly the type's attributes, integers as
    /// integers, fractions as floats where exact and as decimal text where not.
    ///
    /// # Errors
    /// [`CodecError`] when the value does not fit the type.
    pub fn to_msgpack(&self, ty: &Type) -> Result<Vec<u8>, CodecError> {
        let mut out = Vec::with_capacity(256);
        encode(&mut out, self, ty, &Path::empty())?;
        Ok(out)
    }
}

// === reading ===

/// A cursor over msgpack bytes.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], CodecError> {
        let (head, rest) = self
            .rest
            .split_at_checked(n)
            .ok_or(CodecError::Msgpack("ends early"))?;
        self.rest = rest;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, CodecError> {
        self.take(1).map(|b| b[0])
    }

    /// A big-endian unsigned integer of `n` bytes, at most 8.
    fn uint(&mut self, n: usize) -> Result<u64, CodecError> {
        Ok(self
            .take(n)?
            .iter()
            .fold(0, |sum, b| sum << 8 | u64::from(*b)))
    }

    fn len(&mut self, n: usize) -> Result<usize, CodecError> {
        usize::try_from(self.uint(n)?).map_err(|_| CodecError::Msgpack("too long"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        self.take(N)?
            .try_into()
            .map_err(|_| CodecError::Msgpack("ends early"))
    }

    fn peek(&self) -> Result<Marker, CodecError> {
        self.rest
            .first()
            .map(|b| Marker::from_u8(*b))
            .ok_or(CodecError::Msgpack("ends early"))
    }

    fn marker(&mut self) -> Result<Marker, CodecError> {
        self.byte().map(Marker::from_u8)
    }

    pub(super) fn bool(&mut self) -> Result<bool, CodecError> {
        match self.marker()? {
            Marker::True => Ok(true),
            Marker::False => Ok(false),
            _ => Err(CodecError::Msgpack("not a bool")),
        }
    }

    pub(super) fn str(&mut self) -> Result<&'a str, CodecError> {
        let len = match self.marker()? {
            Marker::FixStr(n) => usize::from(n),
            Marker::Str8 => self.len(1)?,
            Marker::Str16 => self.len(2)?,
            Marker::Str32 => self.len(4)?,
            _ => return Err(CodecError::Msgpack("not a string")),
        };
        std::str::from_utf8(self.take(len)?).map_err(|_| CodecError::Msgpack("text is not UTF-8"))
    }

    /// Bytes, which some writers send as a string.
    fn bin(&mut self) -> Result<&'a [u8], CodecError> {
        let len = match self.peek()? {
            Marker::Bin8 => 1,
            Marker::Bin16 => 2,
            Marker::Bin32 => 4,
            _ => return self.str().map(str::as_bytes),
        };
        self.marker()?;
        let len = self.len(len)?;
        self.take(len)
    }

    pub(super) fn number(&mut self) -> Result<Number, CodecError> {
        let number = |result: Result<Number, super::NumberError>| {
            result.map_err(|error| CodecError::Number {
                path: Path::empty(),
                error,
            })
        };
        Ok(match self.peek()? {
            Marker::FixPos(_) | Marker::FixNeg(_) => {
                i64::from(i8::from_be_bytes(self.array()?)).into()
            }
            Marker::U8 | Marker::U16 | Marker::U32 | Marker::U64 => {
                let bytes = 1_usize << (self.byte()? - Marker::U8.to_u8());
                self.uint(bytes)?.into()
            }
            Marker::I8 => self
                .after_marker(|r| Ok(i64::from(i8::from_be_bytes(r.array()?))))?
                .into(),
            Marker::I16 => self
                .after_marker(|r| Ok(i64::from(i16::from_be_bytes(r.array()?))))?
                .into(),
            Marker::I32 => self
                .after_marker(|r| Ok(i64::from(i32::from_be_bytes(r.array()?))))?
                .into(),
            Marker::I64 => self
                .after_marker(|r| Ok(i64::from_be_bytes(r.array()?)))?
                .into(),
            Marker::F32 => {
                number(Number::from_f64_exact(self.after_marker(|r| {
                    Ok(f64::from(f32::from_be_bytes(r.array()?)))
                })?))?
            }
            Marker::F64 => number(Number::from_f64_exact(
                self.after_marker(|r| Ok(f64::from_be_bytes(r.array()?)))?,
            ))?,
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                number(self.str()?.parse())?
            }
            _ => return Err(CodecError::Msgpack("not a number")),
        })
    }

    fn after_marker<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, CodecError>,
    ) -> Result<T, CodecError> {
        self.marker()?;
        read(self)
    }

    pub(super) fn array_len(&mut self) -> Result<usize, CodecError> {
        match self.marker()? {
            Marker::FixArray(n) => Ok(usize::from(n)),
            Marker::Array16 => self.len(2),
            Marker::Array32 => self.len(4),
            _ => Err(CodecError::Msgpack("not an array")),
        }
    }

    pub(super) fn map_len(&mut self) -> Result<usize, CodecError> {
        match self.marker()? {
            Marker::FixMap(n) => Ok(usize::from(n)),
            Marker::Map16 => self.len(2),
            Marker::Map32 => self.len(4),
            _ => Err(CodecError::Msgpack("not a map")),
        }
    }

    /// The unknown value that lies here, if one does. Every extension is an unknown value.
    fn unknown(&mut self) -> Result<Option<Value>, CodecError> {
        let len = match self.peek()? {
            Marker::FixExt1 => Ok(1),
            Marker::FixExt2 => Ok(2),
            Marker::FixExt4 => Ok(4),
            Marker::FixExt8 => Ok(8),
            Marker::FixExt16 => Ok(16),
            Marker::Ext8 => Err(1),
            Marker::Ext16 => Err(2),
            Marker::Ext32 => Err(4),
            _ => return Ok(None),
        };
        self.marker()?;
        let len = len.or_else(|n| self.len(n))?;
        let code = self.byte()?;
        let body = self.take(len)?;
        Ok(Some(Value::Unknown(
            (code == REFINED).then(|| Box::new(Refinements::from_raw(body))),
        )))
    }
}

fn decode(reader: &mut Reader<'_>, ty: &Type, path: &Path) -> Result<Value, CodecError> {
    if reader.peek()? == Marker::Null {
        reader.marker()?;
        return Ok(Value::Null);
    }
    if let Some(unknown) = reader.unknown()? {
        return Ok(unknown);
    }
    let got = reader.peek()?;
    let mismatch = |error: CodecError| match error {
        CodecError::Msgpack(text) if text.starts_with("not a") => CodecError::Mismatch {
            path: path.clone(),
            expected: ty.to_string(),
            got: format!("msgpack {got:?}"),
        },
        CodecError::Number { error, .. } => CodecError::Number {
            path: path.clone(),
            error,
        },
        other => other,
    };
    match ty {
        Type::Bool => reader.bool().map(Value::Bool).map_err(mismatch),
        Type::String => reader.str().map(Value::from).map_err(mismatch),
        Type::Number => reader.number().map(Value::Number).map_err(mismatch),
        Type::List(element) => {
            let len = reader.array_len().map_err(mismatch)?;
            decode_elements(reader, len, |_| element, path).map(Value::List)
        }
        Type::Set(element) => {
            let len = reader.array_len().map_err(mismatch)?;
            decode_elements(reader, len, |_| element, path).map(Value::set_of)
        }
        Type::Tuple(types) => {
            let len = reader.array_len().map_err(mismatch)?;
            if len != types.len() {
                let (expected, got) = (
                    format!("tuple of {}", types.len()),
                    format!("{len} elements"),
                );
                return Err(CodecError::Mismatch {
                    path: path.clone(),
                    expected,
                    got,
                });
            }
            decode_elements(reader, len, |i| &types[i], path).map(Value::Tuple)
        }
        Type::Map(element) => {
            let mut members = BTreeMap::new();
            for _ in 0..reader.map_len().map_err(mismatch)? {
                let key = reader.str()?;
                members.insert(key.to_owned(), decode(reader, element, &path.key(key))?);
            }
            Ok(Value::Map(members))
        }
        Type::Object { attributes, .. } => {
            let len = reader.map_len().map_err(mismatch)?;
            decode_object(reader, len, attributes, path)
        }
        Type::Dynamic => {
            if reader.array_len().map_err(mismatch)? != 2 {
                return Err(CodecError::Msgpack("a dynamic value is a type and a value"));
            }
            let actual = Type::from_json_bytes(reader.bin()?)?;
            let value = decode(reader, &actual, path)?;
            Ok(Value::Dynamic(actual, Box::new(value)))
        }
    }
}

fn decode_elements<'t>(
    reader: &mut Reader<'_>,
    len: usize,
    ty: impl Fn(usize) -> &'t Type,
    path: &Path,
) -> Result<Vec<Value>, CodecError> {
    // Every element takes a byte at least: a lying length cannot reserve more than was sent.
    let mut elements = Vec::with_capacity(len.min(reader.rest.len()));
    for i in 0..len {
        elements.push(decode(reader, ty(i), &path.index(i))?);
    }
    Ok(elements)
}

fn decode_object(
    reader: &mut Reader<'_>,
    len: usize,
    attributes: &BTreeMap<String, Type>,
    path: &Path,
) -> Result<Value, CodecError> {
    let mut members = BTreeMap::new();
    for _ in 0..len {
        let name = reader.str()?;
        let Some(ty) = attributes.get(name) else {
            return Err(CodecError::UnexpectedAttribute {
                path: path.clone(),
                name: name.to_owned(),
            });
        };
        members.insert(name.to_owned(), decode(reader, ty, &path.attr(name))?);
    }
    match attributes.keys().find(|name| !members.contains_key(*name)) {
        Some(name) => Err(CodecError::MissingAttribute {
            path: path.clone(),
            name: name.clone(),
        }),
        None => Ok(Value::Object(members)),
    }
}

// === writing ===

fn encode(out: &mut Vec<u8>, value: &Value, ty: &Type, path: &Path) -> Result<(), CodecError> {
    match (value, ty) {
        (Value::Null, _) => out.push(Marker::Null.to_u8()),
        (Value::Unknown(refinements), _) => encode_unknown(out, refinements.as_deref()),
        (Value::Dynamic(actual, value), Type::Dynamic) => {
            out.push(Marker::FixArray(2).to_u8());
            let json = actual.to_json_bytes();
            header(out, json.len(), [0, 0xc4, 0xc5, 0xc6], 0);
            out.extend_from_slice(&json);
            encode(out, value, actual, path)?;
        }
        (Value::Bool(flag), Type::Bool) => out.push(if *flag { 0xc3 } else { 0xc2 }),
        (Value::String(text), Type::String) => encode_str(out, text),
        (Value::Number(number), Type::Number) => encode_number(out, number),
        (Value::List(elements) | Value::Set(elements) | Value::Tuple(elements), Type::List(ty)) => {
            encode_elements(out, elements, |_| ty, path)?;
        }
        (Value::List(elements) | Value::Set(elements) | Value::Tuple(elements), Type::Set(ty)) => {
            let mut elements = elements.clone();
            super::compare::sort_set(&mut elements);
            encode_elements(out, &elements, |_| ty, path)?;
        }
        (Value::List(elements) | Value::Tuple(elements), Type::Tuple(types))
            if elements.len() == types.len() =>
        {
            encode_elements(out, elements, |i| &types[i], path)?;
        }
        (Value::Map(members) | Value::Object(members), Type::Map(ty)) => {
            header(out, members.len(), [0x80, 0, 0xde, 0xdf], 16);
            for (key, value) in members {
                encode_str(out, key);
                encode(out, value, ty, &path.key(key))?;
            }
        }
        (Value::Map(members) | Value::Object(members), Type::Object { attributes, .. }) => {
            encode_object(out, members, attributes, path)?;
        }
        _ => {
            let (expected, got) = (ty.to_string(), value.to_string());
            return Err(CodecError::Mismatch {
                path: path.clone(),
                expected,
                got,
            });
        }
    }
    Ok(())
}

fn encode_elements<'t>(
    out: &mut Vec<u8>,
    elements: &[Value],
    ty: impl Fn(usize) -> &'t Type,
    path: &Path,
) -> Result<(), CodecError> {
    header(out, elements.len(), [0x90, 0, 0xdc, 0xdd], 16);
    for (i, value) in elements.iter().enumerate() {
        encode(out, value, ty(i), &path.index(i))?;
    }
    Ok(())
}

fn encode_object(
    out: &mut Vec<u8>,
    members: &BTreeMap<String, Value>,
    attributes: &BTreeMap<String, Type>,
    path: &Path,
) -> Result<(), CodecError> {
    if let Some(name) = members.keys().find(|name| !attributes.contains_key(*name)) {
        return Err(CodecError::UnexpectedAttribute {
            path: path.clone(),
            name: name.clone(),
        });
    }
    header(out, attributes.len(), [0x80, 0, 0xde, 0xdf], 16);
    for (name, ty) in attributes {
        let Some(value) = members.get(name) else {
            return Err(CodecError::MissingAttribute {
                path: path.clone(),
                name: name.clone(),
            });
        };
        encode_str(out, name);
        encode(out, value, ty, &path.attr(name))?;
    }
    Ok(())
}

fn encode_unknown(out: &mut Vec<u8>, refinements: Option<&Refinements>) {
    match refinements.map(Refinements::raw) {
        // One zero byte of type 0, as Terraform itself writes it.
        None | Some([]) => out.extend_from_slice(&[0xd4, 0, 0]),
        Some(raw) => {
            header(out, raw.len(), [0, 0xc7, 0xc8, 0xc9], 0);
            out.push(REFINED);
            out.extend_from_slice(raw);
        }
    }
}

fn encode_str(out: &mut Vec<u8>, text: &str) {
    header(out, text.len(), [0xa0, 0xd9, 0xda, 0xdb], 32);
    out.extend_from_slice(text.as_bytes());
}

fn encode_number(out: &mut Vec<u8>, number: &Number) {
    if let Some(small) = number.as_i64() {
        encode_int(out, small);
    } else if let (false, Some(float)) = (number.is_integer(), number.as_f64_exact()) {
        out.push(Marker::F64.to_u8());
        out.extend_from_slice(&float.to_be_bytes());
    } else {
        encode_str(out, &number.to_string());
    }
}

/// The shortest form.
fn encode_int(out: &mut Vec<u8>, value: i64) {
    if let Ok(tiny) = i8::try_from(value)
        && tiny >= -32
    {
        out.extend_from_slice(&tiny.to_be_bytes());
    } else if let Ok(v) = i8::try_from(value) {
        out.push(Marker::I8.to_u8());
        out.extend_from_slice(&v.to_be_bytes());
    } else if let Ok(v) = i16::try_from(value) {
        out.push(Marker::I16.to_u8());
        out.extend_from_slice(&v.to_be_bytes());
    } else if let Ok(v) = i32::try_from(value) {
        out.push(Marker::I32.to_u8());
        out.extend_from_slice(&v.to_be_bytes());
    } else {
        out.push(Marker::I64.to_u8());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// The marker and length of something: `codes` for the fixed form (below `fixed`), then for
/// lengths of 1, 2 and 4 bytes; 0 where a form does not exist.
fn header(out: &mut Vec<u8>, len: usize, codes: [u8; 4], fixed: u8) {
    if let Ok(len) = u8::try_from(len)
        && len < fixed
    {
        out.push(codes[0] | len);
    } else if let (Ok(len), true) = (u8::try_from(len), codes[1] != 0) {
        out.extend_from_slice(&[codes[1], len]);
    } else if let Ok(len) = u16::try_from(len) {
        out.push(codes[2]);
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.push(codes[3]);
        out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
