use super::super::mig::{COMPUTE_SLICES, Instance, MEMORY_SLICES, Model, NoPlace, Profile, Slices};
use proptest::prelude::*;

fn names(model: Model) -> Vec<String> {
    Profile::ALL.iter().map(|p| p.name(model)).collect()
}

#[test]
fn profiles_are_called_as_the_driver_calls_them() {
    let a100 = [
        "1g.5gb",
        "1g.5gb+me",
        "1g.10gb",
        "2g.10gb",
        "3g.20gb",
        "4g.20gb",
        "7g.40gb",
    ];
    assert_eq!(names(Model::A100Gb40), a100);
    let h100 = [
        "1g.10gb",
        "1g.10gb+me",
        "1g.20gb",
        "2g.20gb",
        "3g.40gb",
        "4g.40gb",
        "7g.80gb",
    ];
    assert_eq!(names(Model::H100Gb80), h100);
    assert_eq!(names(Model::A100Gb80), h100);
    let h200 = [
        "1g.18gb",
        "1g.18gb+me",
        "1g.35gb",
        "2g.35gb",
        "3g.71gb",
        "4g.71gb",
        "7g.141gb",
    ];
    assert_eq!(names(Model::H200Gb141), h200);
    for model in [
        Model::A100Gb40,
        Model::H100Gb94,
        Model::H100Gb96,
        Model::H200Gb141,
    ] {
        for profile in Profile::ALL {
            assert_eq!(Profile::of_name(&profile.name(model), model), Some(profile));
        }
    }
    assert_eq!(Profile::of_name("5g.50gb", Model::A100Gb80), None);
}

#[test]
fn as_many_of_each_profile_fit_as_published() {
    use Profile::{G1, G1Double, G1Media, G2, G3, G4, G7};
    for (profile, most) in [
        (G1, 7),
        (G1Media, 1),
        (G1Double, 4),
        (G2, 3),
        (G3, 2),
        (G4, 1),
        (G7, 1),
    ] {
        let mut slices = Slices::new();
        let mut made = 0;
        while slices.place(profile).is_ok() {
            made += 1;
        }
        assert_eq!(made, most, "{profile:?}");
    }
    let full = |profiles: &[Profile]| Slices::new().fit(profiles).is_some();
    assert!(full(&[G4, G3]) && full(&[G4, G2, G1]) && full(&[G3, G2, G1, G1]));
    assert!(full(&[G2, G2, G3]) && full(&[G2, G2, G2, G1]));
    assert!(!full(&[G4, G4]) && !full(&[G3, G3, G1]) && !full(&[G4, G2, G2]));
}

#[test]
fn a_small_instance_leaves_the_places_of_the_large_ones() {
    let mut slices = Slices::new();
    let small = slices.place(Profile::G1).expect("an empty GPU");
    assert_eq!(
        small.start, 6,
        "beside the slice no small instance can have"
    );
    assert!(slices.fit(&[Profile::G4, Profile::G2]).is_some());
    let mut slices = Slices::new();
    slices.place(Profile::G3).expect("an empty GPU");
    assert_eq!(slices.place(Profile::G4).map(|i| i.start), Ok(0));
}

#[test]
fn a_refusal_says_what_is_missing() {
    let mut slices = Slices::new();
    slices.place(Profile::G1Media).expect("an empty GPU");
    assert_eq!(slices.place(Profile::G1Media), Err(NoPlace::Media));
    assert_eq!(
        slices.place(Profile::G7),
        Err(NoPlace::Full(Profile::G7, 7, 6))
    );
    let odd = Instance {
        profile: Profile::G3,
        start: 2,
    };
    assert_eq!(Slices::with(&[odd]), Err(NoPlace::Misplaced(odd)));
    assert!(!slices.remove(odd));
}

#[test]
fn room_is_made_by_moving_the_fewest_slices() {
    let at = |profile, start| Instance { profile, start };
    let (one, two) = (at(Profile::G1, 1), at(Profile::G2, 4));
    let slices = Slices::with(&[one, two]).expect("published places");
    let plan = slices.rearrange(Profile::G4, |_| true).expect("a way");
    assert_eq!((plan.start, plan.moved.len(), plan.moved[0].0), (0, 1, one));
    assert_eq!(slices.rearrange(Profile::G4, |i| *i != one), None);
    let free = slices.rearrange(Profile::G2, |_| true).expect("a way");
    assert!(free.moved.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn instances_never_overlap_and_lie_at_published_places(
        ops in prop::collection::vec((0..7usize, any::<usize>(), any::<bool>()), 1..40),
        wanted in 0..7usize,
    ) {
        let mut slices = Slices::new();
        for (profile, which, make) in ops {
            let instances = slices.instances().to_vec();
            if make || instances.is_empty() {
                let profile = Profile::ALL[profile];
                let could = slices.fit(&[profile]).is_some();
                prop_assert_eq!(slices.place(profile).is_ok(), could);
            } else {
                prop_assert!(slices.remove(instances[which % instances.len()]));
            }
            let mut taken = [false; 8];
            for i in slices.instances() {
                prop_assert!(i.profile.places().contains(&i.start));
                for slice in i.start..i.start + i.profile.memory() {
                    prop_assert!(!std::mem::replace(&mut taken[usize::from(slice)], true));
                }
            }
            let memory: u8 = slices.instances().iter().map(|i| i.profile.memory()).sum();
            let compute: u8 = slices.instances().iter().map(|i| i.profile.compute()).sum();
            prop_assert_eq!((memory, compute), (MEMORY_SLICES - slices.free_memory(), COMPUTE_SLICES - slices.free_compute()));
            prop_assert!(compute <= COMPUTE_SLICES);
        }
        let wanted = Profile::ALL[wanted];
        let mut all: Vec<Profile> = slices.instances().iter().map(|i| i.profile).collect();
        all.push(wanted);
        let plan = slices.rearrange(wanted, |_| true);
        prop_assert_eq!(plan.is_some(), Slices::new().fit(&all).is_some(), "exact");
        if let Some(plan) = plan {
            for (instance, _) in &plan.moved {
                prop_assert!(slices.remove(*instance));
            }
            for (instance, start) in &plan.moved {
                slices.put(Instance { start: *start, ..*instance }).expect("its new place");
            }
            slices.put(Instance { profile: wanted, start: plan.start }).expect("room");
        }
    }
}
