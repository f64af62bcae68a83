//! Every resource, data source, function and ephemeral resource through the real terraform.

mod bad;
mod drift;
mod examples;
mod import;
mod many;
mod others;
mod stand;
mod updates;
