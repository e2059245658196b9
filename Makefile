# Everything but `core` needs Go alone. `make help` lists the targets.
GO ?= go
FUZZTIME ?= 30s
BENCHTIME ?= 16m
CLUSTERTIME ?= 4m
BENCH ?= .
PACKAGES ?= ./...
OUT ?= bin/gobench.txt
# Further flags of test-deep's go test.
TESTFLAGS ?=
# Modules of their own, which ./... does not have.
MODULES = journal/disk journal/jetstream examples/sqlitestore
# The module that checks deploy/ for clusters. It has tests only, for Linux, and no use of the race detector: with it the types
# of Kubernetes take minutes to compile.
CHECKS = deploy/check
# The tests that call require.Unraced or do less if require.IsRaced.
UNRACED = TestCoreScripts|TestCacheDirectories|TestAWorkerThatIsAlwaysOverItsMemory|TestAlertsOfARealPrometheus|TestTenThousandEngines

.PHONY: help core core-check types build test test-deep sabotage torture schemathesis python-worker notice rename browser browser-matrix lint vet fuzz bench bench-cluster bench-core bench-browser gobench rust

help:
	@sed -n 's/^## //p' Makefile

## core        build core.wasm, and the cores for tests, from core-rs
core:
	core-rs/build.sh core-rs/target/cores builtin testcore example
	cp core-rs/target/cores/builtin.wasm wasm/core.wasm
	cp core-rs/target/cores/testcore.wasm core-rs/target/cores/example.wasm internal/cores/

## core-check  prove that the committed cores are what the sources give
core-check:
	core-rs/check.sh

## types       write what is generated from the built-in core's description: the npm package's types and ACTIONS.md, docs/state.md
types:
	$(GO) run ./cmd/hypertoken/internal/describe/write

## build       build bin/hypertoken
build:
	$(GO) build -o bin/ ./cmd/hypertoken

## test        run the Go tests, with the race detector; 'go test ./...' runs the same tests without it, in less than two minutes,
##             except those of the modules of their own: the store on disk, and the example of a store
test:
	$(GO) test -race -timeout 20m ./...
	for m in $(MODULES); do (cd $$m && $(GO) test -race -timeout 20m ./...) || exit 1; done
	cd $(CHECKS) && $(GO) test ./...

## test-deep   run every Go test with the race detector: all traces, all cases, whole programs built anew; takes cargo and half an
##             hour. What the detector leaves no room for runs without it
test-deep:
	HYPERTOKEN_DEEP=1 $(GO) test $(TESTFLAGS) -race -timeout 60m ./...
	for m in $(MODULES); do (cd $$m && $(GO) test $(TESTFLAGS) -race -timeout 20m ./... && \
		HYPERTOKEN_DEEP=1 $(GO) test $(TESTFLAGS) -timeout 60m ./...) || exit 1; done
	cd $(CHECKS) && HYPERTOKEN_DEEP=1 $(GO) test $(TESTFLAGS) ./...
	HYPERTOKEN_DEEP=1 $(GO) test $(TESTFLAGS) -count 1 -timeout 20m -run '^($(UNRACED))$$' ./cmd/hypertoken ./integration

## torture     kill workers while they work, for a minute, a host 100 times, a cluster's processes 8 times, and cut them off; check what callers were told
torture:
	$(GO) run ./cmd/hypertoken torture --for 60s
	$(GO) run ./cmd/hypertoken torture --victim host --for 10m --deaths 100
	$(GO) run ./cmd/hypertoken torture --cluster --for 15m --deaths 8

## schemathesis  ask a server for all that its OpenAPI document describes, and for what it rules out; takes Python
schemathesis:
	.ci/schemathesis

## python-worker  install and test the worker in Python, which shows that PROTOCOL.md and ABI.md are enough; takes Python
python-worker:
	.ci/python-worker
	HYPERTOKEN_REQUIRE=all $(GO) test -count 1 -run TestPythonWorker ./integration

## sabotage    test the tests: break each guarantee on purpose, and see that they notice; SABOTAGE=NAME tries one breach
sabotage:
	$(GO) run ./internal/sabotage/catch -run '$(if $(SABOTAGE),^$(SABOTAGE)$$)'

## notice      write NOTICE and what 'hypertoken version --licenses' prints, from the modules that the program is linked from
notice:
	$(GO) run ./cmd/hypertoken/internal/licenses/generate

## rename      give the module another import path: make rename MODULE=example.org/name
rename:
	$(GO) run ./internal/rename $(MODULE)

## rust        run the Rust tests
rust:
	cd core-rs && cargo test --workspace --locked

## lint        formatters and linters, for Go and Rust
lint: vet
	test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	.ci/columns
	$(GO) tool staticcheck ./...
	tool=$$($(GO) tool -n staticcheck) && for m in $(MODULES) $(CHECKS); do (cd $$m && $$tool ./...) || exit 1; done
	cd core-rs && cargo fmt --all --check
	cd examples/cores/eights && cargo fmt --check
	cd core-rs && cargo clippy --workspace --all-targets --locked -- -D warnings

vet:
	for os in linux darwin windows; do for arch in amd64 arm64; do \
		for m in . $(MODULES); do (cd $$m && GOOS=$$os GOARCH=$$arch $(GO) vet ./...) || exit 1; done; done; done
	cd $(CHECKS) && $(GO) vet ./...

## fuzz        run each fuzz target for FUZZTIME (30s)
fuzz:
	@for f in $$(grep -rl --include='*_test.go' '^func Fuzz' .); do \
		for t in $$(sed -n 's/^func \(Fuzz[A-Za-z]*\).*/\1/p' $$f); do \
			echo "$$f $$t"; (cd $$(dirname $$f) && $(GO) test -run '^$$' -fuzz "^$$t\$$" -fuzztime $(FUZZTIME) .) || exit 1; done; done

## bench       measure for BENCHTIME (16m), beside the baselines, and write docs/performance.md; takes the core too if cargo
##             is there, and SQLite if its module can be downloaded. BENCHDIR names a directory on the disk to measure
bench:
	-@command -v cargo >/dev/null && $(MAKE) --silent bench-core
	$(GO) build -o bin/ ./cmd/hypertoken
	rm -f bin/sqlite
	-cd examples/sqlitestore && $(GO) build -o ../../bin/sqlite ./measure
	bin/hypertoken bench --for $(BENCHTIME) --dir '$(BENCHDIR)' --sqlite "$$(ls bin/sqlite 2>/dev/null)" --json >bin/bench.json
	mkdir -p docs/performance && cp bin/bench.json docs/performance/run.json
	rm -f docs/performance/cluster.json
	-cp core-rs/target/bench/core.json docs/performance/
	$(GO) run ./cmd/hypertoken/internal/bench/report

## bench-cluster  measure a cluster of three servers and three nodes for CLUSTERTIME (4m), and write docs/performance.md
bench-cluster:
	$(GO) build -o bin/ ./cmd/hypertoken
	bin/hypertoken bench --only ^cluster_ --for $(CLUSTERTIME) --dir '$(BENCHDIR)' --json >bin/cluster.json
	cp bin/cluster.json docs/performance/
	$(GO) run ./cmd/hypertoken/internal/bench/report

## gobench     run the Go benchmarks six times each, into OUT (bin/gobench.txt). To compare: make gobench OUT=old.txt, change,
##             make gobench OUT=new.txt, go tool benchstat old.txt new.txt
gobench:
	mkdir -p bin
	{ $(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count 6 $(PACKAGES); \
		[ '$(PACKAGES)' != ./... ] || for m in $(MODULES); do \
			(cd $$m && $(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count 6 ./...); done; } | tee $(OUT)

## bench-browser  measure the npm package in Node and in browsers, and write docs/performance.md; takes Node
bench-browser: browser/node_modules
	cd browser && node build.js && node bench/run.js >../bin/browser.json
	cp bin/browser.json docs/performance/
	$(GO) run ./cmd/hypertoken/internal/bench/report

## browser     build the npm package, and test it in Node and in the browsers that are there; takes Node
browser: browser/node_modules
	cd browser && node build.js && npx tsc -p . && node --test --test-timeout=300000 test/*.test.js test/browser/*.test.js

## browser-matrix  build pages and programs with each toolchain, and run them in browsers, Node, Deno and Bun; takes Node
browser-matrix: browser/node_modules browser/matrix/node_modules
	cd browser && node build.js
	cd browser/matrix && node install.js && node --test --test-concurrency=1 --test-timeout=900000 *.test.js

browser/matrix/node_modules: browser/matrix/package-lock.json
	cd browser/matrix && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
	touch browser/matrix/node_modules

browser/node_modules: browser/package-lock.json
	cd browser && npm ci --no-audit --no-fund --ignore-scripts
	touch browser/node_modules

## bench-core  run the same actions natively and in WebAssembly: core-rs/target/bench/core.json
bench-core:
	$(GO) run ./internal/corebench
