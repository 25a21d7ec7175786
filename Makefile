# imglock: see README.md and HACKING.md.  "make run" and "make test" install what they need; everything else only builds.
VERSION := 0.1.0
PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
DATADIR ?= $(PREFIX)/share
MANDIR ?= $(DATADIR)/man
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
DESTDIR ?=
BUILD := build
CC ?= gcc
# For what runs while building, when CC makes programs for another machine.
CC_FOR_BUILD ?= $(if $(findstring -gcc,$(CC)),gcc,$(CC))
CPPFLAGS ?=
CFLAGS ?= -O2 -g
LDFLAGS ?=
# 1: a warning ends the build, as in .ci/run.  A later compiler's new warnings are nobody else's business.
WERROR ?=
# static: SHA-1 comes from libcrypto.a, with hidden symbols.  shared: libcrypto.so becomes a second NEEDED entry.
OPENSSL ?= static

WARNINGS := -Wall -Wextra $(if $(WERROR),-Werror) -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wno-deprecated-declarations
# Where the installed library and the presets are, below PREFIX if they are below it.
library_below = $(patsubst $(PREFIX)/%,%,$(LIBDIR))/imglock/libimglock.so
presets_below = $(patsubst $(PREFIX)/%,%,$(DATADIR))/imglock
# The same bytes wherever the sources lie.
FIXED_PATHS = -ffile-prefix-map=$(CURDIR)=.
COMPAT := -include shim/compat/compat.h -idirafter shim/compat
BASE_FLAGS = -std=gnu11 -D_GNU_SOURCE -DIMGLOCK_VERSION='"$(VERSION)"' -DIMGLOCK_PREFIX='"$(PREFIX)"' \
             -DIMGLOCK_LIBRARY_BELOW='"$(library_below)"' -DIMGLOCK_PRESETS_BELOW='"$(presets_below)"' \
             -fvisibility=hidden -fno-strict-aliasing -I$(BUILD) -Ishim \
             $(FIXED_PATHS) $(COMPAT) $(WARNINGS) $(CPPFLAGS) $(CFLAGS)
# The wrappers define the functions that fortified headers redirect.
SHIM_FLAGS = -DIMGLOCK_LIBRARY -fPIC -ftls-model=initial-exec -fno-stack-protector -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=0 \
             -ffunction-sections -fdata-sections -fasynchronous-unwind-tables $(MACHINE_FLAGS)
# Else libgcc's constructor asks the processor how it does atomic operations best.
MACHINE_FLAGS := $(if $(filter aarch64%,$(shell $(CC) -dumpmachine)),-mno-outline-atomics)
# Each symbol that the dynamic linker looks up takes some 700 instructions of every program's start, and 2,000 of one
# with the 25 libraries of qemu-img.  The compiler's start files would have it look for four more, three of which are
# nowhere; they are for constructors of the old kind and for destructors, and there are none.
SHIM_LINK = -shared -nostartfiles -Wl,-z,now -Wl,-z,noseparate-code -Wl,-z,nodelete -Wl,-Bsymbolic-functions \
            -Wl,--gc-sections -Wl,--exclude-libs,ALL -Wl,-soname,libimglock.so -Wl,--no-undefined -Wl,--as-needed
CRYPTO_static := -l:libcrypto.a
CRYPTO_shared := -lcrypto
CRYPTO = $(CRYPTO_$(OPENSSL))
# The command may use what is well kept elsewhere: tables and JSON.
CLI_LIBRARIES := -lsmartcols -ljansson -lsystemd -ldl -lpthread

# One short line a step; make V=1 shows the commands.
quiet = $(if $(V),,@printf '  %-4s %s\n' $(1) $@;)

# Everything in shim/ but the wrappers and what runs only while building.  The descriptor table comes last, so that its
# 32 KiB do not lie between things that share a page; the order of the others does not matter.
descriptor_table := $(notdir $(basename $(firstword $(wildcard shim/table.c) shim/track.c)))
shared_sources := $(filter-out make_formats cpuid $(descriptor_table),$(sort $(notdir $(basename $(wildcard shim/*.c))))) \
                  $(descriptor_table)
wrap_sources := $(patsubst shim/%.c,%,$(sort $(wildcard shim/wrap/*.c)))
shim_sources := $(wrap_sources) $(shared_sources)
cli_sources := $(notdir $(basename $(wildcard cli/*.c)))

# The processor's abilities are nothing that a shared libcrypto shares.
ifeq ($(OPENSSL),static)
shim_sources := cpuid $(shim_sources)
endif

shim_objects := $(shim_sources:%=$(BUILD)/shim/%.o)
cli_objects := $(cli_sources:%=$(BUILD)/cli/%.o)

.PHONY: all
all: $(BUILD)/libimglock.so $(BUILD)/imglock

# Put in place whole: a linker takes the old file away first, and somebody may be just about to start or copy it.
$(BUILD)/libimglock.so: $(shim_objects)
	$(call quiet,LINK)$(CC) $(CFLAGS) $(LDFLAGS) $(SHIM_LINK) -o $@.new $(filter %.o,$^) $(CRYPTO) && mv -f $@.new $@

$(BUILD)/imglock: $(cli_objects) $(shared_sources:%=$(BUILD)/shim/%.o)
	$(call quiet,LINK)$(CC) $(CFLAGS) $(LDFLAGS) -o $@.new $(filter %.o,$^) $(CRYPTO) $(CLI_LIBRARIES) && mv -f $@.new $@

# A file whose name says which OpenSSL the objects were linked with, so that a change relinks.
$(BUILD)/libimglock.so $(BUILD)/imglock: $(BUILD)/openssl-$(OPENSSL)
$(BUILD)/openssl-$(OPENSSL):
	@mkdir -p $(BUILD)
	@rm -f $(BUILD)/openssl-*
	@touch $@

$(BUILD)/shim/%.o: shim/%.c $(BUILD)/formats_index.h
	@mkdir -p $(@D)
	$(call quiet,CC)$(CC) $(BASE_FLAGS) $(SHIM_FLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/cli/%.o: cli/%.c
	@mkdir -p $(@D)
	$(call quiet,CC)$(CC) $(BASE_FLAGS) -MMD -MP -c -o $@ $<

# "make install PREFIX=..." after "make": what knows the places is compiled again.
places = $(PREFIX) $(library_below) $(presets_below)
$(BUILD)/places: always
	@mkdir -p $(@D)
	@echo '$(places)' | cmp -s - $@ || echo '$(places)' >$@
.PHONY: always
$(BUILD)/cli/library.o: $(BUILD)/places

$(BUILD)/make_formats: shim/make_formats.c shim/formats.def shim/extension.h
	@mkdir -p $(@D)
	$(call quiet,CC)$(CC_FOR_BUILD) -std=gnu11 $(WARNINGS) -O1 -o $@ $<

$(BUILD)/formats_index.h: $(BUILD)/make_formats $(BUILD)/look_index.h
	$< > $@.new
	mv $@.new $@
$(BUILD)/look_index.h: $(BUILD)/make_formats
	$< look > $@.new
	mv $@.new $@

-include $(shim_objects:.o=.d) $(cli_objects:.o=.d)

# Programs that the tests run, one a file in tests/helpers; a first line "// link: FLAGS" adds to the linker's.
helper_programs := $(patsubst tests/helpers/%.c,$(BUILD)/tests/%,$(wildcard tests/helpers/*.c))
$(BUILD)/tests/%: tests/helpers/%.c $(wildcard tests/helpers/*.h shim/*.def shim/wrap/*.def)
	@mkdir -p $(@D)
	$(call quiet,CC)$(CC) -std=gnu11 -D_GNU_SOURCE $(COMPAT) $(WARNINGS) $(CFLAGS) -o $@ $< \
	    $$(sed -n '1s,^// link:,,; T; s, build/, $(BUILD)/,g; p' $<) $(BUILD)/tests/compat.a -ldl -lpthread
$(helper_programs): $(BUILD)/tests/compat.a
$(BUILD)/tests/compat.a: $(BUILD)/shim/errors.o
	@mkdir -p $(@D)
	@$(AR) rcsD $@ $<

$(BUILD)/tests/identify: $(BUILD)/shim/image.o
$(BUILD)/tests/children: $(BUILD)/shim/children.o $(BUILD)/shim/bytes.o
$(BUILD)/tests/locks_counted: $(patsubst %,$(BUILD)/shim/%.o,lock_list fdinfo proc process text)
$(BUILD)/tests/lookup: $(BUILD)/shim/wrap/lookup.o
$(BUILD)/tests/parsed: $(patsubst %,$(BUILD)/shim/%.o,settings arguments text)
$(BUILD)/tests/who: $(BUILD)/shim/who.o $(BUILD)/shim/text.o

# The library with a hook in every system call of its own, for the tests that make each of them fail.
FAULT_FLAGS = -DIMGLOCK_FAULTS -fno-omit-frame-pointer -fno-optimize-sibling-calls
fault_objects := $(shim_sources:%=$(BUILD)/fault/%.o) $(BUILD)/fault/fault.o
$(BUILD)/fault/%.o: shim/%.c $(BUILD)/formats_index.h
	@mkdir -p $(@D)
	$(call quiet,CC)$(CC) $(BASE_FLAGS) $(SHIM_FLAGS) $(FAULT_FLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/fault/fault.o: tests/fault/fault.c
	@mkdir -p $(@D)
	$(call quiet,CC)$(CC) $(BASE_FLAGS) $(SHIM_FLAGS) $(FAULT_FLAGS) -MMD -MP -c -o $@ $<
$(BUILD)/tests/libimglock-fault.so: $(fault_objects)
	@mkdir -p $(@D)
	$(call quiet,LINK)$(CC) $(CFLAGS) $(SHIM_LINK) -o $@ $^ $(CRYPTO)
-include $(fault_objects:.o=.d)

# What it costs, beside its peers and beside the floor; tests/cost.bats counts with the same programs.
bench_programs := $(BUILD)/bench/runner $(BUILD)/bench/handover $(BUILD)/bench/empty.so $(BUILD)/bench/by_hand.so
$(BUILD)/bench/%: bench/%.c shim/sys.h bench/by_hand.h
	@mkdir -p $(@D)
	$(call quiet,CC)$(CC) -std=gnu11 -D_GNU_SOURCE $(WARNINGS) $(CFLAGS) -o $@ $<
$(BUILD)/bench/empty.so: bench/empty.c
	@mkdir -p $(@D)
	$(call quiet,CC)$(CC) -std=gnu11 $(WARNINGS) $(CFLAGS) -shared -fPIC -o $@ $<
# Linked as libimglock.so is.
$(BUILD)/bench/by_hand.so: bench/by_hand.c bench/by_hand.h shim/sys.h
	@mkdir -p $(@D)
	$(call quiet,CC)$(CC) -std=gnu11 -D_GNU_SOURCE $(WARNINGS) $(CFLAGS) -shared -fPIC -Wl,-z,noseparate-code -o $@ $<

# All rows, or ROWS=open,exec; QUICK=1 for fewer samples.  bench/readme.py writes the table into README.
.PHONY: bench
bench: packages-bench
	@$(MAKE) --no-print-directory --silent -j2 all $(bench_programs)
	@bench/run.py $(if $(QUICK),--quick) $(ROWS)

.PHONY: helpers
helpers: $(helper_programs) $(BUILD)/tests/libimglock-fault.so $(bench_programs)

# Runs the tests, or TESTS="tests/lock.bats ...", with what is installed.
.PHONY: check
check:
	@$(MAKE) --no-print-directory --silent -j2 all helpers
	@tests/run.sh $(TESTS)

# All of them install what is missing first, the compiler included, so everything else happens in a second make.
.PHONY: run test test-long packages-run packages-test packages-long packages-bench packages-releases
packages-run packages-test packages-long packages-bench packages-releases: packages-%:
	@sh tests/packages.sh $*

run: packages-run
	@$(MAKE) --no-print-directory --silent all
ifdef CMD
	@$(BUILD)/imglock -- sh -c "$$CMD"
else
	@examples/two-writers.sh
endif

test: packages-test
	@$(MAKE) --no-print-directory check

# Minutes instead of seconds: other programs' test suites, every pair of pairs.table, the torture run for two minutes, a mount
# for one, and the races a thousand times.
test-long: packages-long
	@$(MAKE) --no-print-directory --silent -j2 all helpers
	@TORTURE_SECONDS=$${TORTURE_SECONDS:-120} MOUNTED_SECONDS=$${MOUNTED_SECONDS:-60} \
	    OUTSIDERS_RACE_SECONDS=$${OUTSIDERS_RACE_SECONDS:-10} FAULTS_ALL=1 \
	    HANDOVERS=$${HANDOVERS:-1000} BLOCKS=$${BLOCKS:-1000} \
	    tests/run.sh tests/long/*.bats tests/torture.bats tests/own_locks.bats tests/outsiders.bats \
	    tests/handoff.bats tests/blockers.bats tests/status.bats

# On every release of Debian that imglock is to run on, in folders that debootstrap fills; as root.
.PHONY: releases
releases: packages-releases
	@tests/releases.sh $(RELEASES_ONLY)

# What can be said of the sources without running them; CHECKS="format shell" for some of it.
.PHONY: lint
lint:
	@tests/lint.sh $(CHECKS)

# Fuzzers for what reads foreign bytes; FUZZ_SECONDS for each.  Ends with an error, and the input beside it, when one finds
# something.
FUZZ_SECONDS ?= 30
fuzzers := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/*.c))
$(BUILD)/fuzz/%: tests/fuzz/%.c $(wildcard shim/*.c) $(BUILD)/formats_index.h
	@mkdir -p $(@D)
	$(call quiet,FUZZ)clang $(filter-out -W%,$(BASE_FLAGS)) -Wno-deprecated-declarations -g -O1 \
	    -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -o $@ $< $(shared_sources:%=shim/%.c) $(CRYPTO)

.PHONY: fuzz
fuzz:
	@sh tests/packages.sh fuzz
	@$(MAKE) --no-print-directory $(fuzzers)
	@for fuzzer in $(fuzzers); do \
	    mkdir -p $$fuzzer.corpus && echo "== $$fuzzer" && \
	    $$fuzzer -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -artifact_prefix=$$fuzzer.found- -verbosity=0 \
	        -print_final_stats=1 $$fuzzer.corpus || exit 1; \
	done

# ---- installing ---------------------------------------------------------------------------------------------------
# Each file and where it goes.  "make uninstall" removes them all.
preset_files := $(filter-out config/imglock.tmpfiles.conf,$(wildcard config/*))
example_files := $(wildcard examples/*.sh examples/*.xml)
manual_files := $(wildcard man/*.[1-8])
example_directory := $(DATADIR)/doc/imglock/examples
target_config/imglock.tmpfiles.conf := $(TMPFILESDIR)/imglock.conf
target_cli/completion/imglock.bash := $(DATADIR)/bash-completion/completions/imglock
target_cli/completion/imglock.fish := $(DATADIR)/fish/vendor_completions.d/imglock.fish
target_cli/completion/_imglock := $(DATADIR)/zsh/vendor-completions/_imglock
$(foreach file,$(preset_files),$(eval target_$(file) := $(file:config/%=$(DATADIR)/imglock/%)))
$(foreach file,$(example_files),$(eval target_$(file) := $(file:examples/%=$(example_directory)/%)))
$(foreach file,$(manual_files),$(eval target_$(file) := $(MANDIR)/man$(subst .,,$(suffix $(file)))/$(notdir $(file))))
texts := config/imglock.tmpfiles.conf $(wildcard cli/completion/*) $(preset_files) $(example_files) $(manual_files)
installed = $(BINDIR)/imglock $(LIBDIR)/imglock/libimglock.so $(foreach file,$(texts),$(target_$(file)))

# What is installed names what is installed.
define install_text
sed -e 's,/usr/local/lib/imglock/libimglock\.so,$(LIBDIR)/imglock/libimglock.so,g' -e 's,/usr/local,$(PREFIX),g' \
    -e 's,^\.It Pa lib/imglock/libimglock\.so,.It Pa $(library_below),' $(1) >$(DESTDIR)$(target_$(1))
chmod $(if $(shell test -x $(1) && echo yes),755,644) $(DESTDIR)$(target_$(1))

endef

.PHONY: install uninstall dist
install: all
	install -d $(sort $(dir $(installed:%=$(DESTDIR)%)))
	install -m 755 $(BUILD)/imglock $(DESTDIR)$(BINDIR)
	install -m 644 $(BUILD)/libimglock.so $(DESTDIR)$(LIBDIR)/imglock
	$(foreach file,$(texts),$(call install_text,$(file)))

uninstall:
	rm -f $(installed:%=$(DESTDIR)%)
	-rmdir $(DESTDIR)$(LIBDIR)/imglock $(DESTDIR)$(DATADIR)/imglock $(DESTDIR)$(example_directory) 2>/dev/null

# The same bytes from the same commit.
dist:
	@mkdir -p $(BUILD)
	git archive --prefix=imglock-$(VERSION)/ HEAD | gzip -9n >$(BUILD)/imglock-$(VERSION).tar.gz
	@echo $(BUILD)/imglock-$(VERSION).tar.gz

.PHONY: clean
clean:
	rm -rf $(BUILD)
