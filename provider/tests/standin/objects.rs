//! Declared objects in a file, with the rules of declaring that the provider relies on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use gpuloom_api::{Refusal, proto};
use gpuloom_fleet::{Millis, Object, ObjectRecord, PoolPhase, PoolStatus};

pub(crate) struct Objects {
    path: PathBuf,
    gpus: u32,
    records: BTreeMap<String, ObjectRecord>,
}

fn key(kind: &str, name: &str) -> String {
    format!("{kind}/{name}")
}

impl Objects {
    pub(crate) fn open(path: PathBuf, gpus: u32) -> Self {
        let records =
            std::fs::read(&path).map(|t| serde_json::from_slice(&t).expect("our own file"));
        Self {
            path,
            gpus,
            records: records.unwrap_or_default(),
        }
    }

    fn store(&self) {
        let text = serde_json::to_vec(&self.records).expect("objects encode");
        std::fs::write(&self.path, text).expect("written");
    }

    pub(crate) fn declare(
        &mut self,
        ask: proto::DeclareRequest,
    ) -> Result<proto::DeclareReply, Refusal> {
        let object = Object::try_from(ask.object.unwrap_or_default())?;
        let (kind, name) = (object.kind(), object.name().to_owned());
        object
            .check()
            .map_err(|p| Refusal::invalid(&format!("{kind} {name}"), p))?;
        if let Object::Quota(quota) = &object
            && !self
                .records
                .contains_key(&key("tenant", quota.tenant.as_str()))
        {
            let fix = "declare the tenant first";
            return Err(Refusal::invalid_field(
                "tenant",
                &quota.tenant,
                "there is no such tenant",
                fix,
            ));
        }
        let key = key(kind.as_str(), &name);
        let old = self.records.get(&key);
        let mut adopted = false;
        match old {
            Some(old)
                if ask.expected_generation > 0
                    && old.generation != ask.expected_generation
                    && old.object != object =>
            {
                let (have, got) = (old.generation, ask.expected_generation);
                return Err(Refusal::stale_generation(kind, name, have, got));
            }
            Some(_) if ask.expected_generation > 0 => {}
            Some(old) if old.session == ask.session => {
                return Err(Refusal::declared_twice(kind, name));
            }
            Some(old) if old.owner == ask.owner && !old.confirmed => adopted = true,
            Some(old) => return Err(Refusal::already_exists(kind, name, &old.owner, "import it")),
            None if ask.expected_generation > 0 => return Err(Refusal::not_found(kind, name, "")),
            None => {}
        }
        let same = old.is_some_and(|o| o.object == object);
        let generation = old.map_or(0, |o| o.generation) + u64::from(!same);
        let confirmed = old.is_some_and(|o| o.confirmed);
        let record = ObjectRecord {
            object,
            generation,
            owner: ask.owner,
            session: ask.session,
            confirmed,
            withdrawing: false,
            declared_at: Millis(1),
        };
        self.records.insert(key, record);
        self.store();
        Ok(proto::DeclareReply {
            generation,
            adopted,
        })
    }

    pub(crate) fn withdraw(
        &mut self,
        ask: &proto::WithdrawRequest,
    ) -> Result<proto::WithdrawReply, Refusal> {
        let key = key(&ask.kind, &ask.name);
        let Some(old) = self.records.get(&key) else {
            return Ok(proto::WithdrawReply {
                existed: false,
                gone: true,
            });
        };
        if ask.expected_generation > 0 && ask.expected_generation != old.generation {
            let (have, got) = (old.generation, ask.expected_generation);
            return Err(Refusal::stale_generation(&ask.kind, &ask.name, have, got));
        }
        // A pool needs a moment to go.
        let gone = ask.kind != "pool";
        if gone {
            self.records.remove(&key);
        } else if let Some(record) = self.records.get_mut(&key) {
            record.withdrawing = true;
        }
        self.store();
        Ok(proto::WithdrawReply {
            existed: true,
            gone,
        })
    }

    pub(crate) fn get(
        &mut self,
        kind: &str,
        name: &str,
        confirm: bool,
    ) -> Option<proto::ObjectRecord> {
        let key = key(kind, name);
        self.records.get_mut(&key)?.confirmed |= confirm;
        self.store();
        let record = self.records.get(&key)?;
        Some(proto::ObjectRecord {
            pool: self.view(name, kind),
            ..record.into()
        })
    }

    pub(crate) fn list(&self, kind: &str) -> Vec<proto::ObjectRecord> {
        let of_kind = self
            .records
            .values()
            .filter(|r| kind.is_empty() || r.object.kind().as_str() == kind);
        of_kind.map(proto::ObjectRecord::from).collect()
    }

    /// How a pool stands; one that was withdrawn is gone once it has been looked at.
    pub(crate) fn watch(&mut self, name: &str) -> proto::PoolView {
        let record = self.records.get(&key("pool", name));
        if record.is_none_or(|r| r.withdrawing) {
            self.records.remove(&key("pool", name));
            self.store();
            return proto::PoolView {
                gone: true,
                ..proto::PoolView::default()
            };
        }
        self.view(name, "pool").unwrap_or_default()
    }

    fn view(&self, name: &str, kind: &str) -> Option<proto::PoolView> {
        if kind != "pool" {
            return None;
        }
        let record = self.records.get(&key(kind, name))?;
        let Object::Pool(spec) = &record.object else {
            return None;
        };
        let wanted = spec.first_size();
        // Nodes of a pool called `slow` never get ready.
        let slow = name == "slow";
        let ready = if slow {
            0
        } else {
            wanted.min(self.gpus / spec.gpu.per_node)
        };
        let short = ready < wanted;
        let status = PoolStatus {
            wanted,
            provisioned: ready,
            ready,
            phase: match (slow, short) {
                (true, _) => PoolPhase::Provisioning,
                (_, true) => PoolPhase::Degraded,
                _ => PoolPhase::Ready,
            },
            shortfall: if short && !slow {
                format!("the machine has {} GPUs", self.gpus)
            } else {
                String::new()
            },
            ..PoolStatus::default()
        };
        Some(gpuloom_api::convert::pool_view(&status, Vec::new(), 0))
    }
}
