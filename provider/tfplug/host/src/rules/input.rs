//! Bad, wrong-typed and unknown input, for every attribute that can be configured.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use tfplug::proto::tfplugin6 as wire;
use tfplug::{Path, Severity, Type, Value};

use super::fixture::{
    Bad, DataSourceFixture, EphemeralFixture, Fixtures, ResourceFixture, put, schema_path,
};
use super::{Report, findings};
use crate::check::value::each_attribute;
use crate::check::{self, Rule, Violation};
use crate::diagnostics::{decode, describe};
use crate::driver::ResourceDriver;
use crate::host::{CLIENT, encode, encode_as, rpc};
use crate::schema::{AttributeKind, AttributeSchema, BlockSchema};
use crate::{Host, HostError, State, config};

/// One kind of block that a person can write.
#[derive(Debug, Clone, Copy)]
enum Kind<'n> {
    Provider,
    Resource(&'n str),
    Data(&'n str),
    Ephemeral(&'n str),
}

/// One block under test.
struct Subject<'s> {
    host: &'s Host,
    kind: Kind<'s>,
    schema: &'s BlockSchema,
    config: &'s Json,
    bad: &'s [Bad],
    free: &'s [&'static str],
}

/// The provider block: coverage, bad values, wrong types, unknowns at validate.
pub(super) async fn check_provider_block(
    host: &Host,
    fixtures: &Fixtures,
    report: &mut Report,
) -> Result<(), HostError> {
    let schema = host.schema().await?;
    let subject = Subject {
        host,
        kind: Kind::Provider,
        schema: &schema.provider,
        config: &fixtures.provider,
        bad: &fixtures.provider_bad,
        free: &fixtures.provider_free,
    };
    report.take("provider", subject.check().await);
    Ok(())
}

pub(super) async fn check_resource(
    host: &Host,
    name: &str,
    fixture: &ResourceFixture,
    place: &str,
) -> Result<Vec<Violation>, HostError> {
    let driver = host.resource(name).await?;
    let schema = driver.schema().block.clone();
    let subject = Subject {
        host,
        kind: Kind::Resource(name),
        schema: &schema,
        config: &fixture.config,
        bad: &fixture.bad,
        free: &fixture.free,
    };
    let mut report = Report {
        found: subject.check().await?,
    };
    plans(&driver, fixture, place, &mut report).await?;
    Ok(report.found)
}

/// What the plan of a new object must hold: deterministic, with every attribute unknown once, refusing what it should,
/// and null for a destroy.
async fn plans(
    driver: &ResourceDriver<'_>,
    fixture: &ResourceFixture,
    place: &str,
    report: &mut Report,
) -> Result<(), HostError> {
    let schema = &driver.schema().block;
    let value = driver.config(&fixture.config)?;
    each_attribute(
        schema,
        &value,
        &Path::empty(),
        &mut |attribute, value, path| {
            if attribute.write_only && value.is_null() {
                report.push(
                    Rule::P8,
                    &path.to_string(),
                    "the fixture sets no value for a write-only attribute",
                );
            }
        },
    );
    let first = driver.plan(None, &value).await?;
    let second = driver.plan(None, &value).await?;
    if first.planned != second.planned
        || first.private != second.private
        || first.requires_replace != second.requires_replace
    {
        report.push(Rule::P9, "", "planning twice gives two different plans");
    }
    for (path, unknown) in unknowns(schema, &value) {
        let place = format!("{place}.{path}");
        if let Err(error) = driver.plan(None, &unknown).await {
            let found = findings(error).into_iter();
            report.take(
                &place,
                Ok(found
                    .map(|one| Violation {
                        message: format!("with {path} unknown: {}", one.message),
                        ..one
                    })
                    .collect()),
            );
        }
    }
    refused_by_plan(driver, fixture, report).await?;
    let gone = State {
        value: first.planned.unknown_as_null(),
        private: first.private,
        identity: None,
        tainted: false,
    };
    driver.plan_destroy(&gone).await?;
    Ok(())
}

async fn refused_by_plan(
    driver: &ResourceDriver<'_>,
    fixture: &ResourceFixture,
    report: &mut Report,
) -> Result<(), HostError> {
    for bad in fixture.bad.iter().filter(|bad| bad.at_plan) {
        let value = driver.config(&put(&fixture.config, &bad.path, &bad.value))?;
        let said = match driver.plan(None, &value).await {
            Ok(_) => Vec::new(),
            Err(HostError::Diagnostics { diagnostics, .. }) => diagnostics,
            Err(error) => return Err(error),
        };
        report.found.extend(one_error_at(
            &bad.at,
            &format!("{} planned", bad.value),
            &said,
        ));
    }
    Ok(())
}

pub(super) async fn check_data_source(
    host: &Host,
    name: &str,
    fixture: &DataSourceFixture,
    place: &str,
) -> Result<Vec<Violation>, HostError> {
    let driver = host.data_source(name).await?;
    let schema = driver.schema().block.clone();
    let mut report = Report::default();
    report.take(
        place,
        subject(host, Kind::Data(name), &schema, fixture)
            .check()
            .await,
    );
    if fixture.apply {
        let first = driver.read(&fixture.config).await?;
        report.found.extend(check::result::check_data(
            &schema,
            &driver.config(&fixture.config)?,
            &first,
        ));
    }
    Ok(report.found)
}

pub(super) async fn check_ephemeral(
    host: &Host,
    name: &str,
    fixture: &EphemeralFixture,
    place: &str,
) -> Result<Vec<Violation>, HostError> {
    let driver = host.ephemeral(name).await?;
    let schema = driver.schema().block.clone();
    let mut report = Report::default();
    report.take(
        place,
        subject(host, Kind::Ephemeral(name), &schema, fixture)
            .check()
            .await,
    );
    if fixture.apply {
        let mut open = driver.open(&fixture.config).await?;
        if open.renew_at.is_some() {
            open = driver.renew(&open).await?;
        }
        driver.close(open).await?;
    }
    Ok(report.found)
}

fn subject<'s>(
    host: &'s Host,
    kind: Kind<'s>,
    schema: &'s BlockSchema,
    fixture: &'s EphemeralFixture,
) -> Subject<'s> {
    Subject {
        host,
        kind,
        schema,
        config: &fixture.config,
        bad: &fixture.bad,
        free: &fixture.free,
    }
}

// === impl Subject ===

impl Subject<'_> {
    async fn check(&self) -> Result<Vec<Violation>, HostError> {
        let mut report = Report {
            found: self.coverage(),
        };
        let value = config::from_json(self.schema, self.config)?;
        report.found.extend(config::missing(self.schema, &value));
        let said = self.validate(encode(self.schema, &value)?).await?;
        for one in said.iter().filter(|one| one.severity == Severity::Error) {
            report.push(
                Rule::INPUT,
                "",
                format!("the valid configuration is refused: {}", describe(one)),
            );
        }
        for bad in self.bad.iter().filter(|bad| !bad.at_plan) {
            let value = config::from_json(self.schema, &put(self.config, &bad.path, &bad.value))?;
            let said = self.validate(encode(self.schema, &value)?).await?;
            report
                .found
                .extend(one_error_at(&bad.at, &bad.value.to_string(), &said));
        }
        for (path, value) in unknowns(self.schema, &value) {
            let said = self.validate(encode(self.schema, &value)?).await?;
            for one in said.iter().filter(|one| one.severity == Severity::Error) {
                report.push(
                    Rule::INPUT,
                    &path.to_string(),
                    format!("an unknown value is refused: {}", describe(one)),
                );
            }
        }
        report.found.extend(self.wrong_types(&value).await?);
        Ok(report.found)
    }

    /// Every attribute that can be configured has a bad value or is said to take any.
    fn coverage(&self) -> Vec<Violation> {
        let mut wanted = BTreeSet::new();
        configurable(self.schema, "", &mut wanted);
        let listed = self
            .bad
            .iter()
            .flat_map(|bad| [schema_path(&bad.path), schema_path(&bad.at)]);
        let covered: BTreeSet<_> = listed
            .chain(self.free.iter().map(|path| (*path).to_owned()))
            .collect();
        let missing = wanted.iter().filter(|path| {
            // A bad or free value further down speaks for what holds it.
            !covered
                .iter()
                .any(|one| one == *path || one.starts_with(&format!("{path}.")))
        });
        let mut found: Vec<_> = missing
            .map(|path| {
                Violation::new(
                    Rule::INPUT,
                    path,
                    "the fixture lists no bad value for it and does not say that it is free",
                )
            })
            .collect();
        let strangers = self.free.iter().filter(|path| !wanted.contains(**path));
        found.extend(strangers.map(|path| {
            Violation::new(
                Rule::INPUT,
                *path,
                "the fixture calls it free, but it does not exist",
            )
        }));
        found
    }

    /// Sends each top-level attribute with a type that it does not have: one error at its path, no status, no crash.
    async fn wrong_types(&self, valid: &Value) -> Result<Vec<Violation>, HostError> {
        let Type::Object { attributes, .. } = self.schema.implied_type() else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for (name, schema) in self
            .schema
            .attributes
            .iter()
            .filter(|(_, one)| one.configurable())
        {
            let Some((ty, value)) = misfit(&schema.implied_type()) else {
                continue;
            };
            let mut types = attributes.clone();
            types.insert(name.clone(), ty);
            let spoiled = valid.clone().with(name, value);
            match self
                .validate(encode_as(&Type::object(types), &spoiled)?)
                .await
            {
                Ok(said) if names_place(name, &said) => {}
                Ok(said) => found.extend(one_error_at(name, "a value of another type", &said)),
                Err(HostError::Rpc { status, .. }) => {
                    let message =
                        format!("a value of another type is answered with a gRPC status: {status}");
                    found.push(Violation::new(Rule::INPUT, name, message));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    async fn validate(
        &self,
        config: wire::DynamicValue,
    ) -> Result<Vec<tfplug::Diagnostic>, HostError> {
        let mut client = self.host.client();
        let config = Some(config);
        let list = match self.kind {
            Kind::Provider => {
                let request = wire::validate_provider_config::Request { config };
                let answer = client.validate_provider_config(request).await;
                answer
                    .map_err(|status| rpc("ValidateProviderConfig", status))?
                    .into_inner()
                    .diagnostics
            }
            Kind::Resource(name) => {
                let request = wire::validate_resource_config::Request {
                    type_name: name.to_owned(),
                    config,
                    client_capabilities: Some(CLIENT),
                };
                let answer = client.validate_resource_config(request).await;
                answer
                    .map_err(|status| rpc("ValidateResourceConfig", status))?
                    .into_inner()
                    .diagnostics
            }
            Kind::Data(name) => {
                let request = wire::validate_data_resource_config::Request {
                    type_name: name.to_owned(),
                    config,
                };
                let answer = client.validate_data_resource_config(request).await;
                answer
                    .map_err(|status| rpc("ValidateDataResourceConfig", status))?
                    .into_inner()
                    .diagnostics
            }
            Kind::Ephemeral(name) => {
                let request = wire::validate_ephemeral_resource_config::Request {
                    type_name: name.to_owned(),
                    config,
                };
                let answer = client.validate_ephemeral_resource_config(request).await;
                answer
                    .map_err(|status| rpc("ValidateEphemeralResourceConfig", status))?
                    .into_inner()
                    .diagnostics
            }
        };
        let (diagnostics, wrong) = decode(&list);
        crate::host::no_violations("validation", wrong)?;
        Ok(diagnostics)
    }
}

/// One error that names the attribute in its text: enough for a value that no Terraform can send.
fn names_place(name: &str, said: &[tfplug::Diagnostic]) -> bool {
    let prefix = format!("{name}:");
    matches!(said, [one] if one.severity == Severity::Error && one.detail.starts_with(&prefix))
}

/// Exactly one error, at this path.
fn one_error_at(path: &str, value: &str, said: &[tfplug::Diagnostic]) -> Vec<Violation> {
    let errors: Vec<_> = said
        .iter()
        .filter(|one| one.severity == Severity::Error)
        .collect();
    let place = |one: &tfplug::Diagnostic| {
        one.path
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    match &errors[..] {
        [one] if place(one) == path => Vec::new(),
        [] => vec![Violation::new(
            Rule::INPUT,
            path,
            format!("{value} is accepted"),
        )],
        all => {
            let told: Vec<_> = all.iter().map(|one| describe(one)).collect();
            vec![Violation::new(
                Rule::INPUT,
                path,
                format!("{value} should give one error here, but gives {told:?}"),
            )]
        }
    }
}

/// A type and value that the given type certainly does not take, not even by conversion.
fn misfit(ty: &Type) -> Option<(Type, Value)> {
    match ty {
        Type::Dynamic => None,
        Type::Bool | Type::Number | Type::String => {
            Some((Type::map(Type::Bool), Value::map([("not", true)])))
        }
        _ => Some((Type::Bool, Value::Bool(true))),
    }
}

/// The configuration once per attribute that can be configured, with that one unknown. Elements of sets have no path.
fn unknowns(schema: &BlockSchema, config: &Value) -> Vec<(Path, Value)> {
    let mut paths = Vec::new();
    each_attribute(schema, config, &Path::empty(), &mut |attribute, _, path| {
        if attribute.configurable() {
            paths.push(path.clone());
        }
    });
    let spoiled = paths.into_iter().filter_map(|path| {
        let mut value = config.clone();
        *value.at_mut(&path)? = Value::unknown();
        Some((path, value))
    });
    spoiled.collect()
}

/// Paths of all leaves that can be configured: `rule.port`.
fn configurable(schema: &BlockSchema, prefix: &str, into: &mut BTreeSet<String>) {
    configurable_attributes(&schema.attributes, prefix, into);
    for (name, nested) in &schema.blocks {
        configurable(&nested.block, &check::child(prefix, name), into);
    }
}

fn configurable_attributes(
    attributes: &std::collections::BTreeMap<String, AttributeSchema>,
    prefix: &str,
    into: &mut BTreeSet<String>,
) {
    for (name, one) in attributes.iter().filter(|(_, one)| one.configurable()) {
        let path = check::child(prefix, name);
        if let AttributeKind::Nested { attributes, .. } = &one.kind {
            configurable_attributes(attributes, &path, into);
        } else {
            into.insert(path);
        }
    }
}
