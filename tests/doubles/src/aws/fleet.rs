//! Fleet requests: the first override with room is launched, the others say why they were not.

use super::proxy::region;
use super::wire::{self, Params};
use super::{Ec2, MotoError, runner};
use crate::faults::Effect;
use crate::http::{Request, Response};
use std::fmt::Write as _;

/// One override of a request.
#[derive(Debug)]
struct Choice {
    template_id: String,
    template: Params,
    instance_type: String,
    subnet: String,
    zone: Option<String>,
    priority: f64,
}

/// Why an override was not launched.
struct Refusal<'a> {
    choice: &'a Choice,
    code: &'a str,
    message: String,
}

/// Launches one instance by fleet request.
pub(super) async fn create(
    cloud: &Ec2,
    request: &Request,
    params: &Params,
) -> Result<Response, MotoError> {
    let region = region(request);
    let capacity = params.under("TargetCapacitySpecification");
    if params.get("Type") != "instant" || capacity.get("TotalTargetCapacity") != "1" {
        return Ok(wire::error(
            400,
            "InvalidParameterValue",
            "The double launches one instance by each request of type instant.",
        ));
    }
    let market = match capacity.get("DefaultTargetCapacityType") {
        "spot" => "spot",
        _ => "on-demand",
    };
    let zones = cloud.zones(region).await?;
    let mut choices = match choices(cloud, params) {
        Ok(choices) => choices,
        Err(name) => {
            return Ok(wire::error(
                400,
                "InvalidLaunchTemplateName.NotFoundException",
                &format!(
                    "The specified launch template, with template name {name}, does not exist."
                ),
            ));
        }
    };
    for choice in &mut choices {
        choice.zone = zones.get(&choice.subnet).cloned();
    }
    // The lowest number goes first; equal ones stay in their order.
    choices.sort_by(|a, b| a.priority.total_cmp(&b.priority));
    if params.get("DryRun") == "true" {
        let would = "Request would have succeeded, but DryRun flag is set.";
        return Ok(wire::error(412, "DryRunOperation", would));
    }
    let _one_at_a_time = cloud.state.launching.lock().await;
    let mut refusals = Vec::new();
    for choice in &choices {
        if let Err((code, message)) = obtainable(cloud, choice, market) {
            refusals.push(Refusal {
                choice,
                code,
                message,
            });
            continue;
        }
        let launch = run_parameters(choice, params, market);
        return match runner::launch(cloud, request, launch).await? {
            Ok(id) => Ok(answer(&refusals, Some((choice, &id)), market)),
            Err(refused) => Ok(refused),
        };
    }
    Ok(answer(&refusals, None, market))
}

/// Every override, each with its template; the name of a template that is not there.
fn choices(cloud: &Ec2, params: &Params) -> Result<Vec<Choice>, String> {
    let mut all = Vec::new();
    for config in params.list("LaunchTemplateConfigs") {
        let spec = config.under("LaunchTemplateSpecification");
        let name = spec.find("LaunchTemplateId");
        let name = name.unwrap_or(spec.get("LaunchTemplateName"));
        let found = cloud.state.template(name).ok_or_else(|| name.to_owned())?;
        let template = Params(found.data);
        for over in config.list("Overrides") {
            let kind = over.find("InstanceType");
            all.push(Choice {
                template_id: found.id.clone(),
                instance_type: kind.unwrap_or(template.get("InstanceType")).to_owned(),
                subnet: over.get("SubnetId").to_owned(),
                zone: None,
                priority: over.get("Priority").parse().unwrap_or(f64::MAX),
                template: template.clone(),
            });
        }
    }
    Ok(all)
}

/// Whether there is room for `choice` and no fault; else EC2's code and message.
fn obtainable(cloud: &Ec2, choice: &Choice, market: &str) -> Result<(), (&'static str, String)> {
    let Choice {
        instance_type,
        subnet,
        zone,
        ..
    } = choice;
    let Some(zone) = zone else {
        let message = format!("The subnet ID '{subnet}' does not exist");
        return Err(("InvalidSubnetID.NotFound", message));
    };
    let offering = format!("{zone}/{subnet}/{instance_type}/{market}");
    let none_left = (
        "InsufficientInstanceCapacity",
        format!("There is no {market} capacity for {instance_type} in {zone}."),
    );
    match cloud.control.faults.hit("CreateFleet.offering", &offering) {
        None | Some(Effect::Delay { .. }) if cloud.state.has_room(&offering) => Ok(()),
        None | Some(Effect::Delay { .. } | Effect::Capacity) => Err(none_left),
        Some(Effect::Quota) if market == "spot" => Err((
            "MaxSpotInstanceCountExceeded",
            "Max spot instance count exceeded".to_owned(),
        )),
        Some(Effect::Quota) => Err((
            "VcpuLimitExceeded",
            "You have requested more vCPU capacity than your current vCPU limit allows.".to_owned(),
        )),
        Some(Effect::Throttle) => {
            Err(("RequestLimitExceeded", "Request limit exceeded.".to_owned()))
        }
        Some(Effect::Status { body, .. }) if body == "Unsupported" => Err((
            "Unsupported",
            format!("Your requested instance type ({instance_type}) is not supported in {zone}."),
        )),
        Some(_) => Err((
            "InternalError",
            "An internal error has occurred.".to_owned(),
        )),
    }
}

/// The `RunInstances` that launches `choice`: moto's own fleets ignore overrides.
fn run_parameters(choice: &Choice, params: &Params, market: &str) -> Params {
    let mut run = choice.template.clone();
    let template_tags = run.tags("instance");
    run.0
        .retain(|name, _| !name.starts_with("TagSpecification."));
    let mut all_tags = vec![("instance", template_tags)];
    for kind in ["instance", "volume"] {
        all_tags.push((kind, params.tags(kind)));
    }
    let mut at = 0;
    for kind in ["instance", "volume"] {
        let tags = all_tags.iter().filter(|(k, _)| *k == kind);
        let tags: Vec<_> = tags.flat_map(|(_, tags)| tags).collect();
        if tags.is_empty() {
            continue;
        }
        at += 1;
        run.set(format!("TagSpecification.{at}.ResourceType"), kind);
        for (n, (key, value)) in tags.into_iter().enumerate() {
            let tag = format!("TagSpecification.{at}.Tag.{}", n + 1);
            run.set(format!("{tag}.Key"), key.as_str());
            run.set(format!("{tag}.Value"), value.as_str());
        }
    }
    run.set("InstanceType", choice.instance_type.as_str());
    let subnet = if run
        .0
        .keys()
        .any(|name| name.starts_with("NetworkInterface."))
    {
        "NetworkInterface.1.SubnetId"
    } else {
        "SubnetId"
    };
    run.set(subnet, choice.subnet.as_str());
    if market == "spot" {
        run.set("InstanceMarketOptions.MarketType", "spot");
    }
    run.set("Action", "RunInstances");
    run.set("Version", params.get("Version"));
    run.set("MinCount", "1");
    run.set("MaxCount", "1");
    run
}

fn answer(refusals: &[Refusal<'_>], launched: Option<(&Choice, &str)>, market: &str) -> Response {
    let mut errors = String::new();
    for refusal in refusals {
        let (what, message) = (described(refusal.choice), wire::escape(&refusal.message));
        // Writing to a string does not fail.
        let _ = write!(
            errors,
            "<item>{what}<lifecycle>{market}</lifecycle><errorCode>{}</errorCode>\
             <errorMessage>{message}</errorMessage></item>",
            refusal.code
        );
    }
    let instances = launched.map_or(String::new(), |(choice, id)| {
        format!(
            "<item>{}<lifecycle>{market}</lifecycle><instanceIds><item>{id}</item></instanceIds>\
             <instanceType>{}</instanceType></item>",
            described(choice),
            choice.instance_type
        )
    });
    wire::answer(
        "CreateFleet",
        &format!(
            "<fleetId>fleet-0d0b1e00-0000-0000-0000-000000000000</fleetId>\
             <errorSet>{errors}</errorSet><fleetInstanceSet>{instances}</fleetInstanceSet>"
        ),
    )
}

fn described(choice: &Choice) -> String {
    let zone = choice.zone.as_deref().unwrap_or_default();
    format!(
        "<launchTemplateAndOverrides><launchTemplateSpecification><launchTemplateId>{}</launchTemplateId>\
         <version>1</version></launchTemplateSpecification><overrides><instanceType>{}</instanceType>\
         <subnetId>{}</subnetId><availabilityZone>{zone}</availabilityZone></overrides>\
         </launchTemplateAndOverrides>",
        choice.template_id, choice.instance_type, choice.subnet
    )
}
