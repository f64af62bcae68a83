//! `gpuloom_fleet` as a data source: a fleet that exists, by its name here or by where it answers.

use tfplug::{
    Attribute, DataCtx, DataSource, Diagnostics, Schema, Type, Value, async_trait, validators,
};

use super::missing;
use crate::configure::Settings;
use crate::convert::Connection;
use crate::lead::{Lead, Unreachable};
use crate::lead_instance;
use crate::resources::{ca_pin, connection_attributes, endpoint};

pub(super) struct Fleet;

#[async_trait]
impl DataSource for Fleet {
    fn name(&self) -> &str {
        "fleet"
    }

    fn schema(&self) -> Schema {
        let said = |name: &str, text: &str| Attribute::string(name).computed().description(text);
        Schema::new(0)
            .description(
                "A fleet that exists: one of this machine by its `name`, any other by its `endpoints` and `ca_pin`.",
            )
            .attribute(
                Attribute::string("name")
                    .optional()
                    .computed()
                    .description("The fleet's name; needed unless `endpoints` and `ca_pin` are set.")
                    .validate(validators::parses("a fleet's name", |s| s.parse::<gpuloom_fleet::FleetName>())),
            )
            .attribute(
                Attribute::list("endpoints", Type::String)
                    .optional()
                    .computed()
                    .description("`host:port` of each agent that may answer.")
                    .validate(validators::size(1..=gpuloom_api::MAX_ENDPOINTS))
                    .validate(validators::each(endpoint())),
            )
            .attribute(
                Attribute::string("ca_pin")
                    .optional()
                    .computed()
                    .description("`sha256:` and 64 hexadecimal digits: the fleet's certificate authority.")
                    .validate(ca_pin()),
            )
            .attribute(
                Attribute::object("connection", connection_attributes())
                    .computed()
                    .description("What other resources take as `fleet`."),
            )
            .attribute(said("agent_version", "The version its lead tells."))
            .attribute(said("backend", "`nvml`, or `simulated`: no GPU is touched."))
            .validate(tfplug::required_with(["endpoints", "ca_pin"]))
            .validate(tfplug::at_least_one_of(["name", "endpoints"]))
    }

    async fn read(&self, ctx: &mut DataCtx) -> Result<Value, Diagnostics> {
        let settings = ctx.data::<Settings>()?;
        let config = ctx.config.view();
        let name = config.attr("name").opt_str()?.map(str::to_owned);
        let stated = config.attr("endpoints").non_null();
        let (endpoints, ca_pin) = match (&stated, &name) {
            (Some(endpoints), _) => {
                let listed = endpoints.elements();
                let listed: Result<Vec<_>, _> =
                    listed.iter().map(|e| e.str().map(str::to_owned)).collect();
                (listed?, config.attr("ca_pin").str()?.to_owned())
            }
            (None, Some(name)) => {
                let site = crate::convert::Site::Local(Default::default());
                let fleet = lead_instance::find(&settings, &site, name).await?;
                let found = fleet.and_then(|f| f.connection).ok_or_else(|| {
                    let root = settings.local.shown_root();
                    missing(&format!("There is no fleet {name:?} in {root}; one elsewhere is named by endpoints and ca_pin."))
                })?;
                (found.endpoints, found.ca_pin)
            }
            (None, None) => return Err(missing("State its name, or its endpoints and ca_pin.")),
        };
        let lead = Lead::connect_anyhow(&endpoints, &ca_pin, settings.key()?).await;
        let lead = lead.map_err(|unreachable| match unreachable {
            Unreachable::Silent(why) => missing(&why),
            Unreachable::Refused(diagnostics) => diagnostics,
        })?;
        let hello = lead.hello();
        if name.as_ref().is_some_and(|name| *name != hello.fleet_name) {
            let text = format!(
                "The fleet at {} is called {:?}.",
                endpoints.join(", "),
                hello.fleet_name
            );
            return Err(missing(&text));
        }
        let connection = Connection {
            id: hello.fleet_id.clone(),
            endpoints,
            ca_pin,
        };
        Ok(ctx
            .config
            .clone()
            .with("name", hello.fleet_name.as_str())
            .with(
                "endpoints",
                Value::list(connection.endpoints.iter().map(String::as_str)),
            )
            .with("ca_pin", connection.ca_pin.as_str())
            .with("connection", connection.value())
            .with("agent_version", hello.version.as_str())
            .with("backend", hello.backend.as_str()))
    }
}
