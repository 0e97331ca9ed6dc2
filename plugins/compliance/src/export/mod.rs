//! A recording for the medical record: one media file, and what a records system must know of it as a FHIR R4
//! transaction Bundle.
//!
//! ```text
//! papers ─── rules     may this recording be disclosed, to this recipient, for this purpose, now? (42 CFR Part 2)
//! media                one Matroska file of its tracks, once it is open (the only module here that knows GStreamer)
//! document             DocumentReference, Provenance, Consent: the Bundle, with the log's entry as an AuditEvent
//! deliver              all of it, in an order in which the log always knows more than the world has
//! audit_event          any entry of the audit log as a FHIR AuditEvent
//! post                 the Bundle to a FHIR server
//! ```
//!
//! What must never happen: a copy leaves that the consent does not permit, that the log does not have, or that goes
//! without the notice and the consent that must accompany it.

pub mod audit_event;
pub mod deliver;
pub mod document;
pub mod fhir;
pub mod media;
pub mod papers;
pub mod post;
pub mod purpose;
pub mod rules;

pub use audit_event::{LogEntry, audit_event};
pub use deliver::{DeliverError, Delivered, Job, deliver};
pub use document::{Bundle, Document, bundle};
pub use fhir::Reference;
pub use media::{Made, MediaError, Remuxed, remux};
pub use papers::{Paper, PaperError, Papers};
pub use post::{PostError, Server, Taken};
pub use purpose::PurposeOfUse;
pub use rules::{Permitted, Refusal, Wanted, judge};
