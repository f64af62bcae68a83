//! Which requests the double answers itself, which it changes on the way, and which are moto's alone.

use super::wire::{self, Params};
use super::{ACCOUNT, Ec2, IMAGE, MotoError, fleet, identity, listing, prices, runner, state, xml};
use crate::boot::{Disk, Yard};
use crate::control::Call;
use crate::faults::Effect;
use crate::http::{Answer, Handler, Request, Response};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A region when the signature names none.
const REGION: &str = "us-east-1";

// === impl Ec2 ===

impl Handler for Ec2 {
    async fn handle(self: Arc<Self>, request: Request) -> Answer {
        if request.path.starts_with("/_double/") {
            return self.control_endpoint(&request).await.into();
        }
        let params = if request.body.is_empty() {
            Params::new(request.parameters())
        } else {
            Params::new(request.form())
        };
        let action = params.get("Action").to_owned();
        let call = Call {
            action: &action,
            mutating: mutating(&action, &params),
            request: &request,
        };
        let cloud = self.clone();
        let carry_out = || async {
            let answer = cloud.carry_out(&action, &request, &params).await;
            answer.unwrap_or_else(|e| wire::error(500, "InternalError", &e.to_string()))
        };
        self.control.answer(call, refusal, carry_out).await
    }
}

impl Ec2 {
    async fn carry_out(
        &self,
        action: &str,
        request: &Request,
        params: &Params,
    ) -> Result<Response, MotoError> {
        match action {
            "CreateFleet" => self.once(request, params, fleet::create).await,
            "RunInstances" => self.once(request, params, runner::run).await,
            "CreateVolume" => self.once(request, params, moto_alone).await,
            "CreateLaunchTemplate" => {
                let answer = self.moto.forward(request, params).await?;
                self.remember_template(params, &answer);
                Ok(answer)
            }
            "DeleteLaunchTemplate" => {
                let answer = self.moto.forward(request, params).await?;
                if answer.status == 200 {
                    let (id, name) = (
                        params.get("LaunchTemplateId"),
                        params.get("LaunchTemplateName"),
                    );
                    self.state.remove_template(id, name);
                }
                Ok(answer)
            }
            "DescribeInstances" => listing::describe(self, request, params).await,
            "StartInstances" => self.start(request, params).await,
            "AttachVolume" => self.attach(request, params).await,
            "CreateTags" => self.tag(request, params).await,
            "TerminateInstances" => self.terminate(request, params).await,
            "DescribeSpotPriceHistory" => Ok(prices::history(self, region(request), params)),
            "DescribeImages" if state::knows_image(params) => Ok(image()),
            "GetCallerIdentity" => Ok(identity::answer(&self.state, request)),
            _ => self.moto.forward(request, params).await,
        }
    }

    /// The same answer to the same client token; an error when the parameters are others.
    async fn once<'a, F, Fut>(
        &'a self,
        request: &'a Request,
        params: &'a Params,
        carry_out: F,
    ) -> Result<Response, MotoError>
    where
        F: FnOnce(&'a Self, &'a Request, &'a Params) -> Fut,
        Fut: Future<Output = Result<Response, MotoError>>,
    {
        let token = params.get("ClientToken");
        if token.is_empty() || params.get("DryRun") == "true" {
            return carry_out(self, request, params).await;
        }
        let key = format!("{}/{}/{token}", params.get("Action"), region(request));
        let kept = self.state.token(&key);
        let mut kept = kept.lock().await;
        let asked = params.encode();
        match &*kept {
            Some((first, answer)) if *first == asked => Ok(answer.clone()),
            Some(_) => Ok(wire::error(
                400,
                "IdempotentParameterMismatch",
                "The client token was used with other parameters.",
            )),
            None => {
                let answer = carry_out(self, request, params).await?;
                if answer.status == 200 {
                    *kept = Some((asked, answer.clone()));
                }
                Ok(answer)
            }
        }
    }

    fn remember_template(&self, params: &Params, answer: &Response) {
        let body = String::from_utf8_lossy(&answer.body);
        if let (200, Some(id)) = (answer.status, xml::text(&body, "launchTemplateId")) {
            self.state.add_template(state::Template {
                id: id.to_owned(),
                name: params.get("LaunchTemplateName").to_owned(),
                data: params.under("LaunchTemplateData").0,
            });
        }
    }

    async fn terminate(&self, request: &Request, params: &Params) -> Result<Response, MotoError> {
        let answer = self.moto.forward(request, params).await?;
        if answer.status == 200 {
            for id in params.values("InstanceId") {
                self.end(&id).await;
            }
        }
        Ok(answer)
    }

    /// The machine exists no more, and what booted of it ends.
    async fn end(&self, id: &str) {
        self.state.end(id);
        self.of_yard(id, |yard, id| {
            yard.end(id);
            Ok(())
        })
        .await
        .ok();
    }

    /// Does something to a machine that booted, where that may block; nothing where none boots.
    async fn of_yard(
        &self,
        id: &str,
        act: impl FnOnce(&Yard, &str) -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), MotoError> {
        let Some(yard) = self.state.yard().cloned() else {
            return Ok(());
        };
        let id = id.to_owned();
        let done = tokio::task::spawn_blocking(move || act(&yard, &id)).await;
        done.unwrap_or_else(|e| Err(std::io::Error::other(e)))
            .map_err(MotoError::Boot)
    }

    async fn start(&self, request: &Request, params: &Params) -> Result<Response, MotoError> {
        let answer = self.moto.forward(request, params).await?;
        if answer.status == 200 {
            for id in params.values("InstanceId") {
                self.of_yard(&id, |yard, id| yard.start(id)).await?;
            }
        }
        Ok(answer)
    }

    async fn attach(&self, request: &Request, params: &Params) -> Result<Response, MotoError> {
        let answer = self.moto.forward(request, params).await?;
        if answer.status == 200 {
            let volume = params.get("VolumeId").to_owned();
            let name = volume.replace('-', "");
            let disk = Disk {
                device: format!("/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{name}"),
                folder: self.state.disk(&volume),
            };
            let attach = move |yard: &Yard, id: &str| yard.attach(id, &disk);
            self.of_yard(params.get("InstanceId"), attach).await?;
        }
        Ok(answer)
    }

    /// Moto tags what is not there; EC2 does not.
    async fn tag(&self, request: &Request, params: &Params) -> Result<Response, MotoError> {
        let lives = |id: &String| self.state.machine(id).is_some_and(|m| !m.ended);
        let mut asked = params.values("ResourceId").into_iter();
        if let Some(nobody) = asked.find(|id| id.starts_with("i-") && !lives(id)) {
            let message = format!("The instance ID '{nobody}' does not exist");
            return Ok(wire::error(400, "InvalidInstanceID.NotFound", &message));
        }
        self.moto.forward(request, params).await
    }

    /// Takes a machine away behind everybody's back.
    pub(super) async fn kill(&self, id: &str) -> Result<(), MotoError> {
        self.behind("TerminateInstances", id).await?;
        self.end(id).await;
        Ok(())
    }

    pub(super) async fn stop(&self, id: &str) -> Result<(), MotoError> {
        self.behind("StopInstances", id).await?;
        self.of_yard(id, |yard, id| yard.stop(id)).await
    }

    async fn behind(&self, action: &str, id: &str) -> Result<(), MotoError> {
        if let Some(machine) = self.state.machine(id) {
            let mut params = Params::default();
            params.set("Action", action);
            params.set("Version", "2016-11-15");
            params.set("InstanceId.1", id);
            self.moto.call(&machine.region, &params).await?;
        }
        Ok(())
    }

    pub(super) async fn reset(&self) -> Result<(), MotoError> {
        self.moto.reset().await?;
        self.state.clear();
        self.control.faults.clear();
        self.control.forget();
        Ok(())
    }

    /// The zones of the region's subnets.
    pub(super) async fn zones(&self, region: &str) -> Result<BTreeMap<String, String>, MotoError> {
        if let Some(known) = self.state.zones(region) {
            return Ok(known);
        }
        let mut params = Params::default();
        params.set("Action", "DescribeSubnets");
        params.set("Version", "2016-11-15");
        let answer = self.moto.call(region, &params).await?;
        let body = String::from_utf8_lossy(&answer.body);
        let pair = |item: &str| {
            let zone = xml::text(item, "availabilityZone")?.to_owned();
            Some((xml::text(item, "subnetId")?.to_owned(), zone))
        };
        let subnets = xml::items(&body, "subnetSet").into_iter();
        let zones: BTreeMap<_, _> = subnets.filter_map(pair).collect();
        self.state.set_zones(region, zones.clone());
        Ok(zones)
    }
}

/// The region that a request's signature names.
pub(super) fn region(request: &Request) -> &str {
    let named = request.header("authorization").and_then(|header| {
        let (_, scope) = header.split_once("Credential=")?;
        scope.split('/').nth(2)
    });
    named.unwrap_or(REGION)
}

async fn moto_alone(
    cloud: &Ec2,
    request: &Request,
    params: &Params,
) -> Result<Response, MotoError> {
    cloud.moto.forward(request, params).await
}

/// Whether an action changes something.
fn mutating(action: &str, params: &Params) -> bool {
    let reads = ["Describe", "Get", "List"];
    params.get("DryRun") != "true" && !reads.iter().any(|verb| action.starts_with(verb))
}

/// What a fault is on EC2's wire: capacity is an error of the server there.
fn refusal(effect: &Effect) -> Response {
    let (status, code, message) = match effect {
        Effect::Capacity => (
            500,
            "InsufficientInstanceCapacity",
            "We currently do not have sufficient capacity in the Availability Zone you requested.",
        ),
        Effect::Quota => (
            400,
            "VcpuLimitExceeded",
            "You have requested more vCPU capacity than your current vCPU limit allows.",
        ),
        Effect::Throttle => (503, "RequestLimitExceeded", "Request limit exceeded."),
        _ => (500, "InternalError", "An internal error has occurred."),
    };
    wire::error(status, code, message)
}

/// [`IMAGE`], as `DescribeImages` shows it.
fn image() -> Response {
    wire::answer(
        "DescribeImages",
        &format!(
            "<imagesSet><item><imageId>{IMAGE}</imageId><imageState>available</imageState>\
             <imageOwnerId>{ACCOUNT}</imageOwnerId><architecture>x86_64</architecture>\
             <rootDeviceType>ebs</rootDeviceType><rootDeviceName>/dev/sda1</rootDeviceName>\
             </item></imagesSet>"
        ),
    )
}
