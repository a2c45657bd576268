//! Admission of hosts: who may use the disks, who asks for them and who was refused.
//!
//! [`State`] is the content of one small file, which the applet `access` alone writes, and [`Admission`] is its meaning
//! for the target. [`control`] has the lines by which other programs ask that applet for a change.
//!
//! A host names itself: its NQN is a claim, which a neighbour can copy. So admission by NQN keeps neighbours out who
//! mean no harm, and no attackers.
#![forbid(unsafe_code)]

mod admission;
pub mod control;
mod host;
mod mode;
mod nqn;
mod state;

pub use admission::Admission;
pub use host::{Named, normal};
pub use mode::{Mode, NoMode};
pub use nqn::{Grant, HostNqn, NQN_MAX, NqnError};
pub use state::{
    ADMITTED_MAX, Admitted, AnswerError, By, DENIAL, DENIED_MAX, Denied, GROUP_MAX, Heard, KEYED_MAX, REQUESTS_MAX,
    Request, SILENCE, State, StateError,
};
