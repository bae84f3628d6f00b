//! Frames: those that a real PDS sent, what is decoded and what is refused, what is repaired on
//! the way out, and random input.

#![allow(clippy::unwrap_used, reason = "a failing helper is a failing test")]

mod captures;
mod fields;
mod fuzz;
mod loose;
mod peek;
#[path = "../blocks/property.rs"]
mod property;
mod repair;
