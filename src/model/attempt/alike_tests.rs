//! Tests of alikeness.
