//! The managed resources: a fleet, its pools, and the objects declared to its lead.

mod attributes;
mod autoscaling_policy;
mod declared;
mod fleet;
mod limit_range;
mod places;
mod pool;
mod priority_class;
mod quota;
mod tenant;
#[cfg(test)]
mod tests;

use tfplug::Resource;

pub(crate) use attributes::{ca_pin, connection_attributes, endpoint, fleet_attribute};

/// Every resource, in the order people meet them.
pub(crate) fn all() -> Vec<Box<dyn Resource>> {
    vec![
        Box::new(fleet::Fleet),
        Box::new(pool::Pool),
        Box::new(tenant::resource()),
        Box::new(quota::resource()),
        Box::new(priority_class::resource()),
        Box::new(limit_range::resource()),
        Box::new(autoscaling_policy::resource()),
    ]
}
