//! The cases, each a sentence, run with every kind of fence.

mod adoption;
mod crashes;
mod holder;
mod jobs;
mod logs;
mod rig;
mod stopping;

pub(crate) use crashes::agent_main;
pub(crate) use rig::{Host, Kind};

/// A case and what it needs of the host besides its fence.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) needs_root: bool,
    pub(crate) run: fn(Kind),
}

macro_rules! cases {
    ($($module:ident :: $name:ident $(as $root:ident)?),* $(,)?) => {
        &[$(Case {
            name: stringify!($name),
            needs_root: cases!(@root $($root)?),
            run: $module::$name,
        }),*]
    };
    (@root root) => { true };
    (@root) => { false };
}

pub(crate) const ALL: &[Case] = cases![
    jobs::an_exit_status_and_a_signal_are_told_apart,
    jobs::a_job_that_cannot_start_says_why,
    jobs::the_environment_is_what_was_granted_and_nothing_else,
    jobs::a_job_has_no_privileges_and_no_descriptors_of_ours as root,
    jobs::a_directory_the_job_user_may_not_enter_is_refused as root,
    jobs::a_job_starts_where_it_was_told_to,
    jobs::an_attempt_is_never_started_twice,
    jobs::fifty_attempts_run_at_once,
    stopping::a_daemon_that_left_its_session_dies_with_the_job,
    stopping::a_job_may_end_by_itself_within_its_grace,
    stopping::a_job_that_ignores_sigterm_is_killed_after_its_grace,
    stopping::without_grace_everything_is_killed_at_once,
    stopping::the_first_cause_of_a_stop_stays,
    stopping::processes_are_told_by_attempt_and_leave_nothing_behind,
    adoption::a_running_job_is_adopted_after_the_agent_was_killed,
    adoption::a_job_that_ended_without_an_agent_keeps_its_exit_status,
    adoption::a_killed_shim_leaves_an_orphan_whose_end_is_unknown,
    adoption::a_late_shim_does_nothing_once_its_place_is_taken,
    adoption::after_a_reboot_everything_unfinished_is_lost,
    adoption::an_end_is_kept_until_it_is_forgotten,
    adoption::a_record_that_does_not_read_is_refused_and_named,
    logs::output_is_rotated_and_read_back_in_order,
    logs::a_follower_sees_everything_and_ends_with_the_job,
    logs::a_reader_too_many_is_refused,
    crashes::a_crash_at_any_step_starts_no_job_twice_and_leaves_none_behind,
];

/// What concerns the holder itself.
pub(crate) const HOLDER: &[Case] = cases![
    holder::jobs_go_on_without_it_and_with_the_next_one as root,
    holder::it_is_waited_for_while_it_is_started_again as root,
    holder::it_acts_below_its_root_alone as root,
    holder::it_starts_nothing_with_privileges as root,
    holder::others_may_not_ask as root,
    holder::what_does_not_read_is_refused as root,
    holder::at_its_end_it_ends_all_jobs_and_their_ends_are_known as root,
    holder::it_refuses_to_share_a_socket_or_a_cgroup as root,
];
