//! Empty.
use super::Specimen;
use crate::world::World;
use protocol::ids::Micros;

pub(super) fn add(_world: &mut World, _now: Micros, _specimens: &mut Vec<Specimen>) {}
