# imglock: see README.md.  "make run" and "make test" install what they need; everything else only builds.
VERSION := 0.1.0
PREFIX ?= /usr/local
DESTDIR ?=
BUILD := build
CC ?= gcc
CFLAGS ?= -O2 -g
LDFLAGS ?=
# static: SHA-1 comes from libcrypto.a, with hidden symbols.  shared: libcrypto.so becomes a second NEEDED entry.
OPENSSL ?= static

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wno-deprecated-declarations
BASE_FLAGS = -std=gnu11 -D_GNU_SOURCE -DIMGLOCK_VERSION='"$(VERSION)"' -DIMGLOCK_PREFIX='"$(PREFIX)"' \
             -fvisibility=hidden -fno-strict-aliasing -I$(BUILD) -Ishim $(WARNINGS) $(CFLAGS)
# The wrappers define the functions that fortified headers redirect.
SHIM_FLAGS = -fPIC -ftls-model=initial-exec -fno-stack-protector -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=0 \
             -ffunction-sections -fdata-sections -fasynchronous-unwind-tables
# Each symbol that the dynamic linker looks up takes some 700 instructions of every program's start, and 2,000 of one
# with the 25 libraries of qemu-img.  The compiler's start files would have it look for four more, three of which are
# nowhere; they are for constructors of the old kind and for destructors, and there are none.
SHIM_LINK = -shared -nostartfiles -Wl,-z,now -Wl,-z,noseparate-code -Wl,-z,nodelete -Wl,-Bsymbolic-functions \
            -Wl,--gc-sections -Wl,--exclude-libs,ALL -Wl,-soname,libimglock.so -Wl,--no-undefined -Wl,--as-needed
CRYPTO_static := -l:libcrypto.a
CRYPTO_shared := -lcrypto
CRYPTO = $(CRYPTO_$(OPENSSL))
# The command may use what is well kept elsewhere: tables and JSON.
CLI_LIBRARIES := -lsmartcols -ljansson -lsystemd

# One short line a step; make V=1 shows the commands.
quiet = $(if $(V),,@printf '  %-4s %s\n' $(1) $@;)

shared_sources := text bytes who policy arguments blocker image realpath lock lock_exists lock_wait holders family descriptor \
                  message audit
# The descriptor table comes last, so that its 32 KiB do not lie between things that share a page.
shim_sources := $(shared_sources) $(patsubst shim/%.c,%,$(wildcard shim/wrap/*.c)) track
cli_sources := $(notdir $(basename $(wildcard cli/*.c)))

# The processor's abilities are nothing that a shared libcrypto shares.
ifeq ($(OPENSSL),static)
shim_sources += cpuid
endif

shim_objects := $(shim_sources:%=$(BUILD)/shim/%.o)
cli_objects := $(cli_sources:%=$(BUILD)/cli/%.o)

.PHONY: all
all: $(BUILD)/libimglock.so $(BUILD)/imglock

$(BUILD)/libimglock.so: $(shim_objects)
	$(call quiet,LINK)$(CC) $(CFLAGS) $(LDFLAGS) $(SHIM_LINK) -o $@ $(filter %.o,$^) $(CRYPTO)

$(BUILD)/imglock: $(cli_objects) $(shared_sources:%=$(BUILD)/shim/%.o)
	$(call quiet,LINK)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) $(CRYPTO) $(CLI_LIBRARIES)

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

$(BUILD)/make_formats: shim/make_formats.c shim/formats.def shim/extension.h
	@mkdir -p $(@D)
	$(call quiet,CC)$(CC) -std=gnu11 $(WARNINGS) -O1 -o $@ $<

$(BUILD)/formats_index.h: $(BUILD)/make_formats $(BUILD)/look_index.h
	$< > $@.new
	mv $@.new $@
$(BUILD)/look_index.h: $(BUILD)/make_formats
	$< look > $@.new
	mv $@.new $@

-include $(shim_objects:.o=.d) $(cli_objects:.o=.d)

# Programs that the tests run, one a file in tests/helpers; a first line "// link: FLAGS" adds to the linker's.
helper_programs := $(patsubst tests/helpers/%.c,$(BUILD)/tests/%,$(wildcard tests/helpers/*.c))
$(BUILD)/tests/%: tests/helpers/%.c $(wildcard tests/helpers/*.h)
	@mkdir -p $(@D)
	$(call quiet,CC)$(CC) -std=gnu11 -D_GNU_SOURCE $(WARNINGS) $(CFLAGS) -o $@ $< $$(sed -n '1s,^// link: ,,p' $<) -lpthread

$(BUILD)/tests/identify: $(BUILD)/shim/image.o
$(BUILD)/tests/lookup: $(BUILD)/shim/wrap/lookup.o
$(BUILD)/tests/who: $(BUILD)/shim/who.o $(BUILD)/shim/text.o

# The library with a hook in every system call of its own, for the tests that make each of them fail.
fault_objects := $(shim_sources:%=$(BUILD)/fault/%.o) $(BUILD)/fault/fault.o
$(BUILD)/fault/%.o: shim/%.c $(BUILD)/formats_index.h
	@mkdir -p $(@D)
	$(call quiet,CC)$(CC) $(BASE_FLAGS) $(SHIM_FLAGS) -DIMGLOCK_FAULTS -MMD -MP -c -o $@ $<
$(BUILD)/fault/fault.o: tests/fault/fault.c
	@mkdir -p $(@D)
	$(call quiet,CC)$(CC) $(BASE_FLAGS) $(SHIM_FLAGS) -DIMGLOCK_FAULTS -MMD -MP -c -o $@ $<
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

# All of them install what is missing first, the compiler included, so everything else happens in a second make.
.PHONY: run test test-long packages-run packages-test packages-long packages-bench
packages-run packages-test packages-long packages-bench: packages-%:
	@sh tests/packages.sh $*

run: packages-run
	@$(MAKE) --no-print-directory --silent all
ifdef CMD
	@$(BUILD)/imglock -- sh -c "$$CMD"
else
	@examples/two-writers.sh
endif

test: packages-test
	@$(MAKE) --no-print-directory --silent -j2 all helpers
	@tests/run.sh $(TESTS)

# Minutes instead of seconds: other programs' test suites, and the torture run for two minutes.
test-long: packages-long
	@$(MAKE) --no-print-directory --silent -j2 all helpers
	@TORTURE_SECONDS=$${TORTURE_SECONDS:-120} tests/run.sh tests/long/*.bats tests/torture.bats

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
bin_directory = $(DESTDIR)$(PREFIX)/bin
library_directory = $(DESTDIR)$(PREFIX)/lib/imglock
preset_directory = $(DESTDIR)$(PREFIX)/share/imglock
bash_directory = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
zsh_directory = $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions
fish_directory = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
examples_directory = $(DESTDIR)$(PREFIX)/share/doc/imglock/examples
tmpfiles_directory = $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
man_directory = $(DESTDIR)$(PREFIX)/share/man
presets = $(filter-out config/imglock.tmpfiles.conf,$(wildcard config/*.conf))

.PHONY: install uninstall
install: all
	install -d $(bin_directory) $(library_directory) $(preset_directory) $(bash_directory) $(zsh_directory) \
	    $(fish_directory) $(examples_directory) $(tmpfiles_directory) $(man_directory)/man1 $(man_directory)/man7
	install -m 755 $(BUILD)/imglock $(bin_directory)
	install -m 644 $(BUILD)/libimglock.so $(library_directory)
	install -m 644 $(presets) config/apparmor-libvirt-qemu config/imglock-libvirt.te $(preset_directory)
	install -m 755 config/qemu-imglock $(preset_directory)
	install -m 644 cli/completion/imglock.bash $(bash_directory)/imglock
	install -m 644 cli/completion/_imglock $(zsh_directory)
	install -m 644 cli/completion/imglock.fish $(fish_directory)
	install -m 755 $(wildcard examples/*.sh) $(examples_directory)
	install -m 644 $(wildcard examples/*.xml) $(examples_directory)
	install -m 644 config/imglock.tmpfiles.conf $(tmpfiles_directory)/imglock.conf
	install -m 644 $(wildcard man/*.1) $(man_directory)/man1
	install -m 644 $(wildcard man/*.7) $(man_directory)/man7

uninstall:
	rm -f $(bin_directory)/imglock $(library_directory)/libimglock.so $(presets:config/%=$(preset_directory)/%) \
	    $(preset_directory)/apparmor-libvirt-qemu $(preset_directory)/imglock-libvirt.te $(preset_directory)/qemu-imglock \
	    $(bash_directory)/imglock $(zsh_directory)/_imglock $(fish_directory)/imglock.fish $(tmpfiles_directory)/imglock.conf \
	    $(patsubst man/%,$(man_directory)/man1/%,$(wildcard man/*.1)) \
	    $(patsubst man/%,$(man_directory)/man7/%,$(wildcard man/*.7))
	rm -f $(patsubst examples/%,$(examples_directory)/%,$(wildcard examples/*.sh examples/*.xml))
	-rmdir $(library_directory) $(preset_directory) $(examples_directory) 2>/dev/null

.PHONY: clean
clean:
	rm -rf $(BUILD)
