//! The network state of the machine's links: addresses, routes and rules of both
//! families, and the changes from the state that is to the state that should be.
//!
//! The kernel holds the state. Each object of ours carries a tag there, so that a
//! restarted program knows its own: an address has the protocol of its [`Origin`]
//! (`IFA_PROTO`), a route has one, too, and a rule has [`RULE_PRIORITY`] and a
//! table from [`FIRST_TABLE`] on. Objects without a tag belong to others.

mod desired;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod model;
mod plan;

pub use desired::{Desired, Hold, Scope, Via, held, metric, source_routes};
pub use model::{
    Address, FIRST_TABLE, Family, Lifetimes, MAIN_TABLE, Net, Origin, RULE_PRIORITY, Route, Rule, State, link_table,
};
pub use plan::{Item, NetOp, plan};
