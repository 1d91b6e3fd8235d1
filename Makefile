# SPDX-License-Identifier: Apache-2.0
#
# The front door: it works in a fresh clone with nothing but make and a shell. What compiles is meson and ninja.

BUILD ?= build

# Sanitizers cost a factor, and their builds are for looking, not for measuring.
SANITIZE = -Dbuildtype=debugoptimized -Db_lundef=false
export UBSAN_OPTIONS ?= print_stacktrace=1:halt_on_error=1
export TSAN_OPTIONS ?= second_deadlock_stack=1

help:
	@echo 'make demo         two real guests on two hosts in one machine: watch one of them move'
	@echo 'make test         build, then every test; the last line counts them'
	@echo 'make build        $(BUILD)/godwit'
	@echo 'make sanitize     unit tests and smoke tests under Address-, UB- and ThreadSanitizer'
	@echo 'make analyze      clang-tidy and cppcheck;  make style: formatting and the rules of the tree'
	@echo 'make mutants      breaks the rules one by one and sees that tests notice: an hour;  MUTANTS="NAME ...": these'
	@echo 'make fuzz         10 million inputs to each decoder of what comes over the network: an hour or two'
	@echo 'make bench        the comparison with stock QEMU;  BENCH="NAME ... --pairs N ...": others, see bench/run --help'
	@echo 'make soak         migrations to and fro for a long while'
	@echo 'make test-clean   make test in a clean Debian 12 root;  make test-trixie: in Debian 13;  make test-sid: in sid'
	@echo 'make test-save    the tests of what goes wrong, with the device state saved (device-state=save)'
	@echo 'make test-kernels what rests on the kernel, with those of Debian 12, 13 and sid;  KERNELS="SUITE ...": these'
	@echo 'make clean        remove what was built'
	@echo
	@echo 'What is missing is installed with apt-get (Debian 12 or 13, as root).'

build: deps-build compile

compile: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	meson setup $(BUILD)

deps-build deps-demo deps-test:
	@scripts/install-deps --$(@:deps-%=%)

demo: deps-demo
	@$(MAKE) --no-print-directory compile
	scripts/demo

# A build directory that "make build" set up may not know the libraries that tests need: they were not there then.
test: deps-test
	@if [ -f $(BUILD)/build.ninja ]; then meson setup --reconfigure $(BUILD) >/dev/null; fi
	@$(MAKE) --no-print-directory compile
	scripts/run-tests --builddir $(BUILD)

analyze: deps-test
	@$(MAKE) --no-print-directory compile
	GODWIT_BUILD=$(BUILD) scripts/analyze

style: deps-test
	scripts/check-style

build-asan/build.ninja:
	meson setup build-asan $(SANITIZE) -Db_sanitize=address,undefined

build-tsan/build.ninja:
	meson setup build-tsan $(SANITIZE) -Db_sanitize=thread

sanitize: deps-test
	@$(MAKE) --no-print-directory -k sanitize-asan sanitize-tsan

# ThreadSanitizer of gcc 12 does not start where the kernel spreads mappings over more than 28 bits.
NO_ASLR = $(shell test "$$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 0)" -le 28 || echo setarch -R)

sanitize-asan sanitize-tsan: sanitize-%: compile build-%/build.ninja
	ninja -C build-$*
	GODWIT_BUILD=$(CURDIR)/$(BUILD) GODWIT=$(CURDIR)/build-$*/godwit \
		$(NO_ASLR) scripts/run-tests --builddir build-$* --slow 5 --only meson --only pytest -- -m smoke tests

mutants: deps-test
	scripts/mutants $(MUTANTS)

fuzz: deps-test
	tests/fuzz/run --campaign

bench: deps-test
	@$(MAKE) --no-print-directory compile
	bench/run $(BENCH)

soak: deps-test
	@$(MAKE) --no-print-directory compile
	tests/soak/run

test-clean:
	scripts/clean-root bookworm -- sh -c 'apt-get update && apt-get install -y make && make test'

test-trixie test-sid: test-%:
	scripts/test-newer $*

# What goes wrong, once more, with the device state saved and not migrated where a test does not say how it goes.
test-save: deps-test
	@$(MAKE) --no-print-directory compile
	GODWIT_DEVICE_STATE=save scripts/run-tests --builddir $(BUILD) --only pytest -- tests/faults

test-kernels: deps-test
	@$(MAKE) --no-print-directory compile
	scripts/test-kernels --builddir $(BUILD) $(KERNELS)

clean:
	rm -rf build build-asan build-tsan build-fuzz
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The order of what a target names is meant; ninja and the tests use the cores.
.NOTPARALLEL:

.PHONY: help build compile deps-build deps-demo deps-test demo test analyze style sanitize sanitize-asan sanitize-tsan \
	mutants fuzz bench soak test-clean test-trixie test-sid test-save test-kernels clean
