//! Keeps memory in which media or keys are in clear off the disk.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// No core dump of this process, and no debugger (prctl(2), `PR_SET_DUMPABLE`). The error says what to do.
pub fn forbid_core_dumps() -> Result<(), String> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| {
        format!(
            "core dumps cannot be switched off ({error}), so a crash could write media or keys in clear to the disk; \
             where that is acceptable, the elements have allow-core-dumps=true"
        )
    })
}
