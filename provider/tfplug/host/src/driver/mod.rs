//! Core's part in each kind of call, with its checks: what comes back has passed them.

mod data_source;
mod ephemeral;
mod function;
mod plan;
mod resource;

use tfplug::Value;
use tfplug::{Diagnostic, Path};

pub use data_source::DataSourceDriver;
pub use ephemeral::{EphemeralDriver, OpenEphemeral};
pub use function::{FunctionDriver, FunctionFailure};
pub use resource::ResourceDriver;

use crate::HostError;
use crate::diagnostics::has_errors;

/// One object as Terraform's state holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// The object.
    pub value: Value,
    /// The provider's private bytes.
    pub private: Vec<u8>,
    /// What names the object for ever; `None` without an identity schema.
    pub identity: Option<Value>,
    /// Whether its creation failed half-way: the next plan replaces it.
    pub tainted: bool,
}

/// What Terraform does with one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    NoOp,
    /// Make it.
    Create,
    /// Change it in place.
    Update,
    /// Destroy it and make it anew.
    Replace,
    /// Destroy it.
    Delete,
}

/// A checked plan.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What Terraform does.
    pub action: Action,
    /// The object before; `None` for a new one.
    pub prior: Option<State>,
    /// The configuration; null to destroy. May be replaced by a more known one before apply.
    pub config: Value,
    /// The object after; null to destroy.
    pub planned: Value,
    /// Private bytes of this plan.
    pub private: Vec<u8>,
    /// Attributes whose change replaces the object, in the provider's order.
    pub requires_replace: Vec<Path>,
    /// The planned identity.
    pub identity: Option<Value>,
    /// What the provider warned about.
    pub warnings: Vec<Diagnostic>,
}

/// How an apply ended: its state is what Terraform would store, its diagnostics may be errors.
#[derive(Debug, Clone)]
pub struct Applied {
    /// What is stored; `None` when nothing is.
    pub state: Option<State>,
    /// Errors and warnings.
    pub diagnostics: Vec<Diagnostic>,
}

// === impl Action ===

impl Action {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoOp => "no-op",
            Self::Create => "create",
            Self::Update => "update",
            Self::Replace => "replace",
            Self::Delete => "delete",
        }
    }
}

// === impl Applied ===

impl Applied {
    /// The stored state, when there was no error; `None` after a destroy.
    ///
    /// # Errors
    /// [`HostError::Diagnostics`] when there was one.
    pub fn ok(self) -> Result<Option<State>, HostError> {
        if has_errors(&self.diagnostics) {
            Err(HostError::Diagnostics {
                rpc: "ApplyResourceChange",
                diagnostics: self.diagnostics,
            })
        } else {
            Ok(self.state)
        }
    }

    /// The stored state of something that must exist after this apply.
    ///
    /// # Errors
    /// [`HostError::Diagnostics`] when there was an error, [`HostError::Value`] when nothing is stored.
    pub fn state(self) -> Result<State, HostError> {
        self.ok()?.ok_or_else(|| HostError::Value {
            what: "the state after apply".to_owned(),
            reason: "there is none".to_owned(),
        })
    }

    /// The errors alone.
    #[must_use]
    pub fn errors(&self) -> Vec<&Diagnostic> {
        self.diagnostics
            .iter()
            .filter(|one| one.severity == tfplug::Severity::Error)
            .collect()
    }
}
