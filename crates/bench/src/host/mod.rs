//! What the system tells: of the server's processes, and of the machine.

pub mod machine;
pub mod processes;
