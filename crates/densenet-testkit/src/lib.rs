#![forbid(unsafe_code)]
//! Test helpers: comparator, golden files, seeded cases.
