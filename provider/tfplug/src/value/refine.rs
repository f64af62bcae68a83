//! What is known about an unknown value before it is known.

use super::msgpack::Reader;
use super::{CodecError, Number};

/// Limits on a value to come. An answer outside of them is an error of the provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refinements {
    /// It will certainly not be null.
    pub not_null: bool,
    /// It will start with this text.
    pub prefix: Option<String>,
    /// It will be at least this (true: or equal).
    pub min: Option<(Number, bool)>,
    /// It will be at most this (true: or equal).
    pub max: Option<(Number, bool)>,
    /// It will have at least this many elements.
    pub min_len: Option<u64>,
    /// It will have at most this many elements.
    pub max_len: Option<u64>,
    /// The msgpack map as it arrived, sent back unchanged.
    raw: Vec<u8>,
}

// === impl Refinements ===

impl Refinements {
    /// Certainly not null, nothing else.
    #[must_use]
    pub fn not_null() -> Self {
        Self {
            not_null: true,
            raw: vec![0x81, 0x01, 0xc2],
            ..Self::default()
        }
    }

    pub(super) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Reads the body of an extension; an unfamiliar or broken refinement is only kept raw.
    pub(super) fn from_raw(raw: &[u8]) -> Self {
        let mut known = Self {
            raw: raw.to_vec(),
            ..Self::default()
        };
        if known.parse(raw).is_err() {
            known = Self {
                raw: raw.to_vec(),
                ..Self::default()
            };
        }
        known
    }

    fn parse(&mut self, raw: &[u8]) -> Result<(), CodecError> {
        let mut reader = Reader::new(raw);
        for _ in 0..reader.map_len()? {
            match reader.number()?.as_i64() {
                Some(1) => self.not_null = !reader.bool()?,
                Some(2) => self.prefix = Some(reader.str()?.to_owned()),
                Some(3) => self.min = Some(bound(&mut reader)?),
                Some(4) => self.max = Some(bound(&mut reader)?),
                Some(5) => self.min_len = reader.number()?.as_u64(),
                Some(6) => self.max_len = reader.number()?.as_u64(),
                _ => return Ok(()),
            }
        }
        Ok(())
    }
}

fn bound(reader: &mut Reader<'_>) -> Result<(Number, bool), CodecError> {
    if reader.array_len()? != 2 {
        return Err(CodecError::Msgpack("a bound is a number and a flag"));
    }
    Ok((reader.number()?, reader.bool()?))
}
