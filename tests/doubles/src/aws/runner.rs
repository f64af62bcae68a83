//! Launching: one instance by moto, and what the double keeps of it.

use super::proxy::region;
use super::wire::{self, Params};
use super::{ACCOUNT, Ec2, Machine, MotoError, xml};
use crate::boot::{self, Address, Booting};
use crate::http::{Request, Response};
use crate::imds;
use base64::Engine as _;

/// `RunInstances` as it was sent.
pub(super) async fn run(
    cloud: &Ec2,
    request: &Request,
    params: &Params,
) -> Result<Response, MotoError> {
    if params.get("DryRun") == "true" {
        return cloud.moto.forward(request, params).await;
    }
    let zones = cloud.zones(region(request)).await?;
    let subnet = subnet_of(params);
    let zone = zones.get(subnet).map_or("", String::as_str);
    let (kind, market) = (params.get("InstanceType"), market_of(params));
    let _one_at_a_time = cloud.state.launching.lock().await;
    if !cloud
        .state
        .has_room(&format!("{zone}/{subnet}/{kind}/{market}"))
    {
        let message = format!("We currently do not have sufficient {kind} capacity in {zone}.");
        return Ok(wire::error(500, "InsufficientInstanceCapacity", &message));
    }
    let answer = launched(cloud, request, params).await?;
    Ok(answer.map_or_else(|refused| refused, |(_, answer)| answer))
}

/// Launches by these parameters of `RunInstances`: the instance's id, or moto's refusal.
pub(super) async fn launch(
    cloud: &Ec2,
    request: &Request,
    params: Params,
) -> Result<Result<String, Response>, MotoError> {
    let done = launched(cloud, request, &params).await?;
    Ok(done.map(|(id, _)| id))
}

async fn launched(
    cloud: &Ec2,
    request: &Request,
    params: &Params,
) -> Result<Result<(String, Response), Response>, MotoError> {
    // Moto wants to know the profile; here any will do.
    let mut given = params.clone();
    given
        .0
        .retain(|name, _| !name.starts_with("IamInstanceProfile."));
    let mut answer = cloud.moto.forward(request, &given).await?;
    if answer.status != 200 {
        return Ok(Err(answer));
    }
    let mut body = String::from_utf8_lossy(&answer.body).into_owned();
    let moto_address = xml::text(&body, "privateIpAddress").unwrap_or_default();
    let moto_address = moto_address.to_owned();
    let claimed = match cloud.state.yard() {
        Some(_) => Some(Address::claim().map_err(MotoError::Boot)?),
        None => None,
    };
    let private_address = claimed
        .as_ref()
        .map_or(moto_address.clone(), |claimed| claimed.ip().to_string());
    if !moto_address.is_empty() {
        body = body.replace(
            &format!(">{moto_address}<"),
            &format!(">{private_address}<"),
        );
        answer.body = body.clone().into();
    }
    let Some(id) = xml::text(&body, "instanceId") else {
        return Ok(Err(answer));
    };
    let region = region(request);
    let zones = cloud.zones(region).await?;
    let subnet = xml::text(&body, "subnetId").unwrap_or_else(|| subnet_of(params));
    let machine = Machine {
        id: id.to_owned(),
        region: region.to_owned(),
        zone: zones.get(subnet).cloned().unwrap_or_default(),
        subnet: subnet.to_owned(),
        instance_type: params.get("InstanceType").to_owned(),
        market: market_of(params).to_owned(),
        tags: params.tags("instance").into_iter().collect(),
        user_data: decoded(params.get("UserData")),
        launch: params.0.clone(),
        private_address,
        moto_address,
        access_key: Machine::access_key_of(id),
        launched_ms: cloud.control.clock.now_ms(),
        ended: false,
        hidden_for: 0,
    };
    cloud.state.add(machine.clone());
    if let Some(address) = claimed {
        boot(cloud, &machine, address)?;
    }
    Ok(Ok((id.to_owned(), answer)))
}

/// Boots a machine, whose metadata service knows what moto knows of it.
fn boot(cloud: &Ec2, machine: &Machine, address: Address) -> Result<(), MotoError> {
    let Some(yard) = cloud.state.yard() else {
        return Ok(());
    };
    let booting = Booting {
        instance: imds::Instance {
            id: machine.id.clone(),
            vm_id: String::new(),
            account: ACCOUNT.to_owned(),
            region: machine.region.clone(),
            zone: machine.zone.clone(),
            instance_type: machine.instance_type.clone(),
            private_address: machine.private_address.clone(),
            public_address: String::new(),
            identity: machine.role().is_some(),
        },
        address,
        user_data: machine.user_data.clone(),
        gpus: boot::layout(&machine.instance_type).map(str::to_owned),
        disks: Vec::new(),
    };
    yard.boot(booting).map_err(MotoError::Boot)
}

fn subnet_of(params: &Params) -> &str {
    let of_interface = params.find("NetworkInterface.1.SubnetId");
    of_interface.unwrap_or_else(|| params.get("SubnetId"))
}

fn market_of(params: &Params) -> &'static str {
    match params.get("InstanceMarketOptions.MarketType") {
        "spot" => "spot",
        _ => "on-demand",
    }
}

/// What is no base64 is left as it is.
fn decoded(user_data: &str) -> String {
    let bytes = base64::engine::general_purpose::STANDARD.decode(user_data);
    bytes.map_or_else(
        |_| user_data.to_owned(),
        |bytes| String::from_utf8_lossy(&bytes).into_owned(),
    )
}
