//! An engine without tensors: a node is a number to add to the sum of its operands.

mod device;
mod executor;
mod foreign;
mod graph;

pub use device::*;
pub use executor::*;
pub use foreign::*;
pub use graph::*;

/// The types of the toy.
#[derive(Debug)]
pub enum Toy {}

/// A failure of the toy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToyError {
    /// The work is such that it fails, or an input had failed.
    Failed,
    /// The work panicked.
    Panicked,
    /// The owner panicked or stopped.
    OwnerLost,
    /// The launch that had claimed it failed.
    NeverSent,
    /// A ticket did not end within its limit.
    Overdue,
    /// The device said so when a ticket ended.
    Late,
    /// The device is lost.
    DeviceLost,
}

// What a node may add instead of a number: from a thousand on it says what the work does.

/// Work that fails.
pub const FAILS: u32 = 1000;
/// Work that panics.
pub const PANICS: u32 = 1001;
/// Work that panics with something whose destructor panics.
pub const PANICS_TWICE: u32 = 1005;
/// Work after which the owner itself panics.
pub const KILLS: u32 = 1002;
/// Work whose failure the device reports only when its ticket ends.
pub const FAILS_LATE: u32 = 1003;
/// Work whose ticket never ends.
pub const NEVER_ENDS: u32 = 1004;
/// Work with which the device is lost: when its ticket ends, if it has one.
pub const LOSES: u32 = 1006;
/// Work whose first ticket ends with an error, and with whose second one the device is lost.
pub const LATE_THEN_LOSES: u32 = 1007;
/// Work whose first ticket ends with an error, and whose second one never ends.
pub const LATE_THEN_NEVER: u32 = 1008;
/// Work that goes together with others like it: it adds one, and fails if it is not alone.
pub const SHY: u32 = 2001;
/// Work that goes together with others like it: it adds two.
pub const TOGETHER: u32 = 2002;
/// Work that goes together with such work, and whose operation panics wherever it runs, with something whose
/// destructor panics.
pub const WRECKS: u32 = 2003;
/// Work of which the engine panics when it is asked whether it goes together with others.
pub const UNFIT: u32 = 2004;
/// Work that runs code of the user's: only its submitter and the owner run it. It adds three.
pub const FOREIGN: u32 = 3001;
