//! What a fleet says, as text for people and as JSON for programs. Pure: time is in the style.

pub(crate) mod devices;
pub(crate) mod events;
pub(crate) mod jobs;
pub(crate) mod json;
pub(crate) mod objects;
pub(crate) mod top;
pub(crate) mod usage;

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
