//! A report on a recording, for whoever answers for it and is no engineer: is it complete, who was there, what was
//! recorded and what is missing, who could open it and who did. One HTML page ([`html`]), or the same facts as JSON.
//!
//! [`gather`] needs no key and opens no media. It believes nothing that it cannot check: the recording is verified
//! byte by byte, the log entry by entry, and what cannot be shown is said on the page as plainly as what can.
//!
//! ```text
//! audit log ── history ─┐                      ┌── html ── page
//!                       ├── facts ── verdict ──┤     └── timeline
//! recording ── media ───┘                      └── JSON
//! ```
//!
//! What must never happen: something from outside is anything but text on the page, a page grows without an end, or a
//! recording is called complete that is not.

mod accesses;
mod clock;
mod facts;
mod history;
mod html;
mod media;
mod page;
mod spans;
mod timeline;
mod verdict;
pub(crate) mod words;

pub use accesses::{Access, Accesses, Outcome};
pub use facts::{Ask, LogFacts, LogState, Report, gather, pinned_key};
pub use html::html;
pub use verdict::{Check, Mark, Verdict, Word};
