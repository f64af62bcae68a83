//! One provider process and the calls that Terraform core makes to it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path as FilePath, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tfplug::proto::tfplugin6 as wire;
use tfplug::proto::tfplugin6::provider_client::ProviderClient;
use tfplug::{Diagnostic, Missing, Type, Value};
use tokio::sync::OnceCell;
use tonic::transport::Channel;

use crate::HostError;
use crate::cert::ClientIdentity;
use crate::check::{self, Rule, Violation};
use crate::config;
use crate::connection::{Connection, SHUTDOWN, TlsFacts};
use crate::diagnostics::{decode, has_errors, misplaced};
use crate::process::{ProviderProcess, SHUTDOWN_GRACE, SpawnOptions};
use crate::schema::{BlockSchema, ProviderSchema};

/// The version that the host claims to be.
pub const TERRAFORM_VERSION: &str = "1.11.4";

/// A running provider, connected as Terraform connects.
#[derive(Debug)]
pub struct Host {
    binary: PathBuf,
    options: SpawnOptions,
    process: ProviderProcess,
    connection: Connection,
    schema: OnceCell<Arc<ProviderSchema>>,
    identities: OnceCell<Arc<BTreeMap<String, wire::ResourceIdentitySchema>>>,
    configured: Option<Json>,
}

// === impl Host ===

impl Host {
    /// Starts `binary`, checks its handshake, connects with mutual TLS and ALPN `h2`, and opens go-plugin's streams.
    ///
    /// # Errors
    /// Any of [`HostError`]'s transport variants, naming what Terraform would refuse.
    pub async fn spawn(binary: &FilePath, options: SpawnOptions) -> Result<Self, HostError> {
        let identity = if options.tls {
            Some(ClientIdentity::generate()?)
        } else {
            None
        };
        Self::spawn_as(binary, options, identity.as_ref(), identity.as_ref()).await
    }

    /// As [`Host::spawn`], but the provider is told of the certificate `told` and shown `shown`: a stranger on the socket.
    ///
    /// # Errors
    /// As [`Host::spawn`]; a sound provider makes this fail whenever the two differ.
    pub async fn spawn_as(
        binary: &FilePath,
        options: SpawnOptions,
        told: Option<&ClientIdentity>,
        shown: Option<&ClientIdentity>,
    ) -> Result<Self, HostError> {
        let process = ProviderProcess::spawn(binary, &options, told).await?;
        let connection = Connection::open(process.handshake(), shown, options.tls).await?;
        let host = Self {
            binary: binary.to_owned(),
            options,
            process,
            connection,
            schema: OnceCell::new(),
            identities: OnceCell::new(),
            configured: None,
        };
        Ok(host)
    }

    /// Ends this process and starts a new one, configured alike, as Terraform does between its graph walks. The schema is
    /// kept.
    ///
    /// # Errors
    /// As [`Host::shutdown`], [`Host::spawn`] and [`Host::configure`].
    pub async fn restart(&mut self) -> Result<(), HostError> {
        self.end().await?;
        let next = Self::spawn(&self.binary, self.options.clone()).await?;
        drop(self.replace(next));
        self.configure_again().await
    }

    /// Kills this process with SIGKILL and starts a new one, configured alike.
    ///
    /// # Errors
    /// As [`Host::restart`].
    pub async fn kill_and_restart(&mut self) -> Result<(), HostError> {
        self.process.kill().await?;
        let next = Self::spawn(&self.binary, self.options.clone()).await?;
        drop(self.replace(next));
        self.configure_again().await
    }

    /// Sets an environment variable for the processes that [`Host::restart`] and [`Host::kill_and_restart`] start: a test
    /// ends one process by a failpoint and goes on without it.
    pub fn set_env(&mut self, key: impl Into<OsString>, value: impl Into<OsString>) {
        self.options.env.push((key.into(), value.into()));
    }

    fn replace(&mut self, mut next: Self) -> Self {
        next.schema = std::mem::take(&mut self.schema);
        next.identities = std::mem::take(&mut self.identities);
        next.configured = self.configured.take();
        std::mem::replace(self, next)
    }

    async fn configure_again(&mut self) -> Result<(), HostError> {
        if let Some(config) = self.configured.take() {
            self.configure(&config).await?;
        }
        Ok(())
    }

    /// The process behind the connection.
    #[must_use]
    pub fn process(&self) -> &ProviderProcess {
        &self.process
    }

    /// The process, to kill it or to wait for it.
    pub fn process_mut(&mut self) -> &mut ProviderProcess {
        &mut self.process
    }

    /// What TLS agreed on; `None` without TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsFacts> {
        self.connection.tls.as_ref()
    }

    /// The channel, for services beside the provider's.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.connection.channel()
    }

    /// A raw client, for calls that no driver covers.
    #[must_use]
    pub fn client(&self) -> ProviderClient<Channel> {
        self.connection.provider()
    }

    /// The schema, asked for once and checked against S1.
    ///
    /// # Errors
    /// [`HostError::Violations`] when Terraform would refuse the schema, else as any call.
    pub async fn schema(&self) -> Result<Arc<ProviderSchema>, HostError> {
        self.schema
            .get_or_try_init(|| self.fetch_schema())
            .await
            .map(Arc::clone)
    }

    async fn fetch_schema(&self) -> Result<Arc<ProviderSchema>, HostError> {
        let answer = self
            .connection
            .schema()
            .get_provider_schema(wire::get_provider_schema::Request {})
            .await;
        let response = answer
            .map_err(|status| rpc("GetProviderSchema", status))?
            .into_inner();
        finish("GetProviderSchema", &response.diagnostics)?;
        let unsound: Vec<_> = check::schema::check_all(&response)
            .into_iter()
            .filter(|one| one.rule == Rule::S1)
            .collect();
        no_violations("GetProviderSchema", unsound)?;
        Ok(Arc::new(ProviderSchema::decode(response)?))
    }

    /// The identity schemas by resource type, asked for once and checked against ID1. Empty when the provider answers
    /// UNIMPLEMENTED, as Terraform takes it.
    ///
    /// # Errors
    /// [`HostError::Violations`] when a schema is unsound, else as any call.
    pub async fn identity_schemas(
        &self,
    ) -> Result<Arc<BTreeMap<String, wire::ResourceIdentitySchema>>, HostError> {
        self.identities
            .get_or_try_init(|| self.fetch_identities())
            .await
            .map(Arc::clone)
    }

    async fn fetch_identities(
        &self,
    ) -> Result<Arc<BTreeMap<String, wire::ResourceIdentitySchema>>, HostError> {
        let call = "GetResourceIdentitySchemas";
        let request = wire::get_resource_identity_schemas::Request {};
        let response = match self.client().get_resource_identity_schemas(request).await {
            Ok(answer) => answer.into_inner(),
            Err(status) if status.code() == tonic::Code::Unimplemented => return Ok(Arc::default()),
            Err(status) => return Err(rpc(call, status)),
        };
        finish(call, &response.diagnostics)?;
        let judged = response.identity_schemas.iter();
        let wrong = judged
            .flat_map(|(name, schema)| check::result::check_identity_schema(name, schema))
            .collect();
        no_violations(call, wrong)?;
        Ok(Arc::new(response.identity_schemas))
    }

    /// `ValidateProviderConfig` alone: the warnings.
    ///
    /// # Errors
    /// [`HostError::Diagnostics`] with what the provider refuses, else as any call.
    pub async fn validate_provider(&self, config: &Json) -> Result<Vec<Diagnostic>, HostError> {
        let call = "ValidateProviderConfig";
        let schema = self.schema().await?;
        let value = config::from_json(&schema.provider, config)?;
        let request = wire::validate_provider_config::Request {
            config: Some(encode(&schema.provider, &value)?),
        };
        let answer = self.client().validate_provider_config(request).await;
        let response = answer.map_err(|status| rpc(call, status))?.into_inner();
        finish_at(call, &response.diagnostics, &schema.provider)
    }

    /// `ValidateProviderConfig`, then `ConfigureProvider`: the warnings of both. The configuration is kept for
    /// [`Host::restart`].
    ///
    /// # Errors
    /// [`HostError::Diagnostics`] with what the provider refuses, else as any call.
    pub async fn configure(&mut self, config: &Json) -> Result<Vec<Diagnostic>, HostError> {
        let call = "ConfigureProvider";
        let mut warnings = self.validate_provider(config).await?;
        let schema = self.schema().await?;
        let value = config::from_json(&schema.provider, config)?;
        let request = wire::configure_provider::Request {
            terraform_version: TERRAFORM_VERSION.to_owned(),
            config: Some(encode(&schema.provider, &value)?),
            client_capabilities: Some(CLIENT),
        };
        let answer = self.client().configure_provider(request).await;
        let response = answer.map_err(|status| rpc(call, status))?.into_inner();
        warnings.extend(finish_at(call, &response.diagnostics, &schema.provider)?);
        self.configured = Some(config.clone());
        Ok(warnings)
    }

    /// Asks running calls to wind up, as Ctrl-C makes Terraform do.
    ///
    /// # Errors
    /// [`HostError::Rpc`], or [`HostError::Terraform`] with the provider's own words.
    pub async fn stop(&self) -> Result<(), HostError> {
        let answer = self
            .client()
            .stop_provider(wire::stop_provider::Request {})
            .await;
        let response = answer
            .map_err(|status| rpc("StopProvider", status))?
            .into_inner();
        if response.error.is_empty() {
            Ok(())
        } else {
            Err(HostError::Terraform(response.error))
        }
    }

    /// Sends `Shutdown` and waits for the end: how long it took, and the exit status.
    ///
    /// # Errors
    /// [`HostError::Timeout`] when it is not gone after [`SHUTDOWN_GRACE`], where go-plugin kills; it is killed here too.
    /// [`HostError::Violations`] when stderr has a line that Terraform cannot read, or stdout has anything at all.
    pub async fn shutdown(mut self) -> Result<(Duration, ExitStatus), HostError> {
        self.end().await
    }

    async fn end(&mut self) -> Result<(Duration, ExitStatus), HostError> {
        let started = Instant::now();
        // The process may be gone before its answer is out.
        self.connection.controller().shutdown(SHUTDOWN).await.ok();
        match self.process.wait(SHUTDOWN_GRACE).await {
            Ok(status) => {
                let took = started.elapsed();
                self.output_is_clean()?;
                Ok((took, status))
            }
            Err(error) => {
                self.process.kill().await?;
                Err(error)
            }
        }
    }

    /// That every stderr line is a log entry and stdout is silent after the handshake.
    ///
    /// # Errors
    /// [`HostError::Violations`] with each bad line.
    pub fn output_is_clean(&self) -> Result<(), HostError> {
        let mut wrong: Vec<_> = self
            .process
            .bad_log_lines()
            .into_iter()
            .map(|reason| Violation::new(Rule::LOG, "stderr", reason))
            .collect();
        let stdout = self.process.late_stdout();
        if !stdout.is_empty() {
            let text = String::from_utf8_lossy(&stdout).into_owned();
            wrong.push(Violation::new(
                Rule::LOG,
                "stdout",
                format!("{text:?} was written after the handshake"),
            ));
        }
        no_violations("the provider's output", wrong)
    }
}

/// What Terraform 1.11 says about itself: no deferral, write-only attributes.
pub(crate) const CLIENT: wire::ClientCapabilities = wire::ClientCapabilities {
    deferral_allowed: false,
    write_only_attributes_allowed: true,
};

/// A value of a block, encoded as its implied type.
pub(crate) fn encode(schema: &BlockSchema, value: &Value) -> Result<wire::DynamicValue, HostError> {
    encode_as(&schema.implied_type(), value)
}

/// A value encoded as msgpack of this type.
pub(crate) fn encode_as(ty: &Type, value: &Value) -> Result<wire::DynamicValue, HostError> {
    let msgpack = value.to_msgpack(ty).map_err(|source| HostError::Value {
        what: "a value for the provider".to_owned(),
        reason: source.to_string(),
    })?;
    Ok(wire::DynamicValue {
        msgpack,
        ..wire::DynamicValue::default()
    })
}

/// The value in an answer: `None` when there is none at all, which is not the same as null.
///
/// # Errors
/// A sentence when it does not fit the type (trap 12).
pub(crate) fn decode_as(
    ty: &Type,
    value: Option<&wire::DynamicValue>,
) -> Result<Option<Value>, String> {
    let Some(value) = value else { return Ok(None) };
    let decoded = match (value.msgpack.is_empty(), value.json.is_empty()) {
        (true, true) => return Ok(None),
        (false, true) => Value::from_msgpack(&value.msgpack, ty),
        (true, false) => Value::from_json_bytes(&value.json, ty, Missing::Error),
        (false, false) => return Err("both msgpack and JSON".to_owned()),
    };
    decoded.map(Some).map_err(|source| source.to_string())
}

/// As [`finish`], and every diagnostic must point at something in the schema.
pub(crate) fn finish_at(
    rpc: &'static str,
    list: &[wire::Diagnostic],
    schema: &BlockSchema,
) -> Result<Vec<Diagnostic>, HostError> {
    let (diagnostics, _) = decode(list);
    no_violations(rpc, misplaced(&diagnostics, schema))?;
    finish(rpc, list)
}

/// A gRPC status as an error of the named call.
pub(crate) fn rpc(rpc: &'static str, status: tonic::Status) -> HostError {
    HostError::Rpc {
        rpc,
        status: Box::new(status),
    }
}

/// The warnings of an answer, or all its diagnostics as an error when one of them is an error.
pub(crate) fn finish(
    rpc: &'static str,
    list: &[wire::Diagnostic],
) -> Result<Vec<Diagnostic>, HostError> {
    let (diagnostics, wrong) = decode(list);
    no_violations(rpc, wrong)?;
    if has_errors(&diagnostics) {
        Err(HostError::Diagnostics { rpc, diagnostics })
    } else {
        Ok(diagnostics)
    }
}

/// Fails the named call when a rule is broken.
pub(crate) fn no_violations(call: &str, violations: Vec<Violation>) -> Result<(), HostError> {
    if violations.is_empty() {
        Ok(())
    } else {
        Err(HostError::Violations {
            call: call.to_owned(),
            violations,
        })
    }
}
