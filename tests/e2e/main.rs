//! The real program, over real files and real servers. One test binary; what each module tests is in its name.

mod command_line;
mod night;
mod trial;
