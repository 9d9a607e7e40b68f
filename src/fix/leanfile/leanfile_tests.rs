//! Tests of leanfiles.
