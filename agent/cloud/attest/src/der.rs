//! As much of DER as a signed message needs: one value after the other, lengths checked.

/// `SEQUENCE`.
pub(crate) const SEQUENCE: u8 = 0x30;
/// `SET`.
pub(crate) const SET: u8 = 0x31;
/// `OBJECT IDENTIFIER`.
pub(crate) const OID: u8 = 0x06;
/// `OCTET STRING`.
pub(crate) const OCTETS: u8 = 0x04;
/// `INTEGER`.
pub(crate) const INTEGER: u8 = 0x02;

/// Values in a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

/// One value: what it holds, and the bytes with its tag and length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value<'a> {
    pub(crate) tag: u8,
    pub(crate) inside: &'a [u8],
    pub(crate) whole: &'a [u8],
}

// === impl Reader ===

impl<'a> Reader<'a> {
    /// The next value, whatever it is; `None` at the end and where the bytes are none.
    pub(crate) fn any(&mut self) -> Option<Value<'a>> {
        let bytes = self.0;
        let (tag, first) = (*bytes.first()?, *bytes.get(1)?);
        let (length, header) = match first {
            0..=0x7f => (usize::from(first), 2),
            // One to four bytes of length; the indefinite form is not DER.
            0x81..=0x84 => {
                let more = usize::from(first & 0x0f);
                let digits = bytes.get(2..2 + more)?;
                let length = digits
                    .iter()
                    .fold(0usize, |sum, b| (sum << 8) | usize::from(*b));
                (length, 2 + more)
            }
            _ => return None,
        };
        let end = header.checked_add(length)?;
        let whole = bytes.get(..end)?;
        self.0 = &bytes[end..];
        Some(Value {
            tag,
            inside: &whole[header..],
            whole,
        })
    }

    /// What the next value holds, which must be a `tag`.
    pub(crate) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any().filter(|v| v.tag == tag).map(|v| v.inside)
    }

    /// The next value when it is a `tag`; else it stays.
    pub(crate) fn optional(&mut self, tag: u8) -> Option<Value<'a>> {
        (self.0.first() == Some(&tag)).then(|| self.any()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_short_or_endless_is_no_value() {
        let good = [0x30, 0x03, 0x02, 0x01, 0x07];
        let mut inside = Reader(Reader(&good).take(SEQUENCE).expect("a sequence"));
        assert_eq!(inside.take(INTEGER), Some([7].as_slice()));
        assert!(inside.any().is_none());
        for length in 0..good.len() {
            assert!(Reader(&good[..length]).any().is_none(), "{length}");
        }
        assert!(Reader(&[0x30, 0x80, 0, 0]).any().is_none());
        assert!(
            Reader(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff])
                .any()
                .is_none()
        );
        assert!(Reader(&good).take(SET).is_none());
        let long = [[0x04, 0x81, 0x80].as_slice(), &[9; 128]].concat();
        assert_eq!(Reader(&long).take(OCTETS).map(<[u8]>::len), Some(128));
    }
}
