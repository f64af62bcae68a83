//! Launch templates: one for each thing that is launched, named by what is in it.

use aws_sdk_ec2::types::{
    LaunchTemplateBlockDeviceMappingRequest, LaunchTemplateEbsBlockDeviceRequest,
    LaunchTemplateHttpTokensState, LaunchTemplateIamInstanceProfileSpecificationRequest,
    LaunchTemplateInstanceMetadataEndpointState, LaunchTemplateInstanceMetadataOptionsRequest,
    LaunchTemplateInstanceMetadataTagsState,
    LaunchTemplateInstanceNetworkInterfaceSpecificationRequest, RequestLaunchTemplateData,
    ResourceType, ShutdownBehavior, TagSpecification, VolumeType,
};
use base64::Engine as _;
use gpuloom_cloud::{FailureClass, LaunchRequest, Role, Tags};
use gpuloom_fleet::AwsPlace;
use sha2::{Digest, Sha256};

use crate::client::AwsCloud;
use crate::failure::Failure;
use crate::listing::{ec2_tags, tag_filters};

/// Most bytes of user data (EC2's limit, before base64).
const MAX_USER_DATA: usize = 16 * 1024;
/// Most templates of one page (EC2's limit).
const PAGE: i32 = 200;
/// Longest part of a fleet's and of a pool's name in a template's: a name has at most 128 bytes.
const MAX_NAME_PART: usize = 48;

// === impl AwsCloud ===

impl AwsCloud {
    /// The name of the template that launches `request`, which exists when this returns.
    pub(crate) async fn template(
        &self,
        request: &LaunchRequest,
        place: &AwsPlace,
    ) -> Result<String, Failure> {
        let name = template_name(request, place);
        if self.knows_template(&name) {
            return Ok(name);
        }
        let root = self.root_device(&place.image).await?;
        let data = template_data(request, place, &root)?;
        let tags = TagSpecification::builder()
            .resource_type(ResourceType::LaunchTemplate)
            .set_tags(Some(ec2_tags(&owner_tags(request))))
            .build();
        let made = self
            .ec2
            .create_launch_template()
            .launch_template_name(&name)
            .launch_template_data(data)
            .tag_specifications(tags)
            .send()
            .await;
        if let Err(e) = made {
            let failure = Failure::new(&format!("make launch template {name}"), &e);
            // Its name says what is in it: one of this name is this one.
            if failure.code != "InvalidLaunchTemplateName.AlreadyExistsException" {
                return Err(failure);
            }
        }
        self.note_template(&name);
        Ok(name)
    }

    /// Deletes the templates that have all of `tags`; those that are gone are fine.
    pub(crate) async fn delete_templates(&self, tags: &Tags) -> Result<(), Failure> {
        // What marks an instance alone stands on no template.
        let mut wanted = tags.clone();
        wanted.0.remove(Tags::TOKEN);
        wanted.0.remove(Tags::OFFERING);
        wanted.0.remove(Tags::REVISION);
        if wanted.0.is_empty() {
            wanted = Tags::default();
        }
        let filters = if wanted.0.is_empty() {
            vec![crate::listing::filter(
                "tag-key",
                vec![Tags::FLEET.to_owned()],
            )]
        } else {
            tag_filters(&wanted)
        };
        let pages = self.ec2.describe_launch_templates();
        let pages = pages.set_filters(Some(filters)).max_results(PAGE);
        let mut pages = pages.into_paginator().items().send();
        while let Some(template) = pages.next().await {
            let tried = format!("list the launch templates of {}", self.region);
            let template = template.map_err(|e| Failure::new(&tried, &e))?;
            let Some(id) = template.launch_template_id() else {
                continue;
            };
            let gone = self.ec2.delete_launch_template().launch_template_id(id);
            if let Err(e) = gone.send().await {
                let failure = Failure::new(&format!("delete launch template {id}"), &e);
                if !failure.is_not_found() {
                    return Err(failure);
                }
            }
            self.forget_template(template.launch_template_name().unwrap_or_default());
        }
        Ok(())
    }

    /// The device an image starts from; a root disk of another size has to name it.
    async fn root_device(&self, image: &str) -> Result<String, Failure> {
        if let Some(known) = self.root_of(image) {
            return Ok(known);
        }
        let answer = self.ec2.describe_images().image_ids(image).send().await;
        let answer = answer.map_err(|e| Failure::new(&format!("find image {image}"), &e))?;
        let device = answer.images().first().and_then(|i| i.root_device_name());
        let Some(device) = device else {
            return Err(invalid(format!(
                "aws.image = {image:?} is not in {}: name an image of this region that this account may use",
                self.region
            )));
        };
        self.note_root(image, device);
        Ok(device.to_owned())
    }
}

// === functions ===

/// A refusal of our own, before anything is sent.
pub(crate) fn invalid(message: String) -> Failure {
    Failure {
        class: FailureClass::Invalid,
        code: String::new(),
        message,
    }
}

/// Whose it is: what a sweep finds it by.
fn owner_tags(request: &LaunchRequest) -> Tags {
    let mut tags = request.tags();
    let kept = [Tags::FLEET, Tags::FLEET_ID, Tags::ROLE, Tags::POOL];
    tags.0.retain(|key, _| kept.contains(&key.as_str()));
    tags
}

/// `gpuloom-<fleet>-<pool or lead>-<16 hex digits of what is in it>`.
fn template_name(request: &LaunchRequest, place: &AwsPlace) -> String {
    let pool = request.pool.as_ref().map_or("lead", |pool| pool.as_str());
    let in_it = (
        (
            &place.image,
            &place.instance_profile,
            &place.security_groups,
        ),
        (place.public_address, place.root_disk_gib),
        (&request.fleet_id, request.role, &request.revision),
        (request.pool.as_ref(), &request.fleet),
        &request.user_data.script,
    );
    // These types always serialize: text keys, no floats.
    let text = serde_json::to_vec(&in_it).unwrap_or_default();
    let digest = hex::encode(&Sha256::digest(&text)[..8]);
    let part = |text: &str| text.chars().take(MAX_NAME_PART).collect::<String>();
    let fleet = part(request.fleet.as_str());
    format!("gpuloom-{fleet}-{}-{digest}", part(pool))
}

fn template_data(
    request: &LaunchRequest,
    place: &AwsPlace,
    root: &str,
) -> Result<RequestLaunchTemplateData, Failure> {
    let script = &request.user_data.script;
    if script.len() > MAX_USER_DATA {
        let length = script.len();
        return Err(invalid(format!(
            "the user data has {length} bytes and EC2 takes {MAX_USER_DATA}: shorten the pool's configuration"
        )));
    }
    let interface = LaunchTemplateInstanceNetworkInterfaceSpecificationRequest::builder()
        .device_index(0)
        .associate_public_ip_address(place.public_address)
        .delete_on_termination(true)
        .set_groups((!place.security_groups.is_empty()).then(|| place.security_groups.clone()))
        .build();
    let metadata = LaunchTemplateInstanceMetadataOptionsRequest::builder()
        .http_endpoint(LaunchTemplateInstanceMetadataEndpointState::Enabled)
        .http_tokens(LaunchTemplateHttpTokensState::Required)
        .http_put_response_hop_limit(1)
        .instance_metadata_tags(LaunchTemplateInstanceMetadataTagsState::Enabled)
        .build();
    let mut data = RequestLaunchTemplateData::builder()
        .image_id(&place.image)
        .network_interfaces(interface)
        .metadata_options(metadata)
        .block_device_mappings(root_disk(root, place.root_disk_gib));
    if request.role == Role::Node {
        // A node that is powered off is not kept: a GPU that was stopped may not be had again.
        data = data.instance_initiated_shutdown_behavior(ShutdownBehavior::Terminate);
    }
    if !script.is_empty() {
        data = data.user_data(base64::engine::general_purpose::STANDARD.encode(script));
    }
    if let Some(profile) = &place.instance_profile {
        let builder = LaunchTemplateIamInstanceProfileSpecificationRequest::builder();
        let builder = if profile.starts_with("arn:") {
            builder.arn(profile)
        } else {
            builder.name(profile)
        };
        data = data.iam_instance_profile(builder.build());
    }
    Ok(data.build())
}

fn root_disk(device: &str, gib: u32) -> LaunchTemplateBlockDeviceMappingRequest {
    let disk = LaunchTemplateEbsBlockDeviceRequest::builder()
        .volume_size(i32::try_from(gib).unwrap_or(i32::MAX))
        .volume_type(VolumeType::Gp3)
        .delete_on_termination(true)
        .build();
    LaunchTemplateBlockDeviceMappingRequest::builder()
        .device_name(device)
        .ebs(disk)
        .build()
}
