//! What flags mean, and how wrong ones are refused.

use clap::Parser as _;
use crawler::allowance::Bounds;
use protocol::host_state::Allowance;

use super::*;
use crate::cli::{Cli, Command};

fn serve(arguments: &[&str]) -> Result<Serve, String> {
    let arguments = ["mainstem", "serve"].iter().chain(arguments);
    match Cli::try_parse_from(arguments).map_err(|error| error.to_string())?.command {
        Command::Serve(serve) => Ok(*serve),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = serve(&[]).unwrap();
    assert_eq!(config.data_dir, PathBuf::from("./data"));
    assert_eq!(config.listen.to_string(), "127.0.0.1:2470");
    assert_eq!(config.metrics_listen.to_string(), "127.0.0.1:2471");
    assert_eq!(config.admin_listen.to_string(), "127.0.0.1:2472");
    assert_eq!(config.plc_urls, ["https://plc.directory"]);
    assert_eq!(config.retention, Duration::from_secs(72 * 3600));
    assert_eq!(config.retention_bytes, None);
    assert_eq!(config.compression, Compression::None);
    assert_eq!(config.commit_interval, Duration::from_millis(3));
    assert_eq!(config.intake_bytes, ByteSize(64 << 20));
    assert_eq!(config.identity_cache_bytes, ByteSize(64 << 20));
    assert_eq!(config.tail_bytes, ByteSize(32 << 20));
    assert_eq!(config.disk_headroom, ByteSize(2 << 30));
    assert_eq!((config.plc_rate, config.plc_concurrency), (200, 128));
    assert_eq!((config.consumers_max, config.consumers_per_address), (5_000, 2_000));
    assert_eq!(config.trusted_proxies, []);
    assert_eq!(config.durability, Durability::Fsync);
    assert_eq!(config.handles, Handles::Verify);
    assert_eq!(config.dns_servers, []);
    assert_eq!((config.plc_export, config.plc_export_from), (None, ExportFrom::Now));
    assert_eq!(config.plc_export_interval, Duration::from_millis(800));
    assert!(!config.allow_insecure_hosts && !config.backfill);
}

#[test]
fn bad_values_are_refused_with_which_and_why() {
    let check = |arguments: &[&str], which: &str, why: &str| {
        let error = serve(arguments).unwrap_err();
        assert!(error.contains(which) && error.contains(why), "{error}");
    };
    check(&["--tail-bytes", "32MB"], "--tail-bytes", "unknown unit 'MB'");
    check(&["--tail-bytes", "1"], "--tail-bytes", "at least 2MiB");
    check(&["--identity-cache-bytes", "1"], "--identity-cache-bytes", "at least 1MiB");
    check(&["--plc-rate", "0"], "--plc-rate", "not in 1..");
    check(&["--intake-bytes", "16MiB"], "--intake-bytes", "at least 24MiB");
    check(&["--intake-bytes", "x"], "--intake-bytes", "not a size");
    check(&["--intake-bytes", "99999999999GiB"], "--intake-bytes", "too large");
    check(&["--retention-bytes", "4095MiB"], "--retention-bytes", "at least 4GiB");
    check(&["--compression", "gzip"], "--compression", "none, lz4, zstd");
    check(&["--retention", "soon"], "--retention", "not a duration, such as 72h");
    check(&["--commit-interval", "1h"], "--commit-interval", "at most 1s");
    check(&["--durability", "none"], "--durability", "fsync, os");
    check(&["--plc-url", "ftp://x"], "--plc-url", "not an http");
    check(&["--plc-export", "plc.directory"], "--plc-export", "relative URL");
    check(&["--plc-export", "https://x/export?count=5"], "--plc-export", "without a query");
    check(&["--plc-export-from", "today"], "--plc-export-from", "now, beginning");
    check(&["--dns-server", "ns.example.com"], "--dns-server", "not an address");
    check(&["--listen", "here"], "--listen", "invalid socket address");
    check(&["--verifier-threads", "0"], "--verifier-threads", "not in 1..");
    check(&["--fault", "check-panic=me"], "--fault", "DID");
    check(&["--fault", "check-panic=did:web:a.example*x"], "--fault", "number of times");
    check(&["--fault", "fire"], "--fault", "unknown fault");
    check(&["--consumers-max", "0"], "--consumers-max", "not in 1..");
    check(&["--consumers-per-address", "many"], "--consumers-per-address", "not a number");
    check(&["--trusted-proxy", "proxy.example.com"], "--trusted-proxy", "not a network");
    check(&["--trusted-proxy", "10.0.0.0/33"], "--trusted-proxy", "an address has 32");
    check(&["--accounts-per-host-base", "0"], "--accounts-per-host-base", "not in 1..");
    check(&["--accounts-per-host-max", "all"], "--accounts-per-host-max", "invalid digit");
    check(&["--host-events-base", "500"], "--host-events-base", "such as 500/s");
    check(&["--host-events-max", "500/m"], "--host-events-max", "use s, h or d");
    check(&["--host-events-max", "5/s,6/s"], "--host-events-max", "two rates for 's'");
    check(&["--host-events-max", "0/s"], "--host-events-max", "greater than 0");
    check(&["--trusted-domain", "https://x.com"], "--trusted-domain", "not a domain");
    check(&["--new-hosts-per-day", "few"], "--new-hosts-per-day", "invalid digit");
    check(&["--frobnicate"], "--frobnicate", "unexpected argument");
}

#[test]
fn lists_are_flags_given_again_or_commas() {
    let config = serve(&["--host", "a.example.com,b.example.com", "--host", "c.example.com"]);
    assert_eq!(config.unwrap().hosts, ["a.example.com", "b.example.com", "c.example.com"]);
    let config = serve(&["--trusted-proxy", "10.0.0.0/8,::1", "--trusted-proxy", "127.0.0.1"]);
    assert_eq!(config.unwrap().trusted_proxies.len(), 3);
}

#[test]
fn a_name_server_is_on_port_53_unless_it_says_otherwise() {
    let config = serve(&["--dns-server", "10.0.0.53,10.0.0.54:5353", "--dns-server", "fd00::1"]);
    let servers = config.unwrap().dns_servers.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(servers, ["10.0.0.53:53", "10.0.0.54:5353", "[fd00::1]:53"]);
}

#[test]
fn the_export_of_a_directory_is_at_its_usual_place() {
    let check = |url: &str, expected: &str| {
        let config = serve(&["--plc-export", url]).unwrap();
        assert_eq!(config.plc_export.as_deref(), Some(expected));
    };
    check("https://plc.directory", "https://plc.directory/export");
    check("https://plc.directory/", "https://plc.directory/export");
    check("https://mirror.example.com/plc/export", "https://mirror.example.com/plc/export");
}

#[test]
fn private_hosts_need_the_flag() {
    let config = serve(&["--host", "localhost:2583"]).unwrap();
    let error = config.host_names().unwrap_err().to_string();
    assert!(error.contains("localhost:2583") && error.contains("--allow-insecure-hosts"));
    let config = serve(&["--host", "http://localhost:2583/", "--allow-insecure-hosts"]);
    let names = config.unwrap().host_names().unwrap();
    assert_eq!(names[0].as_str(), "localhost:2583");
}

#[test]
fn a_host_is_strict_or_lenient_but_not_both() {
    let config = serve(&["--strict-host", "A.example.com,b.example.com"]).unwrap();
    let name = |text| HostName::parse(text, HostRules::Public).unwrap();
    let decided = config.lenience().unwrap();
    assert_eq!(decided.get(&name("a.example.com")), Some(&Lenience::Strict));
    assert_eq!(decided.get(&name("c.example.com")), None);
    let both = ["--strict-host", "a.example.com", "--lenient-host", "https://a.example.com/"];
    let error = serve(&both).unwrap().lenience().unwrap_err().to_string();
    assert!(error.contains("--lenient-host 'a.example.com'"), "{error}");
    let error = serve(&["--lenient-host", "localhost:1"]).unwrap().lenience().unwrap_err();
    assert!(error.to_string().starts_with("--lenient-host 'localhost:1'"), "{error}");
}

#[test]
fn hosts_have_the_documented_quotas_and_development_networks_those_that_they_ask_for() {
    let allowance = |per_second, per_hour, per_day, accounts| Allowance {
        per_second,
        per_hour,
        per_day,
        accounts,
    };
    let check = |arguments: &[&str], base: Allowance, ceiling: Allowance| {
        let config = serve(arguments).unwrap();
        let bounds = config.quotas.bounds(config.rules()).unwrap();
        assert_eq!(bounds, Bounds { base, ceiling }, "{arguments:?}");
    };
    let base = allowance(500, 200_000, 1_000_000, 1_000);
    let ceiling = allowance(5_000, 5_000_000, 50_000_000, 5_000_000);
    check(&[], base, ceiling);
    // A lower ceiling lowers the base that nobody asked for.
    let low = ["--accounts-per-host-max", "2", "--host-events-max", "100/s,1000/h"];
    let lowered = allowance(100, 1_000, 1_000_000, 2);
    check(&low, lowered, allowance(100, 1_000, u64::MAX, 2));
    let none = allowance(u64::MAX, u64::MAX, u64::MAX, 5_000_000);
    check(&["--allow-insecure-hosts"], none, none);
    let asked = ["--allow-insecure-hosts", "--host-events-base", "9/s"];
    check(&asked, Allowance { per_second: 9, ..none }, none);

    let config = serve(&[]).unwrap().quotas;
    assert_eq!(config.trusted_domains, ["*.host.bsky.network".parse().unwrap()]);
    assert_eq!(config.new_hosts_max(HostRules::Public), Some(200));
    assert_eq!(config.new_hosts_max(HostRules::Insecure), None);
    let config = serve(&["--new-hosts-per-day", "0"]).unwrap().quotas;
    assert_eq!(config.new_hosts_max(HostRules::Insecure), Some(0));
}

#[test]
fn a_base_is_not_more_than_its_ceiling() {
    let check = |arguments: &[&str], expected: &str| {
        let config = serve(arguments).unwrap();
        let error = config.quotas.bounds(config.rules()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let accounts = ["--accounts-per-host-base", "3", "--accounts-per-host-max", "2"];
    check(&accounts, "--accounts-per-host-base 3: more than --accounts-per-host-max 2");
    check(&["--host-events-base", "6000/s"], "--host-events-base: more than --host-events-max");
}

#[test]
fn every_flag_is_also_an_environment_variable() {
    use clap::CommandFactory as _;
    let command = Cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    for argument in serve.get_arguments().filter(|argument| argument.get_id() != "help") {
        let long = argument.get_long().unwrap();
        let variable = format!("MAINSTEM_{}", long.replace('-', "_").to_uppercase());
        assert_eq!(argument.get_env().unwrap().to_str(), Some(variable.as_str()), "{long}");
    }
}
