use super::*;

fn aws() -> AwsPlace {
    AwsPlace {
        region: "us-east-1".into(),
        subnets: vec!["subnet-0a".into(), "subnet-0b".into()],
        instance_types: vec!["g4dn.xlarge".into()],
        image: "ami-0123".into(),
        root_disk_gib: 50,
        ..AwsPlace::default()
    }
}

fn gcp() -> GcpPlace {
    GcpPlace {
        project: "my-project-1".into(),
        region: "us-central1".into(),
        zones: vec!["us-central1-a".into()],
        machine_types: vec!["g2-standard-4".into()],
        image: "projects/p/global/images/family/f".into(),
        boot_disk_gib: 50,
        ..GcpPlace::default()
    }
}

fn azure() -> AzurePlace {
    AzurePlace {
        subscription: "00000000-0000-0000-0000-00000000000a".into(),
        resource_group: "gpus".into(),
        location: "eastus".into(),
        zones: vec!["1".into()],
        vm_sizes: vec!["Standard_NC4as_T4_v3".into()],
        image: "a:b:c:latest".into(),
        subnet_id: "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/n".into(),
        ssh_public_key: "ssh-ed25519 AAAA me".into(),
        os_disk_gib: 64,
        ..AzurePlace::default()
    }
}

fn fields(place: PoolPlace) -> Vec<String> {
    let mut p = Problems::default();
    place.check(&mut p);
    for problem in &p.0 {
        assert!(!problem.fix.is_empty(), "{problem}");
    }
    p.0.into_iter().map(|p| p.field).collect()
}

fn aws_with(change: impl FnOnce(&mut AwsPlace)) -> Vec<String> {
    let mut place = aws();
    change(&mut place);
    fields(PoolPlace::Aws(Box::new(place)))
}

fn gcp_with(change: impl FnOnce(&mut GcpPlace)) -> Vec<String> {
    let mut place = gcp();
    change(&mut place);
    fields(PoolPlace::Gcp(Box::new(place)))
}

fn azure_with(change: impl FnOnce(&mut AzurePlace)) -> Vec<String> {
    let mut place = azure();
    change(&mut place);
    fields(PoolPlace::Azure(Box::new(place)))
}

#[test]
fn good_places_have_no_problems() {
    let none: [&str; 0] = [];
    assert_eq!(aws_with(|_| {}), none);
    assert_eq!(gcp_with(|_| {}), none);
    assert_eq!(azure_with(|_| {}), none);
}

#[test]
fn what_is_wrong_on_aws_is_named_by_field() {
    assert_eq!(aws_with(|p| p.region = "US East".into()), ["aws.region"]);
    assert_eq!(aws_with(|p| p.subnets.clear()), ["aws.subnets"]);
    assert_eq!(
        aws_with(|p| p.subnets[1] = "vpc-1".into()),
        ["aws.subnets[1]"]
    );
    assert_eq!(
        aws_with(|p| p.subnets[1] = "subnet-0a".into()),
        ["aws.subnets[1]"]
    );
    assert_eq!(aws_with(|p| p.image = "ami-".into()), ["aws.image"]);
    assert_eq!(
        aws_with(|p| p.instance_types = vec!["g4dn xlarge".into()]),
        ["aws.instance_types[0]"]
    );
    assert_eq!(aws_with(|p| p.root_disk_gib = 7), ["aws.root_disk_gib"]);
    assert_eq!(
        aws_with(|p| p.endpoint = Some("ec2".into())),
        ["aws.endpoint"]
    );
    let ours = |p: &mut AwsPlace| {
        p.tags.insert("gpuloom:fleet".into(), "x".into());
    };
    let found = aws_with(ours);
    assert!(
        found.iter().all(|f| f == "aws.tags[\"gpuloom:fleet\"]") && !found.is_empty(),
        "{found:?}"
    );
    let many = |n: usize| {
        aws_with(move |p| p.instance_types = (0..n).map(|i| format!("g{i}.large")).collect())
    };
    assert_eq!(many(MAX_PLACE_CHOICES).len(), 0);
    assert_eq!(many(MAX_PLACE_CHOICES + 1), ["aws.instance_types"]);
}

#[test]
fn what_is_wrong_on_google_cloud_is_named_by_field() {
    assert_eq!(gcp_with(|p| p.project = "x".into()), ["gcp.project"]);
    assert_eq!(
        gcp_with(|p| p.zones = vec!["europe-west4-a".into()]),
        ["gcp.zones[0]"]
    );
    assert_eq!(gcp_with(|p| p.image = "debian".into()), ["gcp.image"]);
    assert_eq!(
        gcp_with(|p| p.service_account = Some("nodes".into())),
        ["gcp.service_account"]
    );
    let upper = |p: &mut GcpPlace| {
        p.labels.insert("team".into(), "ML".into());
    };
    assert_eq!(gcp_with(upper), ["gcp.labels[\"team\"]"]);
}

#[test]
fn what_is_wrong_on_azure_is_named_by_field() {
    assert_eq!(
        azure_with(|p| p.subscription = "mine".into()),
        ["azure.subscription"]
    );
    assert_eq!(
        azure_with(|p| p.zones = vec!["4".into()]),
        ["azure.zones[0]"]
    );
    assert_eq!(azure_with(|p| p.image = "a:b".into()), ["azure.image"]);
    assert_eq!(
        azure_with(|p| p.subnet_id = "default".into()),
        ["azure.subnet_id"]
    );
    assert_eq!(
        azure_with(|p| p.ssh_public_key = String::new()),
        ["azure.ssh_public_key"]
    );
    assert_eq!(
        azure_with(|p| p.resource_group = "a.".into()),
        ["azure.resource_group"]
    );
}

#[test]
fn a_package_is_an_address_and_a_checksum_that_a_shell_script_can_hold() {
    let with = |url: &str, sha256: &str| {
        let (url, sha256) = (url.to_owned(), sha256.to_owned());
        aws_with(move |p| p.agent = AgentSource::Package { url, sha256 })
    };
    let sum = "ab".repeat(32);
    assert_eq!(with("https://x.example/a.tar.gz", &sum).len(), 0);
    for url in [
        "file:///a",
        "https://x/$(reboot)",
        "https://x/'",
        "https://x/ a",
    ] {
        assert_eq!(with(url, &sum), ["aws.agent.url"], "{url}");
    }
    for sum in ["", "AB", &"AB".repeat(32)] {
        assert_eq!(with("https://x/a", sum), ["aws.agent.sha256"]);
    }
}

#[test]
fn a_place_reads_back_from_the_store() {
    for place in [
        PoolPlace::Local,
        PoolPlace::Existing,
        PoolPlace::Aws(Box::new(aws())),
        PoolPlace::Gcp(Box::new(gcp())),
        PoolPlace::Azure(Box::new(azure())),
    ] {
        let text = serde_json::to_string(&place).expect("JSON");
        let back: PoolPlace = serde_json::from_str(&text).expect("reads");
        assert_eq!(back, place);
    }
}

#[test]
fn a_place_is_at_home_in_its_account_and_region_whatever_the_road_there() {
    let place = |change: fn(&mut AzurePlace)| {
        let mut place = azure();
        change(&mut place);
        PoolPlace::Azure(Box::new(place))
    };
    let here = place(|_| {});
    assert_eq!(here.home()[2..], ["gpus", "eastus"]);
    let same = [
        place(|p| p.endpoint = Some("http://x".into())),
        place(|p| p.vm_sizes.clear()),
    ];
    assert!(same.iter().all(|p| p.home() == here.home()));
    let other = [
        place(|p| p.resource_group = "x".into()),
        place(|p| p.location = "westus".into()),
        PoolPlace::Local,
    ];
    assert!(other.iter().all(|p| p.home() != here.home()));
}

#[test]
fn what_a_node_is_made_of_says_its_revision_and_the_road_and_the_size_do_not() {
    let pool = |place: PoolPlace, max: u32| crate::PoolSpec {
        name: crate::PoolName::new("t4").expect("a name"),
        gpu: crate::GpuShape {
            model: crate::GpuModel::new("T4").expect("a model"),
            per_node: 1,
        },
        place,
        min: 0,
        max,
        initial_size: None,
        capacity: crate::Capacity {
            on_shortfall: crate::OnShortfall::Fail,
            max_wait: crate::Seconds(60),
            spot_ratio_milli: 500,
            on_demand_base: 1,
        },
        on_destroy: crate::OnDestroy::Drain,
        labels: BTreeMap::new(),
        update: crate::RollingUpdate::default(),
    };
    let of = |place: AwsPlace, max| pool(PoolPlace::Aws(Box::new(place)), max).revision();
    let first = of(aws(), 3);
    assert_eq!(first.len(), 12);
    let endpoint = AwsPlace {
        endpoint: Some("http://127.0.0.1:1".into()),
        ..aws()
    };
    assert_eq!(of(endpoint, 9), first);
    let image = AwsPlace {
        image: "ami-2".into(),
        ..aws()
    };
    assert_ne!(of(image, 3), first);
    let mut bad = pool(PoolPlace::Local, 3);
    bad.update.max_unavailable = 0;
    bad.capacity.spot_ratio_milli = 1001;
    let problems = bad.check().expect_err("bad").0;
    let fields: Vec<_> = problems.into_iter().map(|p| p.field).collect();
    assert_eq!(
        fields,
        [
            "capacity.spot_ratio",
            "capacity.spot_ratio",
            "update.max_unavailable"
        ]
    );
    assert_eq!(bad.capacity.spot_of(5), 4, "the base comes first");
}
