//! Members in memory, for tests.

use std::cell::RefCell;
use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::Members;

/// Members in memory; those that are not there are damaged.
#[derive(Default)]
pub struct Fake {
    pub members: BTreeMap<u64, Vec<u8>>,
    /// Which were asked for.
    pub asked: RefCell<Vec<u64>>,
}

impl Members for &Fake {
    fn member(&self, sequence: u64) -> Result<Zeroizing<Vec<u8>>, String> {
        self.asked.borrow_mut().push(sequence);
        let member = self.members.get(&sequence).cloned();
        member
            .map(Zeroizing::new)
            .ok_or_else(|| "is not what was sealed".to_owned())
    }
}
