//! The "cloud": one JSON file for each server.

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::PathBuf;

use tfplug::{Diagnostic, Diagnostics, Missing, OrDiag, Schema, Value};

/// The directory of servers; `None` while it is unknown.
pub(crate) struct Store(Option<PathBuf>);

// === impl Store ===

impl Store {
    pub(crate) fn new(root: Option<&str>) -> Self {
        Self(root.map(PathBuf::from))
    }

    fn file(&self, name: &str) -> Result<PathBuf, Diagnostics> {
        match &self.0 {
            Some(root) => Ok(root.join(format!("{name}.json"))),
            None => Err(Diagnostic::error(
                "The root is not known yet",
                "Apply what makes the directory first.",
            )
            .into()),
        }
    }

    /// Claims a name; refuses one that is taken.
    pub(crate) fn claim(&self, name: &str) -> Result<(), Diagnostics> {
        let made =
            fs::File::create_new(self.file(name)?).and_then(|mut file| file.write_all(b"null"));
        match made {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let detail = format!(
                    "Import it, or choose another name: terraform import demo_server.x {name}"
                );
                Err(
                    Diagnostic::error(format!("Server {name:?} exists already"), detail)
                        .at("name")
                        .into(),
                )
            }
            made => made.or_diag(format!("Cannot create server {name:?}")),
        }
    }

    pub(crate) fn write(
        &self,
        name: &str,
        state: &Value,
        schema: &Schema,
    ) -> Result<(), Diagnostics> {
        let json = state.clone().unknown_as_null().to_json(&schema.ty())?;
        fs::write(self.file(name)?, json.to_string())
            .or_diag(format!("Cannot write server {name:?}"))
    }

    /// `None` when there is no such server.
    pub(crate) fn read(&self, name: &str, schema: &Schema) -> Result<Option<Value>, Diagnostics> {
        match fs::read(self.file(name)?) {
            Ok(bytes) => Ok(Some(Value::from_json_bytes(
                &bytes,
                &schema.ty(),
                Missing::Null,
            )?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).or_diag(format!("Cannot read server {name:?}")),
        }
    }

    /// Removing what is gone succeeds.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Diagnostics> {
        let gone = |error: io::Error| {
            if error.kind() == ErrorKind::NotFound {
                Ok(())
            } else {
                Err(error)
            }
        };
        fs::remove_file(self.file(name)?)
            .or_else(gone)
            .or_diag(format!("Cannot remove server {name:?}"))
    }
}
