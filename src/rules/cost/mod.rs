//! Pure. Money: what a call costs, what was spent, and what may be.

pub mod budget;
pub mod charge;
pub mod price;
pub mod spend;
