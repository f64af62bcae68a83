//! The control endpoint over HTTP: what all doubles have, and `/_double/aws/...`.

use super::{Ec2, Machine};
use crate::control::{Instances, Seen};
use crate::http::{Request, Response};
use async_trait::async_trait;
use serde_json::{Value, json};

// === impl Ec2 ===

impl Ec2 {
    /// Answers `/_double/...`: `GET aws/subnets?region=R`, `GET aws/templates`, `POST aws/rooms`
    /// (`{"pattern": "us-east-1a/*", "most": 0}`), `DELETE aws/rooms`, `POST aws/list-lag` (`{"listings": n}`),
    /// `POST aws/spot-price` (`{"instance_type", "zone", "dollars"}`), `POST aws/reset`, `POST aws/stop` (`{"id"}`), and
    /// those of [`crate::control::Control::serve`].
    pub(super) async fn control_endpoint(&self, request: &Request) -> Response {
        let own = request.path.strip_prefix("/_double/aws/");
        let Some(path) = own else {
            let common = self.control.serve(request, self).await;
            return common.unwrap_or_else(|| Response::empty(404));
        };
        match self.own_endpoint(path, request).await {
            Ok(answer) => Response::json(200, &answer),
            Err(why) => Response::json(400, &json!({ "error": why })),
        }
    }

    async fn own_endpoint(&self, path: &str, request: &Request) -> Result<Value, String> {
        let body = request.json().map_err(|e| e.to_string())?;
        let text = |name: &str| {
            let value = body[name].as_str();
            value.ok_or_else(|| format!("state {name} as a text"))
        };
        let number = |name: &str| {
            let value = body[name].as_u64();
            value.ok_or_else(|| format!("state {name} as a number"))
        };
        match (request.method.as_str(), path) {
            ("GET", "subnets") => {
                let region = request.parameter("region").ok_or("state region")?;
                let zones = self.zones(&region).await.map_err(|e| e.to_string())?;
                Ok(json!(zones))
            }
            ("GET", "templates") => Ok(json!(self.state.template_names())),
            ("POST", "rooms") => {
                let most = usize::try_from(number("most")?).map_err(|e| e.to_string())?;
                self.state.set_room(text("pattern")?, most);
                Ok(json!({}))
            }
            ("DELETE", "rooms") => {
                self.state.clear_rooms();
                Ok(json!({}))
            }
            ("POST", "list-lag") => {
                let listings = u32::try_from(number("listings")?).map_err(|e| e.to_string())?;
                self.state.set_list_lag(listings);
                Ok(json!({}))
            }
            ("POST", "spot-price") => {
                let (kind, zone) = (text("instance_type")?, text("zone")?);
                self.state.set_spot_price(kind, zone, text("dollars")?);
                Ok(json!({}))
            }
            ("POST", "reset") => {
                self.reset().await.map_err(|e| e.to_string())?;
                Ok(json!({}))
            }
            ("POST", "stop") => {
                self.stop(text("id")?).await.map_err(|e| e.to_string())?;
                Ok(json!({}))
            }
            _ => Err(format!("there is no control endpoint aws/{path}")),
        }
    }
}

#[async_trait]
impl Instances for Ec2 {
    async fn instances(&self) -> Vec<Seen> {
        self.state.machines().iter().map(seen).collect()
    }

    async fn kill(&self, id: &str) -> Result<(), String> {
        if self.state.machine(id).is_none() {
            return Err(format!("there is no instance {id}"));
        }
        Self::kill(self, id).await.map_err(|e| e.to_string())
    }

    async fn notice(&self, id: &str, notice: &Value) -> Result<(), String> {
        match self.state.yard() {
            Some(yard) => yard.notice(id, notice),
            None => Err(format!(
                "instance {id} has no metadata service: it was not booted"
            )),
        }
    }
}

fn seen(machine: &Machine) -> Seen {
    Seen {
        id: machine.id.clone(),
        state: if machine.ended {
            "terminated"
        } else {
            "running"
        }
        .to_owned(),
        zone: machine.subnet.clone(),
        instance_type: machine.instance_type.clone(),
        spot: machine.market == "spot",
        tags: machine.tags.clone(),
        private_address: Some(machine.private_address.clone()),
        user_data: machine.user_data.clone(),
    }
}
