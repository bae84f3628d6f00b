//! The fake network: hosts, traffic, consumers, oracle
