//! Comma-separated values as they arrive: fields in quotes may hold commas, quotes (doubled) and line breaks.

/// What a reader of [`Csv`] stumbles on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CsvError {
    /// A record longer than the limit.
    TooLong,
    /// Not UTF-8.
    NotText,
    /// The input ended within a record.
    CutOff,
}

/// Splits bytes into records, whatever pieces they come in.
#[derive(Debug)]
pub(super) struct Csv {
    record: Vec<Vec<u8>>,
    field: Vec<u8>,
    state: State,
    size: usize,
    limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the start of a record.
    Start,
    /// In a field without quotes, or before its first byte.
    Plain,
    /// Between quotes.
    Quoted,
    /// After a quote within quotes: the end, or half of a doubled one.
    Quote,
}

// === impl Csv ===

impl Csv {
    /// Records of at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            record: Vec::new(),
            field: Vec::new(),
            state: State::Start,
            size: 0,
            limit,
        }
    }

    /// Reads on; calls `each` for every record that ends in `piece`. Empty lines are no records.
    pub(super) fn push(
        &mut self,
        piece: &[u8],
        each: &mut dyn FnMut(&[&str]),
    ) -> Result<(), CsvError> {
        for &byte in piece {
            self.size += 1;
            if self.size > self.limit {
                return Err(CsvError::TooLong);
            }
            match (self.state, byte) {
                (State::Quoted, b'"') => self.state = State::Quote,
                (State::Quoted, _) => self.field.push(byte),
                (State::Quote, b'"') => {
                    self.field.push(byte);
                    self.state = State::Quoted;
                }
                (State::Start, b'\r' | b'\n') => self.size = 0,
                (State::Start | State::Plain, b'"') if self.field.is_empty() => {
                    self.state = State::Quoted;
                }
                (_, b',') => {
                    self.record.push(std::mem::take(&mut self.field));
                    self.state = State::Plain;
                }
                (_, b'\n') => self.end(each)?,
                (_, b'\r') => {}
                (_, _) => {
                    self.field.push(byte);
                    self.state = State::Plain;
                }
            }
        }
        Ok(())
    }

    /// The end of the input. A last record without a line break counts when it has `columns` fields.
    pub(super) fn finish(
        mut self,
        columns: usize,
        each: &mut dyn FnMut(&[&str]),
    ) -> Result<(), CsvError> {
        match self.state {
            State::Start => Ok(()),
            State::Quoted => Err(CsvError::CutOff),
            State::Plain | State::Quote if self.record.len() + 1 == columns => self.end(each),
            State::Plain | State::Quote => Err(CsvError::CutOff),
        }
    }

    fn end(&mut self, each: &mut dyn FnMut(&[&str])) -> Result<(), CsvError> {
        self.record.push(std::mem::take(&mut self.field));
        let fields: Result<Vec<&str>, _> =
            self.record.iter().map(|f| std::str::from_utf8(f)).collect();
        each(&fields.map_err(|_| CsvError::NotText)?);
        self.record.clear();
        self.size = 0;
        self.state = State::Start;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(pieces: &[&[u8]], columns: usize) -> Result<Vec<Vec<String>>, CsvError> {
        let mut csv = Csv::new(64);
        let mut records = Vec::new();
        let mut each = |fields: &[&str]| {
            records.push(fields.iter().map(ToString::to_string).collect::<Vec<_>>());
        };
        for piece in pieces {
            csv.push(piece, &mut each)?;
        }
        csv.finish(columns, &mut each)?;
        Ok(records)
    }

    #[test]
    fn records_are_read_with_quotes_commas_and_line_breaks() {
        let text = b"a,b\r\n\"x, y\",\"say \"\"hi\"\"\"\n\n,\n\"two\nlines\",z";
        let records = read(&[text], 2).expect("reads");
        let shown: Vec<Vec<&str>> = records
            .iter()
            .map(|r| r.iter().map(String::as_str).collect())
            .collect();
        assert_eq!(
            shown,
            [
                vec!["a", "b"],
                vec!["x, y", "say \"hi\""],
                vec!["", ""],
                vec!["two\nlines", "z"]
            ]
        );
    }

    #[test]
    fn what_is_cut_off_is_not_read() {
        assert_eq!(read(&[b"a,b\n1"], 2), Err(CsvError::CutOff));
        assert_eq!(read(&[b"a,b\n1,\"2"], 2), Err(CsvError::CutOff));
        assert_eq!(read(&[b"a,\xff\n"], 2), Err(CsvError::NotText));
        let long = [b'x'; 65];
        assert_eq!(read(&[&long], 1), Err(CsvError::TooLong));
        assert_eq!(read(&[&long[..64]], 1).map(|r| r.len()), Ok(1));
    }

    proptest! {
        #[test]
        fn records_come_back_however_they_are_cut(
            records in prop::collection::vec(prop::collection::vec("[a-z \",\n]{0,4}", 2), 0..6),
            cut in 0usize..80,
        ) {
            let mut text = String::new();
            for record in &records {
                let quoted: Vec<String> = record
                    .iter()
                    .map(|f| format!("\"{}\"", f.replace('"', "\"\"")))
                    .collect();
                text.push_str(&quoted.join(","));
                text.push('\n');
            }
            let bytes = text.as_bytes();
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(read(&[head, tail], 2), Ok(records));
        }
    }
}
