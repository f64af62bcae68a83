//! Which GPUs of the machine belong to whom.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use gpuloom_cloud::{FailureClass, LaunchError};
use gpuloom_fleet::{DeviceId, GpuModel, GpuShape, InstanceId, Seconds};

use crate::directory;

/// One GPU of the machine, as the caller's inventory has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalGpu {
    /// Its UUID.
    pub id: DeviceId,
    /// Its model, compared with a pool's.
    pub model: GpuModel,
}

/// How soon a GPU may be free again: somebody else's node has to end.
const RETRY: Seconds = Seconds(5);

/// Every GPU that an instance of any known root has, and which instance that is.
pub(crate) fn taken(machine: &Path) -> io::Result<BTreeMap<DeviceId, InstanceId>> {
    let mut taken = BTreeMap::new();
    for root in roots(machine)? {
        for manifest in directory::manifests(&root)? {
            for gpu in manifest.gpus {
                taken.insert(gpu, manifest.id.clone());
            }
        }
    }
    Ok(taken)
}

/// Makes `root` one of those whose instances count on this machine. Call under the machine's lock.
pub(crate) fn register(machine: &Path, root: &Path) -> io::Result<()> {
    let mut known = roots(machine)?;
    if known.iter().any(|r| r == root) {
        return Ok(());
    }
    known.push(root.to_owned());
    let text = serde_json::to_vec_pretty(&known)?;
    directory::write_new(&machine.join("roots.json.new"), &text, 0o644)?;
    std::fs::rename(machine.join("roots.json.new"), machine.join("roots.json"))?;
    directory::sync(machine)
}

fn roots(machine: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read(machine.join("roots.json")) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// The first free GPUs of the wanted shape, in the inventory's order.
pub(crate) fn choose(
    inventory: &[LocalGpu],
    taken: &BTreeMap<DeviceId, InstanceId>,
    shape: &GpuShape,
) -> Result<Vec<DeviceId>, LaunchError> {
    let fitting: Vec<_> = inventory
        .iter()
        .filter(|g| g.model == shape.model)
        .collect();
    let wanted = usize::try_from(shape.per_node).unwrap_or(usize::MAX);
    let (model, all) = (&shape.model, fitting.len());
    if all < wanted {
        let message = format!(
            "this machine has {all} GPUs of model {model}, a node of the pool needs {wanted}: \
             choose gpu.model and gpu.per_node to fit the machine"
        );
        let retry_after = Some(Seconds(60));
        return Err(LaunchError {
            class: FailureClass::Unsupported,
            message,
            retry_after,
            failed: Vec::new(),
        });
    }
    let free: Vec<_> = fitting
        .iter()
        .filter(|g| !taken.contains_key(&g.id))
        .collect();
    if free.len() < wanted {
        let mut holders: Vec<_> = fitting.iter().filter_map(|g| taken.get(&g.id)).collect();
        holders.dedup();
        let holders: Vec<_> = holders.into_iter().map(InstanceId::as_str).collect();
        let message = format!(
            "{} of {all} GPUs of model {model} on this machine are free, a node needs {wanted}; the others belong to {}",
            free.len(),
            holders.join(", ")
        );
        return Err(LaunchError {
            class: FailureClass::Capacity,
            message,
            retry_after: Some(RETRY),
            failed: Vec::new(),
        });
    }
    Ok(free
        .into_iter()
        .take(wanted)
        .map(|g| g.id.clone())
        .collect())
}
