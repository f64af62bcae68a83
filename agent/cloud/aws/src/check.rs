//! What can be known to be wrong with a place before anything is launched there.

use gpuloom_cloud::{CloudError, FailureClass};
use gpuloom_fleet::AwsPlace;

use aws_sdk_ec2::types::InstanceType;

use crate::client::AwsCloud;
use crate::failure::Failure;

/// The type a dry run names when the place states none.
const ANY: &str = "g4dn.xlarge";

/// Something of a place that will keep its launches from succeeding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceWarning {
    /// The field, e.g. `aws.subnets`.
    pub field: String,
    /// What is wrong with which value, and what would help.
    pub message: String,
}

// === impl PlaceWarning ===

impl PlaceWarning {
    fn new(field: &str, message: impl Into<String>) -> Self {
        Self {
            field: field.to_owned(),
            message: message.into(),
        }
    }
}

// === impl AwsCloud ===

impl AwsCloud {
    /// Looks at a place before it is used: unknown subnets, image and security groups, types that none of its zones
    /// has, and, by a dry run, whether these credentials may launch. Changes nothing; empty when nothing is wrong.
    /// Quotas are not looked at: Service Quotas has an API of its own.
    ///
    /// # Errors
    /// [`CloudError`] when EC2 cannot be asked at all.
    pub async fn check(&self, place: &AwsPlace) -> Result<Vec<PlaceWarning>, CloudError> {
        let mut warnings = Vec::new();
        for subnet in &place.subnets {
            let found = self.ec2.describe_subnets().subnet_ids(subnet).send().await;
            let found = found.map_err(|e| Failure::new(&format!("find subnet {subnet}"), &e));
            self.note_unknown(found, "aws.subnets", subnet, &mut warnings)?;
        }
        let image = &place.image;
        let found = self.ec2.describe_images().image_ids(image).send().await;
        let found = found.map_err(|e| Failure::new(&format!("find image {image}"), &e));
        self.note_unknown(found, "aws.image", image, &mut warnings)?;
        for group in &place.security_groups {
            let found = self.ec2.describe_security_groups().group_ids(group);
            let found = found.send().await;
            let found = found.map_err(|e| Failure::new(&format!("find group {group}"), &e));
            self.note_unknown(found, "aws.security_groups", group, &mut warnings)?;
        }
        if warnings.is_empty() {
            self.check_types(place, &mut warnings).await?;
            self.check_permission(place, &mut warnings).await?;
        }
        Ok(warnings)
    }

    fn note_unknown<T>(
        &self,
        found: Result<T, Failure>,
        field: &str,
        value: &str,
        warnings: &mut Vec<PlaceWarning>,
    ) -> Result<(), Failure> {
        match found {
            Ok(_) => Ok(()),
            Err(failure) if failure.is_not_found() => {
                let region = &self.region;
                let message = format!(
                    "{value:?} is not in {region}, or this account may not use it: name one that is"
                );
                warnings.push(PlaceWarning::new(field, message));
                Ok(())
            }
            Err(failure) if failure.class == FailureClass::Auth => {
                warnings.push(PlaceWarning::new(field, failure.message));
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    async fn check_types(
        &self,
        place: &AwsPlace,
        warnings: &mut Vec<PlaceWarning>,
    ) -> Result<(), Failure> {
        if place.instance_types.is_empty() {
            return Ok(());
        }
        let zones = self.zones_of(&place.subnets).await?;
        let there = self.in_zones(&place.instance_types, &zones).await?;
        for kind in &place.instance_types {
            if there.iter().all(|(name, _)| name != kind) {
                let zones: Vec<_> = zones.iter().map(|(_, zone)| zone.as_str()).collect();
                let message = format!(
                    "{kind:?} is in none of {}: name another type, or a subnet of a zone that has it",
                    zones.join(", ")
                );
                warnings.push(PlaceWarning::new("aws.instance_types", message));
            }
        }
        Ok(())
    }

    /// A dry run says whether the same would be allowed.
    async fn check_permission(
        &self,
        place: &AwsPlace,
        warnings: &mut Vec<PlaceWarning>,
    ) -> Result<(), Failure> {
        let kind = place.instance_types.first().map_or(ANY, String::as_str);
        let call = self
            .ec2
            .run_instances()
            .dry_run(true)
            .image_id(&place.image)
            .instance_type(InstanceType::from(kind))
            .set_subnet_id(place.subnets.first().cloned())
            .min_count(1)
            .max_count(1);
        let Err(e) = call.send().await else {
            return Ok(());
        };
        let failure = Failure::new("try a launch without launching", &e);
        match failure.class {
            _ if failure.code == "DryRunOperation" => {}
            FailureClass::Transient | FailureClass::Throttled => return Err(failure),
            FailureClass::Auth => warnings.push(PlaceWarning::new("aws", failure.message)),
            // Of a type that was not stated this says nothing.
            _ if place.instance_types.is_empty() => {}
            _ => warnings.push(PlaceWarning::new("aws.instance_types", failure.message)),
        }
        Ok(())
    }
}
