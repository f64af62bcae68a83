//! What clouds sell with GPUs, and at which price: an embedded catalog with dates and sources, refreshed from public price lists.
