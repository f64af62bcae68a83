//! The double through its own door: forms in, XML out.

use super::xml::{items, text};
use super::{Double, IMAGE, Options, error_body};
use crate::faults::{Effect, FaultRule};
use crate::http::client;

const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=AKIATEST/20260101/us-east-1/ec2/aws4_request, \
                             SignedHeaders=host, Signature=00";

async fn double() -> (Double, String, String) {
    let double = Double::start(Options::default()).await.expect("moto");
    let subnets = double.subnets("us-east-1").await.expect("subnets");
    let (a, b) = (subnets[0].0.clone(), subnets[1].0.clone());
    let template = format!(
        "Action=CreateLaunchTemplate&Version=2016-11-15&LaunchTemplateName=t&LaunchTemplateData.ImageId={IMAGE}\
         &LaunchTemplateData.UserData=aGVsbG8%3D&LaunchTemplateData.MetadataOptions.HttpTokens=required\
         &LaunchTemplateData.IamInstanceProfile.Name=nodes"
    );
    let (status, said) = ask(&double, &template).await;
    assert_eq!(status, 200, "{said}");
    (double, a, b)
}

async fn ask(double: &Double, form: &str) -> (u16, String) {
    let request = client().post(double.endpoint()).body(form.to_owned());
    let request = request
        .header("content-type", "application/x-www-form-urlencoded")
        .header("authorization", AUTHORIZATION);
    let answer = request.send().await.expect("answers");
    let status = answer.status().as_u16();
    (status, answer.text().await.expect("text"))
}

/// A fleet request for one g4dn.xlarge in either subnet.
fn fleet(token: &str, subnets: [&str; 2], market: &str) -> String {
    let [a, b] = subnets;
    let over = "LaunchTemplateConfigs.1.Overrides";
    format!(
        "Action=CreateFleet&Version=2016-11-15&Type=instant&ClientToken={token}\
         &TargetCapacitySpecification.TotalTargetCapacity=1\
         &TargetCapacitySpecification.DefaultTargetCapacityType={market}\
         &LaunchTemplateConfigs.1.LaunchTemplateSpecification.LaunchTemplateName=t\
         &{over}.1.InstanceType=g4dn.xlarge&{over}.1.SubnetId={a}&{over}.1.Priority=2\
         &{over}.2.InstanceType=g4dn.xlarge&{over}.2.SubnetId={b}&{over}.2.Priority=1\
         &TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=gpuloom%3Atoken\
         &TagSpecification.1.Tag.1.Value={token}"
    )
}

#[tokio::test]
async fn one_client_token_is_one_instance_and_another_request_under_it_is_an_error() {
    let (double, a, b) = double().await;
    let (_, first) = ask(&double, &fleet("t-1", [&a, &b], "on-demand")).await;
    let (_, again) = ask(&double, &fleet("t-1", [&a, &b], "on-demand")).await;
    assert_eq!(first, again);
    assert_eq!(double.living().len(), 1);
    let machine = &double.living()[0];
    assert_eq!(machine.subnet, b, "priority 1 goes first");
    assert_eq!(machine.user_data, "hello");
    assert_eq!(machine.role(), Some("nodes"));
    assert_eq!(machine.tags["gpuloom:token"], "t-1");
    let (status, other) = ask(&double, &fleet("t-1", [&a, &b], "spot")).await;
    assert_eq!(status, 400);
    assert_eq!(text(&other, "Code"), Some("IdempotentParameterMismatch"));

    let form = "Action=DescribeInstances&Version=2016-11-15&Filter.1.Name=tag%3Agpuloom%3Atoken&Filter.1.Value.1=t-1";
    let (_, listed) = ask(&double, form).await;
    assert_eq!(
        text(&listed, "instanceId"),
        Some(machine.id.as_str()),
        "{listed}"
    );
    assert_eq!(text(&listed, "instanceType"), Some("g4dn.xlarge"));
    assert_eq!(text(&listed, "httpTokens"), Some("required"));
}

#[tokio::test]
async fn without_room_the_next_override_is_launched_and_the_errors_name_the_others() {
    let (double, a, b) = double().await;
    double.set_room(&format!("*/{b}/*"), 0);
    let (_, said) = ask(&double, &fleet("t-1", [&a, &b], "spot")).await;
    let errors = items(&said, "errorSet");
    assert_eq!(errors.len(), 1, "{said}");
    assert_eq!(
        text(errors[0], "errorCode"),
        Some("InsufficientInstanceCapacity")
    );
    assert_eq!(text(errors[0], "subnetId"), Some(b.as_str()));
    assert_eq!(double.living()[0].subnet, a);
    assert_eq!(double.living()[0].market, "spot");
    double.set_room("*/spot", 1);
    let (_, said) = ask(&double, &fleet("t-2", [&a, &b], "spot")).await;
    assert_eq!(items(&said, "errorSet").len(), 2);
    assert_eq!(items(&said, "fleetInstanceSet").len(), 0);
    double
        .kill(&double.living()[0].id)
        .await
        .expect("moto answers");
    let (_, said) = ask(&double, &fleet("t-3", [&a, &b], "spot")).await;
    assert_eq!(items(&said, "fleetInstanceSet").len(), 1, "{said}");
}

#[tokio::test]
async fn a_listing_lags_behind_a_launch_and_who_signs_is_known_by_the_access_key() {
    let (double, a, b) = double().await;
    double.set_list_lag(1);
    ask(&double, &fleet("t-1", [&a, &b], "on-demand")).await;
    let list = "Action=DescribeInstances&Version=2016-11-15";
    let (_, first) = ask(&double, list).await;
    let (_, second) = ask(&double, list).await;
    assert_eq!(items(&first, "reservationSet").len(), 0, "{first}");
    assert_eq!(items(&second, "reservationSet").len(), 1);

    let machine = double.living()[0].clone();
    let who = |key: &str| {
        let signed = AUTHORIZATION
            .replace("AKIATEST", key)
            .replace("/ec2/", "/sts/");
        let form = "Action=GetCallerIdentity&Version=2011-06-15";
        let request = client()
            .post(double.endpoint())
            .header("authorization", signed);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body(form).send()
    };
    let said = who(&machine.access_key).await.expect("answers");
    let said = said.text().await.expect("text");
    let arn = format!(
        "arn:aws:sts::123456789012:assumed-role/nodes/{}",
        machine.id
    );
    assert_eq!(text(&said, "Arn"), Some(arn.as_str()));
    let stranger = who("ASIANOBODY").await.expect("answers");
    assert_eq!(stranger.status().as_u16(), 403);
}

#[tokio::test]
async fn faults_are_answered_as_ec2_does_and_every_request_is_logged() {
    let (double, a, b) = double().await;
    let rule = FaultRule::new("CreateFleet", Effect::Capacity).times(1);
    double.faults().add(rule).expect("a rule");
    let (status, said) = ask(&double, &fleet("t-1", [&a, &b], "on-demand")).await;
    assert_eq!(
        (status, text(&said, "Code")),
        (500, Some("InsufficientInstanceCapacity"))
    );
    let body = error_body("UnauthorizedOperation", "no");
    let rule = FaultRule::new("CreateFleet", Effect::Status { code: 403, body }).times(1);
    double.faults().add(rule).expect("a rule");
    let (status, said) = ask(&double, &fleet("t-1", [&a, &b], "on-demand")).await;
    assert_eq!(
        (status, text(&said, "Code")),
        (403, Some("UnauthorizedOperation"))
    );
    assert_eq!(double.living().len(), 0);
    let log = double.control().log();
    let actions: Vec<_> = log.iter().map(|l| l.action.as_str()).collect();
    assert_eq!(
        actions,
        ["CreateLaunchTemplate", "CreateFleet", "CreateFleet"]
    );
    assert_eq!(double.control().mutations(), 3);
}

#[tokio::test]
async fn spot_prices_differ_by_zone_and_the_last_one_holds() {
    let (double, ..) = double().await;
    let form = "Action=DescribeSpotPriceHistory&Version=2016-11-15&InstanceType.1=g4dn.xlarge\
                &Filter.1.Name=availability-zone&Filter.1.Value.1=us-east-1a&Filter.1.Value.2=us-east-1b";
    let (_, said) = ask(&double, form).await;
    let prices: Vec<_> = items(&said, "spotPriceHistorySet")
        .into_iter()
        .filter_map(|item| text(item, "spotPrice"))
        .collect();
    assert_eq!(prices, ["99.0", "0.157800", "99.0", "0.163060"]);
}
