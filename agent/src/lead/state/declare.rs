//! Declaring: creates, adopts what an interrupted creation left, or changes one generation.

use super::draft::{Change, Draft};
use super::{MAX_OBJECTS, State, references};
use crate::lead::record::Piece;
use gpuloom_api::Refusal;
use gpuloom_fleet::{EventKind, Kind, Millis, Object, ObjectRecord, PoolPhase, PoolSpec};

/// What is declared, by whom.
#[derive(Debug, Clone)]
pub(crate) struct Declare {
    pub(crate) object: Object,
    pub(crate) owner: String,
    /// The run that declares; one random text for each.
    pub(crate) session: String,
    /// 0 creates; otherwise the generation last seen.
    pub(crate) expected_generation: u64,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) generation: u64,
    pub(crate) adopted: bool,
}

// === impl State ===

impl State {
    /// Declares an object; a declaration equal to what stands changes nothing.
    pub(crate) fn declare(
        &self,
        ask: &Declare,
        by: &str,
        now: Millis,
    ) -> Result<(Change, Declared), Refusal> {
        let (kind, name) = (ask.object.kind(), ask.object.name());
        let what = format!("{kind} {name}");
        check_text("owner", &ask.owner)?;
        check_text("session", &ask.session)?;
        ask.object.check().map_err(|p| Refusal::invalid(&what, p))?;
        let old = self.object(kind, name);
        if let Some(old) = old.filter(|o| o.withdrawing) {
            let message = format!("{what} of generation {} is being destroyed", old.generation);
            return Err(Refusal::in_use(message, "apply again when it is gone"));
        }
        let adopted = match old {
            Some(old) => admit(old, ask)?,
            None if ask.expected_generation > 0 => {
                let fix = "somebody removed it: refresh and apply again to create it anew";
                return Err(Refusal::not_found(kind, name, fix));
            }
            None if self.objects_of(kind).count() >= MAX_OBJECTS => {
                let limit = format!("the number of {kind} objects");
                return Err(Refusal::limit(&limit, MAX_OBJECTS, "remove some first"));
            }
            None => false,
        };
        references::check(self, &ask.object).map_err(|p| Refusal::invalid(&what, p))?;
        let mut draft = Draft::new(self);
        let same = old.is_some_and(|o| o.object == ask.object);
        let generation = old.map_or(0, |o| o.generation) + u64::from(!same);
        if same && !adopted {
            return Ok((
                draft.finish(),
                Declared {
                    generation,
                    adopted,
                },
            ));
        }
        draft.put(Piece::Object(ObjectRecord {
            object: ask.object.clone(),
            generation,
            owner: ask.owner.clone(),
            session: match old {
                Some(old) if !adopted => old.session.clone(),
                _ => ask.session.clone(),
            },
            confirmed: old.is_some_and(|o| o.confirmed && !adopted),
            withdrawing: false,
            declared_at: now,
        }));
        if let Object::Pool(spec) = &ask.object {
            size_pool(&mut draft, spec, now);
        }
        if !same {
            draft.event(EventKind::Declared {
                kind,
                name: name.to_owned(),
                generation,
                by: by.to_owned(),
            });
        }
        Ok((
            draft.finish(),
            Declared {
                generation,
                adopted,
            },
        ))
    }

    /// Its owner has read the object back: from now on creating it again is a mistake.
    pub(crate) fn confirm(&self, kind: Kind, name: &str) -> Change {
        let mut draft = Draft::new(self);
        if let Some(old) = self.object(kind, name).filter(|o| !o.confirmed) {
            draft.put(Piece::Object(ObjectRecord {
                confirmed: true,
                ..old.clone()
            }));
        }
        draft.finish()
    }
}

/// Whether the declaration may take the place of what stands; true when it adopts it.
fn admit(old: &ObjectRecord, ask: &Declare) -> Result<bool, Refusal> {
    let (kind, name) = (ask.object.kind(), ask.object.name());
    if ask.expected_generation > 0 {
        // The same change asked for again, as after a lost answer, is no conflict.
        if old.generation != ask.expected_generation && old.object != ask.object {
            let (have, got) = (old.generation, ask.expected_generation);
            return Err(Refusal::stale_generation(kind, name, have, got));
        }
        return Ok(false);
    }
    if old.session == ask.session {
        return Err(Refusal::declared_twice(kind, name));
    }
    if old.owner == ask.owner && !old.confirmed {
        return Ok(true);
    }
    let fix =
        format!("choose another name, or run: terraform import gpuloom_{kind}.<label> {name}");
    Err(Refusal::already_exists(kind, name, &old.owner, fix))
}

fn check_text(field: &str, value: &str) -> Result<(), Refusal> {
    let good = !value.is_empty() && value.len() <= 128 && !value.chars().any(char::is_control);
    if good {
        return Ok(());
    }
    let message = "is not usable";
    let fix = "give 1 to 128 bytes without control characters";
    Err(Refusal::invalid_field(field, value, message, fix))
}

fn size_pool(draft: &mut Draft<'_>, spec: &PoolSpec, now: Millis) {
    let old = draft.state.pools.get(&spec.name);
    let from = old.map_or(0, |s| s.wanted);
    let to = match old {
        Some(status) => status.wanted.clamp(spec.min, spec.max),
        None => spec.first_size(),
    };
    if old.is_some() && from == to {
        return;
    }
    let reason = match old {
        Some(_) => format!("the pool's bounds became {} to {}", spec.min, spec.max),
        None => "the pool was created".to_owned(),
    };
    let mut status = old.cloned().unwrap_or_default();
    status.wanted = to;
    status.changed_at = now;
    status.change_reason.clone_from(&reason);
    if old.is_none() {
        status.phase = PoolPhase::Provisioning;
    }
    draft.put(Piece::Pool(spec.name.clone(), status));
    draft.event(EventKind::PoolResized {
        pool: spec.name.clone(),
        from,
        to,
        reason,
    });
}
