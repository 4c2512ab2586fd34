//! The scenarios. Each is a function over candlewick's production types; the runner decides what
//! schedules it: loom (every interleaving up to a bound), shuttle (random and PCT), or the
//! machine (repetition, also under ThreadSanitizer).

#[cfg(not(candlewick_core))]
compile_error!(
    "run cargo inside loom-tests/, whose .cargo/config.toml sets the cfgs; RUSTFLAGS in the \
     environment overrides it"
);

pub mod runner;
pub mod scenarios {
    //! One file for each part of the core.
    pub mod admission;
    pub mod batch;
    pub mod crew;
    pub mod executor;
    pub mod lending;
    pub mod slot;
    pub mod store;
    pub mod turn;
    pub mod turns;
    pub mod versions;
}
pub mod toy;

/// One scenario.
#[derive(Debug)]
pub struct Scenario {
    /// Its name, after the race it shows.
    pub name: &'static str,
    /// The most preemptions in one execution; `None` for all interleavings.
    pub bound: Option<usize>,
    /// Whether the channel may answer from a stale look.
    pub stale: bool,
    /// Outcomes that an exploration must have met.
    pub must_see: &'static [&'static str],
    /// One execution.
    pub body: fn(),
}

macro_rules! scenarios {
    ($($module:ident :: $name:ident, $bound:expr, $stale:expr, [$($outcome:literal),*];)*) => {
        /// All of them.
        pub const SCENARIOS: &[Scenario] = &[$(Scenario {
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
    slot::waker_panics, Some(2), false, [];
    slot::abandoned, None, false, [];
    slot::close_vs_await, None, false, [];
    slot::timed_wait, Some(3), false, ["in time", "timed out"];
    slot::poll_vs_publish, None, false, ["ready", "pending"];
    store::claim_race, Some(3), false, ["mine", "the other's"];
    store::release_vs_acquire, None, false, ["found", "gone"];
    store::cancel_vs_claim, None, false, ["cancelled", "shared"];
    store::cancel_vs_fill, None, false, [];
    store::cancel_vs_take, None, false, ["owner", "canceller"];
    store::cut_vs_forget, Some(3), false, ["slot", "origin"];
    store::forget_vs_readers, Some(3), false, ["both read", "one read", "forgotten"];
    store::read_vs_free, Some(3), false, ["read", "too early"];
    store::home_vs_leave, None, false, ["freed at home", "freed here"];
    store::withdraw_vs_fill, None, false, [];
    admission::line_vs_release, None, false, [];
    admission::bytes_vs_release, Some(3), false, ["before the line", "behind the line"];
    admission::baton, Some(2), false, ["granted, gave up", "gave up first"];
    admission::no_overtaking, None, false, [];
    admission::close_vs_line, Some(2), false, ["went in", "refused"];
    admission::drained_vs_line, Some(2), false, ["went in", "refused"];
    admission::last_permit_vs_close, None, false, ["told", "seen"];
    admission::permit_means_room, None, true, ["sent", "full"];
    admission::passed_on_means_room, Some(2), true, [];
    admission::lined_up_means_room, Some(3), true, [];
    admission::no_overtaking_in_line, None, false, [];
    admission::quitter_lets_the_next_go, None, false, [];
    turn::post_vs_rest, Some(2), true, [];
    turn::borrow_vs_owner, Some(3), false, [];
    turn::call_vs_rest, Some(3), false, [];
    turn::two_borrowers, None, false, ["mine", "the other's"];
    turn::call_behind_deferred, Some(3), true, [];
    turn::two_deferred, Some(2), true, [];
    turn::borrow_after_borrow, Some(3), false, ["both", "mine", "the other's"];
    turn::post_vs_hand_back, Some(2), false, ["lent", "not to be had"];
    executor::submit_await_close, Some(2), false, [];
    executor::submit_vs_close, Some(2), false, ["ran", "refused"];
    executor::submit_vs_abort, Some(2), false, ["ran", "closed", "refused"];
    executor::back_pressure, Some(2), false, [];
    executor::full_vs_close, Some(2), false, ["accepted", "full", "closed"];
    executor::unused_permit_vs_close, Some(2), false, ["given back", "refused"];
    executor::dropped_admission, Some(2), false, ["went in", "refused", "dropped while pending"];
    executor::same_node, Some(1), false, [];
    executor::dependency_order, Some(1), false, [];
    executor::dropped_claim, Some(2), false, [];
    executor::cancel_vs_dependent, Some(1), false, ["shared", "finished"];
    executor::withdraw_submitted, Some(2), false, ["ran", "withdrawn"];
    executor::engine_panics, Some(1), false, [];
    executor::owner_panics, Some(2), false, ["before", "lost"];
    executor::late_error, Some(1), false, ["one failed"];
    executor::failure_spreads, Some(1), false, [];
    executor::release_vs_close, Some(2), false, [];
    executor::parts_apart, Some(1), false, [];
    executor::two_closers, Some(2), false, ["ran", "closed"];
    executor::two_withdraw, Some(2), false, ["mine last", "other last"];
    executor::given_up_beside, Some(2), false, ["ran", "given up"];
    batch::gather_vs_send, Some(2), false, ["together", "apart"];
    batch::gather_vs_cancel, Some(2), false, ["cancelled", "too late", "together"];
    batch::spoiler_runs_apart, Some(2), false, ["together"];
    batch::wrecked_batch, Some(2), false, ["together", "apart"];
    batch::dependent_stays_behind, Some(1), false, ["together"];
    batch::gather_vs_abort, Some(1), false, ["ran", "closed", "together"];
    batch::delayed_vs_send, Some(1), false, ["together", "apart"];
    crew::share_twice, Some(2), false, ["one did all", "shared"];
    crew::share_without_waking, Some(2), false, ["one did all", "shared", "looking", "asleep"];
    crew::share_parts, Some(2), false, ["side by side"];
    crew::two_callers, Some(1), false, ["one did all"];
    crew::shared_work_panics, Some(1), false, ["one did all"];
    turns::expire_vs_share, None, false, ["shared", "too late"];
    turns::expire_vs_await, None, false, [];
    turns::expire_vs_cancel, None, false, ["cancelled", "too late"];
    turns::late_vs_submit, Some(1), false, ["expired", "ran"];
    turns::late_vs_dependent, Some(2), false, ["expired", "ran"];
    turns::flood_vs_single, Some(1), false, ["last", "between"];
    lending::wait_lends, Some(2), false, [];
    lending::lend_vs_owner, Some(2), false, ["lent", "owner"];
    lending::two_lenders, Some(1), false, [];
    lending::deferred_vs_waiter, Some(2), false, [];
    lending::deferred_vs_dependent, Some(2), false, [];
    lending::deferred_vs_line, Some(1), false, [];
    lending::deferred_then_dropped, Some(2), false, [];
    lending::lend_after_owner, Some(2), false, ["lent"];
    lending::lend_vs_close, Some(2), false, ["ran", "refused"];
    lending::lend_vs_abort, Some(2), false, ["ran", "closed", "refused"];
    lending::lent_panics, Some(1), false, [];
    lending::lent_owner_panics, Some(1), false, ["before", "lost"];
    lending::round_vs_deferred, Some(2), false, ["lent", "owner"];
    versions::updates_race, None, false, ["mine first", "other first"];
    versions::snapshot_vs_update, None, true, ["old", "new"];
    versions::refused_vs_update, None, false, ["refused", "applied"];
}
