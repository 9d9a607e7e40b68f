//! Spend from end to end: a call that was cut off, reports that add up, and the doctor's question.
