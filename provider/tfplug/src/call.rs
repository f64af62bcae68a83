//! What every handler is given: the provider's data, the cancel signal, a place for problems.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::diag::{Diagnostic, Diagnostics};
use crate::schema::{Op, Timeouts};
use crate::value::Value;

/// What `configure` returned, shared by all calls of the process.
pub type Data = Arc<dyn Any + Send + Sync>;

/// The part that all contexts have in common; each context derefs to it.
pub struct Call {
    /// Cancelled when Terraform asks to stop or goes away: wind up, save, return.
    pub cancel: CancellationToken,
    /// Problems to tell besides those returned; warnings on success belong here.
    pub diagnostics: Diagnostics,
    /// Time limits of the operations.
    pub timeouts: Timeouts,
    data: Option<Data>,
}

// === impl Call ===

impl Call {
    pub(crate) fn new(data: Option<Data>, cancel: CancellationToken) -> Self {
        Self {
            cancel,
            diagnostics: Diagnostics::new(),
            timeouts: Timeouts::default(),
            data,
        }
    }

    /// What the provider's `configure` returned.
    ///
    /// # Errors
    /// When the provider was not configured in this process or returned something else.
    pub fn data<T: Any + Send + Sync>(&self) -> Result<Arc<T>, Diagnostics> {
        self.try_data().ok_or_else(|| {
            Diagnostic::error(
                "The provider is not configured",
                "This operation needs a configured provider.",
            )
            .into()
        })
    }

    /// Like [`data`](Self::data); `None` where validation runs without a configuration.
    #[must_use]
    pub fn try_data<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.data.clone().and_then(|data| data.downcast().ok())
    }

    /// True once Terraform asked to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// How long this operation may take.
    #[must_use]
    pub fn timeout(&self, op: Op) -> Duration {
        self.timeouts.get(op)
    }

    /// Tells a warning about the whole block.
    pub fn warn(&mut self, summary: impl Into<String>, detail: impl Into<String>) {
        self.diagnostics.warn(summary, detail);
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("cancelled", &self.is_cancelled())
            .field("diagnostics", &self.diagnostics)
            .field("timeouts", &self.timeouts)
            .field("configured", &self.data.is_some())
            .finish()
    }
}

/// The checks of a configuration see only what is written.
#[derive(Debug)]
pub struct ValidateCtx {
    pub(crate) call: Call,
    /// The configuration; may hold unknown values.
    pub config: Value,
}

macro_rules! derefs_to_call {
    ($($ctx:ty),*) => {$(
        impl std::ops::Deref for $ctx {
            type Target = $crate::call::Call;
            fn deref(&self) -> &Self::Target {
                &self.call
            }
        }
        impl std::ops::DerefMut for $ctx {
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.call
            }
        }
    )*};
}
pub(crate) use derefs_to_call;
derefs_to_call!(ValidateCtx);
