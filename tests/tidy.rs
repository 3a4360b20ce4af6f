//! Structure as tests.
