//! nvmlInit's reference count, the open machine and device handles.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::ret;
use super::types::{DRIVER_NOT_LOADED, Handle, INVALID_ARGUMENT, Ret, UNINITIALIZED};
use crate::machine::Machine;
use crate::state::MAX_DEVICES;

struct Inits {
    count: u32,
    open: Option<Session>,
}

static INITS: Mutex<Inits> = Mutex::new(Inits {
    count: 0,
    open: None,
});

/// Addresses to hand out; their content means nothing.
static HANDLES: [u64; MAX_DEVICES] = [0; MAX_DEVICES];

/// The library between nvmlInit and nvmlShutdown.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) machine: Arc<Machine>,
    pub(crate) device_count: usize,
}

// === impl Session ===

impl Session {
    /// Opens the machine named by [`crate::STATE_ENV`], or counts one more user of it. A missing
    /// variable or file answers as a machine without a driver does.
    pub(crate) fn open() -> Result<(), Ret> {
        let session = {
            let mut inits = INITS.lock().unwrap_or_else(PoisonError::into_inner);
            let session = match inits.open.clone() {
                Some(session) => session,
                None => Self::load()?,
            };
            inits.count += 1;
            inits.open = Some(session.clone());
            session
        };
        session.machine.wait_while_hung().map_err(ret)
    }

    fn load() -> Result<Self, Ret> {
        let path = std::env::var_os(crate::STATE_ENV).map(PathBuf::from);
        let machine = Machine::open(&path.ok_or(DRIVER_NOT_LOADED)?);
        let machine = Arc::new(machine.map_err(|_| DRIVER_NOT_LOADED)?);
        let device_count = machine.device_count().map_err(ret)?;
        Ok(Self {
            machine,
            device_count,
        })
    }

    pub(crate) fn close() -> Result<(), Ret> {
        Self::current()?;
        let mut inits = INITS.lock().unwrap_or_else(PoisonError::into_inner);
        inits.count = inits.count.saturating_sub(1);
        if inits.count == 0 {
            inits.open = None;
        }
        Ok(())
    }

    /// The open session.
    pub(crate) fn attached() -> Result<Self, Ret> {
        let inits = INITS.lock().unwrap_or_else(PoisonError::into_inner);
        inits.open.clone().ok_or(UNINITIALIZED)
    }

    /// The open session; blocks while the whole machine hangs.
    pub(crate) fn current() -> Result<Self, Ret> {
        let session = Self::attached()?;
        session.machine.wait_while_hung().map_err(ret)?;
        Ok(session)
    }

    pub(crate) fn index_of(&self, handle: Handle) -> Result<usize, Ret> {
        let offset = handle.addr().wrapping_sub(HANDLES.as_ptr().addr());
        let index = offset / size_of::<u64>();
        let known = offset.is_multiple_of(size_of::<u64>()) && index < self.device_count;
        if known {
            Ok(index)
        } else {
            Err(INVALID_ARGUMENT)
        }
    }

    pub(crate) fn handle_of(&self, index: usize) -> Result<Handle, Ret> {
        if index >= self.device_count {
            return Err(INVALID_ARGUMENT);
        }
        Ok(&raw const HANDLES[index])
    }
}
