//! Check: identity, signature, MST inversion, account state
