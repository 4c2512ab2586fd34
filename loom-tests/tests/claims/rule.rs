//! The rule that is followed: which events may happen, and what is seeded into it.

/// Whether the executor may be closed at any time, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// It stays open.
    Never,
    /// What is queued is still run.
    Orderly,
    /// What is queued and has not begun ends as closed.
    Abort,
}

/// Says what may happen. All choices among what is switched on are explored.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Messages for which there is a permit.
    pub capacity: u8,
    /// A request may withdraw while it waits for a permit or for its results.
    pub cancel: bool,
    /// A launch may fail between its claims and its message.
    pub refuse: bool,
    /// A fragment may fail when it runs.
    pub fail: bool,
    /// A request may be refused where another would line up for a permit.
    pub tries: bool,
    /// The executor may close.
    pub close: Close,
    /// One class of work is in flight at a time, and the urgent one goes first. Otherwise the owner
    /// takes the queued fragments in any order.
    pub classes: bool,
    /// A cut looks at one node in a step, at readers before their operands. Otherwise it is one step.
    pub stepwise: bool,
    /// As long as fewer husks than this are in the channel, the permit of a fragment that is withdrawn
    /// in it comes back at once. Otherwise it comes back when the owner meets the message.
    pub husks: u8,
    /// The places that the channel has beside one for each permit.
    pub places: u8,
    /// What is done wrong.
    pub fault: Option<Fault>,
}

impl Rule {
    /// The rule under which nothing goes wrong, and three requests find room.
    pub const PLAIN: Self = Self {
        capacity: 3,
        cancel: false,
        refuse: false,
        fail: false,
        tries: false,
        close: Close::Never,
        classes: false,
        stepwise: false,
        husks: 1, // both sides of the bound are met
        places: 1,
        fault: None,
    };

    /// Names what is switched on.
    pub fn describe(&self) -> String {
        let Self { close, .. } = self;
        let choices = [
            (self.cancel, "cancel"),
            (self.refuse, "failing launches"),
            (self.fail, "failing fragments"),
            (self.tries, "try"),
            (*close == Close::Orderly, "close"),
            (*close == Close::Abort, "abort"),
            (self.classes, "classes"),
            (self.stepwise, "cuts in steps"),
        ];
        let on = choices.iter().filter(|choice| choice.0);
        let on = on.map(|choice| format!(", {}", choice.1));
        let mut text = format!("capacity {}{}", self.capacity, on.collect::<String>());
        if (self.husks, self.places) != (Self::PLAIN.husks, Self::PLAIN.places) {
            text += &format!(", husks {}, places for them {}", self.husks, self.places);
        }
        text
    }

    /// The same rule with something done wrong.
    pub const fn with(self, fault: Fault) -> Self {
        Self {
            fault: Some(fault),
            ..self
        }
    }
}

/// What is done wrong: each is to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The old rule: what was won beside others is cut again as a fragment for each output, and
    /// leans on every live claim.
    Apart,
    /// The second cut leans on younger claims that have not begun.
    LeanOnYounger,
    /// The second cut leans on older claims only, and not on what has begun.
    IgnoreBegun,
    /// The number is drawn before the first cut.
    NumberFirst,
    /// The outputs are claimed before there is a permit.
    PermitLast,
    /// The permit is kept when nothing was won.
    KeepPermit,
    /// The owner is not called when a launch fails.
    RefuseSilently,
    /// A slot whose launch failed does not wake those who wait for it.
    RefuseAsleep,
    /// The owner is called before the message is sent.
    PostFirst,
    /// The owner is told of the message, but not woken.
    PostAsleep,
    /// The owner receives before it clears the bell.
    ReceiveFirst,
    /// A withdrawn fragment does not give its permit back.
    KeepWithdrawn,
    /// The permit that stays with a withdrawn message does not come back with it.
    KeepBeyond,
    /// A husk that is left in the channel is not counted.
    UncountedHusk,
    /// A husk is still counted after the owner has received it.
    KeepCount,
    /// A withdrawn fragment does not release its inputs.
    KeepInputs,
    /// The last interest withdraws a fragment that has begun.
    CancelBegun,
    /// A permit that comes back is not handed to the first in line.
    PassLine,
    /// A permit that comes back after closing does not call the owner.
    ReturnSilently,
    /// A permit that comes back after closing is handed to the first in line all the same.
    HandOn,
    /// Closing does not refuse those in line.
    LeaveLine,
    /// The owner leaves when it is closed and has nothing, although permits are out.
    LeaveEarly,
    /// A waiter registers without looking again in the same step.
    WaitBlindly,
    /// An urgent fragment that is blocked is not set aside.
    HeadOfLine,
}
