//! The simulated driver: where its library lies, and how a machine for it is made.
#![expect(
    unsafe_code,
    reason = "one function of the simulator's library is called"
)]

use std::ffi::{CStr, CString, c_char, c_uint};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::GpuError;

/// The variable in which the simulated driver and simulated workloads find their machine. The
/// agent sets it for its probe and for the jobs of a simulated node; nothing of ours reads it.
pub const SIM_STATE_ENV: &str = "GPULOOM_SIM_STATE";

const LIBRARY_FILE: &str = "libgpuloom_nvml_sim.so";
const MESSAGE_LEN: usize = 1_024;

type Create =
    unsafe extern "C" fn(*const c_char, *const c_char, u64, *mut c_char, c_uint) -> c_uint;

/// The simulated driver's library beside the running executable: in its folder (a build's `deps`
/// first, where the newest one is) or in `../lib/gpuloom`.
///
/// # Errors
/// [`GpuError::NoSimulator`] names the folders.
pub fn library() -> Result<PathBuf, GpuError> {
    let exe = std::env::current_exe().map_err(|e| GpuError::SimulatedMachine {
        reason: format!("the running executable has no path: {e}"),
    })?;
    library_near(exe.parent().unwrap_or(Path::new("/")))
}

/// Makes the machine that `layout` (`8xA100-80G`, `4xT4,2xH100`) describes in the file `state`, or
/// leaves it when the file already holds it. UUIDs follow from the path and `seed`.
///
/// # Errors
/// [`GpuError::NoSimulator`]; [`GpuError::SimulatedMachine`] when the layout does not parse or the
/// file holds another machine or cannot be written.
pub fn create_machine(state: &Path, layout: &str, seed: u64) -> Result<(), GpuError> {
    let refused = |reason: String| GpuError::SimulatedMachine { reason };
    let path = CString::new(state.as_os_str().as_bytes());
    let path = path.map_err(|e| refused(format!("{}: {e}", state.display())))?;
    let text = CString::new(layout).map_err(|e| refused(format!("{layout:?}: {e}")))?;
    let file = library()?;
    let mut message = [0_u8; MESSAGE_LEN];
    let room = c_uint::try_from(MESSAGE_LEN).unwrap_or(0);
    let broken = |e: libloading::Error| refused(format!("{}: {e}", file.display()));
    // SAFETY: the file is the simulator that is installed with this program; its initialisers do
    // nothing.
    let simulator = unsafe { libloading::Library::new(&file) }.map_err(broken)?;
    // SAFETY: the simulator exports this function with this signature.
    let create = unsafe { simulator.get::<Create>(b"gpuloomSimCreate\0") }.map_err(broken)?;
    // SAFETY: both texts end in NUL and the buffer holds `room` bytes.
    let code = unsafe {
        create(
            path.as_ptr(),
            text.as_ptr(),
            seed,
            message.as_mut_ptr().cast(),
            room,
        )
    };
    if code == 0 {
        return Ok(());
    }
    let reason = CStr::from_bytes_until_nul(&message).unwrap_or_default();
    Err(refused(reason.to_string_lossy().into_owned()))
}

fn library_near(folder: &Path) -> Result<PathBuf, GpuError> {
    let searched = vec![
        folder.join("deps"),
        folder.to_owned(),
        folder.join("../lib/gpuloom"),
    ];
    let found = searched
        .iter()
        .map(|f| f.join(LIBRARY_FILE))
        .find(|f| f.exists());
    found.ok_or_else(|| GpuError::NoSimulator {
        file: LIBRARY_FILE.to_owned(),
        searched,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_made_once_and_refused_with_the_simulators_words() {
        let folder = tempfile::tempdir().expect("folder");
        let state = folder.path().join("machine.state");
        create_machine(&state, "2xT4,1xB200", 1).expect("made");
        create_machine(&state, "2xT4,1xB200", 1).expect("kept");
        let machine = gpuloom_nvml_sim::Machine::open(&state).expect("open");
        assert_eq!(machine.device_count().expect("count"), 3);
        let other = create_machine(&state, "3xT4", 1)
            .expect_err("another")
            .to_string();
        assert!(other.contains("2xT4,1xB200"), "{other}");
        let bad = create_machine(&state, "3xK80", 1)
            .expect_err("unknown model")
            .to_string();
        assert!(bad.contains("3xK80") && bad.contains("known: T4"), "{bad}");
    }

    #[test]
    fn the_library_is_looked_for_beside_the_executable_only() {
        let folder = tempfile::tempdir().expect("folder");
        let bin = folder.path().join("bin");
        let lib = folder.path().join("lib/gpuloom");
        std::fs::create_dir_all(&bin).expect("bin");
        std::fs::create_dir_all(&lib).expect("lib");
        let error = library_near(&bin).expect_err("not there").to_string();
        assert!(
            error.contains(LIBRARY_FILE) && error.contains("lib/gpuloom"),
            "{error}"
        );
        std::fs::write(lib.join(LIBRARY_FILE), "").expect("write");
        assert!(
            library_near(&bin)
                .expect("installed")
                .ends_with("lib/gpuloom/libgpuloom_nvml_sim.so")
        );
        std::fs::write(bin.join(LIBRARY_FILE), "").expect("write");
        assert_eq!(library_near(&bin).expect("beside"), bin.join(LIBRARY_FILE));
    }
}
