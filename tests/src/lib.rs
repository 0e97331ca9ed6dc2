//! Helpers of the tests that cross plugins.
