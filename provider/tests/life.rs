//! Whole lives of everything the provider manages, against a lead that plays its part: created, settled, changed,
//! imported, lost and destroyed, killed at every failpoint in between.

#[path = "life/faults.rs"]
mod faults;
#[path = "life/fleet.rs"]
mod fleet;
#[path = "life/objects.rs"]
mod objects;
#[path = "life/pools.rs"]
mod pools;
#[path = "life/rig.rs"]
mod rig;
