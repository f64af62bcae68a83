//! One fleet request: what is asked for, and what each part of the answer means.

use aws_sdk_ec2::operation::create_fleet::CreateFleetOutput;
use aws_sdk_ec2::types::{
    CreateFleetError, DefaultTargetCapacityType, FleetLaunchTemplateConfigRequest,
    FleetLaunchTemplateOverridesRequest, FleetLaunchTemplateSpecificationRequest,
    FleetOnDemandAllocationStrategy, FleetType, InstanceType, LaunchTemplateAndOverridesResponse,
    OnDemandOptionsRequest, ResourceType, SpotAllocationStrategy, SpotOptionsRequest,
    TagSpecification, TargetCapacitySpecificationRequest,
};
use gpuloom_cloud::{FailureClass, LaunchError, LaunchRequest, Offering, OfferingFailure, Tags};
use gpuloom_fleet::Market;

use crate::client::{AwsCloud, once};
use crate::failure::{Failure, class_in_answer};
use crate::listing::ec2_tags;

// === impl AwsCloud ===

impl AwsCloud {
    /// Sends the request once. The SDK's own retries are off: a launch is repeated by whoever stored its token.
    pub(crate) async fn create_fleet(
        &self,
        request: &LaunchRequest,
        template: &str,
        offerings: &[Offering],
        tags: &Tags,
    ) -> Result<CreateFleetOutput, Failure> {
        let market = offerings.first().map(Offering::market).unwrap_or_default();
        let specification = FleetLaunchTemplateSpecificationRequest::builder()
            .launch_template_name(template)
            .version("1")
            .build();
        let config = FleetLaunchTemplateConfigRequest::builder()
            .launch_template_specification(specification)
            .set_overrides(Some(overrides(offerings, market)))
            .build();
        let mut call = self
            .ec2
            .create_fleet()
            .client_token(request.token.as_str())
            .r#type(FleetType::Instant)
            .launch_template_configs(config)
            .target_capacity_specification(one(market));
        for kind in [ResourceType::Instance, ResourceType::Volume] {
            let tagged = TagSpecification::builder().resource_type(kind);
            let tagged = tagged.set_tags(Some(ec2_tags(tags))).build();
            call = call.tag_specifications(tagged);
        }
        call = match market {
            Market::OnDemand => call.on_demand_options(
                OnDemandOptionsRequest::builder()
                    .allocation_strategy(FleetOnDemandAllocationStrategy::Prioritized)
                    .build(),
            ),
            Market::Spot => call.spot_options(
                SpotOptionsRequest::builder()
                    .allocation_strategy(SpotAllocationStrategy::PriceCapacityOptimized)
                    .build(),
            ),
        };
        let tried = format!("launch in {} under token {}", self.region, request.token);
        let sent = call.customize().config_override(once()).send().await;
        sent.map_err(|e| Failure::new(&tried, &e))
    }
}

/// A type and a subnet each, in their order: the first has the lowest number, which on-demand honours. Spot goes by
/// price and by how likely it is to last.
fn overrides(offerings: &[Offering], market: Market) -> Vec<FleetLaunchTemplateOverridesRequest> {
    let over = |(rank, offering): (u32, &Offering)| {
        let over = FleetLaunchTemplateOverridesRequest::builder()
            .instance_type(InstanceType::from(offering.instance_type()))
            .subnet_id(offering.zone());
        match market {
            Market::OnDemand => over.priority(f64::from(rank)).build(),
            Market::Spot => over.build(),
        }
    };
    (0_u32..).zip(offerings).map(over).collect()
}

fn one(market: Market) -> TargetCapacitySpecificationRequest {
    let kind = match market {
        Market::OnDemand => DefaultTargetCapacityType::OnDemand,
        Market::Spot => DefaultTargetCapacityType::Spot,
    };
    TargetCapacitySpecificationRequest::builder()
        .total_target_capacity(1)
        .default_target_capacity_type(kind)
        .build()
}

/// What `answer` says was launched: the instance's id and the offering that was had; `None`: nothing.
pub(crate) fn launched(
    answer: &CreateFleetOutput,
    offerings: &[Offering],
) -> Option<(String, Offering)> {
    let instance = answer.instances().first()?;
    let id = instance.instance_ids().first()?.clone();
    let (over_type, over_subnet) = choice(instance.launch_template_and_overrides());
    let kind = instance.instance_type().map(|kind| kind.as_str());
    let subnet = instance.subnet_id().or(over_subnet);
    let had = matching(offerings, kind.or(over_type), subnet);
    Some((id, had.into_iter().next()?))
}

/// What was said of each offering. An error that names no type or no subnet is of all that it may mean.
pub(crate) fn failures(answer: &CreateFleetOutput, offerings: &[Offering]) -> Vec<OfferingFailure> {
    let of_each = |error: &CreateFleetError| {
        let code = error.error_code().unwrap_or("Unknown").to_owned();
        let message = format!(
            "{code}: {}",
            error.error_message().unwrap_or("no reason given")
        );
        let (kind, subnet) = choice(error.launch_template_and_overrides());
        let named = matching(offerings, kind, subnet);
        named.into_iter().map(move |offering| OfferingFailure {
            offering,
            class: class_in_answer(&code),
            message: message.clone(),
        })
    };
    let mut all: Vec<OfferingFailure> = Vec::new();
    for failure in answer.errors().iter().flat_map(of_each) {
        if all.iter().all(|known| known.offering != failure.offering) {
            all.push(failure);
        }
    }
    all
}

/// Nothing was launched: the class is the one that is over soonest, the message names every offering.
pub(crate) fn refused(failed: Vec<OfferingFailure>, region: &str) -> LaunchError {
    let soonest = failed
        .iter()
        .map(|f| f.class)
        .min_by_key(|class| class.wait());
    // An answered token has launched nothing and never will: that is no open question.
    let class = match soonest {
        None | Some(FailureClass::Transient) => FailureClass::Capacity,
        Some(class) => class,
    };
    let said: Vec<_> = failed
        .iter()
        .map(|f| format!("{} ({}): {}", f.offering, f.class, f.message))
        .collect();
    let message = if said.is_empty() {
        format!("EC2 launched nothing in {region} and gave no reason")
    } else {
        format!("EC2 launched nothing in {region}: {}", said.join("; "))
    };
    LaunchError {
        class,
        message,
        retry_after: None,
        failed,
    }
}

fn choice(of: Option<&LaunchTemplateAndOverridesResponse>) -> (Option<&str>, Option<&str>) {
    let over = of.and_then(|of| of.overrides());
    let kind = over.and_then(|over| over.instance_type());
    let subnet = over.and_then(|over| over.subnet_id());
    (kind.map(|kind| kind.as_str()), subnet)
}

/// The offerings of this type and subnet; what is not named is any.
fn matching(offerings: &[Offering], kind: Option<&str>, subnet: Option<&str>) -> Vec<Offering> {
    let named = |want: Option<&str>, have: &str| want.is_none_or(|w| w.is_empty() || w == have);
    let fits = |o: &&Offering| named(kind, o.instance_type()) && named(subnet, o.zone());
    offerings.iter().filter(fits).cloned().collect()
}
