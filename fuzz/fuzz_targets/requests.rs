//! libFuzzer's way into target `requests`: any bytes as what a node receives.
//!
//! What it checks is in `exactlog_sim::fuzzing`. An allocation beyond the bound below ends the run as a finding.
#![no_main]

use cap::Cap;
use std::alloc::System;

/// Bytes in use at a time; inputs and the files that they make are below 1 MiB.
const ALLOCATED_BYTES_MAX: usize = 256 << 20;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, ALLOCATED_BYTES_MAX);

libfuzzer_sys::fuzz_target!(|data: &[u8]| exactlog_sim::fuzzing::run("requests", data));
