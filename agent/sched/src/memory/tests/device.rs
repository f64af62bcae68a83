use super::super::{
    Account, Arena, Denied, DeviceMemory, Entitlement, EntitlementError, Fit, Fragmentation, Level,
    Pressure, QuotaError, Request, Sizes,
};
use super::hold;
use proptest::prelude::*;

const GRANULE: u64 = 512;
const CAPACITY: u64 = 512 * GRANULE;

fn device() -> DeviceMemory {
    let arena = Arena::new(CAPACITY, GRANULE, 128, Fit::Best).expect("a shape");
    DeviceMemory::new(arena, Pressure::new(1_000, 500))
}

fn of(owner: u32, bytes: u64) -> Request {
    Request {
        owner,
        ..Request::of(bytes)
    }
}

fn entitled(guaranteed: u64, limit: impl Into<Option<u64>>) -> Entitlement {
    Entitlement {
        guaranteed: guaranteed * GRANULE,
        limit: limit.into().map(|l| l * GRANULE),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn quotas_are_exact_never_exceeded_and_guarantees_are_kept(
        terms in prop::collection::vec((0..200u64, prop::option::of(0..300u64)), 4),
        ops in prop::collection::vec((0..4u32, 1..90u64, any::<usize>(), 0..10u8), 1..150),
    ) {
        let mut device = device();
        for (tenant, (guaranteed, limit)) in (0u32..).zip(&terms) {
            let _ = device.declare(tenant, entitled(*guaranteed, *limit));
        }
        for (tenant, granules, which, kind) in ops {
            let blocks = super::live(device.arena());
            let bytes = granules * GRANULE - 5;
            if kind < 6 || blocks.is_empty() {
                let before: Vec<(u32, Account)> = device.accounts().map(|(t, a)| (t, *a)).collect();
                if let Err(e) = device.allocate(&of(tenant, bytes)) {
                    let after: Vec<(u32, Account)> = device.accounts().map(|(t, a)| (t, *a)).collect();
                    prop_assert_eq!(before, after, "a refusal changes nothing: {}", e);
                }
            } else if kind == 9 {
                let _ = device.declare(tenant, entitled(granules, None));
            } else {
                device.free(blocks[which % blocks.len()]).expect("live");
            }
            let regions = hold(device.arena());
            let mut unmet = 0;
            for (tenant, account) in device.accounts() {
                let own = regions.iter().filter(|r| r.held.is_some_and(|h| h.owner == tenant));
                prop_assert_eq!(own.clone().map(|r| r.bytes).sum::<u64>(), account.used);
                prop_assert_eq!(own.count() as u64, account.blocks);
                prop_assert!(account.entitled.limit.is_none_or(|l| account.used <= l || kind == 9));
                prop_assert!(account.peak >= account.used);
                unmet += account.entitled.guaranteed.saturating_sub(account.used);
            }
            prop_assert_eq!(unmet, device.promised());
            prop_assert!(unmet <= device.arena().free_bytes(), "what is promised is there");
        }
    }
}

#[test]
fn a_refusal_names_the_tenant_the_bytes_and_the_limit() {
    let mut device = device();
    let unknown = Denied::Quota(QuotaError::Unknown(1));
    assert_eq!(device.allocate(&of(1, 1)), Err(unknown));
    device.declare(1, entitled(100, 200)).expect("room");
    device.declare(2, entitled(300, None)).expect("room");
    let promised = 512 * GRANULE + 1;
    let over = device.declare(
        3,
        Entitlement {
            guaranteed: promised,
            limit: None,
        },
    );
    assert!(matches!(
        over,
        Err(EntitlementError::Overpromised { tenant: 3, .. })
    ));
    let above = device.declare(3, entitled(2, 1));
    assert!(matches!(
        above,
        Err(EntitlementError::AboveLimit { tenant: 3, .. })
    ));
    device
        .allocate(&of(1, 150 * GRANULE))
        .expect("within its limit");
    let limit = QuotaError::Limit {
        tenant: 1,
        used: 150 * GRANULE,
        asked: 51 * GRANULE,
        limit: 200 * GRANULE,
    };
    assert_eq!(device.allocate(&of(1, 51 * GRANULE)), Err(limit.into()));
    device
        .declare(3, Entitlement::default())
        .expect("nothing asked");
    let kept = QuotaError::Promised {
        asked: 63 * GRANULE,
        free: 362 * GRANULE,
        promised: 300 * GRANULE,
    };
    assert_eq!(device.allocate(&of(3, 63 * GRANULE)), Err(kept.into()));
    device
        .allocate(&of(3, 62 * GRANULE))
        .expect("what is promised to nobody");
    device
        .allocate(&of(2, 300 * GRANULE))
        .expect("its guarantee");
}

#[test]
fn pressure_follows_the_arena_and_counts_failures_for_want_of_room() {
    let mut device = device();
    device
        .declare(1, Entitlement::default())
        .expect("nothing asked");
    assert_eq!(device.observe(0), None);
    let block = device.allocate(&of(1, 400 * GRANULE)).expect("room");
    assert!(device.allocate(&of(1, 200 * GRANULE)).is_err());
    let change = device
        .observe(1_000_000)
        .expect("half of the requests failed");
    assert_eq!((change.from, change.to), (Level::Normal, Level::High));
    device.free(block).expect("live");
    assert_eq!(device.observe(2_000_000), None, "it has to hold");
    let change = device.observe(2_000_500).expect("it held");
    assert_eq!(change.to, Level::Normal);
    device.set_retired(CAPACITY);
    assert_eq!(
        device.observe(2_000_600).map(|c| c.to),
        Some(Level::Critical)
    );
}

#[test]
fn what_is_usable_is_counted_in_the_requests_that_are_made() {
    let mut device = device();
    device
        .declare(1, Entitlement::default())
        .expect("nothing asked");
    let blocks: Vec<_> = (0..51)
        .map(|_| device.allocate(&of(1, 10 * GRANULE)).expect("room"))
        .collect();
    for block in blocks.iter().step_by(2) {
        device.free(*block).expect("live");
    }
    let figures = device.fragmentation();
    assert_eq!(figures.unit, 10 * GRANULE);
    assert_eq!((figures.holes, figures.largest), (26, 12 * GRANULE));
    assert_eq!(figures.free - figures.usable, 2 * GRANULE);
    assert!(figures.unusable() < 0.01 && figures.external() > 0.9);
    let large = Fragmentation::of(device.arena(), 13 * GRANULE);
    assert!((large.unusable() - 1.0).abs() < f64::EPSILON);
    let none = Fragmentation::default();
    assert!(none.unusable().abs() < f64::EPSILON);
}

#[test]
fn percentiles_are_within_a_size_class() {
    let mut sizes = Sizes::new(512);
    assert_eq!(sizes.percentile(90), None);
    for i in 1..=1000u64 {
        sizes.note(i << 20);
    }
    for (percent, mib) in [(1, 10.0), (50, 500.0), (90, 900.0), (100, 1000.0)] {
        let found = sizes.percentile(percent).expect("requests were made");
        #[expect(clippy::cast_precision_loss, reason = "a size in a test")]
        let ratio = found as f64 / (mib * 1_048_576.0);
        assert!((1.0..1.017).contains(&ratio), "{percent}: {ratio}");
    }
}
