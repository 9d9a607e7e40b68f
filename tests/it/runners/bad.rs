//! Runners that are named wrongly, are too old or too new, or answer something else than one move.
