//! Where the file is.
