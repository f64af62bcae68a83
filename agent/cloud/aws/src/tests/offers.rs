//! What a place offers, and what is wrong with it.

use super::Rig;
use gpuloom_cloud::{Cloud, FailureClass, Offered};
use gpuloom_doubles::aws::error_body;
use gpuloom_doubles::faults::{Effect, FaultRule};
use gpuloom_fleet::{AwsPlace, Bytes, GpuModel, GpuShape, MicroUsd, PoolPlace};

fn gpu(model: &str, per_node: u32) -> GpuShape {
    GpuShape {
        model: GpuModel::new(model).expect("a model"),
        per_node,
    }
}

/// `zone/type/market=price` of each; the zone as a letter.
fn lines(rig: &Rig, offered: &[Offered]) -> Vec<String> {
    let line = |o: &Offered| {
        let zone = if o.offering.zone() == rig.subnets[0] {
            "a"
        } else {
            "b"
        };
        let price = o.hourly.map_or("?".to_owned(), |price| price.to_string());
        let (kind, market) = (o.offering.instance_type(), o.offering.market());
        format!("{zone}/{kind}/{market}={price}")
    };
    offered.iter().map(line).collect()
}

async fn offered(rig: &Rig, types: &[&str], gpu: Option<&GpuShape>) -> Vec<Offered> {
    let place = AwsPlace {
        instance_types: types.iter().map(|t| (*t).to_owned()).collect(),
        ..rig.place()
    };
    let place = PoolPlace::Aws(Box::new(place));
    rig.cloud.offerings(&place, gpu).await.expect("EC2 answers")
}

#[tokio::test]
async fn stated_types_are_offered_in_their_order_with_the_spot_price_that_holds_now() {
    let rig = Rig::new().await;
    let t4 = gpu("T4", 1);
    let types = ["g4dn.2xlarge", "g4dn.xlarge", "g5.xlarge", "no.such"];
    let found = offered(&rig, &types, Some(&t4)).await;
    assert_eq!(
        lines(&rig, &found),
        [
            "a/g4dn.2xlarge/on-demand=?",
            "a/g4dn.2xlarge/spot=$0.2256",
            "b/g4dn.2xlarge/on-demand=?",
            "b/g4dn.2xlarge/spot=$0.23312",
            "a/g4dn.xlarge/on-demand=?",
            "a/g4dn.xlarge/spot=$0.1578",
            "b/g4dn.xlarge/on-demand=?",
            "b/g4dn.xlarge/spot=$0.16306",
        ]
    );
    assert_eq!(found[0].gpu, Some(t4));
    assert_eq!(found[0].gpu_memory_each, Some(Bytes::gib(16)));
    assert_eq!((found[0].vcpus, found[0].memory), (8, Bytes::gib(32)));
    assert!(found[1].price_at.is_some() && found[0].price_at.is_none());
    rig.double
        .set_spot_price("g4dn.xlarge", "us-east-1b", "0.05");
    let found = offered(&rig, &["g4dn.xlarge"], Some(&gpu("T4", 1))).await;
    assert_eq!(found[3].hourly, Some(MicroUsd::cents(5)));
}

#[tokio::test]
async fn without_stated_types_everything_with_the_gpu_is_offered() {
    let rig = Rig::new().await;
    let found = offered(&rig, &[], Some(&gpu("A100-40G", 8))).await;
    let mut types: Vec<_> = found
        .iter()
        .map(|o| o.offering.instance_type().to_owned())
        .collect();
    types.dedup();
    assert_eq!(types, ["p4d.24xlarge"]);
    assert!(offered(&rig, &[], Some(&gpu("MI300X", 8))).await.is_empty());
    let found = offered(&rig, &["t3.medium"], None).await;
    assert!(!found.is_empty() && found.iter().all(|o| o.gpu.is_none()));
    let place = PoolPlace::Aws(Box::new(AwsPlace {
        instance_types: Vec::new(),
        ..rig.place()
    }));
    let error = rig
        .cloud
        .offerings(&place, None)
        .await
        .expect_err("any of 800");
    assert_eq!(error.class, FailureClass::Invalid);
    assert!(error.message.contains("aws.instance_types"), "{error}");
}

#[tokio::test]
async fn a_place_is_checked_without_changing_anything() {
    let rig = Rig::new().await;
    let good = rig.place();
    assert_eq!(rig.cloud.check(&good).await.expect("asked"), []);
    let mut bad = good.clone();
    bad.subnets.push("subnet-0000000f".to_owned());
    bad.image = "ami-00000000000000000".to_owned();
    bad.security_groups = vec!["sg-0000000f".to_owned()];
    let warnings = rig.cloud.check(&bad).await.expect("asked");
    let fields: Vec<_> = warnings.iter().map(|w| w.field.as_str()).collect();
    assert_eq!(fields, ["aws.subnets", "aws.image", "aws.security_groups"]);
    assert!(warnings[0].message.contains("subnet-0000000f"));
    let mut typo = good.clone();
    typo.instance_types = vec!["g4dn.huge".to_owned()];
    let warnings = rig.cloud.check(&typo).await.expect("asked");
    assert!(warnings[0].message.contains("g4dn.huge"), "{warnings:?}");
    let denied = Effect::Status {
        code: 403,
        body: error_body("UnauthorizedOperation", "You are not authorized."),
    };
    let rule = FaultRule::new("RunInstances", denied);
    rig.double.faults().add(rule).expect("a rule");
    let warnings = rig.cloud.check(&good).await.expect("asked");
    assert!(
        warnings[0].message.contains("UnauthorizedOperation"),
        "{warnings:?}"
    );
    assert_eq!(rig.double.machines().len(), 0);
}
