//! Trust, shown: a decider that obeys every stranger, in the real program, and the table of all that may never happen.

mod decider;
mod decode;
mod hostile;
mod page;
mod scene;
mod table;
