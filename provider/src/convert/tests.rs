use super::*;
use gpuloom_fleet::*;
use proptest::prelude::*;
use tfplug::{Number, Value};

fn name<T: TryFrom<String, Error = ParseIdError> + std::fmt::Debug>() -> impl Strategy<Value = T> {
    "[a-z][a-z0-9]{0,12}".prop_map(|n| T::try_from(n).expect("the strategy makes names"))
}

fn gpus() -> impl Strategy<Value = Option<MilliGpu>> {
    prop::option::of((0u64..1 << 40).prop_map(MilliGpu))
}

/// Three amounts, each at most the next.
fn rising() -> impl Strategy<Value = [Resources; 3]> {
    let memory = prop::option::of(any::<u64>().prop_map(Bytes));
    prop::collection::vec((gpus(), memory), 3).prop_map(|mut all| {
        let mut gpus: Vec<_> = all.iter().filter_map(|a| a.0).collect();
        let mut memory: Vec<_> = all.iter().filter_map(|a| a.1).collect();
        gpus.sort_unstable_by(|a, b| b.cmp(a));
        memory.sort_unstable_by(|a, b| b.cmp(a));
        for (g, m) in &mut all {
            *g = g.and_then(|_| gpus.pop());
            *m = m.and_then(|_| memory.pop());
        }
        [0, 1, 2].map(|i| Resources {
            gpus: all[i].0,
            gpu_memory: all[i].1,
        })
    })
}

fn seconds(range: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Seconds> {
    range.prop_map(Seconds)
}

fn tags() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    prop::collection::btree_map("[a-z]{1,8}", "[a-z0-9]{0,12}", 0..3)
}

fn agent() -> impl Strategy<Value = AgentSource> {
    prop_oneof![
        Just(AgentSource::Image),
        "[a-z]{1,8}".prop_map(|name| AgentSource::Package {
            url: format!("https://x.example/{name}.zip"),
            sha256: "5a".repeat(32),
        })
    ]
}

/// A valid place of every kind.
fn places() -> impl Strategy<Value = PoolPlace> {
    let some = (any::<bool>(), any::<bool>(), any::<bool>(), 8..=16_384u32);
    (0..5usize, some, tags(), agent()).prop_map(|(kind, (a, b, c, disk), tags, agent)| {
        let types = |t: &str| if a { vec![t.to_owned()] } else { Vec::new() };
        let opt = |on: bool, t: &str| on.then(|| t.to_owned());
        let endpoint = opt(b, "http://127.0.0.1:1");
        match kind {
            0 => PoolPlace::Local,
            1 => PoolPlace::Existing,
            2 => PoolPlace::Aws(Box::new(AwsPlace {
                region: "us-east-1".to_owned(),
                subnets: vec!["subnet-0a".to_owned(), "subnet-0b".to_owned()],
                instance_types: types("g4dn.xlarge"),
                image: "ami-0a".to_owned(),
                instance_profile: opt(c, "nodes"),
                security_groups: opt(b, "sg-0a").into_iter().collect(),
                public_address: c,
                root_disk_gib: disk,
                tags,
                endpoint,
                agent,
            })),
            3 => PoolPlace::Gcp(Box::new(GcpPlace {
                project: "my-project-1".to_owned(),
                region: "us-central1".to_owned(),
                zones: opt(b, "us-central1-a").into_iter().collect(),
                machine_types: types("g2-standard-4"),
                image: "projects/p/global/images/family/f".to_owned(),
                network: opt(a, "net"),
                subnetwork: opt(c, "sub"),
                service_account: opt(c, "n@my-project-1.iam.gserviceaccount.com"),
                public_address: a,
                boot_disk_gib: disk,
                labels: tags,
                endpoint,
                agent,
            })),
            _ => PoolPlace::Azure(Box::new(azure(
                types("Standard_NC4as_T4_v3"),
                disk,
                tags,
                agent,
            ))),
        }
    })
}

fn azure(
    vm_sizes: Vec<String>,
    os_disk_gib: u32,
    tags: std::collections::BTreeMap<String, String>,
    agent: AgentSource,
) -> AzurePlace {
    let group = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/g/providers";
    AzurePlace {
        subscription: "00000000-0000-0000-0000-000000000000".to_owned(),
        resource_group: "g".to_owned(),
        location: "eastus".to_owned(),
        zones: vec!["2".to_owned(), "1".to_owned()],
        vm_sizes,
        image: "publisher:offer:sku:latest".to_owned(),
        subnet_id: format!("{group}/Microsoft.Network/virtualNetworks/v/subnets/s"),
        identity: None,
        ssh_public_key: "ssh-ed25519 AAAA".to_owned(),
        public_address: false,
        os_disk_gib,
        tags,
        endpoint: None,
        agent,
    }
}

fn pools() -> impl Strategy<Value = Object> {
    let labels = prop::collection::btree_map("[a-z]{1,8}", "[ -~]{0,12}", 0..4);
    let how = (
        places(),
        any::<bool>(),
        0..3usize,
        seconds(1..=31_536_000),
        (0..=1000u32, 0..=1000u32, 1..=1000u32),
    );
    (
        name(),
        name(),
        1..=64u32,
        (0..=500u32, 500..=1000u32, any::<bool>()),
        how,
        labels,
    )
        .prop_map(|(name, model, per_node, (min, max, sized), how, labels)| {
            Object::Pool(PoolSpec {
                name,
                gpu: GpuShape { model, per_node },
                capacity: Capacity {
                    on_shortfall: if how.1 {
                        OnShortfall::Fail
                    } else {
                        OnShortfall::Degrade
                    },
                    max_wait: how.3,
                    spot_ratio_milli: if how.0.is_cloud() { how.4.0 } else { 0 },
                    on_demand_base: how.4.1,
                },
                place: how.0,
                min,
                max,
                initial_size: sized.then_some(max),
                on_destroy: [OnDestroy::Drain, OnDestroy::Kill, OnDestroy::Refuse][how.2],
                labels,
                update: RollingUpdate {
                    max_unavailable: how.4.2,
                },
            })
        })
}

fn others() -> impl Strategy<Value = Object> {
    let tenant = (
        name(),
        prop::option::of("[0-9]".prop_map(|d| format!("p{d}-x"))),
        1..=10_000u32,
        any::<bool>(),
    )
        .prop_map(|(name, parent, weight, refuse)| {
            let parent = parent.and_then(|p| TenantName::new(p).ok());
            Object::Tenant(TenantSpec {
                name,
                parent,
                weight,
                on_destroy: if refuse {
                    OnTenantDestroy::Refuse
                } else {
                    OnTenantDestroy::Cancel
                },
            })
        });
    let quota = (
        name(),
        name(),
        prop::option::of(name()),
        rising(),
        0..3usize,
    )
        .prop_filter("something is stated", |q| q.3.iter().any(|r| !r.is_empty()))
        .prop_map(
            |(name, tenant, pool, [guaranteed, soft_limit, limit], excess)| {
                let on_excess = [OnExcess::Keep, OnExcess::Drain, OnExcess::Preempt][excess];
                Object::Quota(QuotaSpec {
                    name,
                    tenant,
                    pool,
                    guaranteed,
                    limit,
                    soft_limit,
                    on_excess,
                })
            },
        );
    let class = (
        name(),
        -1_000_000..=1_000_000i32,
        any::<bool>(),
        0..=1_000_000u32,
        seconds(0..=99_999),
    )
        .prop_map(|(name, value, preempts, cost_multiplier_milli, grace)| {
            Object::PriorityClass(PriorityClassSpec {
                name,
                value,
                preempts,
                cost_multiplier_milli,
                grace,
            })
        });
    let limit_range = (
        name(),
        prop::option::of(name()),
        prop::option::of(name()),
        rising(),
        seconds(1..=9_999),
    )
        .prop_map(|(name, tenant, pool, [min, default, max], walltime)| {
            Object::LimitRange(LimitRangeSpec {
                name,
                tenant,
                pool,
                default,
                default_walltime: Some(walltime),
                min,
                max,
                max_walltime: (walltime.0 % 2 == 0).then_some(walltime),
            })
        });
    let policy = (
        name(),
        name(),
        50..=1000u32,
        1..=10_000u32,
        seconds(10..=86_400),
        seconds(0..=86_400),
    )
        .prop_map(
            |(name, pool, target_utilization_milli, queue_per_node, window, cooldown)| {
                Object::AutoscalingPolicy(AutoscalingPolicySpec {
                    name,
                    pool,
                    target_utilization_milli,
                    queue_per_node,
                    window,
                    grow_cooldown: cooldown,
                    shrink_cooldown: cooldown,
                })
            },
        );
    prop_oneof![tenant, quota, class, limit_range, policy]
}

/// An object's attributes as a value, as a state holds them.
fn value(object: &Object) -> Value {
    Value::object(members(object))
}

proptest! {
    #[test]
    fn every_valid_object_survives_hcl(object in prop_oneof![pools(), others()]) {
        prop_assume!(object.check().is_ok());
        prop_assert_eq!(convert_back(&object), Ok(object));
    }

    #[test]
    fn writing_an_object_over_itself_changes_no_word(object in prop_oneof![pools(), others()]) {
        prop_assume!(object.check().is_ok());
        let mut state = value(&object);
        let before = state.clone();
        write(&object, &mut state);
        prop_assert_eq!(state.to_string(), before.to_string());
    }
}

fn convert_back(object: &Object) -> Result<Object, Problems> {
    super::object(object.kind(), &value(object))
}

fn number(text: &str) -> Value {
    text.parse::<Number>().expect("a number").into()
}

fn quota(guaranteed: Value, limit: Value) -> Value {
    let amounts = |gpus: Value| match &gpus {
        Value::Unknown(_) => gpus,
        _ => Value::object([("gpus", gpus), ("gpu_memory_gib", Value::Null)]),
    };
    Value::object([
        ("name", Value::from("q")),
        ("tenant", "t".into()),
        ("pool", Value::Null),
        ("guaranteed", amounts(guaranteed)),
        ("limit", amounts(limit)),
        ("soft_limit", Value::Null),
        ("on_excess", Value::Null),
    ])
}

fn fields(problems: &Problems) -> Vec<&str> {
    problems.0.iter().map(|p| p.field.as_str()).collect()
}

#[test]
fn a_rule_is_told_broken_only_when_no_unknown_can_mend_it() {
    let check = |g: &Value, l: &Value| check(Kind::Quota, &quota(g.clone(), l.clone()));
    let unknown = Value::unknown();
    assert_eq!(
        fields(&check(&number("4"), &number("2"))),
        ["guaranteed.gpus"]
    );
    assert_eq!(fields(&check(&number("4"), &unknown)), [""; 0]);
    assert_eq!(fields(&check(&unknown, &number("2"))), [""; 0]);
    assert_eq!(fields(&check(&unknown, &unknown)), [""; 0]);
    // What does not read is told, and does not hide the rest.
    assert_eq!(
        fields(&check(&number("0.0001"), &number("-1"))),
        ["guaranteed.gpus", "limit.gpus"]
    );
    let inner = quota(number("4"), Value::Null);
    let limit = Value::object([
        ("gpus", Value::unknown()),
        ("gpu_memory_gib", number("0.1")),
    ]);
    let both = super::check(Kind::Quota, &inner.with("limit", limit));
    assert_eq!(fields(&both), ["limit.gpu_memory_gib"]);
}

#[test]
fn every_wrong_attribute_is_told_at_once() {
    let policy = Value::object([
        ("name", Value::from("No Name")),
        ("pool", "Bad Pool".into()),
        ("target_utilization", number("1.001")),
        ("queue_per_node", number("1.5")),
        ("window", "5s".into()),
        ("grow_cooldown", "soon".into()),
        ("shrink_cooldown", Value::unknown()),
    ]);
    let problems = check(Kind::AutoscalingPolicy, &policy);
    let mut found = fields(&problems);
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "grow_cooldown",
            "name",
            "pool",
            "queue_per_node",
            "target_utilization",
            "window"
        ]
    );
}

#[test]
fn what_is_unknown_is_refused_where_everything_has_to_be_known() {
    let unknown = quota(Value::unknown(), number("2")).with("tenant", Value::unknown());
    let problems = super::object(Kind::Quota, &unknown).expect_err("not known");
    assert!(fields(&problems).contains(&"tenant"), "{problems}");
}

fn class(grace: &str, multiplier: &str) -> Value {
    Value::object([
        ("name", Value::from("c")),
        ("value", number("5")),
        ("preempts", false.into()),
        ("cost_multiplier", number(multiplier)),
        ("grace", grace.into()),
    ])
}

#[test]
fn the_same_duration_in_other_words_is_no_change() {
    let prior = class("60s", "1.5");
    let mut planned = class("1m", "1.5");
    assert!(!keep_wording(Kind::PriorityClass, &mut planned, &prior));
    assert_eq!(planned.to_string(), prior.to_string());
    let mut planned = class("61s", "1.5");
    assert!(keep_wording(Kind::PriorityClass, &mut planned, &prior));
    assert_eq!(planned.get("grace").as_str(), Some("61s"));
    let mut planned = class("1m", "1.5").with("grace", Value::unknown());
    assert!(keep_wording(Kind::PriorityClass, &mut planned, &prior));
    assert!(planned.get("grace").is_unknown());
}

#[test]
fn a_read_keeps_the_words_and_brings_the_changes() {
    let object = super::object(Kind::PriorityClass, &class("1m", "2")).expect("valid");
    let mut state = class("60s", "1.5");
    write(&object, &mut state);
    assert_eq!(state.get("grace").as_str(), Some("60s"));
    assert_eq!(state.get("cost_multiplier"), &number("2"));
    // An import starts from a name alone: what has a default is written out.
    let mut stub = Value::object(members(&object).into_keys().map(|k| (k, Value::Null)));
    stub.set("name", "c");
    write(&object, &mut stub);
    assert_eq!(stub.get("grace").as_str(), Some("1m"));
    assert_eq!(stub.get("preempts").as_bool(), Some(false));
}

#[test]
fn defaults_are_valid_and_are_what_is_left_out() {
    let policy = Value::object([("name", Value::from("p")), ("pool", "t4".into())]);
    let Ok(Object::AutoscalingPolicy(spec)) = super::object(Kind::AutoscalingPolicy, &policy)
    else {
        panic!("the defaults are refused");
    };
    assert_eq!(
        spec.target_utilization_milli,
        DEFAULTS.target_utilization_milli
    );
    assert_eq!(spec.window, DEFAULTS.window);
}
