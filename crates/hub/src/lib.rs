//! stub
pub mod ws;
