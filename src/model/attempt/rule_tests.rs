//! Tests of the rule over a ledger.
