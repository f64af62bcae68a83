//! Microsoft Azure as a cloud: virtual machines attached one by one to a flexible scale set, operations polled to their end.
