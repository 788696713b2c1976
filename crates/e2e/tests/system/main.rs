//! The whole system, one module for each part of what it promises. One binary, so that tests that wait do not wait for each
//! other.

mod audit;
mod bad_input;
mod bad_settings;
mod catalogue;
mod changes;
mod channel;
mod damage;
mod ends;
mod explain;
mod imports;
mod job_trace;
mod keys;
mod log_limit;
mod one_trace;
mod processes;
mod read_path;
mod read_trace;
mod replicas;
mod secrets;
mod tls;
mod write_path;
