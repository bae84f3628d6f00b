//! In: one subscription per upstream host
