//! Key schedules of `ring` are plain memory that it does not erase. This box does, when it is dropped.

use std::mem::{MaybeUninit, needs_drop};
use zeroize::Zeroize;

/// A value on the heap whose bytes are overwritten when it is dropped.
pub struct Wiped<T>(Box<MaybeUninit<T>>);

impl<T> Wiped<T> {
    const PLAIN: () = assert!(!needs_drop::<T>(), "only for plain data: no drop code runs");

    pub fn new(value: T) -> Self {
        let () = Self::PLAIN;
        Self(Box::new(MaybeUninit::new(value)))
    }
}

impl<T> std::ops::Deref for Wiped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: initialised in `new`, and only `drop` overwrites it.
        unsafe { self.0.assume_init_ref() }
    }
}

impl<T> Drop for Wiped<T> {
    fn drop(&mut self) {
        // `MaybeUninit` has no validity rule, so its bytes may become anything, padding included.
        std::slice::from_mut(&mut *self.0).zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_its_value_and_erases_all_of_it() {
        let mut wiped = Wiped::new([0xa5u8; 32]);
        assert_eq!(*wiped, [0xa5; 32]);
        std::slice::from_mut(&mut *wiped.0).zeroize();
        assert_eq!(*wiped, [0; 32]);
    }
}
