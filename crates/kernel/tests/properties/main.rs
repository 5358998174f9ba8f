//! The kernel against a naive reference, on random logs.
//!
//! The reference keeps every event and works each row out from scratch with whole numbers of any
//! length. It is written from the design's words, not from the kernel's code.

mod exact;
mod fixtures;
mod held;
mod kept;
mod lane;
mod naive;
mod partial;
mod rollup;
mod scenario;
