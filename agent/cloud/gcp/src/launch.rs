//! One launch: nodes by a regional bulk insert, a lead with a data disk by an insert into the disk's zone.

use google_cloud_compute_v1::model;
use google_cloud_gax::error::Error;
use gpuloom_cloud::{
    CloudError, FailureClass, LaunchError, LaunchRequest, Launched, Offering, OfferingFailure,
};
use gpuloom_fleet::{GcpPlace, PoolPlace};

use crate::client::Once;
use crate::cloud::GcpCloud;
use crate::errors::{Said, by_offering, launch_error};
use crate::operation::{NotDone, done};
use crate::{instance, labels, request};

impl GcpCloud {
    /// See [`gpuloom_cloud::Cloud::launch`].
    pub(crate) async fn launch_one(
        &self,
        request: &LaunchRequest,
    ) -> Result<Launched, LaunchError> {
        let place = self.place_of(request)?;
        let name = labels::instance_name(request);
        let zones = self.zones_of(request).await.map_err(of_cloud)?;
        let there = self.find(&name, &zones).await.map_err(of_cloud)?;
        if let Some(found) = there {
            return self.adopt(request, &found, Vec::new());
        }
        match request.data_disk {
            Some(disk) => {
                self.launch_with_disk(request, place, &name, disk.size_gib)
                    .await
            }
            None => self.launch_in_bulk(request, place, &name, &zones).await,
        }
    }

    async fn launch_in_bulk(
        &self,
        request: &LaunchRequest,
        place: &GcpPlace,
        name: &str,
        zones: &[String],
    ) -> Result<Launched, LaunchError> {
        let region = self.zones().await.map_err(of_cloud)?;
        let call = self.clients.region_instances.bulk_insert();
        let sent = call
            .set_project(&self.options.project)
            .set_region(&self.options.region)
            .set_request_id(labels::request_id(&request.token, 0))
            .set_body(request::bulk(request, place, name, region))
            .once()
            .send()
            .await;
        let said = self.outcome(sent, name).await?;
        let found = self
            .find(name, zones)
            .await
            .map_err(|e| unknown(&e.message))?;
        match found {
            Some(found) => {
                let failed = by_offering(&said, &request.offerings);
                let launched = self.adopt(request, &found, failed)?;
                // What failed is being taken back still.
                let ending = launched.instance.state == gpuloom_cloud::InstanceState::Terminating;
                match ending && !said.is_empty() {
                    true => Err(unknown(&format!("{name} is being taken back"))),
                    false => Ok(launched),
                }
            }
            None if said.is_empty() => Err(gone(name)),
            None => Err(launch_error(
                &format!("cannot launch {name}"),
                &said,
                &request.offerings,
            )),
        }
    }

    /// One insert for each offering until one is had; where the fleet's disk exists, in its zone alone.
    async fn launch_with_disk(
        &self,
        request: &LaunchRequest,
        place: &GcpPlace,
        name: &str,
        size_gib: u32,
    ) -> Result<Launched, LaunchError> {
        let disks = self
            .data_disks(&request::disk_tags(request))
            .await
            .map_err(of_cloud)?;
        // One that was never attached holds nothing: its instance could not be had.
        let used = disks.iter().filter(|d| d.last_attached.is_some());
        let kept = used.max_by(|a, b| a.last_attached.cmp(&b.last_attached));
        let offerings = in_disks_zone(&request.offerings, kept.map(|d| d.zone.as_str()))?;
        let mut said_of: Vec<(Offering, Vec<Said>)> = Vec::new();
        for (n, offering) in request.offerings.iter().enumerate() {
            if !offerings.contains(&offering) {
                continue;
            }
            let here = disks.iter().filter(|d| d.zone == offering.zone());
            let data = match kept.or(here.clone().next()) {
                Some(disk) => request::kept_disk(place, &disk.zone, &disk.name),
                None => request::new_disk(request, offering, size_gib),
            };
            let call = self.clients.instances.insert();
            let sent = call
                .set_project(&self.options.project)
                .set_zone(offering.zone())
                .set_request_id(labels::request_id(&request.token, n))
                .set_body(request::single(request, place, name, offering, data))
                .once()
                .send()
                .await;
            let said = self.outcome(sent, name).await?;
            let zone = [offering.zone().to_owned()];
            let found = self
                .find(name, &zone)
                .await
                .map_err(|e| unknown(&e.message))?;
            if let Some(found) = found {
                return self.adopt(request, &found, failures(&said_of));
            }
            if said.is_empty() {
                return Err(gone(name));
            }
            said_of.push((offering.clone(), said));
        }
        let all: Vec<Said> = said_of.iter().flat_map(|(_, said)| said.clone()).collect();
        let mut error = launch_error(&format!("cannot launch {name}"), &all, &[]);
        error.failed = failures(&said_of);
        Err(error)
    }

    /// What a finished operation said against itself; an error when that is not known, or nothing was begun.
    async fn outcome(
        &self,
        sent: Result<model::Operation, Error>,
        name: &str,
    ) -> Result<Vec<Said>, LaunchError> {
        let started = match sent {
            Ok(started) => started,
            Err(e) => {
                let said = Said::of_call(&e);
                return match said.class {
                    FailureClass::Capacity | FailureClass::Quota | FailureClass::Unsupported => {
                        Ok(vec![said])
                    }
                    _ => Err(launch_error(&format!("cannot launch {name}"), &[said], &[])),
                };
            }
        };
        match done(&self.clients, &self.options, started).await {
            Ok(()) => Ok(Vec::new()),
            Err(NotDone::Failed(said)) => Ok(said),
            Err(NotDone::Unknown(why)) => {
                Err(unknown(&format!("whether {name} was launched: {why}")))
            }
        }
    }

    /// The instance of the request's name as the answer, if it is the request's.
    fn adopt(
        &self,
        request: &LaunchRequest,
        found: &model::Instance,
        failed: Vec<OfferingFailure>,
    ) -> Result<Launched, LaunchError> {
        let instance = instance::read(found, &self.options.region);
        match instance {
            Ok(instance) if instance.token == request.token => Ok(Launched { instance, failed }),
            Ok(instance) => Err(LaunchError::new(
                FailureClass::Capacity,
                format!(
                    "the name {} is taken by the launch {}",
                    instance.id, instance.token
                ),
            )),
            Err(why) => Err(LaunchError::new(
                FailureClass::Capacity,
                format!("the name is taken by an instance of another's: {why}"),
            )),
        }
    }

    fn place_of<'a>(&self, request: &'a LaunchRequest) -> Result<&'a GcpPlace, LaunchError> {
        let invalid = |why: String| LaunchError::new(FailureClass::Invalid, why);
        let PoolPlace::Gcp(place) = &request.place else {
            return Err(invalid(format!(
                "place = {}: Google Cloud launches gcp places",
                request.place.kind()
            )));
        };
        let GcpPlace {
            project, region, ..
        } = place.as_ref();
        if (project, region) != (&self.options.project, &self.options.region) {
            return Err(invalid(format!(
                "place = {project}/{region}: this is the driver of {}/{}",
                self.options.project, self.options.region
            )));
        }
        if request.offerings.is_empty() {
            return Err(invalid("offerings = []: name what to launch".to_owned()));
        }
        Ok(place)
    }

    /// Every zone an instance of this request may be in.
    async fn zones_of(&self, request: &LaunchRequest) -> Result<Vec<String>, CloudError> {
        let mut zones: Vec<String> = Vec::new();
        for offering in &request.offerings {
            if offering.zone() == "-" {
                return self.zones().await.map(<[String]>::to_vec);
            }
            if !zones.iter().any(|z| z == offering.zone()) {
                zones.push(offering.zone().to_owned());
            }
        }
        Ok(zones)
    }
}

// === functions ===

fn in_disks_zone<'a>(
    offerings: &'a [Offering],
    zone: Option<&str>,
) -> Result<Vec<&'a Offering>, LaunchError> {
    let Some(zone) = zone else {
        return Ok(offerings.iter().collect());
    };
    let there: Vec<&Offering> = offerings.iter().filter(|o| o.zone() == zone).collect();
    match there.is_empty() {
        false => Ok(there),
        true => Err(LaunchError::new(
            FailureClass::Unsupported,
            format!(
                "the fleet's data disk is in {zone}, where nothing was asked for: add the zone to gcp.zones"
            ),
        )),
    }
}

fn failures(said_of: &[(Offering, Vec<Said>)]) -> Vec<OfferingFailure> {
    let of = |(offering, said): &(Offering, Vec<Said>)| {
        by_offering(said, std::slice::from_ref(offering))
    };
    said_of.iter().flat_map(of).collect()
}

fn of_cloud(e: CloudError) -> LaunchError {
    LaunchError::new(e.class, e.message)
}

fn unknown(why: &str) -> LaunchError {
    LaunchError::new(FailureClass::Transient, why)
}

/// It was launched, and is there no more: taken back before its launch was known. Its token never launches again.
fn gone(name: &str) -> LaunchError {
    LaunchError::new(
        FailureClass::Capacity,
        format!("{name} was launched and is gone already"),
    )
}
