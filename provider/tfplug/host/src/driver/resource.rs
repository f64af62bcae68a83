//! One managed resource type through its whole life.

use std::sync::Arc;

use serde_json::Value as Json;
use tfplug::proto::tfplugin6 as wire;
use tfplug::{Diagnostic, Type, Value};

use super::{Action, Applied, Plan, State};
use crate::check::{self, Rule, Violation};
use crate::host::{CLIENT, decode_as, encode_as, finish, finish_at, no_violations, rpc};
use crate::schema::{ObjectSchema, ProviderSchema};
use crate::{Host, HostError, config};

/// Plays core's part for one resource type.
#[derive(Debug)]
pub struct ResourceDriver<'h> {
    pub(super) host: &'h Host,
    pub(super) name: String,
    pub(super) provider: Arc<ProviderSchema>,
    pub(super) schema: ObjectSchema,
    pub(super) ty: Type,
    pub(super) identity: Option<Type>,
}

// === impl Host ===

impl Host {
    /// A driver for the resource type `name`, such as `gpuloom_pool`.
    ///
    /// # Errors
    /// [`HostError::UnknownType`], or as [`Host::schema`].
    pub async fn resource(&self, name: &str) -> Result<ResourceDriver<'_>, HostError> {
        let provider = self.schema().await?;
        let schema =
            provider
                .resources
                .get(name)
                .cloned()
                .ok_or_else(|| HostError::UnknownType {
                    kind: "resource",
                    name: name.to_owned(),
                    known: provider.resources.keys().cloned().collect(),
                })?;
        let identities = self.identity_schemas().await?;
        let identity = identities.get(name).map(identity_type).transpose()?;
        let ty = schema.block.implied_type();
        Ok(ResourceDriver {
            host: self,
            name: name.to_owned(),
            provider,
            schema,
            ty,
            identity,
        })
    }
}

fn identity_type(schema: &wire::ResourceIdentitySchema) -> Result<Type, HostError> {
    let attributes = schema.identity_attributes.iter().map(|one| {
        let ty = Type::from_json_bytes(&one.r#type).map_err(|source| HostError::Value {
            what: format!("identity attribute {}", one.name),
            reason: source.to_string(),
        })?;
        Ok((one.name.clone(), ty))
    });
    Ok(Type::object(
        attributes.collect::<Result<Vec<_>, HostError>>()?,
    ))
}

// === impl ResourceDriver ===

impl ResourceDriver<'_> {
    /// The type's schema.
    #[must_use]
    pub fn schema(&self) -> &ObjectSchema {
        &self.schema
    }

    /// A configuration of this type, see [`config::from_json`].
    ///
    /// # Errors
    /// [`HostError::Value`].
    pub fn config(&self, json: &Json) -> Result<Value, HostError> {
        config::from_json(&self.schema.block, json)
    }

    /// `ValidateResourceConfig`: the warnings.
    ///
    /// # Errors
    /// [`HostError::Diagnostics`] with everything the provider found wrong.
    pub async fn validate(&self, config: &Value) -> Result<Vec<Diagnostic>, HostError> {
        let call = "ValidateResourceConfig";
        let request = wire::validate_resource_config::Request {
            type_name: self.name.clone(),
            config: Some(encode_as(&self.ty, config)?),
            client_capabilities: Some(CLIENT),
        };
        let answer = self.host.client().validate_resource_config(request).await;
        let response = answer.map_err(|status| rpc(call, status))?.into_inner();
        finish_at(call, &response.diagnostics, &self.schema.block)
    }

    /// Validates, plans and applies a new object, with every check.
    ///
    /// # Errors
    /// [`HostError::Diagnostics`] when the provider refuses at validate or plan; else as [`ResourceDriver::apply`].
    pub async fn create(&self, config: &Json) -> Result<Applied, HostError> {
        let config = self.config(config)?;
        no_violations(
            &self.call("Terraform"),
            config::missing(&self.schema.block, &config),
        )?;
        self.validate(&config).await?;
        let plan = self.plan(None, &config).await?;
        self.apply(&plan).await
    }

    /// Refreshes, validates, plans and applies a change: the plan, for its action, and how it ended.
    ///
    /// # Errors
    /// As [`ResourceDriver::create`].
    pub async fn update(&self, state: &State, config: &Json) -> Result<(Plan, Applied), HostError> {
        let config = self.config(config)?;
        no_violations(
            &self.call("Terraform"),
            config::missing(&self.schema.block, &config),
        )?;
        self.validate(&config).await?;
        let fresh = self.refresh(state).await?;
        let plan = self.plan(fresh.as_ref(), &config).await?;
        let applied = self.apply(&plan).await?;
        Ok((plan, applied))
    }

    /// Plans and carries out a destroy.
    ///
    /// # Errors
    /// [`HostError::Diagnostics`] when the provider refuses at plan; else as [`ResourceDriver::apply`].
    pub async fn destroy(&self, state: &State) -> Result<Applied, HostError> {
        let plan = self.plan_destroy(state).await?;
        self.apply(&plan).await
    }

    /// That refresh and plan find nothing to do: apply is followed by an empty plan. Gives the refreshed state.
    ///
    /// # Errors
    /// [`HostError::Violations`] with NOOP when there is something to do.
    pub async fn settled(&self, state: &State, config: &Json) -> Result<State, HostError> {
        let noop = |message: String| vec![Violation::new(Rule::NOOP, "", message)];
        let call = self.call("plan after apply");
        let Some(fresh) = self.refresh(state).await? else {
            no_violations(&call, noop("the object is gone".to_owned()))?;
            return Ok(state.clone());
        };
        let plan = self.plan(Some(&fresh), &self.config(config)?).await?;
        if plan.action != Action::NoOp {
            let message = format!(
                "{} from {:?} to {:?}",
                plan.action.name(),
                fresh.value,
                plan.planned
            );
            no_violations(&call, noop(message))?;
        }
        Ok(fresh)
    }

    /// `UpgradeResourceState` with the current version, then `ReadResource`, as before every plan. `None`: it is gone.
    ///
    /// # Errors
    /// As [`ResourceDriver::upgrade`] and [`ResourceDriver::read`].
    pub async fn refresh(&self, state: &State) -> Result<Option<State>, HostError> {
        let json = state
            .value
            .to_json(&self.ty)
            .map_err(|source| HostError::Value {
                what: format!("the state of {}", self.name),
                reason: source.to_string(),
            })?;
        let value = self.upgrade(self.schema.version, &json).await?;
        self.read(&State {
            value,
            ..state.clone()
        })
        .await
    }

    /// `ReadResource` (R1, ID1). `None`: the provider says that it is gone.
    ///
    /// # Errors
    /// [`HostError::Diagnostics`] when it cannot be read; Terraform then keeps the state.
    pub async fn read(&self, state: &State) -> Result<Option<State>, HostError> {
        let call = "ReadResource";
        let request = wire::read_resource::Request {
            type_name: self.name.clone(),
            current_state: Some(encode_as(&self.ty, &state.value)?),
            private: state.private.clone(),
            client_capabilities: Some(CLIENT),
            current_identity: self.encode_identity(state.identity.as_ref())?,
            ..wire::read_resource::Request::default()
        };
        let answer = self.host.client().read_resource(request).await;
        let response = answer.map_err(|status| rpc(call, status))?.into_inner();
        finish_at(call, &response.diagnostics, &self.schema.block)?;
        let value = decode_as(&self.ty, response.new_state.as_ref())
            .map_err(|reason| self.invalid(Rule::R1, &reason))?
            .unwrap_or_default();
        if value.is_null() {
            return Ok(None);
        }
        let mut wrong = check::result::check_read(&self.schema.block, &value);
        if response.deferred.is_some() {
            wrong.push(Violation::new(
                Rule::PROTO,
                "",
                "deferred, though the client does not allow it",
            ));
        }
        let identity = self.decode_identity(response.new_identity.as_ref())?;
        if self.identity.is_some() {
            wrong.extend(check::result::check_identity(
                state.identity.as_ref(),
                identity.as_ref(),
            ));
        }
        no_violations(&self.call(call), wrong)?;
        Ok(Some(State {
            value,
            private: response.private,
            identity,
            tainted: state.tainted,
        }))
    }

    /// `UpgradeResourceState` from JSON as an older schema wrote it (U1).
    ///
    /// # Errors
    /// [`HostError::Diagnostics`] when the provider cannot, [`HostError::Violations`] when the result is unsound.
    pub async fn upgrade(&self, version: i64, state: &Json) -> Result<Value, HostError> {
        let call = "UpgradeResourceState";
        let request = wire::upgrade_resource_state::Request {
            type_name: self.name.clone(),
            version,
            raw_state: Some(raw(state)),
        };
        let answer = self.host.client().upgrade_resource_state(request).await;
        let response = answer.map_err(|status| rpc(call, status))?.into_inner();
        finish(call, &response.diagnostics)?;
        let value = decode_as(&self.ty, response.upgraded_state.as_ref())
            .map_err(|reason| self.invalid(Rule::U1, &reason))?
            .unwrap_or_default();
        no_violations(
            &self.call(call),
            check::result::check_upgrade(&self.schema.block, &value),
        )?;
        Ok(value)
    }

    /// `ImportResourceState` by id, then `ReadResource` of each object (I1).
    ///
    /// # Errors
    /// [`HostError::Diagnostics`] when the provider cannot, [`HostError::Violations`] when there is nothing to import.
    pub async fn import(&self, id: &str) -> Result<State, HostError> {
        self.import_request(wire::import_resource_state::Request {
            id: id.to_owned(),
            ..self.import_base()
        })
        .await
    }

    /// `ImportResourceState` by identity, which Terraform does since 1.12 (I1, ID1).
    ///
    /// # Errors
    /// As [`ResourceDriver::import`]; [`HostError::Value`] without an identity schema.
    pub async fn import_by_identity(&self, identity: &Value) -> Result<State, HostError> {
        let identity = self.encode_identity(Some(identity))?;
        self.import_request(wire::import_resource_state::Request {
            identity,
            ..self.import_base()
        })
        .await
    }

    fn import_base(&self) -> wire::import_resource_state::Request {
        wire::import_resource_state::Request {
            type_name: self.name.clone(),
            client_capabilities: Some(CLIENT),
            ..wire::import_resource_state::Request::default()
        }
    }

    async fn import_request(
        &self,
        request: wire::import_resource_state::Request,
    ) -> Result<State, HostError> {
        let call = "ImportResourceState";
        let answer = self.host.client().import_resource_state(request).await;
        let response = answer.map_err(|status| rpc(call, status))?.into_inner();
        finish(call, &response.diagnostics)?;
        let [imported] = &response.imported_resources[..] else {
            let count = response.imported_resources.len();
            return Err(self.invalid(
                Rule::I1,
                &format!("{count} imported objects instead of one"),
            ));
        };
        if imported.type_name != self.name {
            return Err(self.invalid(
                Rule::I1,
                &format!("an object of type {:?}", imported.type_name),
            ));
        }
        let value = decode_as(&self.ty, imported.state.as_ref())
            .map_err(|reason| self.invalid(Rule::I1, &reason))?
            .unwrap_or_default();
        no_violations(
            &self.call(call),
            check::result::check_import(&self.schema.block, &value),
        )?;
        let identity = self.decode_identity(imported.identity.as_ref())?;
        let stub = State {
            value,
            private: imported.private.clone(),
            identity,
            tainted: false,
        };
        let read = self.read(&stub).await?;
        let value = read
            .as_ref()
            .map_or(Value::Null, |state| state.value.clone());
        no_violations(&self.call(call), check::result::check_import_read(&value))?;
        read.ok_or_else(|| self.invalid(Rule::I1, "nothing was read"))
    }

    /// `MoveResourceState` from another type's state (M1).
    ///
    /// # Errors
    /// [`HostError::Diagnostics`] when the provider cannot, [`HostError::Violations`] when the result is unsound.
    pub async fn move_from(
        &self,
        provider: &str,
        source_type: &str,
        version: i64,
        state: &Json,
    ) -> Result<State, HostError> {
        let call = "MoveResourceState";
        let request = wire::move_resource_state::Request {
            source_provider_address: provider.to_owned(),
            source_type_name: source_type.to_owned(),
            source_schema_version: version,
            source_state: Some(raw(state)),
            target_type_name: self.name.clone(),
            ..wire::move_resource_state::Request::default()
        };
        let answer = self.host.client().move_resource_state(request).await;
        let response = answer.map_err(|status| rpc(call, status))?.into_inner();
        finish(call, &response.diagnostics)?;
        let value = decode_as(&self.ty, response.target_state.as_ref())
            .map_err(|reason| self.invalid(Rule::M1, &reason))?
            .unwrap_or_default();
        no_violations(
            &self.call(call),
            check::result::check_move(&self.schema.block, &value),
        )?;
        let identity = self.decode_identity(response.target_identity.as_ref())?;
        Ok(State {
            value,
            private: response.target_private,
            identity,
            tainted: false,
        })
    }

    /// `UpgradeResourceIdentity` from JSON as an older identity schema wrote it (ID1).
    ///
    /// # Errors
    /// As [`ResourceDriver::upgrade`].
    pub async fn upgrade_identity(
        &self,
        version: i64,
        identity: &Json,
    ) -> Result<Value, HostError> {
        let call = "UpgradeResourceIdentity";
        let request = wire::upgrade_resource_identity::Request {
            type_name: self.name.clone(),
            version,
            raw_identity: Some(raw(identity)),
        };
        let answer = self.host.client().upgrade_resource_identity(request).await;
        let response = answer.map_err(|status| rpc(call, status))?.into_inner();
        finish(call, &response.diagnostics)?;
        let upgraded = self.decode_identity(response.upgraded_identity.as_ref())?;
        no_violations(
            &self.call(call),
            check::result::check_identity(None, upgraded.as_ref()),
        )?;
        upgraded.ok_or_else(|| self.invalid(Rule::ID1, "no identity at all"))
    }

    pub(super) fn call(&self, rpc: &str) -> String {
        format!("{rpc} of {}", self.name)
    }

    pub(super) fn invalid(&self, rule: Rule, reason: &str) -> HostError {
        HostError::Violations {
            call: self.name.clone(),
            violations: vec![Violation::new(rule, "", reason)],
        }
    }

    pub(super) fn encode_identity(
        &self,
        identity: Option<&Value>,
    ) -> Result<Option<wire::ResourceIdentityData>, HostError> {
        let Some(identity) = identity else {
            return Ok(None);
        };
        let ty = self.identity.as_ref().ok_or_else(|| HostError::Value {
            what: format!("identity of {}", self.name),
            reason: "the type has no identity schema".to_owned(),
        })?;
        Ok(Some(wire::ResourceIdentityData {
            identity_data: Some(encode_as(ty, identity)?),
        }))
    }

    pub(super) fn decode_identity(
        &self,
        data: Option<&wire::ResourceIdentityData>,
    ) -> Result<Option<Value>, HostError> {
        let (Some(data), Some(ty)) = (data, &self.identity) else {
            return Ok(None);
        };
        decode_as(ty, data.identity_data.as_ref())
            .map_err(|reason| self.invalid(Rule::ID1, &reason))
    }
}

fn raw(state: &Json) -> wire::RawState {
    wire::RawState {
        json: state.to_string().into_bytes(),
        ..wire::RawState::default()
    }
}
