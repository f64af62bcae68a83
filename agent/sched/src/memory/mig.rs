//! MIG: which memory slices of one GPU an instance gets, so that the most still fits afterwards.
//!
//! A GPU of this kind has 8 memory and 7 compute slices. An instance takes a run of memory slices
//! that starts at one of its profile's published places. Source: NVIDIA MIG User Guide, supported
//! profiles, and `nvidia-smi mig -lgipp`, which list the same places for A100, H100 and H200.

use std::cmp::Reverse;

/// Memory slices of a GPU.
pub const MEMORY_SLICES: u8 = 8;
/// Compute slices of a GPU.
pub const COMPUTE_SLICES: u8 = 7;

/// A GPU that can be cut into instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Model {
    /// A100 of 40 GB.
    A100Gb40,
    /// A100 of 80 GB.
    A100Gb80,
    /// H100 of 80 GB.
    H100Gb80,
    /// H100 of 94 GB (NVL).
    H100Gb94,
    /// H100 of 96 GB (GH200).
    H100Gb96,
    /// H200 of 141 GB.
    H200Gb141,
}

/// A kind of instance. Its name on a model is given by [`Profile::name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// One slice of each.
    G1,
    /// As `G1` with the media engines; at most one of a GPU.
    G1Media,
    /// One compute slice, two of memory.
    G1Double,
    /// Two of each.
    G2,
    /// Three compute slices, four of memory.
    G3,
    /// Four of each.
    G4,
    /// The whole GPU.
    G7,
}

/// An instance that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instance {
    /// Its kind.
    pub profile: Profile,
    /// Its first memory slice.
    pub start: u8,
}

/// How an instance may be given room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rearrangement {
    /// Instances to be emptied and made again elsewhere, with their new first slice. Take all down,
    /// then make them in this order.
    pub moved: Vec<(Instance, u8)>,
    /// Where the new instance starts then.
    pub start: u8,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// No place of the profile is free.
    #[error(
        "no place for {0:?}: {1} of {MEMORY_SLICES} memory and {2} of {COMPUTE_SLICES} compute slices are free"
    )]
    Full(Profile, u8, u8),
    /// The GPU's media engines are taken.
    #[error("the media engines are taken: one instance of a GPU may have them")]
    Media,
    /// An instance is not at a published place, or overlaps another.
    #[error("{0:?} cannot be there: give one of its profile's places that is free")]
    Misplaced(Instance),
}

/// One GPU's instances.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slices {
    instances: Vec<Instance>,
}

// === impl Profile ===

impl Profile {
    /// Every profile, smallest first.
    pub const ALL: [Self; 7] = [
        Self::G1,
        Self::G1Media,
        Self::G1Double,
        Self::G2,
        Self::G3,
        Self::G4,
        Self::G7,
    ];

    /// Memory slices it takes.
    #[must_use]
    pub const fn memory(self) -> u8 {
        match self {
            Self::G1 | Self::G1Media => 1,
            Self::G1Double | Self::G2 => 2,
            Self::G3 | Self::G4 => 4,
            Self::G7 => 8,
        }
    }

    /// Compute slices it takes.
    #[must_use]
    pub const fn compute(self) -> u8 {
        match self {
            Self::G1 | Self::G1Media | Self::G1Double => 1,
            Self::G2 => 2,
            Self::G3 => 3,
            Self::G4 => 4,
            Self::G7 => 7,
        }
    }

    /// The memory slices at which it may start.
    #[must_use]
    pub const fn places(self) -> &'static [u8] {
        match self {
            Self::G1 | Self::G1Media => &[0, 1, 2, 3, 4, 5, 6],
            Self::G1Double => &[0, 2, 4, 6],
            Self::G2 => &[0, 2, 4],
            Self::G3 => &[0, 4],
            Self::G4 | Self::G7 => &[0],
        }
    }

    /// What the driver calls it on a model, e.g. `3g.40gb`.
    #[must_use]
    pub fn name(self, model: Model) -> String {
        let column = match self {
            Self::G1 | Self::G1Media => 0,
            Self::G1Double | Self::G2 => 1,
            Self::G3 | Self::G4 => 2,
            Self::G7 => 3,
        };
        let gb: [u32; 4] = match model {
            Model::A100Gb40 => [5, 10, 20, 40],
            Model::A100Gb80 | Model::H100Gb80 => [10, 20, 40, 80],
            Model::H100Gb94 => [12, 24, 47, 94],
            Model::H100Gb96 => [12, 24, 48, 96],
            Model::H200Gb141 => [18, 35, 71, 141],
        };
        let media = if self == Self::G1Media { "+me" } else { "" };
        format!("{}g.{}gb{media}", self.compute(), gb[column])
    }

    /// The profile of that name on a model; `None`: there is none.
    #[must_use]
    pub fn of_name(name: &str, model: Model) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.name(model) == name)
    }

    fn mask(self, start: u8) -> u8 {
        let run = u8::MAX >> (MEMORY_SLICES - self.memory());
        run << start
    }
}

// === impl Slices ===

impl Slices {
    /// A GPU with no instance.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The GPU as it was found.
    ///
    /// # Errors
    /// When an instance is at no published place, or two overlap.
    pub fn with(instances: &[Instance]) -> Result<Self, NoPlace> {
        let mut slices = Self::new();
        for instance in instances {
            slices.put(*instance)?;
        }
        Ok(slices)
    }

    /// What exists, in the order in which it was made.
    #[must_use]
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// Memory slices in no instance.
    #[must_use]
    pub fn free_memory(&self) -> u8 {
        let used: u8 = self.instances.iter().map(|i| i.profile.memory()).sum();
        MEMORY_SLICES.saturating_sub(used)
    }

    /// Compute slices in no instance.
    #[must_use]
    pub fn free_compute(&self) -> u8 {
        let used: u8 = self.instances.iter().map(|i| i.profile.compute()).sum();
        COMPUTE_SLICES.saturating_sub(used)
    }

    /// Makes an instance at a place of the caller's choice.
    ///
    /// # Errors
    /// When it cannot be there.
    pub fn put(&mut self, instance: Instance) -> Result<(), NoPlace> {
        if !self.may(instance.profile, instance.start) {
            return Err(NoPlace::Misplaced(instance));
        }
        self.instances.push(instance);
        Ok(())
    }

    /// Makes an instance where it leaves the most places for what may come, by [`Self::room`]; of
    /// equals the highest, since every profile can start at 0.
    ///
    /// # Errors
    /// When no place is free.
    pub fn place(&mut self, profile: Profile) -> Result<Instance, NoPlace> {
        let best = profile
            .places()
            .iter()
            .filter(|start| self.may(profile, **start))
            .max_by_key(|start| {
                let mut after = self.clone();
                let start = **start;
                after.instances.push(Instance { profile, start });
                (after.room(), start)
            });
        let Some(start) = best.copied() else {
            let media = profile == Profile::G1Media && self.has_media();
            return Err(if media {
                NoPlace::Media
            } else {
                NoPlace::Full(profile, self.free_memory(), self.free_compute())
            });
        };
        let instance = Instance { profile, start };
        self.instances.push(instance);
        Ok(instance)
    }

    /// Takes an instance down; `false`: it does not exist.
    pub fn remove(&mut self, instance: Instance) -> bool {
        let found = self.instances.iter().position(|i| *i == instance);
        found.map(|i| self.instances.remove(i)).is_some()
    }

    /// What is left for later: over all profiles, the places still free, each counted with the
    /// memory slices an instance there would have. 0 on a full GPU.
    #[must_use]
    pub fn room(&self) -> u32 {
        let of = |p: Profile| {
            let places = p.places().iter().filter(|s| self.may(p, **s)).count();
            u32::try_from(places).unwrap_or(0) * u32::from(p.memory())
        };
        Profile::ALL.into_iter().map(of).sum()
    }

    /// How room is made for a profile by making as few memory slices again elsewhere as possible;
    /// `movable` says which instances are idle or may be drained. `None`: there is no way. Exact.
    #[must_use]
    pub fn rearrange(
        &self,
        profile: Profile,
        movable: impl Fn(&Instance) -> bool,
    ) -> Option<Rearrangement> {
        let candidates: Vec<Instance> = self
            .instances
            .iter()
            .filter(|i| movable(i))
            .copied()
            .collect();
        let mut sets: Vec<u32> = (0..1u32 << candidates.len()).collect();
        let chosen = |set: u32| {
            let bits = candidates.iter().enumerate();
            bits.filter(move |(i, _)| set & (1 << i) != 0)
                .map(|(_, c)| *c)
        };
        sets.sort_by_key(|set| {
            let slices: u32 = chosen(*set).map(|i| u32::from(i.profile.memory())).sum();
            (slices, set.count_ones(), *set)
        });
        sets.into_iter().find_map(|set| {
            let mut moved: Vec<Instance> = chosen(set).collect();
            let mut slices = self.clone();
            for instance in &moved {
                slices.remove(*instance);
            }
            moved.sort_by_key(|i| Reverse(i.profile.memory()));
            let mut wanted = vec![profile];
            wanted.extend(moved.iter().map(|i| i.profile));
            let starts = slices.fit(&wanted)?;
            let moved = moved.into_iter().zip(starts[1..].iter().copied());
            Some(Rearrangement {
                moved: moved.filter(|(i, start)| i.start != *start).collect(),
                start: starts[0],
            })
        })
    }

    /// Places for all of the profiles at once beside what exists; `None`: they do not fit. Exact, by
    /// trying every combination; a GPU has at most seven instances.
    #[must_use]
    pub fn fit(&self, profiles: &[Profile]) -> Option<Vec<u8>> {
        let Some((first, rest)) = profiles.split_first() else {
            return Some(Vec::new());
        };
        let compute: u8 = profiles
            .iter()
            .map(|p| p.compute())
            .fold(0, u8::saturating_add);
        if compute > self.free_compute() {
            return None;
        }
        first.places().iter().rev().find_map(|start| {
            if !self.may(*first, *start) {
                return None;
            }
            let mut with = self.clone();
            with.instances.push(Instance {
                profile: *first,
                start: *start,
            });
            let mut starts = vec![*start];
            starts.extend(with.fit(rest)?);
            Some(starts)
        })
    }

    fn has_media(&self) -> bool {
        // The whole GPU has its media engines too.
        let media = |i: &Instance| matches!(i.profile, Profile::G1Media | Profile::G7);
        self.instances.iter().any(media)
    }

    fn may(&self, profile: Profile, start: u8) -> bool {
        let used: u8 = self
            .instances
            .iter()
            .fold(0, |used, i| used | i.profile.mask(i.start));
        profile.places().contains(&start)
            && used & profile.mask(start) == 0
            && profile.compute() <= self.free_compute()
            && !(profile == Profile::G1Media && self.has_media())
    }
}
