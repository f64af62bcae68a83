//! Azure Resource Manager: virtual machines, scale sets and operations, every request held against its types.
