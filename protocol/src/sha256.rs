//! SHA-256 of messages that are there as a whole: most of what a commit's check computes.
//!
//! `sha2` does the arithmetic, with the CPU's own instructions where it has them. Its hasher copies
//! through a buffer, which costs as much again as the arithmetic where a message is one block, as
//! the keys of a tree are; and it hashes one message after the other, while the CPU has room for
//! a second one in the time that the first waits for its own results.

use sha2::block_api::compress256;

/// A digest.
pub type Digest32 = [u8; 32];

/// The digest of a message.
#[inline]
pub fn sha256(message: &[u8]) -> Digest32 {
    to_bytes(state_of(message))
}

/// The digest of a message that consists of three parts.
//
// For a commit, which is signed without one of its fields.
pub(crate) fn sha256_of_parts(parts: [&[u8]; 3]) -> Digest32 {
    let mut hasher = <sha2::Sha256 as sha2::Digest>::new();
    for part in parts {
        sha2::Digest::update(&mut hasher, part);
    }
    sha2::Digest::finalize(hasher).into()
}

/// How many zero bits the message's digest begins with.
#[inline]
pub(crate) fn leading_zeros(message: &[u8]) -> u32 {
    let state = state_of(message);
    match state.iter().position(|word| *word != 0) {
        Some(at) => u32::BITS * u32::try_from(at).expect("eight words") + state[at].leading_zeros(),
        None => u32::BITS * 8,
    }
}

/// Whether each message hashes to its digest.
pub(crate) fn all_match<'m>(mut messages: impl Iterator<Item = (&'m [u8], &'m [u8; 32])>) -> bool {
    let mut next = || messages.next().map(|(message, digest)| (Hashing::new(message), digest));
    let (mut one, mut two) = (next(), next());
    while let (Some((a, a_digest)), Some((b, b_digest))) = (&mut one, &mut two) {
        let both = a.blocks.len().min(b.blocks.len());
        for (a_block, b_block) in a.blocks[..both].iter().zip(&b.blocks[..both]) {
            compress256(&mut a.state, std::slice::from_ref(a_block));
            compress256(&mut b.state, std::slice::from_ref(b_block));
        }
        a.blocks = &a.blocks[both..];
        b.blocks = &b.blocks[both..];
        // At least one is left with its tail alone.
        if a.blocks.is_empty() {
            if a.finish() != **a_digest {
                return false;
            }
            one = next();
        }
        if b.blocks.is_empty() {
            if b.finish() != **b_digest {
                return false;
            }
            two = next();
        }
    }
    let last = one.or(two);
    last.is_none_or(|(mut last, digest)| last.finish() == *digest)
}

/// A message that is being hashed.
struct Hashing<'m> {
    state: [u32; 8],
    /// Whole blocks that are left.
    blocks: &'m [[u8; BLOCK_BYTES]],
    /// What comes after them.
    rest: &'m [u8],
    bytes: usize,
}

impl<'m> Hashing<'m> {
    fn new(message: &'m [u8]) -> Self {
        let (blocks, rest) = message.as_chunks();
        Self { state: INITIAL, blocks, rest, bytes: message.len() }
    }

    fn finish(&mut self) -> Digest32 {
        compress256(&mut self.state, self.blocks);
        compress_tail(&mut self.state, self.rest, self.bytes);
        to_bytes(self.state)
    }
}

#[inline]
fn state_of(message: &[u8]) -> [u32; 8] {
    let (blocks, rest) = message.as_chunks();
    let mut state = INITIAL;
    if !blocks.is_empty() {
        compress256(&mut state, blocks);
    }
    compress_tail(&mut state, rest, message.len());
    state
}

/// "Append the bit "1" to the end of the message, followed by k zero bits", "Then append the 64-bit
/// block that is equal to the number l expressed using a binary representation", l being the
/// message's length in bits (FIPS 180-4, section 5.1.1).
#[inline]
fn compress_tail(state: &mut [u32; 8], rest: &[u8], message_bytes: usize) {
    let mut tail = [[0; BLOCK_BYTES]; 2];
    let bytes = tail.as_flattened_mut();
    bytes[..rest.len()].copy_from_slice(rest);
    bytes[rest.len()] = 0x80;
    let blocks = if rest.len() < BLOCK_BYTES - LENGTH_BYTES { 1 } else { 2 };
    let bits = u64::try_from(message_bytes).expect("a length fits into 64 bits") * 8;
    bytes[blocks * BLOCK_BYTES - LENGTH_BYTES..blocks * BLOCK_BYTES]
        .copy_from_slice(&bits.to_be_bytes());
    compress256(state, &tail[..blocks]);
}

#[inline]
fn to_bytes(state: [u32; 8]) -> Digest32 {
    let mut digest = [0; 32];
    for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    digest
}

const BLOCK_BYTES: usize = 64;
const LENGTH_BYTES: usize = 8;
/// FIPS 180-4, section 5.3.3.
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn every_length_is_padded_right() {
        let bytes: Vec<u8> = (0..=255).cycle().take(300).collect();
        for len in 0..bytes.len() {
            let message = &bytes[..len];
            assert_eq!(sha256(message), *Sha256::digest(message), "{len}");
            let parts = [&message[..len / 3], &message[len / 3..len / 2], &message[len / 2..]];
            assert_eq!(sha256_of_parts(parts), *Sha256::digest(message), "{len}");
        }
    }

    #[test]
    fn zeros_are_counted_from_the_front() {
        for number in 0..100_000_u32 {
            let message = number.to_le_bytes();
            let digest = u128::from_be_bytes(Sha256::digest(message)[..16].try_into().unwrap());
            assert_eq!(leading_zeros(&message), digest.leading_zeros(), "{number}");
        }
    }

    proptest! {
        #[test]
        fn property_messages_are_compared_each_with_its_own_digest(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..12),
            flip in any::<prop::sample::Index>(),
            bit in 0..256_usize,
        ) {
            let mut digests: Vec<Digest32> = messages.iter().map(|it| sha256(it)).collect();
            let pairs = |digests: &[Digest32]| {
                all_match(messages.iter().map(Vec::as_slice).zip(digests))
            };
            prop_assert!(pairs(&digests));
            if !messages.is_empty() {
                digests[flip.index(messages.len())][bit / 8] ^= 1 << (bit % 8);
                prop_assert!(!pairs(&digests));
            }
        }
    }
}
