//! The shared file mapped into memory, its lock and its wake-up word.
#![expect(
    unsafe_code,
    reason = "mmap, file locks and futexes have no safe interface in std"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::state::{Shared, State};

/// An open, mapped state file.
///
/// The lock is an open-file-description lock: the kernel drops it when its holder dies, however it
/// dies. Threads of one process share the description, so a mutex keeps them apart. A holder that
/// is *stopped* (not killed) in the few microseconds of a critical section blocks the others.
#[derive(Debug)]
pub(crate) struct Mapping {
    file: File,
    shared: NonNull<Shared>,
    threads: Mutex<()>,
}

/// The locked state; unlocks on drop.
pub(crate) struct Locked<'a> {
    mapping: &'a Mapping,
    _thread: MutexGuard<'a, ()>,
}

// SAFETY: the mapping lives as long as the value; all access to `State` is under both locks and
// `wake` is atomic.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

/// Nanoseconds of the monotonic clock, which all processes of this boot share.
pub(crate) fn monotonic_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid, writable timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanos
}

/// Effective user id of the calling thread.
pub(crate) fn effective_uid() -> u32 {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() }
}

// === impl Mapping ===

impl Mapping {
    /// Opens the file and maps it. `create` makes it, readable and writable by every user, since
    /// the workloads that share the machine run under users of their own.
    pub(crate) fn open(path: &Path, create: bool) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .mode(0o666)
            .custom_flags(libc::O_CLOEXEC)
            .open(path)?;
        let size = u64::try_from(size_of::<Shared>()).unwrap_or(u64::MAX);
        if create {
            lock(&file, libc::F_WRLCK)?;
            if file.metadata()?.len() == 0 {
                file.set_permissions(std::fs::Permissions::from_mode(0o666))?;
                file.set_len(size)?;
            }
            lock(&file, libc::F_UNLCK)?;
        }
        if file.metadata()?.len() != size {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        // SAFETY: the length is not 0, the descriptor is open for reading and writing, and the
        // file is at least as long as the mapping.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Shared>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let shared = NonNull::new(address.cast::<Shared>())
            .ok_or_else(|| io::Error::other("mmap returned address 0"))?;
        Ok(Self {
            file,
            shared,
            threads: Mutex::new(()),
        })
    }

    fn shared(&self) -> &Shared {
        // SAFETY: mapped with the size of `Shared`, page aligned, integers only, unmapped on drop.
        unsafe { self.shared.as_ref() }
    }

    /// Waits for the lock. The C side answers an error with `NVML_ERROR_UNKNOWN`.
    pub(crate) fn lock(&self) -> io::Result<Locked<'_>> {
        let thread = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        lock(&self.file, libc::F_WRLCK)?;
        Ok(Locked {
            mapping: self,
            _thread: thread,
        })
    }

    /// The wake-up word now; hand it to [`Mapping::wait`].
    pub(crate) fn wake_word(&self) -> u32 {
        self.shared().wake.load(Ordering::Acquire)
    }

    /// Wakes everyone who waits for an event or for the end of a hang.
    pub(crate) fn wake_all(&self) {
        let wake = &self.shared().wake;
        wake.fetch_add(1, Ordering::Release);
        // SAFETY: the address is a live, aligned u32 of the shared mapping.
        unsafe { libc::syscall(libc::SYS_futex, wake.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
    }

    /// Sleeps until the word differs from `seen`, a signal comes or `timeout` has passed.
    pub(crate) fn wait(&self, seen: u32, timeout: Duration) {
        let limit = libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
        };
        let word = self.shared().wake.as_ptr();
        // SAFETY: the address is a live, aligned u32 of the shared mapping and `limit` outlives
        // the call.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word,
                libc::FUTEX_WAIT,
                seen,
                &raw const limit,
            )
        };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: address and length are those of the successful mmap; nothing borrows it now.
        unsafe { libc::munmap(self.shared.as_ptr().cast(), size_of::<Shared>()) };
    }
}

// === impl Locked ===

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        // SAFETY: both locks are held, so no other reference to the state exists.
        unsafe { &*self.mapping.shared().state.get() }
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        // SAFETY: both locks are held and `self` is borrowed mutably.
        unsafe { &mut *self.mapping.shared().state.get() }
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if lock(&self.mapping.file, libc::F_UNLCK).is_err() {
            // The kernel releases it with the descriptor; nothing better can be done here.
        }
    }
}

fn lock(file: &File, kind: libc::c_int) -> io::Result<()> {
    let kind = libc::c_short::try_from(kind).map_err(io::Error::other)?;
    let whence = libc::c_short::try_from(libc::SEEK_SET).map_err(io::Error::other)?;
    let range = libc::flock {
        l_type: kind,
        l_whence: whence,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    loop {
        // SAFETY: the descriptor is open and `range` outlives the call.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLKW, &raw const range) };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_that_is_gone_holds_nothing_and_a_living_one_does() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("state");
        let gone = Mapping::open(&path, true).expect("create");
        let other = Mapping::open(&path, false).expect("open");
        // The guard is never dropped; closing the file, as a death does, frees the lock.
        std::mem::forget(gone.lock().expect("lock"));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| drop(other.lock().expect("lock")));
            std::thread::yield_now();
            assert!(!waiter.is_finished());
            drop(gone);
            waiter.join().expect("the lock comes free");
        });
    }

    #[test]
    fn a_waiter_sleeps_until_woken_and_never_misses_a_wake() {
        let folder = tempfile::tempdir().expect("folder");
        let mapping = Mapping::open(&folder.path().join("state"), true).expect("create");
        let seen = mapping.wake_word();
        mapping.wake_all();
        // Already woken: returns at once, not after the hour.
        mapping.wait(seen, Duration::from_secs(3_600));
        assert_ne!(mapping.wake_word(), seen);
    }
}
