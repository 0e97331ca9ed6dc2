//! The room: what its log means, who is in it, what may change. No threads, no clock, no sockets.

mod command;
mod event;
mod status;

pub use command::Command;
pub use event::Event;
pub use status::{Counters, Member, State, Status};
