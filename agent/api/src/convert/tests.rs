use super::*;
use crate::proto;
use gpuloom_fleet::*;
use proptest::prelude::*;

fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,20}"
}

fn named<T: TryFrom<String, Error = ParseIdError> + std::fmt::Debug>() -> impl Strategy<Value = T> {
    name().prop_map(|n| T::try_from(n).expect("the strategy makes names"))
}

fn map() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    prop::collection::btree_map("[a-z]{1,8}", ".{0,12}", 0..4)
}

fn amounts() -> impl Strategy<Value = Resources> {
    (any::<Option<u64>>(), any::<Option<u64>>()).prop_map(|(g, m)| Resources {
        gpus: g.map(MilliGpu),
        gpu_memory: m.map(Bytes),
    })
}

fn place(which: u8, package: bool, tags: &std::collections::BTreeMap<String, String>) -> PoolPlace {
    let text = |n: u8| format!("text-{n}");
    let agent = match package {
        true => AgentSource::Package {
            url: text(1),
            sha256: text(2),
        },
        false => AgentSource::Image,
    };
    match which {
        0 => PoolPlace::Local,
        1 => PoolPlace::Existing,
        2 => PoolPlace::Aws(Box::new(AwsPlace {
            region: text(3),
            subnets: vec![text(4), text(5)],
            instance_types: vec![text(6)],
            image: text(7),
            instance_profile: package.then(|| text(8)),
            security_groups: vec![text(9)],
            public_address: package,
            root_disk_gib: 10,
            tags: tags.clone(),
            endpoint: Some(text(11)),
            agent,
        })),
        3 => PoolPlace::Gcp(Box::new(GcpPlace {
            project: text(3),
            region: text(4),
            zones: vec![text(5)],
            machine_types: vec![text(6)],
            image: text(7),
            network: package.then(|| text(8)),
            subnetwork: Some(text(9)),
            service_account: Some(text(10)),
            public_address: package,
            boot_disk_gib: 11,
            labels: tags.clone(),
            endpoint: package.then(|| text(12)),
            agent,
        })),
        _ => PoolPlace::Azure(Box::new(AzurePlace {
            subscription: text(3),
            resource_group: text(4),
            location: text(5),
            zones: vec![text(6)],
            vm_sizes: vec![text(7)],
            image: text(8),
            subnet_id: text(9),
            identity: package.then(|| text(10)),
            ssh_public_key: text(11),
            public_address: package,
            os_disk_gib: 12,
            tags: tags.clone(),
            endpoint: package.then(|| text(13)),
            agent,
        })),
    }
}

fn pool() -> impl Strategy<Value = Object> {
    let how = (0..5u8, any::<bool>(), 0..3u8, any::<u64>());
    let size = (
        any::<u32>(),
        any::<u32>(),
        any::<Option<u32>>(),
        any::<u32>(),
    );
    (named(), named(), how, size, map()).prop_map(|(name, model, how, size, labels)| {
        Object::Pool(PoolSpec {
            name,
            gpu: GpuShape {
                model,
                per_node: size.3,
            },
            place: place(how.0, how.1, &labels),
            min: size.0,
            max: size.1,
            initial_size: size.2,
            capacity: Capacity {
                on_shortfall: if how.1 {
                    OnShortfall::Fail
                } else {
                    OnShortfall::Degrade
                },
                max_wait: Seconds(how.3),
                spot_ratio_milli: size.1,
                on_demand_base: size.0,
            },
            update: RollingUpdate {
                max_unavailable: size.0.max(1),
            },
            on_destroy: [OnDestroy::Drain, OnDestroy::Kill, OnDestroy::Refuse][usize::from(how.2)],
            labels,
        })
    })
}

fn policy_objects() -> impl Strategy<Value = Object> {
    let tenant = (
        named(),
        prop::option::of(named()),
        any::<u32>(),
        any::<bool>(),
    )
        .prop_map(|(name, parent, weight, refuse)| {
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
        (named(), named(), prop::option::of(named()), 0..3usize),
        (amounts(), amounts(), amounts()),
    )
        .prop_map(
            |((name, tenant, pool, excess), (guaranteed, limit, soft_limit))| {
                Object::Quota(QuotaSpec {
                    name,
                    tenant,
                    pool,
                    guaranteed,
                    limit,
                    soft_limit,
                    on_excess: [OnExcess::Keep, OnExcess::Drain, OnExcess::Preempt][excess],
                })
            },
        );
    let class = (named(), any::<(i32, bool, u32, u64)>()).prop_map(
        |(name, (value, preempts, cost, grace))| {
            Object::PriorityClass(PriorityClassSpec {
                name,
                value,
                preempts,
                cost_multiplier_milli: cost,
                grace: Seconds(grace),
            })
        },
    );
    let range = (
        (
            named(),
            prop::option::of(named()),
            prop::option::of(named()),
        ),
        (amounts(), amounts(), amounts()),
        any::<(Option<u64>, Option<u64>)>(),
    )
        .prop_map(|((name, tenant, pool), (default, min, max), (dw, mw))| {
            Object::LimitRange(LimitRangeSpec {
                name,
                tenant,
                pool,
                default,
                default_walltime: dw.map(Seconds),
                min,
                max,
                max_walltime: mw.map(Seconds),
            })
        });
    let policy = (named(), named(), any::<(u32, u32, u64, u64, u64)>()).prop_map(
        |(name, pool, (target, queue, window, grow, shrink))| {
            Object::AutoscalingPolicy(AutoscalingPolicySpec {
                name,
                pool,
                target_utilization_milli: target,
                queue_per_node: queue,
                window: Seconds(window),
                grow_cooldown: Seconds(grow),
                shrink_cooldown: Seconds(shrink),
            })
        },
    );
    prop_oneof![tenant, quota, class, range, policy]
}

fn job_spec() -> impl Strategy<Value = JobSpec> {
    let refs = (
        named(),
        prop::option::of(named()),
        prop::option::of(named()),
    );
    let request = (
        any::<Option<u64>>(),
        any::<Option<u64>>(),
        prop::option::of(named()),
    );
    let dependency =
        (1..u64::MAX, any::<Option<u32>>(), 0..3usize).prop_map(|(number, index, c)| Dependency {
            job: JobId { number, index },
            condition: [
                DependencyCondition::Succeeded,
                DependencyCondition::Failed,
                DependencyCondition::Ended,
            ][c],
        });
    let run = (
        prop::collection::vec(".{0,9}", 0..4),
        prop::option::of("/[a-z]{0,9}"),
        any::<(Option<u64>, u32, Option<u32>, Option<u64>)>(),
        prop::collection::vec(dependency, 0..3),
    );
    (".{0,20}", refs, request, run, map(), map()).prop_map(
        |(name, refs, request, run, env, labels)| JobSpec {
            name,
            tenant: refs.0,
            priority_class: refs.1,
            pool: refs.2,
            command: run.0,
            env,
            workdir: run.1,
            request: GpuRequest {
                gpus: request.0.map(MilliGpu),
                memory_per_gpu: request.1.map(Bytes),
                model: request.2,
            },
            walltime: run.2.0.map(Seconds),
            retries: run.2.1,
            array: run.2.2,
            depends_on: run.3,
            labels,
            grace: run.2.3.map(Seconds),
        },
    )
}

fn device() -> impl Strategy<Value = Device> {
    let text = || prop::option::of("[0-9a-f.:]{1,12}");
    (
        named(),
        named(),
        any::<(u32, u64, Option<u32>)>(),
        ".{0,20}",
        text(),
        text(),
    )
        .prop_map(
            |(id, model, (index, memory, numa), product, compute_capability, pci)| Device {
                id,
                index,
                model,
                product,
                memory: Bytes(memory),
                compute_capability,
                pci,
                numa,
            },
        )
}

proptest! {
    #[test]
    fn every_object_reads_back_as_it_was_written(object in prop_oneof![pool(), policy_objects()]) {
        prop_assert_eq!(Object::try_from(proto::Object::from(&object)), Ok(object));
    }

    #[test]
    fn every_job_spec_reads_back_as_it_was_written(spec in job_spec()) {
        prop_assert_eq!(JobSpec::try_from(proto::JobSpec::from(&spec)), Ok(spec));
    }

    #[test]
    fn nodes_with_their_devices_read_back(
        id in named(), pool in named(), devices in prop::collection::vec(device(), 0..3),
        seen in any::<Option<u64>>(), capabilities in map(), state in 0..6usize,
    ) {
        let status = NodeStatus {
            id, pool, devices, capabilities,
            state: [
                NodeState::Joining, NodeState::Ready, NodeState::Cordoned,
                NodeState::Draining, NodeState::Suspect, NodeState::DriverUnresponsive,
            ][state],
            reason: "why".into(),
            endpoint: "127.0.0.1:1".into(),
            backend: Backend::Simulated,
            agent_version: "0.1.0".into(),
            last_seen: seen.map(Millis),
            joined_at: Millis(5),
        };
        prop_assert_eq!(NodeStatus::try_from(node_view(&status)), Ok(status));
    }

    #[test]
    fn usage_and_pool_status_read_back(
        tenant in named(), pool in prop::option::of(named()), limits in (amounts(), amounts(), amounts()),
        n in any::<(u64, u64, u64, u64)>(), s in any::<(u32, u32, u32, u64)>(), why in ".{0,20}", phase in 0..4usize,
    ) {
        let used = TenantUsage {
            tenant, pool, gpus: MilliGpu(n.0), gpu_memory: Bytes(n.1), pending: n.2, active: n.3,
            guaranteed: limits.0, limit: limits.1, soft_limit: limits.2,
        };
        prop_assert_eq!(usage(proto::Usage::from(&used)), Ok(used));
        let status = PoolStatus {
            wanted: s.0, provisioned: s.1, ready: s.2, changed_at: Millis(s.3),
            phase: [PoolPhase::Provisioning, PoolPhase::Ready, PoolPhase::Degraded, PoolPhase::Draining][phase],
            shortfall: why.clone(), change_reason: why,
        };
        prop_assert_eq!(pool_status(&pool_view(&status, vec![], 0)), Ok(status));
    }
}

#[test]
fn every_part_of_a_message_that_does_not_read_is_named() {
    let fields = |p: Problems| p.0.into_iter().map(|p| p.field).collect::<Vec<_>>();
    let pool = proto::PoolSpec {
        name: "Bad Name".into(),
        on_destroy: 9,
        ..Default::default()
    };
    let found = fields(PoolSpec::try_from(pool).expect_err("nothing reads"));
    let expected = [
        "name",
        "gpu.model",
        "place",
        "capacity.on_shortfall",
        "on_destroy",
    ];
    assert_eq!(found, expected);

    let job = proto::JobSpec {
        tenant: "a".into(),
        pool: Some(String::new()),
        depends_on: vec![proto::Dependency {
            job: "0".into(),
            condition: 0,
        }],
        ..Default::default()
    };
    let found = fields(JobSpec::try_from(job).expect_err("nothing reads"));
    assert_eq!(
        found,
        ["pool", "depends_on[0].job", "depends_on[0].condition"]
    );

    let nothing = Object::try_from(proto::Object { spec: None }).expect_err("no kind");
    assert_eq!(fields(nothing), ["object"]);
}

#[test]
fn a_problem_shows_the_value_and_the_way_out() {
    let tenant = proto::TenantSpec {
        name: "Team A".into(),
        parent: None,
        weight: 1,
        on_destroy: 0,
    };
    let problems = TenantSpec::try_from(tenant).expect_err("not a name");
    assert_eq!(
        problems.to_string(),
        "name = \"Team A\": is not well formed (use a name: 1 to 63 lower-case letters, digits \
         and hyphens, first a letter, last not a hyphen)"
    );
}

#[test]
fn a_job_view_tells_each_attempt_in_words() {
    let id = |s: &str| DeviceId::new(s).expect("an id");
    let attempt = |number, state| Attempt {
        number,
        node: NodeId::new("t4-1").expect("an id"),
        grants: vec![DeviceGrant {
            device: id("GPU-1"),
            share: MilliGpu(500),
            memory: Bytes::gib(8),
        }],
        granted_at: Millis(10),
        state,
    };
    let end = |exit, cause| {
        AttemptState::Ended(AttemptEnd {
            started_at: Some(Millis(11)),
            ended_at: Millis(20),
            exit,
            cause,
        })
    };
    let stopped = EndCause::Stopped {
        why: StopCause::Walltime,
    };
    let lost = EndCause::Lost {
        message: "its node restarted".into(),
    };
    let job = Job {
        id: "17.3".parse().expect("an id"),
        spec: JobSpec::try_from(proto::JobSpec {
            tenant: "a".into(),
            ..Default::default()
        })
        .expect("reads"),
        submitted_at: Millis(1),
        state: JobState::Active { cancelling: false },
        failures: 1,
        preemptions: 0,
        attempts: vec![
            attempt(1, end(Some(Exit::Code(3)), EndCause::Exited)),
            attempt(2, end(Some(Exit::Signal(9)), stopped)),
            attempt(3, end(None, lost)),
            attempt(4, AttemptState::Running { since: Millis(12) }),
        ],
        attempts_made: 4,
    };
    let view = job_view(&job, JobExtras::default());
    assert_eq!((view.id.as_str(), view.state.as_str()), ("17.3", "active"));
    assert_eq!(view.state_since_ms, 10);
    let told: Vec<_> = view
        .attempts
        .iter()
        .map(|a| (a.state.as_str(), a.exit_code, a.signal, a.reason.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("ended", Some(3), None, ""),
            ("ended", None, Some(9), "its walltime was over"),
            ("ended", None, None, "lost: its node restarted"),
            ("running", None, None, ""),
        ]
    );
}
