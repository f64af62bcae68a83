//! What the provider offers, by type name; each schema is built once, when first asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::data_source::DataSource;
use crate::diag::{Diagnostic, Diagnostics};
use crate::ephemeral::EphemeralResource;
use crate::function::{Function, Signature};
use crate::identity::IdentitySchema;
use crate::provider::Provider;
use crate::resource::Resource;
use crate::schema::Schema;
use crate::value::Type;

/// A schema and its type.
pub(crate) type Compiled = Arc<(Schema, Type)>;

/// Everything that has a name.
pub(crate) struct Registry {
    pub(crate) provider: Arc<dyn Provider>,
    provider_schema: OnceLock<Compiled>,
    pub(crate) resources: BTreeMap<String, Kind<dyn Resource>>,
    pub(crate) data_sources: BTreeMap<String, Kind<dyn DataSource>>,
    pub(crate) ephemerals: BTreeMap<String, Kind<dyn EphemeralResource>>,
    pub(crate) functions: BTreeMap<String, (Arc<dyn Function>, OnceLock<Signature>)>,
}

/// A handler and its schema.
pub(crate) struct Kind<T: ?Sized> {
    pub(crate) handler: Arc<T>,
    build: fn(&T) -> Schema,
    schema: OnceLock<Compiled>,
}

// === impl Registry ===

impl Registry {
    pub(crate) fn new(provider: Arc<dyn Provider>) -> Self {
        let full = |name: &str| format!("{}_{name}", provider.name());
        let resources = provider.resources().into_iter();
        let resources = resources.map(|r| {
            (
                full(r.name()),
                Kind::new(r.into(), |r: &dyn Resource| r.schema()),
            )
        });
        let data_sources = provider.data_sources().into_iter();
        let data_sources = data_sources.map(|d| {
            (
                full(d.name()),
                Kind::new(d.into(), |d: &dyn DataSource| d.schema()),
            )
        });
        let ephemerals = provider.ephemeral_resources().into_iter();
        let ephemerals = ephemerals.map(|e| {
            (
                full(e.name()),
                Kind::new(e.into(), |e: &dyn EphemeralResource| e.schema()),
            )
        });
        let functions = provider.functions().into_iter();
        let functions = functions.map(|f| (f.name().to_owned(), (Arc::from(f), OnceLock::new())));
        Self {
            resources: resources.collect(),
            data_sources: data_sources.collect(),
            ephemerals: ephemerals.collect(),
            functions: functions.collect(),
            provider_schema: OnceLock::new(),
            provider,
        }
    }

    pub(crate) fn provider_schema(&self) -> &Compiled {
        self.provider_schema
            .get_or_init(|| compile(self.provider.schema()))
    }

    pub(crate) fn resource(&self, name: &str) -> Result<&Kind<dyn Resource>, Diagnostics> {
        self.resources
            .get(name)
            .ok_or_else(|| unknown("resource", name))
    }

    pub(crate) fn data_source(&self, name: &str) -> Result<&Kind<dyn DataSource>, Diagnostics> {
        self.data_sources
            .get(name)
            .ok_or_else(|| unknown("data source", name))
    }

    pub(crate) fn ephemeral(
        &self,
        name: &str,
    ) -> Result<&Kind<dyn EphemeralResource>, Diagnostics> {
        self.ephemerals
            .get(name)
            .ok_or_else(|| unknown("ephemeral resource", name))
    }

    /// Rule breaches of every schema.
    pub(crate) fn check(&self) -> Diagnostics {
        let mut out = Diagnostics::new();
        let mut check = |name: &str, schema: &Schema| {
            for error in schema.internal_validate().err().unwrap_or_default() {
                out.error(
                    format!("Provider defect: schema of {name}"),
                    error.to_string(),
                );
            }
        };
        check("the provider", &self.provider_schema().0);
        self.resources
            .iter()
            .for_each(|(name, kind)| check(name, &kind.schema().0));
        self.data_sources
            .iter()
            .for_each(|(name, kind)| check(name, &kind.schema().0));
        self.ephemerals
            .iter()
            .for_each(|(name, kind)| check(name, &kind.schema().0));
        for (name, kind) in &self.resources {
            for error in kind
                .handler
                .identity_schema()
                .iter()
                .flat_map(IdentitySchema::internal_validate)
            {
                out.error(
                    format!("Provider defect: identity of {name}"),
                    error.to_string(),
                );
            }
        }
        out
    }
}

// === impl Kind ===

impl<T: ?Sized> Kind<T> {
    fn new(handler: Arc<T>, build: fn(&T) -> Schema) -> Self {
        Self {
            handler,
            build,
            schema: OnceLock::new(),
        }
    }

    pub(crate) fn schema(&self) -> &Compiled {
        self.schema
            .get_or_init(|| compile((self.build)(&self.handler)))
    }
}

fn compile(schema: Schema) -> Compiled {
    let ty = schema.ty();
    Arc::new((schema, ty))
}

fn unknown(what: &str, name: &str) -> Diagnostics {
    let detail =
        format!("This provider has no {what} {name:?}; the plugin and its schema are out of step.");
    Diagnostic::error(format!("Unknown {what} type"), detail).into()
}
