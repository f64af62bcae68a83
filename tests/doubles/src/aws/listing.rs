//! Listings that lag and come in pages.

use super::wire::{self, Params};
use super::{Ec2, MotoError, xml};
use crate::http::{Request, Response};

/// `DescribeInstances`: moto's answer without the machines that are not to be seen yet.
pub(super) async fn describe(
    cloud: &Ec2,
    request: &Request,
    params: &Params,
) -> Result<Response, MotoError> {
    let ids = params.values("InstanceId");
    if let Some(hidden) = ids.iter().find(|id| cloud.state.hides(id)) {
        let message = format!("The instance ID '{hidden}' does not exist");
        return Ok(wire::error(400, "InvalidInstanceID.NotFound", &message));
    }
    let mut asked = params.clone();
    if let (Some(page), true) = (cloud.state.page(), ids.is_empty()) {
        asked.set("MaxResults", page.to_string());
    }
    let mut answer = cloud.moto.forward(request, &asked).await?;
    if answer.status == 200 && cloud.state.yard().is_some() {
        answer.body = addressed(cloud, &answer).into();
    }
    if answer.status == 200 && ids.is_empty() {
        let body = String::from_utf8_lossy(&answer.body);
        // One launch is one reservation is one instance.
        let seen = xml::retain_items(&body, "reservationSet", |reservation| {
            xml::text(reservation, "instanceId").is_none_or(|id| !cloud.state.hides(id))
        });
        answer.body = seen.into();
    }
    Ok(answer)
}

/// With the addresses that machines really have in place of moto's.
fn addressed(cloud: &Ec2, answer: &Response) -> String {
    let mut body = String::from_utf8_lossy(&answer.body).into_owned();
    for machine in cloud.state.machines() {
        let (moto, real) = (&machine.moto_address, &machine.private_address);
        if moto != real && !moto.is_empty() {
            body = body.replace(&format!(">{moto}<"), &format!(">{real}<"));
        }
    }
    body
}
