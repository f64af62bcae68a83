//! Plans: what the framework does to a proposed state before the resource sees it.

mod blocks;

pub(crate) use blocks::fill_blocks;
