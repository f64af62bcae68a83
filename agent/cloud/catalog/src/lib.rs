//! What clouds sell with GPUs, and at which price: an embedded catalog with dates and sources, refreshed from public price lists.
//!
//! Architecture invariant: no cloud's SDK and no credentials of a cloud. [`Catalog`] is pure (time is an
//! argument); only [`LivePrices`] opens sockets and only [`Cache`] reads and writes a file. A price that is not
//! known is `None`, never zero; each price says when and by whom it was stated.

mod cache;
mod catalog;
pub mod live;
mod offered;
mod packed;
mod price;
mod query;

pub use cache::{Cache, CacheError, KEPT_FOR, MAX_CACHE_BYTES};
pub use catalog::{Availability, Catalog, CloudKind, Row, Shape, Source};
pub use live::{LiveError, LiveOptions, LivePrices, Refreshed, Scope};
pub use packed::{PackedError, pack};
pub use price::{ON_DEMAND_STALE_AFTER, Price, Quote, SPOT_STALE_AFTER, micro_usd};
pub use query::{Order, Query};
