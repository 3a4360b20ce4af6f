//! Tests over the whole house. The tests themselves are the files beside this one.
