//! The real program, over real files and real servers. One test binary; what each module tests is in its name.

mod bad_jobs;
mod command_line;
mod difference;
mod interruptions;
mod long_video;
mod model;
mod night;
mod object_store;
mod readers;
mod trial;
