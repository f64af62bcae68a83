//! `PlanResourceChange` and `ApplyResourceChange` with everything core does around them.

use tfplug::proto::tfplugin6 as wire;
use tfplug::{Diagnostic, Path, Value};

use super::{Action, Applied, Plan, ResourceDriver, State};
use crate::HostError;
use crate::check::{self, Rule, Violation};
use crate::diagnostics::{decode, has_errors, misplaced};
use crate::host::{CLIENT, decode_as, encode_as, finish_at, no_violations, rpc};
use crate::proposed::proposed_new_state;

/// One answer to `PlanResourceChange`, checked.
struct Planned {
    value: Value,
    private: Vec<u8>,
    requires_replace: Vec<Path>,
    identity: Option<Value>,
    warnings: Vec<Diagnostic>,
}

const PLAN: &str = "PlanResourceChange";
const APPLY: &str = "ApplyResourceChange";

impl ResourceDriver<'_> {
    /// Plans from `prior` (`None`: a new object) to `config`, with all of P1-P8. A replacement is planned twice, the second
    /// time as a creation, as core does.
    ///
    /// # Errors
    /// [`HostError::Diagnostics`] when the provider refuses, [`HostError::Violations`] when its plan is invalid.
    pub async fn plan(&self, prior: Option<&State>, config: &Value) -> Result<Plan, HostError> {
        let mut planned = self.ask_plan(prior, config).await?;
        let action = self.action(prior, &planned);
        if action == Action::Replace {
            let requires_replace = planned.requires_replace;
            planned = self.ask_plan(None, config).await?;
            planned.requires_replace = requires_replace;
        }
        Ok(Plan {
            action,
            prior: prior.cloned(),
            config: config.clone(),
            planned: planned.value,
            private: planned.private,
            requires_replace: planned.requires_replace,
            identity: planned.identity,
            warnings: planned.warnings,
        })
    }

    /// Plans to destroy `prior` (P7). The provider is asked only if it has the `plan_destroy` capability.
    ///
    /// # Errors
    /// As [`ResourceDriver::plan`].
    pub async fn plan_destroy(&self, prior: &State) -> Result<Plan, HostError> {
        let mut plan = Plan {
            action: Action::Delete,
            prior: Some(prior.clone()),
            config: Value::Null,
            planned: Value::Null,
            private: prior.private.clone(),
            requires_replace: Vec::new(),
            identity: prior.identity.clone(),
            warnings: Vec::new(),
        };
        if self.provider.capabilities.plan_destroy {
            let response = self
                .send_plan(Some(prior), &Value::Null, &Value::Null)
                .await?;
            plan.warnings = finish_at(PLAN, &response.diagnostics, &self.schema.block)?;
            let planned = decode_as(&self.ty, response.planned_state.as_ref())
                .map_err(|reason| self.invalid(Rule::P7, &reason))?;
            no_violations(
                &self.call(PLAN),
                check::plan::check_destroy(&planned.unwrap_or_default()),
            )?;
            plan.private = response.planned_private;
        }
        Ok(plan)
    }

    /// Carries a plan out as core does in a new process: plans again, compares (P9), applies, compares (A1-A6).
    ///
    /// # Errors
    /// [`HostError::Violations`] when a rule is broken and [`HostError::Rpc`] when the provider answered with a status:
    /// after either Terraform may have lost the object. A provider's own errors are in [`Applied`].
    pub async fn apply(&self, plan: &Plan) -> Result<Applied, HostError> {
        let prior = plan.prior.as_ref();
        match plan.action {
            Action::NoOp => Ok(Applied {
                state: plan.prior.clone(),
                diagnostics: Vec::new(),
            }),
            Action::Delete => {
                self.ask_apply(
                    prior,
                    &Value::Null,
                    &Value::Null,
                    &plan.private,
                    plan.identity.as_ref(),
                )
                .await
            }
            Action::Create | Action::Update => self.apply_again(prior, plan).await,
            Action::Replace => {
                let private = prior.map(|state| state.private.clone()).unwrap_or_default();
                let identity = prior.and_then(|state| state.identity.as_ref());
                let mut destroyed = self
                    .ask_apply(prior, &Value::Null, &Value::Null, &private, identity)
                    .await?;
                if has_errors(&destroyed.diagnostics) {
                    return Ok(destroyed);
                }
                let mut made = self.apply_again(None, plan).await?;
                destroyed.diagnostics.append(&mut made.diagnostics);
                Ok(Applied {
                    state: made.state,
                    diagnostics: destroyed.diagnostics,
                })
            }
        }
    }

    /// Sends the plan's apply without planning again: for asking a provider the same thing twice.
    ///
    /// # Errors
    /// As [`ResourceDriver::apply`].
    pub async fn apply_as_planned(&self, plan: &Plan) -> Result<Applied, HostError> {
        let prior = plan.prior.as_ref();
        self.ask_apply(
            prior,
            &plan.planned,
            &plan.config,
            &plan.private,
            plan.identity.as_ref(),
        )
        .await
    }

    async fn apply_again(&self, prior: Option<&State>, plan: &Plan) -> Result<Applied, HostError> {
        let second = match self.ask_plan(prior, &plan.config).await {
            Ok(second) => second,
            Err(HostError::Diagnostics { diagnostics, .. }) => {
                return Ok(Applied {
                    state: plan.prior.clone(),
                    diagnostics,
                });
            }
            Err(error) => return Err(error),
        };
        let (before, now) = match (prior, plan.action) {
            (Some(_), first) => (first, self.action(prior, &second)),
            (None, _) => (Action::Create, Action::Create),
        };
        // An update that turns out to be none is not applied.
        if now == Action::NoOp && before == Action::Update {
            return Ok(Applied {
                state: plan.prior.clone(),
                diagnostics: second.warnings,
            });
        }
        let wrong = check::plan::check_again(
            &self.schema.block,
            (&plan.planned, before.name()),
            (&second.value, now.name()),
        );
        no_violations(&self.call("the second PlanResourceChange"), wrong)?;
        self.ask_apply(
            prior,
            &second.value,
            &plan.config,
            &second.private,
            second.identity.as_ref(),
        )
        .await
    }

    /// Core's own judgement of what a planned value means.
    fn action(&self, prior: Option<&State>, planned: &Planned) -> Action {
        let Some(prior) = prior else {
            return Action::Create;
        };
        let replaced = |path: &Path| {
            let (before, after) = (prior.value.at(path), planned.value.at(path));
            before != after || after.is_unknown()
        };
        if prior.tainted || planned.requires_replace.iter().any(replaced) {
            Action::Replace
        } else if prior.value == planned.value {
            Action::NoOp
        } else {
            Action::Update
        }
    }

    async fn ask_plan(&self, prior: Option<&State>, config: &Value) -> Result<Planned, HostError> {
        let before = prior.map_or(Value::Null, |state| state.value.clone());
        let proposed = proposed_new_state(&self.schema.block, &before, config);
        let response = self.send_plan(prior, &proposed, config).await?;
        let warnings = finish_at(PLAN, &response.diagnostics, &self.schema.block)?;
        let mut wrong = Vec::new();
        if response.legacy_type_system {
            wrong.push(Violation::new(Rule::PROTO, "", "legacy_type_system is set"));
        }
        if response.deferred.is_some() {
            wrong.push(Violation::new(
                Rule::PROTO,
                "",
                "deferred, though the client does not allow it",
            ));
        }
        let value = decode_as(&self.ty, response.planned_state.as_ref())
            .map_err(|reason| self.invalid(Rule::P1, &reason))?
            .ok_or_else(|| self.invalid(Rule::P4, "no planned state at all"))?;
        let requires_replace: Vec<_> = response
            .requires_replace
            .iter()
            .map(Path::from_proto)
            .collect();
        wrong.extend(check::plan::check(
            &self.schema.block,
            &before,
            config,
            &value,
        ));
        wrong.extend(check::plan::check_requires_replace(
            &before,
            &value,
            &requires_replace,
        ));
        let identity = self.decode_identity(response.planned_identity.as_ref())?;
        no_violations(&self.call(PLAN), wrong)?;
        let private = response.planned_private;
        Ok(Planned {
            value,
            private,
            requires_replace,
            identity,
            warnings,
        })
    }

    async fn send_plan(
        &self,
        prior: Option<&State>,
        proposed: &Value,
        config: &Value,
    ) -> Result<wire::plan_resource_change::Response, HostError> {
        let request = wire::plan_resource_change::Request {
            type_name: self.name.clone(),
            prior_state: Some(encode_as(
                &self.ty,
                prior.map_or(&Value::Null, |state| &state.value),
            )?),
            proposed_new_state: Some(encode_as(&self.ty, proposed)?),
            config: Some(encode_as(&self.ty, config)?),
            prior_private: prior.map(|state| state.private.clone()).unwrap_or_default(),
            client_capabilities: Some(CLIENT),
            prior_identity: self
                .encode_identity(prior.and_then(|state| state.identity.as_ref()))?,
            ..wire::plan_resource_change::Request::default()
        };
        let answer = self.host.client().plan_resource_change(request).await;
        Ok(answer.map_err(|status| rpc(PLAN, status))?.into_inner())
    }

    async fn ask_apply(
        &self,
        prior: Option<&State>,
        planned: &Value,
        config: &Value,
        private: &[u8],
        identity: Option<&Value>,
    ) -> Result<Applied, HostError> {
        let request = wire::apply_resource_change::Request {
            type_name: self.name.clone(),
            prior_state: Some(encode_as(
                &self.ty,
                prior.map_or(&Value::Null, |state| &state.value),
            )?),
            planned_state: Some(encode_as(&self.ty, planned)?),
            config: Some(encode_as(&self.ty, config)?),
            planned_private: private.to_vec(),
            planned_identity: self.encode_identity(identity)?,
            ..wire::apply_resource_change::Request::default()
        };
        let answer = self.host.client().apply_resource_change(request).await;
        let response = answer.map_err(|status| rpc(APPLY, status))?.into_inner();
        self.judge_apply(prior, planned, identity, &response)
    }

    fn judge_apply(
        &self,
        prior: Option<&State>,
        planned: &Value,
        planned_identity: Option<&Value>,
        response: &wire::apply_resource_change::Response,
    ) -> Result<Applied, HostError> {
        let (diagnostics, mut wrong) = decode(&response.diagnostics);
        wrong.extend(misplaced(&diagnostics, &self.schema.block));
        if response.legacy_type_system {
            wrong.push(Violation::new(Rule::PROTO, "", "legacy_type_system is set"));
        }
        let value = decode_as(&self.ty, response.new_state.as_ref())
            .map_err(|reason| self.invalid(Rule::A1, &reason))?
            .unwrap_or_default();
        let failed = has_errors(&diagnostics);
        if failed {
            // A partial object need not be what was planned, but it must be storable.
            wrong.extend(check::value::no_unknown(Rule::A2, &value));
            wrong.extend(check::value::write_only_null(
                Rule::A5,
                &self.schema.block,
                &value,
            ));
        } else {
            wrong.extend(check::apply::check(&self.schema.block, planned, &value));
        }
        let identity = self.decode_identity(response.new_identity.as_ref())?;
        if self.identity.is_some() && !failed && !value.is_null() {
            let before = prior
                .and_then(|state| state.identity.as_ref())
                .or(planned_identity);
            wrong.extend(check::result::check_identity(before, identity.as_ref()));
            if identity.is_none() {
                wrong.push(Violation::new(
                    Rule::ID1,
                    "",
                    "no identity though the type has an identity schema",
                ));
            }
        }
        no_violations(&self.call(APPLY), wrong)?;
        let state = match (failed, value.is_null()) {
            // Core keeps what it had rather than nothing.
            (true, true) => prior.cloned(),
            (false, true) => None,
            (_, false) => Some(State {
                value,
                private: response.private.clone(),
                identity: identity.or_else(|| prior.and_then(|state| state.identity.clone())),
                tainted: failed && prior.is_none(),
            }),
        };
        Ok(Applied { state, diagnostics })
    }
}
