//! What the benchmarks and the figures program share. The benchmarks are the files beside the manifest, the program is
//! in `figures/`; docs/PERFORMANCE.md says what each figure means.
//!
//! Everything is measured through the public interface, beside a probe of the machine in the same process.
#![forbid(unsafe_code)]

pub mod beside;
pub mod chain;
pub mod numbers;
pub mod probe;
pub mod samples;
pub mod value;
pub mod warm;
