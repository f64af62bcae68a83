//! Every limit of the nouns, named in one place; each is tested at the limit where it is checked.

/// Longest name of a declared object, in bytes.
pub const MAX_NAME_BYTES: usize = 63;
/// Most nodes in one pool.
pub const MAX_POOL_NODES: u32 = 1_000;
/// Most GPUs on one node.
pub const MAX_GPUS_PER_NODE: u32 = 64;
/// Largest weight of a tenant.
pub const MAX_WEIGHT: u32 = 10_000;
/// Priority values run from `-MAX_PRIORITY` to `MAX_PRIORITY`.
pub const MAX_PRIORITY: i32 = 1_000_000;
/// Deepest chain of parents above a tenant.
pub const MAX_TENANT_DEPTH: usize = 8;
/// Most elements of one job array.
pub const MAX_ARRAY: u32 = 10_000;
/// Most retries of one job.
pub const MAX_RETRIES: u32 = 100;
/// Most bytes in a job's command line (all arguments together).
pub const MAX_COMMAND_BYTES: usize = 128 * 1024;
/// Most bytes in a job's environment (names and values together).
pub const MAX_ENV_BYTES: usize = 128 * 1024;
/// Most labels on a job, pool or node.
pub const MAX_LABELS: usize = 64;
/// Most dependencies of one job.
pub const MAX_DEPENDENCIES: usize = 1_000;
/// Longest walltime, grace, wait or cooldown: one year, in seconds.
pub const MAX_DURATION_S: u64 = 365 * 24 * 3600;
/// Most subnets, zones, instance types or security groups of a place.
pub const MAX_PLACE_CHOICES: usize = 64;
/// Longest text of a place (an ARM id, an address), in bytes.
pub const MAX_PLACE_TEXT_BYTES: usize = 1024;
/// Smallest disk a node starts from, in GiB.
pub const MIN_DISK_GIB: u32 = 8;
/// Largest disk a node starts from, in GiB.
pub const MAX_DISK_GIB: u32 = 16_384;
