# memif for Python. `make` alone lists the targets.
#
# Everything lives in .venv; the stamps in .stamps make a second run quick. The package is built once, as a wheel,
# and every target uses that wheel installed, never the source tree.

PYTHON ?= python3
VENV   ?= .venv
BENCH  ?=
PYTEST ?=
# Tests wait more than they compute, so a few more processes than cores pay; 0 runs them one after the other.
JOBS   ?= 3
# Each process takes whole files, in the order of the collection, which has long ones first.
SHARED  = -n $(JOBS) --dist loadfile --no-loadscope-reorder

PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip --disable-pip-version-check --quiet
S      := .stamps
WHEEL   = $(wildcard $(S)/dist/memif-*.whl)

SOURCES := pyproject.toml CMakeLists.txt README.md LICENSE $(shell find src share -type f ! -path '*/__pycache__/*')
STUBS    = $(subst /,.,$(patsubst src/%.pyi,%,$(wildcard src/memif/*/*.pyi)))

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup demo test check bench docs share wheel coverage sanitize fuzz versions dpdk clean

help:
	@echo "make demo      two processes exchange packets over shared memory; the first time it builds the package"
	@echo "make test      all tests; those against DPDK need root and the packages named in CONTRIBUTING.md"
	@echo "               PYTEST='-k name' passes options on"
	@echo "make check     ruff, mypy, pyright, stubtest, cython-lint, codespell"
	@echo "make bench     the benchmarks; BENCH='...' passes options on"
	@echo "make docs      the documentation, into docs/_build/html; warnings are errors"
	@echo "make share     the manual page and the completions of shells, into share/, after a change of the options"
	@echo "make wheel     sdist and wheel, into dist/, checked"
	@echo "make sanitize  tests of the compiled part with the address and undefined-behaviour sanitizers"
	@echo "make coverage  the lines that the tests reach, against a floor"
	@echo "make fuzz      two minutes of fuzzing, guided by coverage; FUZZ_SECONDS=... for each of four targets"
	@echo "make versions  builds and tests with the other interpreters of this machine, from 3.11 on"
	@echo "make dpdk      the tests against the DPDK of Debian's newer suites; as root, with debootstrap"
	@echo "make setup     only $(VENV), with all that test and check need"
	@echo "make clean     remove all that make made"
	@echo "PYTHON=...     the interpreter to use, 3.11 or later (now: $(PYTHON))"

setup: $(S)/group-test $(S)/group-check

demo: $(S)/extra-cli
	@echo "--- two processes exchange packets"
	$(PY) examples/demo.py

test: $(S)/group-test
	$(PY) -m pytest $(SHARED) $(PYTEST)

check: $(S)/group-test $(S)/group-check
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	PATH=$(abspath $(VENV))/bin:$$PATH $(PY) -m pyright
	PATH=$(abspath $(VENV))/bin:$$PATH $(PY) -m pyright --verifytypes memif --ignoreexternal
	$(PY) -m mypy.stubtest --mypy-config-file pyproject.toml $(STUBS)
	PATH=$(abspath $(VENV))/bin:$$PATH $(VENV)/bin/cython-lint src
	$(VENV)/bin/codespell

bench: $(S)/group-bench
	$(PY) benchmarks/run.py $(BENCH)

docs: $(S)/group-docs
	$(PY) -m sphinx --fail-on-warning --keep-going -q -b html docs docs/_build/html
	$(PY) docs/_ext/rendered.py docs/_build/html
	$(PY) -m sphinx --fail-on-warning --keep-going -q -b doctest docs docs/_build/doctest

share: $(S)/extra-cli
	$(PY) docs/_ext/manual.py

# The wheel has to import without any extra, in an environment with nothing else in it, and the sdist has to be
# complete: the wheel made from it has the same files. Beside the wheel for this interpreter there is the one for all.
wheel: $(S)/package $(S)/stable
	$(PIP) install "build>=1.2" "abi3audit>=0.0.19" "twine>=6"
	rm -rf dist $(S)/clean-venv
	$(PY) -m build --sdist --outdir dist .
	cp $(WHEEL) dist/
	rm -rf $(S)/from-sdist
	$(PIP) wheel --no-deps --wheel-dir $(S)/from-sdist dist/memif-*.tar.gz
	$(PY) -c 'import sys, zipfile; ours, theirs = (sorted(zipfile.ZipFile(p).namelist()) for p in sys.argv[1:]); \
	  sys.exit(f"the sdist is incomplete: {set(ours) ^ set(theirs)}" if ours != theirs else 0)' \
	  dist/memif-*.whl $(S)/from-sdist/memif-*.whl
	$(PY) -m twine check --strict dist/*
	$(PY) -m venv $(S)/clean-venv
	$(VENV)/bin/abi3audit --strict --summary $(S)/stable-dist/memif-*.whl
	for wheel in dist/memif-*.whl $(S)/stable-dist/memif-*.whl; do \
	  $(S)/clean-venv/bin/python -m pip --disable-pip-version-check --quiet install --no-index --force-reinstall $$wheel && \
	  (cd / && $(abspath $(S))/clean-venv/bin/python -c "import memif, memif.libmemif; print('memif', memif.__version__)") || exit 1; \
	done
	cp $(S)/stable-dist/memif-*.whl dist/

# Lines of the Python part that the quick tests reach, in their child processes too; the least share is in
# pyproject.toml. The others repeat much and reach little more, or limit what tracing itself needs (memory, the size of
# files, time), or break off whatever runs: an exception from a signal handler inside the tracer leaves its lock taken.
UNTRACED = dpdk docs faults/test_exceptions.py faults/test_signals.py faults/test_soak.py fuzz hostile \
  libmemif_examples/test_guide.py libmemif_examples/test_icmp.py libmemif_examples/test_per_thread.py \
  libmemif_examples/test_programs.py misuse model recipes capture/test_writer.py ring/test_no_memory.py \
  test_instructions.py test_types.py
coverage: $(S)/group-coverage
	rm -rf $(S)/coverage && mkdir -p $(S)/coverage
	MEMIF_TIME_FACTOR=4 $(PY) -m coverage run -m pytest $(SHARED) -m "not dpdk" \
	  $(UNTRACED:%=--ignore=tests/%) $(PYTEST)
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report

# The interpreter itself is not instrumented, so the sanitizer's library has to be loaded ahead of it, and what the
# interpreter never frees is not a leak of ours. Reports go to the real standard error, past pytest's capture.
SANITIZED = $(S)/sanitize
SANITIZED_TESTS ?= tests/ring tests/packet tests/libmemif tests/misuse tests/hostile tests/pair
sanitize: $(S)/sanitized $(S)/group-test
	PYTHONPATH=$(SANITIZED) LD_PRELOAD="$$(cc -print-file-name=libasan.so) $$(cc -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0:handle_segv=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONMALLOC=malloc \
	$(PY) -m pytest -m "not dpdk and not nosanitizer" -p no:cacheprovider --capture=sys $(PYTEST) $(SANITIZED_TESTS)

# Guided by coverage of the Python modules, and of the compiled ones where clang is.
INSTRUMENTED = $(S)/instrumented
FUZZ_SECONDS ?= 30
fuzz: $(S)/fuzzable
	for target in wire handshake pcapng; do \
	  $(PY) tests/fuzz/run.py $$target --seconds $(FUZZ_SECONDS) --out $(S)/fuzz/$$target || exit 1; \
	done
	if [ -d $(INSTRUMENTED)/memif ]; then \
	  export PYTHONPATH=$(INSTRUMENTED) ASAN_OPTIONS=detect_leaks=0:handle_segv=0 \
	    LD_PRELOAD=$$($(PY) -c "import atheris; print(atheris.path())")/asan_with_fuzzer.so; \
	fi; $(PY) tests/fuzz/run.py rings --seconds $(FUZZ_SECONDS) --out $(S)/fuzz/rings

# The other interpreters of this machine: the package builds with each, and the parts that touch the interpreter
# pass; so does the wheel against the stable ABI.
versions: $(S)/stable
	bash .ci/versions $(abspath $(S)) $(JOBS) $(PY)

# Not a part of the whole check: a root of Debian takes minutes and half a gigabyte.
SUITES ?= trixie sid
dpdk: $(S)/group-test
	for suite in $(SUITES); do \
	  PATH=$(abspath $(VENV))/bin:$$PATH bash .ci/dpdk $(abspath $(S))/dpdk-$$suite $$suite $(PYTEST) || exit 1; \
	done

clean:
	rm -rf $(VENV) $(S) build dist docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests benchmarks examples docs -name __pycache__ -type d -prune -exec rm -rf {} +

# -- how it is made

# What a bare Debian lacks, all of it in one message.
$(S)/tools:
	@mkdir -p $(S)
	@command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON): apt-get install python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "memif needs Python 3.11 or later, $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=/path/to/python3.11"; exit 1; }
	@need=; \
	$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || need="$$need python3-venv"; \
	command -v cc >/dev/null || need="$$need gcc libc6-dev"; \
	$(PYTHON) -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' 2>/dev/null \
	  || need="$$need python3-dev"; \
	if [ -n "$$need" ]; then echo "Missing here. As root: apt-get update && apt-get install -y$$need"; exit 1; fi
	@touch $@

$(S)/venv: | $(S)/tools
	@echo "--- making a virtual environment in $(VENV)"
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(S)/wheel: $(SOURCES) | $(S)/venv
	@echo "--- compiling the package, once: this takes a minute or two, without a word"
	rm -rf $(S)/dist
	$(PIP) wheel --no-deps --wheel-dir $(S)/dist .
	@touch $@

# One wheel for every Python from 3.11 on, for interpreters that have none of their own.
$(S)/stable: $(SOURCES) | $(S)/venv
	rm -rf $(S)/stable-dist
	$(PIP) wheel --no-deps --wheel-dir $(S)/stable-dist -C wheel.py-api=cp311 .
	@touch $@

$(S)/package: $(S)/wheel
	@echo "--- installing the package in $(VENV)"
	$(PIP) install --no-deps --force-reinstall $(S)/dist/memif-*.whl
	@touch $@

# One stamp for each extra of pyproject.toml, and for each dependency group, which comes with all the extras.
$(S)/extra-%: pyproject.toml $(S)/package
	@echo "--- fetching and installing what its extra '$*' needs"
	$(PIP) install "$(WHEEL)[$*]"
	@touch $@

$(S)/group-%: pyproject.toml $(S)/package | $(S)/pip
	@echo "--- fetching and installing what the group '$*' needs"
	$(PIP) install "$(WHEEL)[all]" --group $*
	@touch $@

$(S)/extra-test $(S)/extra-check $(S)/extra-docs $(S)/extra-bench: $(S)/extra-%: $(S)/group-%
	@touch $@

# Debian's is older than dependency groups.
$(S)/pip: | $(S)/venv
	$(PIP) install "pip>=25.1"
	@touch $@

$(S)/fuzzable: $(S)/wheel $(S)/group-fuzz
	rm -rf $(INSTRUMENTED)
	if command -v clang >/dev/null; then CC=clang $(PIP) install --no-deps --target $(INSTRUMENTED) \
	  -C cmake.define.MEMIF_COVERAGE=ON -C build-dir=build/instrumented .; else mkdir -p $(INSTRUMENTED); fi
	@touch $@

$(S)/sanitized: $(S)/wheel
	rm -rf $(SANITIZED)
	$(PIP) install --no-deps --target $(SANITIZED) -C cmake.define.MEMIF_SANITIZE=ON -C build-dir=build/sanitize .
	@touch $@
