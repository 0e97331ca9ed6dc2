//! Whom this member lets go first. Everybody may commit at any time, and one wins; a member that is slower than the
//! others would lose again and again. So who lost [`PATIENT`] races in a row says so, in the log, and the others hold
//! their own wishes back until that one's commit is there, those who wait longer first.
//!
//! It is courtesy and no rule: nobody refuses a commit because of it. So a member that says it waits and never commits
//! holds up the others for [`HOLD`] only, and not again for [`FORGET`].

/// After so many lost races in a row a member says that it waits.
pub(super) const PATIENT: u32 = 3;
/// So long the others hold back for one that waits, in milliseconds.
const HOLD: u64 = 2000;
/// Who was waited for in vain is not waited for again for so long, in milliseconds.
const FORGET: u64 = 30_000;

struct Waiting {
    leaf: u32,
    since: u64,
}

/// Those who wait, longest first.
#[derive(Default)]
pub(super) struct Queue(Vec<Waiting>);

impl Queue {
    /// This leaf says that it waits; saying it again changes nothing.
    pub(super) fn add(&mut self, leaf: u32, now: u64) {
        self.0.retain(|waiting| now < waiting.since + FORGET);
        if self.0.iter().all(|waiting| waiting.leaf != leaf) {
            self.0.push(Waiting { leaf, since: now });
        }
    }

    /// This leaf's commit is there.
    pub(super) fn done(&mut self, leaf: u32) {
        self.0.retain(|waiting| waiting.leaf != leaf);
    }

    /// Only these are still members.
    pub(super) fn retain(&mut self, is_member: impl Fn(u32) -> bool) {
        self.0.retain(|waiting| is_member(waiting.leaf));
    }

    /// Until when the member `own` holds back for those who were there before it.
    pub(super) fn hold_until(&self, own: u32, now: u64) -> Option<u64> {
        let before = self.0.iter().take_while(|waiting| waiting.leaf != own);
        before
            .map(|waiting| waiting.since + HOLD)
            .filter(|until| now < *until)
            .max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_longer_goes_first() {
        let mut queue = Queue::default();
        assert_eq!(queue.hold_until(1, 0), None);
        queue.add(3, 100);
        queue.add(1, 200);
        queue.add(3, 300);
        assert_eq!(queue.hold_until(3, 400), None);
        assert_eq!(queue.hold_until(1, 400), Some(100 + HOLD));
        assert_eq!(queue.hold_until(7, 400), Some(200 + HOLD));
        queue.done(3);
        assert_eq!(queue.hold_until(1, 400), None);
        queue.retain(|leaf| leaf != 1);
        assert_eq!(queue.hold_until(7, 400), None);
    }

    #[test]
    fn nobody_is_held_up_by_one_who_never_commits() {
        let mut queue = Queue::default();
        let mut held = 0;
        for now in 0..FORGET {
            queue.add(5, now);
            held += u64::from(queue.hold_until(1, now).is_some());
        }
        assert_eq!(held, HOLD);
        queue.add(5, FORGET);
        assert!(queue.hold_until(1, FORGET).is_some());
    }
}
