//! Programs that the cases need beside those under test.

use gpuloom_tests::Rig;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// A program of one script.
pub(crate) fn script(rig: &Rig, text: &str) -> PathBuf {
    let path = rig.dir().join("script");
    std::fs::write(&path, text).expect("the folder is ours");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&path, mode).expect("the file is ours");
    path
}

/// `gpuloom` with another checksum, in a folder with its simulated driver.
pub(crate) fn another_build(rig: &Rig) -> PathBuf {
    let folder = rig.dir().join("other");
    std::fs::create_dir(&folder).expect("the folder is ours");
    let other = folder.join("gpuloom");
    let mut program = std::fs::read(&rig.built.gpuloom).expect("it is built");
    // Bytes after the end of an ELF file change its checksum and nothing else.
    program.extend(b"another build");
    std::fs::write(&other, program).expect("the folder is ours");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&other, mode).expect("the file is ours");
    let driver = rig.built.driver.file_name().expect("a file");
    std::fs::copy(&rig.built.driver, folder.join(driver)).expect("copied");
    other
}
