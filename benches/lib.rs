//! Benchmarks of exactlog. The benchmarks themselves are the files beside this one.
