//! `gpuloom sweep`: finds by tag what a fleet has left behind in its clouds, and ends it.
//!
//! What is swept: instances that the fleet's lead does not know, or every instance and retained disk of a fleet whose
//! lead is gone for good. Which of the two is stated, never guessed: a lead may live where nobody looked.

use super::offerings::Driver;
use super::place::PlaceArg;
use super::{CommandError, table};
use clap::Args;
use gpuloom_api::Client;
use gpuloom_cloud::{CloudError, Instance, InstanceState, Role, Tags};
use gpuloom_fleet::{FleetName, InstanceId, Millis, Seconds};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, Write};
use std::time::Duration;

/// The most places of one sweep.
const MAX_PLACES: usize = 64;

/// What to sweep, and where.
#[derive(Debug, Clone, Args)]
pub struct SweepArgs {
    /// The fleet's name, as in its tags
    #[arg(long, value_name = "NAME")]
    pub fleet: FleetName,
    /// Where to look: aws:REGION, gcp:PROJECT/REGION or azure:SUBSCRIPTION/GROUP/LOCATION; may be given several times
    #[arg(long, value_name = "PLACE", required = true)]
    pub at: Vec<PlaceArg>,
    /// List only: end nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask before ending
    #[arg(long, conflicts_with = "dry_run")]
    pub yes: bool,
    /// The lead is gone for good: everything of the fleet is left behind, disks and a lead's instance included.
    /// Without it the lead is asked what it knows
    #[arg(long)]
    pub lead_is_gone: bool,
    /// With --lead-is-gone: only what carries this fleet id, where two fleets of one name share an account
    #[arg(long, value_name = "ID", requires = "lead_is_gone")]
    pub fleet_id: Option<String>,
    /// With --lead-is-gone: leave retained disks, from which a lead can be brought back
    #[arg(long, requires = "lead_is_gone")]
    pub keep_disks: bool,
    /// An instance that the lead does not know and that is younger than this may still join
    #[arg(long, default_value = "15m", value_name = "TIME")]
    pub grace: Seconds,
    /// How long ending may take
    #[arg(long, default_value = "15m", value_name = "TIME")]
    pub timeout: Seconds,
}

/// What a lead that answers knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Its fleet's id.
    pub fleet_id: String,
    /// Its nodes.
    pub nodes: BTreeSet<String>,
}

/// A place and its driver.
#[derive(Debug)]
pub(super) struct Place {
    name: String,
    cloud: Driver,
}

/// An instance and what becomes of it.
#[derive(Debug)]
struct Found {
    place: usize,
    instance: Instance,
    verdict: Verdict,
}

/// What becomes of an instance, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// Left behind: it is ended.
    Orphan(String),
    /// It is left alone.
    Kept(String),
}

/// How a sweep ended.
#[derive(Debug, Default)]
struct Done {
    ended: BTreeSet<(usize, InstanceId)>,
    disks: Vec<String>,
    left: Vec<String>,
}

/// What the lead that was connected to knows; `None` when no endpoint is stated.
///
/// # Errors
/// [`CommandError::Unreachable`] when it gives no answer: whether it is gone for good is not decided here.
pub async fn known(
    args: &SweepArgs,
    connected: Result<Option<Client>, (String, u8)>,
) -> Result<Option<Known>, CommandError> {
    let silent = |why: String| {
        CommandError::Unreachable(format!(
            "the lead of {} cannot be asked what it knows: {why}; when it is gone for good, say --lead-is-gone",
            args.fleet
        ))
    };
    let Some(client) = connected.map_err(|(why, _)| silent(why))? else {
        return Ok(None);
    };
    let hello = client.hello();
    if hello.fleet_name != args.fleet.as_str() {
        let text = format!(
            "the lead that answers is of the fleet {:?}, not {:?}",
            hello.fleet_name,
            args.fleet.as_str()
        );
        return Err(CommandError::Usage(text));
    }
    let fleet_id = hello.fleet_id.clone();
    let nodes = client
        .nodes(None)
        .await
        .map_err(|e| silent(e.to_string()))?;
    let nodes = nodes.into_iter().map(|node| node.id).collect();
    Ok(Some(Known { fleet_id, nodes }))
}

/// Sweeps as `args` say; `known` is what the lead says, `None` when it was not asked. Lists on `out`, asks there and
/// reads the answer from `answers` (`None`: nobody can be asked).
///
/// # Errors
/// [`CommandError::Conflict`] when something would be ended and nobody said that the lead is gone;
/// [`CommandError::Failed`] names what is left.
pub async fn sweep(
    args: &SweepArgs,
    known: Option<&Known>,
    as_json: bool,
    now: Millis,
    out: &mut dyn Write,
    answers: Option<&mut dyn BufRead>,
) -> Result<(), CommandError> {
    if args.at.len() > MAX_PLACES {
        let text = format!(
            "a sweep looks in at most {MAX_PLACES} places, not {}: sweep twice",
            args.at.len()
        );
        return Err(CommandError::Usage(text));
    }
    let mut places = Vec::new();
    for at in &args.at {
        let cloud = crate::lead::open_cloud(&at.0).await;
        places.push(Place {
            name: at.to_string(),
            cloud: cloud.map_err(CommandError::cloud(format!("cannot use {at}")))?,
        });
    }
    let mut sweep = Sweep {
        args,
        known,
        as_json,
        now,
        places,
        out,
    };
    sweep.run(answers).await
}

struct Sweep<'a> {
    args: &'a SweepArgs,
    known: Option<&'a Known>,
    as_json: bool,
    now: Millis,
    places: Vec<Place>,
    out: &'a mut dyn Write,
}

// === impl Sweep ===

impl Sweep<'_> {
    async fn run(&mut self, answers: Option<&mut dyn BufRead>) -> Result<(), CommandError> {
        let found = self.look().await?;
        let orphans = found.iter().filter(|f| f.verdict.is_orphan()).count();
        let disks = self.args.lead_is_gone && !self.args.keep_disks;
        if self.args.dry_run || (orphans == 0 && !disks) {
            self.show(&found, None)?;
            return self.undecided(&found);
        }
        if !self.as_json {
            self.show(&found, None)?;
        }
        self.undecided(&found)?;
        if !self.args.yes {
            self.ask(orphans, disks, answers)?;
        }
        let done = self.end(&found, disks).await;
        if self.as_json {
            self.show(&found, Some(&done))?;
        } else {
            writeln!(self.out, "{} ended", count(done.ended.len(), "instance"))?;
            for place in &done.disks {
                writeln!(self.out, "no retained disk is left in {place}")?;
            }
        }
        if done.left.is_empty() {
            return Ok(());
        }
        let text = format!(
            "not all is gone; sweep again:\n  {}",
            done.left.join("\n  ")
        );
        Err(CommandError::Failed(text))
    }

    /// Every instance that carries the fleet's name, in every place. A place that cannot be listed fails the sweep:
    /// nothing known is not nothing there.
    async fn look(&self) -> Result<Vec<Found>, CommandError> {
        let tags = Tags::of_fleet(&self.args.fleet);
        let mut found = Vec::new();
        for (i, place) in self.places.iter().enumerate() {
            let listed = place.cloud.list(&tags).await;
            let what = format!("cannot list what {} has in {}", self.args.fleet, place.name);
            for instance in listed.map_err(CommandError::cloud(what))? {
                let verdict = self.judge(&instance);
                found.push(Found {
                    place: i,
                    instance,
                    verdict,
                });
            }
        }
        Ok(found)
    }

    fn judge(&self, instance: &Instance) -> Verdict {
        let kept = |why: &str| Verdict::Kept(why.to_owned());
        let id = instance.tags.get(Tags::FLEET_ID).unwrap_or_default();
        let node = instance.role == Role::Node;
        if instance.state == InstanceState::Terminating {
            return kept("is ending");
        }
        if self.args.lead_is_gone {
            let other = self.args.fleet_id.as_deref().filter(|wanted| *wanted != id);
            return match other {
                Some(_) => Verdict::Kept(format!("carries the fleet id {id:?}")),
                None => Verdict::Orphan("the lead is gone".to_owned()),
            };
        }
        let Some(known) = self.known else {
            return kept("nobody said whether the lead is gone");
        };
        if !node {
            return kept("a lead, and the fleet's lead answers");
        }
        if id != known.fleet_id {
            return Verdict::Kept(format!("of another fleet of this name, {id:?}"));
        }
        if known.nodes.contains(instance.id.as_str()) {
            return kept("a node of the fleet");
        }
        let age = Seconds(self.now.since_ms(instance.launched_at) / 1000);
        if age < self.args.grace {
            return Verdict::Kept(format!("launched {age} ago, may still join"));
        }
        Verdict::Orphan("the lead does not know it".to_owned())
    }

    /// Refuses to go on when nobody said what is left behind.
    fn undecided(&self, found: &[Found]) -> Result<(), CommandError> {
        if self.known.is_some() || self.args.lead_is_gone || found.is_empty() || self.args.dry_run {
            return Ok(());
        }
        Err(CommandError::Conflict(format!(
            "{} may have a lead that lives: give --endpoint, so that it is asked what it knows, or --lead-is-gone",
            self.args.fleet
        )))
    }

    fn ask(
        &mut self,
        orphans: usize,
        disks: bool,
        answers: Option<&mut dyn BufRead>,
    ) -> Result<(), CommandError> {
        let Some(answers) = answers else {
            let text = "nobody can be asked here: give --yes to end them, --dry-run to list them";
            return Err(CommandError::Usage(text.to_owned()));
        };
        let disks = if disks { " and the retained disks" } else { "" };
        let fleet = &self.args.fleet;
        write!(
            self.out,
            "End {}{disks} of {fleet} for good? Type the fleet's name to do it: ",
            count(orphans, "instance")
        )?;
        self.out.flush()?;
        let mut line = String::new();
        answers.read_line(&mut line)?;
        if line.trim() == fleet.as_str() {
            return Ok(());
        }
        let text = "nothing was ended: the answer was not the fleet's name".to_owned();
        Err(CommandError::Failed(text))
    }

    /// Ends every orphan, then the disks, and looks again until nothing is left or time is up.
    async fn end(&self, found: &[Found], disks: bool) -> Done {
        let limit = Duration::from_secs(self.args.timeout.0);
        let until = tokio::time::Instant::now() + limit;
        let mut done = Done::default();
        for orphan in found.iter().filter(|f| f.verdict.is_orphan()) {
            let (place, id) = (&self.places[orphan.place], &orphan.instance.id);
            match tokio::time::timeout_at(until, place.cloud.terminate(id)).await {
                Ok(Ok(())) => {
                    done.ended.insert((orphan.place, id.clone()));
                }
                Ok(Err(error)) => done.left.push(format!("{id} in {}: {error}", place.name)),
                Err(_) => done.left.push(format!(
                    "{id} in {}: not ended within {}",
                    place.name, self.args.timeout
                )),
            }
        }
        if disks {
            self.end_disks(found, until, &mut done).await;
        }
        done
    }

    async fn end_disks(&self, found: &[Found], until: tokio::time::Instant, done: &mut Done) {
        let mut tags = Tags::of_fleet(&self.args.fleet);
        if let Some(id) = &self.args.fleet_id {
            tags.0.insert(Tags::FLEET_ID.to_owned(), id.clone());
        }
        for (i, place) in self.places.iter().enumerate() {
            // Whose disks they are cannot be told where another fleet of this name lives.
            let shared = found.iter().any(|f| {
                f.place == i
                    && !f.verdict.is_orphan()
                    && f.instance.state != InstanceState::Terminating
            });
            if shared && self.args.fleet_id.is_none() {
                done.left.push(format!(
                    "retained disks in {}: other instances carry this fleet's name",
                    place.name
                ));
                continue;
            }
            let said: Result<(), CloudError> =
                match tokio::time::timeout_at(until, place.cloud.delete_disks(&tags)).await {
                    Ok(said) => said,
                    Err(late) => Err(CloudError::transient("not done in time", late)),
                };
            match said {
                Ok(()) => done.disks.push(place.name.clone()),
                Err(error) => done
                    .left
                    .push(format!("retained disks in {}: {error}", place.name)),
            }
        }
    }

    fn show(&mut self, found: &[Found], done: Option<&Done>) -> Result<(), CommandError> {
        if self.as_json {
            let instances: Vec<Value> = found
                .iter()
                .map(|f| {
                    let ended =
                        done.is_some_and(|d| d.ended.contains(&(f.place, f.instance.id.clone())));
                    self.found_json(f, ended)
                })
                .collect();
            let document = json!({
                "fleet": self.args.fleet.as_str(),
                "instances": instances,
                "disks_removed_in": done.map(|d| d.disks.clone()).unwrap_or_default(),
                "left": done.map(|d| d.left.clone()).unwrap_or_default(),
            });
            writeln!(self.out, "{document:#}")?;
            return Ok(());
        }
        if found.is_empty() {
            let places: Vec<&str> = self.places.iter().map(|p| p.name.as_str()).collect();
            writeln!(
                self.out,
                "{} has no instance in {}",
                self.args.fleet,
                places.join(", ")
            )?;
            return Ok(());
        }
        let rows: Vec<Vec<String>> = found.iter().map(|f| self.cells(f)).collect();
        let head = [
            "INSTANCE", "PLACE", "ROLE", "POOL", "STATE", "AGE", "WHAT", "WHY",
        ];
        table::write(self.out, &head, &rows)?;
        Ok(())
    }

    fn cells(&self, found: &Found) -> Vec<String> {
        let instance = &found.instance;
        let pool = instance.pool.as_ref().map(ToString::to_string);
        vec![
            instance.id.to_string(),
            self.places[found.place].name.clone(),
            instance.role.to_string(),
            pool.unwrap_or_else(|| "-".to_owned()),
            state(instance.state).to_owned(),
            Seconds(self.now.since_ms(instance.launched_at) / 1000).to_string(),
            found.verdict.word().to_owned(),
            found.verdict.why().to_owned(),
        ]
    }

    fn found_json(&self, found: &Found, ended: bool) -> Value {
        let instance = &found.instance;
        json!({
            "id": instance.id.as_str(),
            "place": self.places[found.place].name,
            "offering": instance.offering.0,
            "role": instance.role.to_string(),
            "pool": instance.pool.as_ref().map(ToString::to_string),
            "fleet_id": instance.tags.get(Tags::FLEET_ID),
            "state": state(instance.state),
            "launched_at_ms": instance.launched_at.0,
            "verdict": found.verdict.word(),
            "why": found.verdict.why(),
            "ended": ended,
        })
    }
}

// === impl Verdict ===

impl Verdict {
    fn is_orphan(&self) -> bool {
        matches!(self, Self::Orphan(_))
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Orphan(_) => "orphan",
            Self::Kept(_) => "kept",
        }
    }

    fn why(&self) -> &str {
        match self {
            Self::Orphan(why) | Self::Kept(why) => why,
        }
    }
}

fn state(state: InstanceState) -> &'static str {
    match state {
        InstanceState::Launching => "launching",
        InstanceState::Running => "running",
        InstanceState::Stopped => "stopped",
        InstanceState::Terminating => "terminating",
    }
}

fn count(n: usize, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {what}{plural}")
}

#[cfg(test)]
mod tests;
