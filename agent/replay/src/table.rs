//! A trace's table: columns found by name, so that their order and what else is there do not matter.

/// Most rows of one trace.
pub const MAX_ROWS: usize = 10_000_000;

/// A trace that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// No such column.
    #[error("the {table} have no column {column:?} (they have: {found}); use the published layout")]
    Column {
        /// Which table, e.g. "nodes".
        table: &'static str,
        /// What was looked for.
        column: &'static str,
        /// What is there.
        found: String,
    },
    /// A value that does not read.
    #[error("line {line} of the {table}: {column} = {value:?} is not {expected}")]
    Value {
        /// Which table.
        table: &'static str,
        /// From 1; the header is line 1.
        line: usize,
        /// Which column.
        column: &'static str,
        /// What is there.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// Not a table.
    #[error("the {table} do not read as CSV")]
    Csv {
        /// Which table.
        table: &'static str,
        /// Why.
        #[source]
        source: csv::Error,
    },
    /// Nothing to replay, or too much.
    #[error("the {table} have {rows} rows; at least 1 and at most {MAX_ROWS} can be replayed")]
    Size {
        /// Which table.
        table: &'static str,
        /// How many there are.
        rows: usize,
    },
}

/// A table in memory.
pub(crate) struct Table {
    name: &'static str,
    header: csv::StringRecord,
    pub(crate) rows: Vec<csv::StringRecord>,
}

// === impl Table ===

impl Table {
    pub(crate) fn read(name: &'static str, text: &str) -> Result<Self, TraceError> {
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(text.as_bytes());
        let failed = |source| TraceError::Csv {
            table: name,
            source,
        };
        let header = reader.headers().map_err(failed)?.clone();
        let rows: Vec<_> = reader
            .into_records()
            .take(MAX_ROWS + 1)
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        if rows.is_empty() || rows.len() > MAX_ROWS {
            return Err(TraceError::Size {
                table: name,
                rows: rows.len(),
            });
        }
        Ok(Self { name, header, rows })
    }

    /// Where the column is.
    pub(crate) fn column(&self, column: &'static str) -> Result<usize, TraceError> {
        self.optional(column).ok_or_else(|| TraceError::Column {
            table: self.name,
            column,
            found: self.header.iter().collect::<Vec<_>>().join(", "),
        })
    }

    /// Where the column is, if it is there.
    pub(crate) fn optional(&self, column: &str) -> Option<usize> {
        self.header.iter().position(|h| h == column)
    }

    /// The value as a number; an empty one is 0.
    pub(crate) fn number<T: std::str::FromStr + Default>(
        &self,
        row: usize,
        at: usize,
        column: &'static str,
    ) -> Result<T, TraceError> {
        let text = self.text(row, at);
        if text.is_empty() {
            return Ok(T::default());
        }
        text.parse().map_err(|_| TraceError::Value {
            table: self.name,
            line: row + 2,
            column,
            value: text.to_owned(),
            expected: "a number in range",
        })
    }

    /// The value as text; missing cells at a row's end are empty.
    pub(crate) fn text(&self, row: usize, at: usize) -> &str {
        self.rows[row].get(at).unwrap_or("")
    }
}
