//! The scenarios. Each is a function over candlewick's production types; the runner decides what
//! schedules it: loom (every interleaving up to a bound), shuttle (random and PCT), or the
//! machine (repetition, also under ThreadSanitizer).

#[cfg(not(any(candlewick_loom, candlewick_shuttle, candlewick_threads)))]
compile_error!(
    "run cargo inside loom-tests/, whose .cargo/config.toml sets a cfg that says who schedules; \
     RUSTFLAGS in the environment overrides it"
);

// A model looks 0 times before it sleeps; and what a stand-in keeps is boxed, not to move.
#[allow(
    clippy::absurd_extreme_comparisons,
    clippy::reversed_empty_ranges,
    clippy::vec_box
)]
#[path = "../../src/core/mod.rs"]
pub mod core;
pub mod runner;
pub mod scenarios {
    //! One file for each part of the core.
    pub mod admission;
    pub mod batch;
    pub mod crew;
    pub mod cut;
    pub mod driving;
    pub mod executor;
    pub mod grants;
    pub mod launch;
    pub mod lending;
    pub mod prying;
    pub mod random;
    pub mod slot;
    pub mod store;
    pub mod tickets;
    pub mod turn;
    pub mod turns;
    pub mod urgency;
    pub mod versions;
    pub mod withdraw;
}
pub mod threads;
pub mod toy;

/// One scenario.
#[derive(Debug)]
pub struct Scenario {
    /// Its module.
    pub module: &'static str,
    /// Its name, after the race it shows.
    pub name: &'static str,
    /// The most preemptions in one execution; `None` for all interleavings.
    pub bound: Option<usize>,
    /// Whether the channel may answer from a stale look.
    pub stale: bool,
    /// Outcomes that an exploration must have met.
    pub must_see: &'static [&'static str],
    /// What one execution runs.
    pub body: fn(),
}

macro_rules! scenarios {
    ($($module:ident :: $name:ident, $bound:expr, $stale:expr, [$($outcome:literal),*];)*) => {
        /// All scenarios.
        pub const SCENARIOS: &[Scenario] = &[$(Scenario {
            module: stringify!($module),
            name: stringify!($name),
            bound: $bound,
            stale: $stale,
            must_see: &[$($outcome),*],
            body: scenarios::$module::$name,
        }),*];
        #[cfg(test)]
        mod tests {
            $(#[test] fn $name() { crate::runner::check(stringify!($name)); })*
        }
    };
}

scenarios! {
    slot::publish_vs_await, None, false, [];
    slot::publish_vs_peek, None, false, ["early", "late"];
    slot::publish_vs_is_finished, None, false, ["finished", "not yet"];
    slot::two_waiters, Some(2), false, [];
    slot::cancel_vs_run, Some(2), false, ["cancelled", "running", "finished"];
    slot::two_cancel, None, false, ["mine last", "other last"];
    slot::cancel_vs_share, None, false, ["shared", "too late"];
    slot::withdraw_vs_begin, None, false, ["ran", "withdrawn"];
    slot::release_twice, None, false, ["mine first", "other first"];
    slot::waker_replaced, Some(2), false, ["moved while pending", "was ready"];
    slot::drop_while_publishing, Some(2), false, ["not woken", "woken"];
    slot::drop_before_publish, None, false, ["gone", "there"];
    slot::woken_by_reference, None, false, ["slept", "was there"];
    slot::waker_panics, Some(2), false, [];
    slot::abandoned, None, false, [];
    slot::close_vs_await, None, false, [];
    slot::timed_wait, Some(3), false, ["in time", "timed out"];
    slot::poll_vs_publish, None, false, ["ready", "pending"];
    slot::issue_vs_await, None, false, [];
    slot::issue_vs_peek, None, false, ["early", "late"];
    slot::refuse_vs_await, None, false, [];
    slot::refuse_vs_close, None, false, ["refused", "closed"];
    slot::lean_vs_begin, None, false, ["begun", "passed over"];
    slot::too_many_references, Some(2), false, [];
    store::claim_race, Some(3), false, ["mine", "the other's"];
    store::release_vs_acquire, None, false, ["found", "gone"];
    store::cancel_vs_claim, None, false, ["cancelled", "shared"];
    store::cancel_vs_fill, None, false, ["filled", "cancelled"];
    store::cancel_vs_take, None, false, ["owner", "canceller"];
    store::lean_vs_forget, Some(3), false, ["slot", "origin"];
    store::cut_vs_forget, Some(3), false, ["slot", "origin"];
    store::forget_vs_readers, Some(3), false, ["both read", "one read", "forgotten"];
    store::pinned_panics, None, false, ["read", "forgotten"];
    store::read_vs_free, Some(3), false, ["read", "too early"];
    store::home_vs_leave, None, false, ["freed at home", "freed here"];
    store::withdraw_vs_fill, None, false, ["filled", "withdrawn"];
    admission::line_vs_release, None, false, [];
    admission::bytes_vs_release, Some(3), false, ["before the line", "behind the line"];
    admission::baton, Some(2), false, ["granted, gave up", "gave up first"];
    admission::asks_again, None, false, ["granted", "gave up"];
    admission::no_overtaking, None, false, [];
    admission::close_vs_line, Some(2), false, ["went in", "refused"];
    admission::drained_vs_line, Some(2), false, ["went in", "refused"];
    admission::last_permit_vs_close, None, false, ["told", "seen"];
    admission::permit_means_room, None, true, ["sent", "full"];
    admission::passed_on_means_room, Some(2), true, [];
    admission::lined_up_means_room, Some(3), true, [];
    admission::no_overtaking_in_line, None, false, ["behind a grant", "behind one in line"];
    admission::quitter_lets_the_next_go, None, false, [];
    grants::class_in_line, None, false, ["granted, gave up", "gave up first"];
    grants::turns_in_line, None, false, [];
    grants::lapse_vs_taker, None, false, ["lapsed", "in time"];
    grants::lapse_vs_next, None, false, ["lapsed", "in time"];
    grants::many_leave, None, false, ["behind a grant", "behind one in line"];
    grants::close_vs_taker, None, false, ["in time", "refused"];
    grants::close_vs_lapse, None, false, ["lapsed", "closed"];
    grants::close_vs_lapse_for_try, Some(2), false, ["lapsed", "closed"];
    grants::leaver_panics, None, false, ["behind it", "late"];
    grants::forgotten_grant, Some(2), false, [];
    grants::forgotten_grant_vs_try, Some(2), false, [];
    grants::lapsed_lines_up_anew, Some(2), false, [];
    grants::dropped_grant_goes_on, Some(2), false, [];
    grants::close_vs_dropped_grant, Some(2), false, ["in line", "refused"];
    grants::close_vs_grant, Some(2), false, [];
    turn::post_vs_rest, Some(2), true, [];
    turn::borrow_vs_owner, Some(3), false, [];
    turn::call_vs_rest, Some(3), false, [];
    turn::call_vs_borrow, Some(2), false, ["lent", "not to be had"];
    turn::two_borrowers, None, false, ["mine", "the other's"];
    turn::two_posts, Some(2), true, [];
    turn::borrow_after_borrow, Some(3), false, ["both", "mine", "the other's"];
    turn::post_vs_hand_back, Some(2), true, ["lent", "not to be had"];
    turn::call_is_over, None, false, ["one round", "two rounds"];
    turn::run_vs_post, Some(2), false, ["lent", "not to be had"];
    turn::limit_vs_borrow, Some(3), false, ["lent", "the owner's"];
    executor::submit_await_close, Some(2), false, [];
    executor::submit_vs_close, Some(2), false, ["ran", "refused"];
    executor::submit_vs_abort, Some(2), false, ["ran", "closed", "refused"];
    executor::back_pressure, Some(2), false, [];
    executor::full_vs_close, Some(2), false, ["accepted", "full", "closed"];
    executor::unused_permit_vs_close, Some(2), false, ["given back", "refused"];
    executor::dropped_admission, Some(2), false, ["went in", "refused", "dropped while pending"];
    executor::same_node, Some(1), false, [];
    executor::dependency_order, Some(1), false, [];
    executor::dropped_claim, Some(1), false, [];
    executor::cancel_vs_dependent, Some(1), false, ["shared", "finished"];
    executor::engine_panics, Some(1), false, [];
    executor::device_lost, Some(2), false, ["refused", "lost"];
    executor::owner_panics, Some(2), false, ["before", "lost"];
    executor::late_error, Some(1), false, [];
    executor::failure_spreads, Some(1), false, [];
    executor::release_vs_close, Some(2), false, [];
    executor::two_closers, Some(2), false, ["ran", "closed"];
    executor::given_up_beside, Some(2), false, ["ran", "given up"];
    executor::panics_twice, Some(1), false, [];
    executor::dropped_work_panics, Some(1), false, [];
    executor::refused_work_panics, Some(2), false, ["ran", "closed"];
    executor::expired_work_panics, Some(1), false, [];
    executor::wait_for_two, Some(2), false, [];
    executor::dropped_closing, Some(2), false, [];
    withdraw::withdraw_submitted, Some(2), false, ["ran", "withdrawn"];
    withdraw::two_withdraw, Some(2), false, ["mine last", "other last"];
    withdraw::withdraw_vs_receive, None, false, ["work", "husk"];
    withdraw::husk_means_room, Some(2), true, ["room", "full"];
    withdraw::husks_are_counted, Some(3), false, ["withdrawn", "ran"];
    withdraw::kept_permit_comes_back, Some(2), false, ["withdrawn", "too late"];
    withdraw::withdraw_vs_line, Some(2), false, [];
    withdraw::withdraw_after_losing, Some(2), false, ["both won", "one lost"];
    withdraw::withdraw_vs_close, Some(2), false, ["withdrawn", "ran"];
    withdraw::withdraw_chain, Some(1), false, ["withdrawn", "one ran", "ran"];
    withdraw::withdraw_vs_await, Some(2), false, [];
    withdraw::withdraw_two_vs_await, Some(2), false, [];
    withdraw::drop_two_vs_owner, Some(2), false, ["panicked", "ran"];
    batch::gather_vs_send, Some(2), false, ["together", "apart"];
    batch::gather_vs_cancel, Some(2), false, ["cancelled", "too late", "together"];
    batch::spoiler_runs_apart, Some(2), false, ["together"];
    batch::spoiler_in_flight, Some(1), false, ["together"];
    batch::full_batch, Some(2), false, [];
    batch::choosing_panics, Some(2), false, [];
    batch::poll_gathers_nobody, Some(2), false, ["ran", "queued"];
    batch::wrecked_batch, Some(2), false, ["together", "apart"];
    batch::dependent_stays_behind, Some(1), false, ["together"];
    batch::gather_vs_abort, Some(1), false, ["ran", "closed", "together"];
    batch::delayed_vs_send, Some(1), false, ["together", "apart"];
    crew::share_twice, Some(2), false, ["one did all", "shared"];
    crew::share_without_waking, Some(2), false, ["one did all", "shared", "looking", "asleep"];
    crew::share_parts, Some(2), false, ["side by side"];
    crew::two_callers, Some(1), false, ["one did all"];
    crew::shared_work_panics, Some(1), false, ["one did all"];
    crew::both_panic, Some(1), false, ["the caller", "both"];
    turns::expire_vs_share, None, false, ["shared", "too late"];
    turns::expire_vs_await, None, false, [];
    turns::expire_vs_cancel, None, false, ["cancelled", "too late"];
    turns::expire_vs_close, None, false, ["closed", "too late"];
    turns::interest_comes_and_goes, None, false, ["shared", "too late"];
    turns::claimant_lets_go, None, false, [];
    turns::claimant_is_dropped, None, false, [];
    turns::late_vs_submit, Some(1), false, ["expired", "ran"];
    turns::late_vs_dependent, Some(2), false, ["expired", "ran"];
    turns::dropped_late, Some(2), false, [];
    turns::dropped_late_vs_submit, Some(1), false, ["expired", "shared"];
    turns::lift_received, Some(2), false, [];
    turns::flood_vs_single, Some(3), false, ["last", "between"];
    lending::run_alone, Some(2), false, [];
    lending::run_vs_owner, Some(2), false, ["lent", "owner"];
    lending::two_runs, Some(1), false, ["one drove", "both drove"];
    lending::poll_vs_submit, Some(2), false, ["lent", "owner"];
    lending::poll_vs_close, Some(2), false, ["ran", "refused"];
    lending::lend_vs_owner, Some(2), false, ["lent", "owner"];
    lending::two_lenders, Some(1), false, [];
    lending::timed_wait_lends, Some(2), false, ["in time", "lent", "owner"];
    lending::lend_after_owner, Some(2), false, ["lent"];
    lending::lend_vs_close, Some(2), false, ["ran", "refused"];
    lending::lend_vs_abort, Some(2), false, ["ran", "closed", "refused"];
    lending::run_vs_close, Some(2), false, ["ran", "refused"];
    lending::run_vs_abort, Some(2), false, ["ran", "closed", "refused"];
    lending::lent_panics, Some(1), false, [];
    lending::lent_owner_panics, Some(1), false, ["before", "lost"];
    lending::lend_behind_foreign, Some(1), false, ["here", "there"];
    lending::run_foreign, Some(1), false, ["here"];
    lending::foreign_stays_apart, Some(2), false, ["here", "apart"];
    lending::run_gathers, Some(2), false, ["together", "apart"];
    lending::run_one_class, Some(2), false, [];
    lending::run_blocked, Some(1), false, ["lent"];
    lending::run_behind_queued, Some(2), false, ["lent", "owner"];
    lending::lend_vs_urgent, Some(2), false, ["here", "there"];
    lending::lend_vs_abort_foreign, Some(2), false, ["ran", "closed"];
    lending::lent_device_lost, Some(2), false, [];
    lending::run_before_less_urgent, Some(2), false, ["alone", "passed over"];
    prying::pry_into_slot, Some(2), false, ["ended", "pending"];
    prying::pry_into_event, Some(2), false, ["ended", "pending"];
    prying::pry_into_line, Some(2), false, ["left", "served"];
    driving::drivers_in_a_circle, Some(2), false, ["mine waits", "the other waits"];
    driving::polls_in_a_circle, Some(2), false, ["mine waits", "the other waits"];
    driving::waiting_ends, Some(2), false, ["may wait", "must not wait", "would sleep for ever", "would be woken"];
    driving::polls_in_a_nested_circle, Some(2), false, ["mine waits", "the other waits"];
    driving::outer_polls_count, Some(2), false, [];
    versions::updates_race, None, false, ["mine first", "other first"];
    versions::snapshot_vs_update, None, true, ["old", "new"];
    versions::refused_vs_update, None, false, ["refused", "applied"];
    launch::overlap_cpu, Some(2), false, ["passed over", "none passed over"];
    launch::overlap_gpu, Some(2), false, ["passed over", "none passed over"];
    launch::overlap_run, Some(1), false, ["passed over", "none passed over"];
    launch::overlap_one_place, Some(2), false, [];
    launch::intermediate_cpu, Some(2), false, ["passed over"];
    launch::intermediate_gpu, Some(2), false, ["passed over"];
    launch::three_overlap, Some(1), false, ["passed over"];
    launch::opposite_order, Some(2), false, ["passed over", "one has both", "each has one"];
    launch::first_place_lost, Some(2), false, ["one has both", "each has one"];
    launch::not_yet_sent_cpu, Some(2), false, ["dependent first", "in order"];
    launch::not_yet_sent_run, Some(2), false, ["dependent first", "in order"];
    launch::not_yet_sent_gpu, Some(2), false, ["dependent first", "in order"];
    launch::second_cut_fails_cpu, Some(2), false, ["refused", "dependent ready", "dependent failed"];
    launch::second_cut_fails_gpu, Some(2), false, ["refused", "dependent ready", "dependent failed"];
    launch::launch_panics_cpu, Some(2), false, ["dependent ready", "dependent failed"];
    launch::launch_panics_gpu, Some(2), false, ["dependent ready", "dependent failed"];
    launch::shared_claim_refused, Some(2), false, ["its own", "told"];
    launch::given_up_between_cuts, Some(2), false, ["given up", "both given up", "leaned on"];
    launch::last_interest_goes, Some(2), false, ["waited", "in a turn"];
    launch::last_interest_refused, Some(2), false, ["waited", "in a turn", "refused"];
    launch::refusal_is_told, Some(2), false, ["its own", "told"];
    launch::last_pin_goes, Some(2), false, ["waited", "in a turn"];
    launch::overlap_then_cancel, Some(2), false, ["one given up", "both given up"];
    launch::overlap_vs_cancel_gpu, Some(1), false, ["one given up", "both given up", "too late"];
    launch::overlap_vs_close, Some(2), false, ["ran", "refused"];
    launch::overlap_vs_abort_cpu, Some(2), false, ["ran", "closed", "refused"];
    launch::overlap_vs_abort_gpu, Some(1), false, ["ran", "closed", "refused"];
    cut::inner_vs_run, Some(2), false, ["mine", "the other's"];
    cut::operand_lets_go, Some(2), false, ["computed", "found"];
    cut::many_shared, Some(2), false, ["computed", "found"];
    cut::call_vs_run, Some(2), false, ["computed", "found"];
    tickets::read_before_told, Some(2), false, ["read before told", "one told", "both told"];
    tickets::told_in_order, Some(2), false, ["none told", "one told", "both told"];
    tickets::issued_behind, Some(2), false, ["dependent first", "in order"];
    tickets::no_ticket_for_nothing, Some(2), false, [];
    tickets::late_error_gpu, Some(2), false, ["two tickets", "three tickets", "the culprit again", "others again"];
    tickets::late_error_ringing, Some(2), false, ["two tickets", "three tickets", "others again"];
    tickets::well_behind_late, Some(2), false, [];
    tickets::reader_of_well_behind_late, Some(2), false, [];
    tickets::readers_behind_late, Some(2), false, [];
    tickets::late_behind_late, Some(2), false, [];
    tickets::never_behind_well, Some(2), false, [];
    tickets::never_behind_late, Some(2), false, [];
    tickets::lost_behind_late, Some(2), false, [];
    tickets::lost_in_flight, Some(2), false, [];
    tickets::lost_again, Some(2), false, [];
    tickets::never_again, Some(2), false, [];
    tickets::never_ends_gpu, Some(1), false, ["refused", "overdue"];
    tickets::never_ends_ringing, Some(1), false, ["refused", "overdue"];
    tickets::second_never_ends, Some(2), false, ["apart", "together"];
    tickets::abort_in_flight, Some(2), false, ["ran", "closed"];
    tickets::abort_while_issuing, Some(2), false, ["refused", "closed"];
    tickets::close_in_flight, Some(2), false, [];
    tickets::cancel_in_flight, Some(3), false, ["cancelled", "in flight", "finished"];
    tickets::ring_vs_rest, Some(2), false, [];
    tickets::three_in_flight, Some(2), false, ["none ended", "one ended"];
    tickets::owner_panics_in_flight, Some(2), false, [];
    tickets::release_in_flight, Some(2), false, ["ran", "withdrawn", "in flight"];
    tickets::one_class_per_ticket, Some(2), false, ["together", "apart"];
    tickets::abort_behind_flights, Some(2), false, ["told", "called"];
    urgency::lift_vs_choice, Some(2), false, ["lifted", "too late"];
    urgency::lift_vs_message, Some(2), false, ["joined", "its own"];
    urgency::lift_reaches_down, Some(2), false, [];
    urgency::lift_vs_cancel, Some(2), false, ["shared", "cancelled"];
    urgency::lifted_vs_cancel, Some(2), false, ["withdrawn", "ran"];
    urgency::newcomer_first, Some(2), false, [];
    urgency::one_class_per_batch, Some(2), false, ["together", "apart"];
    urgency::lift_before_message, Some(2), false, [];
    urgency::lift_what_is_read, Some(2), false, [];
    urgency::lift_vs_look, Some(2), false, [];
    urgency::lift_is_told, Some(2), false, ["told", "told later"];
    urgency::newcomer_before_ticket, Some(2), false, [];
    urgency::driven_code, Some(2), false, ["had ended", "looked again", "woken"];
    urgency::driven_code_gpu, Some(2), false, ["woken"];
    urgency::bystander, Some(2), false, [];
    urgency::nested_executors, Some(2), false, [];
    urgency::ring_of_executors, Some(2), false, ["one refused"];
    random::programs_cpu, Some(2), false, ["ready"];
    random::programs_gpu, Some(2), false, ["ready"];
    random::programs_ringing, Some(1), false, ["ready"];
}
