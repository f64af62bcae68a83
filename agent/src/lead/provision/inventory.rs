//! The machine's GPUs: real ones, or those of the simulated machine that was asked for. Never a guess.

use crate::config::LeadConfig;
use gpuloom_cloud_local::LocalGpu;
use gpuloom_fleet::Backend;
use gpuloom_gpu::{GpuError, Probe, ProbeOptions, create_machine};
use std::path::PathBuf;

/// The seed of a fleet's simulated machine: its UUIDs follow from it and from the file's path.
const SEED: u64 = 1;

/// What local pools are made of.
#[derive(Debug, Clone)]
pub(crate) struct Inventory {
    pub(crate) gpus: Vec<LocalGpu>,
    pub(crate) backend: Backend,
    pub(crate) sim_state: Option<PathBuf>,
    /// Why there are none; empty when there are.
    pub(crate) problem: String,
}

/// A simulated machine that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// The simulator.
    #[error("the simulated machine {layout:?} cannot be made")]
    Simulated {
        /// What was asked for.
        layout: String,
        /// Why not.
        #[source]
        source: GpuError,
    },
    /// Its directory.
    #[error("cannot make {path}", path = path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

// === impl Inventory ===

impl Inventory {
    /// Looks once. Real GPUs that cannot be seen are a problem of local pools, not of the lead.
    pub(crate) async fn take(config: &LeadConfig) -> Result<Self, InventoryError> {
        let (options, sim_state) = match &config.simulate {
            Some(layout) => {
                let state = machine(config, layout)?;
                (ProbeOptions::simulated(state.clone()), Some(state))
            }
            None => (ProbeOptions::nvml(), None),
        };
        let backend = options.backend;
        let (gpus, problem) = match look(options, config).await {
            Ok(gpus) if gpus.is_empty() => {
                let fix = "set simulate in the fleet's local block to try without GPUs";
                (
                    gpus,
                    format!("this machine has no GPU that may be used; {fix}"),
                )
            }
            Ok(gpus) => (gpus, String::new()),
            Err(error) => (
                Vec::new(),
                format!("this machine's GPUs cannot be seen: {error}"),
            ),
        };
        Ok(Self {
            gpus,
            backend,
            sim_state,
            problem,
        })
    }
}

fn machine(config: &LeadConfig, layout: &str) -> Result<PathBuf, InventoryError> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = config.data_dir.join("sim");
    let made = std::fs::create_dir_all(&path).and_then(|()| {
        // Jobs of simulated nodes run as another user and use the machine's file.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o711))
    });
    made.map_err(|source| InventoryError::Directory {
        path: path.clone(),
        source,
    })?;
    let state = path.join("machine.state");
    create_machine(&state, layout, SEED).map_err(|source| InventoryError::Simulated {
        layout: layout.to_owned(),
        source,
    })?;
    Ok(state)
}

async fn look(options: ProbeOptions, config: &LeadConfig) -> Result<Vec<LocalGpu>, GpuError> {
    let (probe, _xids) = Probe::start(options).await?;
    let found = probe.discover().await;
    probe.stop().await;
    let eligible = |id: &_| config.gpus.as_ref().is_none_or(|e| e.contains(id));
    let gpus = found?.devices.into_iter().filter(|d| eligible(&d.id));
    Ok(gpus
        .map(|d| LocalGpu {
            id: d.id,
            model: d.model,
        })
        .collect())
}
