//! What the tests stand on: a data dir of their own, the real program, a scripted runner and a scripted model server.

pub mod model_server;
pub mod pi;
pub mod profile;
