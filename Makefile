# Every task of the project. The recipes are scripts, so that people and CI run the same thing.

# Seconds for `make fuzz`.
T ?= 60

.PHONY: demo test test-slow check bench scale isolation startup faults mutants fuzz

# From a bare machine with Rust to a running relay fed by a simulated network.
demo:
	@scripts/demo

# Everything that must hold; ends with "N passed, N failed".
test:
	@scripts/test

# What takes long or needs much; ends in the same way.
test-slow:
	@scripts/test_slow

# The fast part: format, lints, house rules.
check:
	@scripts/check

# Throughput, latency and CPU per event: a table, and bench.json in the cache folder.
bench:
	@scripts/bench

# A thousand consumers, with some that stall and some that replay: five minutes.
scale:
	@scripts/scale

# A hundred good hosts beside one that floods: two minutes.
isolation:
	@scripts/isolation

# A start with 3,000 known hosts over TLS, and with 20,000: ten minutes. Needs openssl and port 443.
startup:
	@scripts/startup

# The same of known and new accounts while the PLC directory is sick: four minutes.
faults:
	@scripts/faults

# Bugs on purpose, and which test notices each: a table; half an hour.
mutants:
	@scripts/mutants

# Random bytes into every parser for T seconds.
fuzz:
	@scripts/fuzz $(T)
