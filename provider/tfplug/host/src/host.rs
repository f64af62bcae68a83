//! One provider process and the calls that Terraform core makes to it.

use std::path::{Path as FilePath, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tfplug::Diagnostic;
use tfplug::proto::tfplugin6 as wire;
use tfplug::proto::tfplugin6::provider_client::ProviderClient;
use tonic::transport::Channel;

use crate::HostError;
use crate::cert::ClientIdentity;
use crate::check::{self, Rule, Violation};
use crate::connection::{Connection, SHUTDOWN, TlsFacts};
use crate::diagnostics::{decode, has_errors};
use crate::process::{ProviderProcess, SHUTDOWN_GRACE, SpawnOptions};
use crate::schema::ProviderSchema;

/// The version that the host claims to be.
pub const TERRAFORM_VERSION: &str = "1.11.4";

/// A running provider, connected as Terraform connects.
#[derive(Debug)]
pub struct Host {
    binary: PathBuf,
    options: SpawnOptions,
    process: ProviderProcess,
    connection: Connection,
    schema: Option<Arc<ProviderSchema>>,
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
            schema: None,
        };
        Ok(host)
    }

    /// Ends this process and starts a new one, as Terraform does between its graph walks. The schema is kept.
    ///
    /// # Errors
    /// As [`Host::shutdown`] and [`Host::spawn`].
    pub async fn restart(&mut self) -> Result<(), HostError> {
        let mut next = Self::spawn(&self.binary, self.options.clone()).await?;
        next.schema = self.schema.take();
        let last = std::mem::replace(self, next);
        last.shutdown().await.map(drop)
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

    /// A raw client, for calls that no driver covers.
    #[must_use]
    pub fn client(&self) -> ProviderClient<Channel> {
        self.connection.provider()
    }

    /// The schema, asked for once and checked against S1.
    ///
    /// # Errors
    /// [`HostError::Violations`] when Terraform would refuse the schema, else as any call.
    pub async fn schema(&mut self) -> Result<Arc<ProviderSchema>, HostError> {
        if let Some(schema) = &self.schema {
            return Ok(Arc::clone(schema));
        }
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
        let schema = Arc::new(ProviderSchema::decode(response)?);
        self.schema = Some(Arc::clone(&schema));
        Ok(schema)
    }

    /// The schema if [`Host::schema`] was called before.
    pub(crate) fn known_schema(&self) -> Option<&Arc<ProviderSchema>> {
        self.schema.as_ref()
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
