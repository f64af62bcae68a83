//! The gRPC service that Terraform calls. A handler's failure is always an answer, never a gRPC status.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::registry::Registry;
use crate::call::{Call, Data};
use crate::diag::Diagnostic;
use crate::provider::Provider;

/// A provider behind protocol 6: implements the generated
/// [`Provider`](crate::proto::tfplugin6::provider_server::Provider) service, with or without a socket.
#[derive(Clone)]
pub struct Service {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) registry: Registry,
    data: RwLock<Option<Data>>,
    cancel: Mutex<CancellationToken>,
    tasks: TaskTracker,
}

// === impl Service ===

impl Service {
    /// A provider that is not configured yet.
    pub fn new(provider: impl Provider) -> Self {
        let inner = Inner {
            registry: Registry::new(Arc::new(provider)),
            data: RwLock::new(None),
            cancel: Mutex::new(CancellationToken::new()),
            tasks: TaskTracker::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// What every handler is given.
    pub(crate) fn call(&self) -> Call {
        let data = self
            .inner
            .data
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let cancel = self
            .inner
            .cancel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .child_token();
        Call::new(data, cancel)
    }

    pub(crate) fn configured(&self, data: Data) {
        *self
            .inner
            .data
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(data);
    }

    /// Tells all running calls to wind up. Later calls, which only a debugged provider sees, start afresh.
    pub fn stop(&self) {
        let mut cancel = self
            .inner
            .cancel
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *cancel).cancel();
    }

    /// Resolves once no handler is running.
    pub(crate) async fn idle(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        self.inner.tasks.reopen();
    }

    /// Runs a handler to its end, whatever happens to the caller: a call that Terraform abandons is
    /// cancelled by its token, never torn apart at an await. A panic becomes a diagnostic.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        cancel: &CancellationToken,
        what: &str,
        handler: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Diagnostic> {
        let abandoned = cancel.clone().drop_guard();
        let outcome = self.inner.tasks.spawn(handler).await;
        abandoned.disarm();
        outcome.map_err(|error| match error.try_into_panic() {
            Ok(panic) => panicked(what, panic.as_ref()),
            Err(error) => Diagnostic::error(format!("{what} was interrupted"), error.to_string()),
        })
    }
}

/// What to tell about a panic.
pub(crate) fn panicked(what: &str, panic: &(dyn Any + Send)) -> Diagnostic {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let detail = format!(
        "The provider panicked: {}. This is a defect of the provider; its log (TF_LOG=error) names the place. \
         Whatever it had saved until then is kept.",
        text.unwrap_or("no message")
    );
    Diagnostic::error(format!("{what} failed"), detail)
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("provider", &self.registry().provider.name())
            .finish_non_exhaustive()
    }
}
