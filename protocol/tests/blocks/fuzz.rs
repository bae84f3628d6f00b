//! The fuzz targets, on real blocks and on mutations of them.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use protocol::car::{self, fuzz_car};
use protocol::cbor::fuzz_cbor;
use protocol::cid::Cid;
use protocol::commit::fuzz_commit;
use protocol::mst::{Tree, fuzz_mst};

use crate::cbor::{any_value, mutate};
use crate::{property, vectors};

fn mutations() -> impl Strategy<Value = Vec<(u16, u8, u8)>> {
    vec(any::<(u16, u8, u8)>(), 0..4)
}

/// Runs a target on seeds as they are and mutated.
fn check(target: fn(&[u8]), seeds: Vec<Vec<u8>>) {
    seeds.iter().for_each(|seed| target(seed));
    property::check(4000, (select(seeds), mutations()), |(mut bytes, mutations)| {
        mutate(&mut bytes, &mutations);
        target(&bytes);
        Ok(())
    });
}

/// Every block of the real commits.
fn blocks() -> Vec<Vec<u8>> {
    let cars = vectors::cars();
    cars.iter()
        .flat_map(|car| {
            let (_, blocks) = car::read(car).unwrap();
            blocks.iter().map(|(_, block)| block.to_vec()).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn exercise_fuzz_cbor() {
    check(fuzz_cbor, blocks());
    property::check(4000, (any_value(), mutations()), |(value, mutations)| {
        let mut bytes = serde_ipld_dagcbor::to_vec(&value).unwrap();
        mutate(&mut bytes, &mutations);
        fuzz_cbor(&bytes);
        Ok(())
    });
}

#[test]
fn exercise_fuzz_car() {
    check(fuzz_car, vectors::cars());
}

#[test]
fn exercise_fuzz_commit() {
    check(fuzz_commit, blocks());
}

/// Nodes are mutated before they are hashed: a CAR that does not hash is never looked into.
#[test]
fn exercise_fuzz_mst() {
    let seed = |records: usize| {
        let mut tree = Tree::new();
        for record in 0..records {
            tree.insert(&format!("app.example.post/{record}"), Cid::cbor([7; 32]));
        }
        tree.blocks()
    };
    let seeds: Vec<_> = [0, 1, 2, 5, 20, 60].map(seed).into();
    let cut = vec(any::<u16>(), 0..4);
    property::check(4000, (select(seeds), mutations(), cut), |(mut blocks, mutations, cut)| {
        // The root is mutated, and some other nodes are left out.
        mutate(&mut blocks[0].1, &mutations);
        blocks[0].0 = Cid::of_cbor(&blocks[0].1);
        for at in cut {
            if blocks.len() > 1 {
                blocks.remove(1 + usize::from(at) % (blocks.len() - 1));
            }
        }
        let sections: Vec<_> = blocks.iter().map(|(cid, block)| (*cid, &block[..])).collect();
        fuzz_mst(&car::write(&blocks[0].0, &sections));
        Ok(())
    });
}
