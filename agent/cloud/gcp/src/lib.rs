//! Google Compute Engine as a cloud: regional bulk inserts, membership by label, instances deleted by name.
//!
//! Architecture invariant: an instance's name follows from its launch token, and a launch looks that name up before
//! it inserts: one token is one instance, whatever was lost on the way. An operation counts as done only after
//! `to_result()`: the SDK's poller calls a failed one a success.
//!
//! The permissions a lead's service account needs (`roles/compute.instanceAdmin.v1` has them, with
//! `iam.serviceAccounts.actAs` on the nodes' account): `compute.instances.{create, get, list, delete, start,
//! setLabels, setMetadata, setServiceAccount, attachDisk}`, `compute.disks.{create, get, list, use, delete,
//! setLabels}`, `compute.{zones, machineTypes, acceleratorTypes}.list`, `compute.{zoneOperations,
//! regionOperations}.get`, `compute.subnetworks.use`, `compute.images.{get, useReadOnly}`. A node's account needs none.

mod attributes;
mod check;
mod client;
mod cloud;
mod disks;
mod errors;
mod find;
mod gpus;
mod instance;
mod labels;
mod launch;
mod offerings;
mod operation;
mod request;

pub use check::Warning;
pub use client::GcpOptions;
pub use cloud::GcpCloud;
