# Bare `make` prints the targets.
SHELL := /bin/bash
BIN := bin/bivalve
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1.0)
GO := go
FUZZTIME ?= 5s
SEEDS ?= 10000
DEMO_DIR ?= .demo
DEMO_ARGS ?=
RACE ?=
CHAOS_TIME ?= 3m
CHAOS_SEED ?= 0
CHAOS_FAULTS ?=
CHAOS_TAGS ?=

.PHONY: help build demo test deps unit checkers crash race lint fuzz regions fulldisks e2e proofs chaos chaoscheckers bench image clean

help: ## print this
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-13s %s\n", $$1, $$2}'

build: ## build the static binary into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X bivalve/server.Version=$(VERSION)" -o $(BIN) ./cmd/bivalve

demo: build ## build, start a two-zone region on loopback, print how to use it
	exec $(BIN) demo --dir $(DEMO_DIR) $(DEMO_ARGS)

test: deps unit checkers race e2e ## everything: unit tests, race detector, real clients and faults
	$(MAKE) chaos CHAOS_TIME=3m CHAOS_SEED=1

deps: ## install what the tests need, with apt-get
	sh e2e/install.sh

unit: ## fast tests: no root, no network, about a minute
	$(GO) test ./...

checkers: ## leave out syncs and checks on purpose: the tests must notice
	GO=$(GO) scripts/checkers.sh

crash: ## SEEDS ends of power, process and sync below a disk; minutes
	BIVALVE_CRASH_SEEDS=$(SEEDS) $(GO) test -count 1 -run 'TestCrash$$' -timeout 1h -v ./cluster/disk

race: ## the same under the race detector, the long simulations shortened; server/object in two halves
	$(GO) test -race -short -timeout 20m $$($(GO) list ./... | grep -v '/server/object$$')
	$(GO) test -race -short -timeout 20m -skip '^Test[R-Z]' ./server/object & first=$$!; \
	$(GO) test -race -short -timeout 20m -run '^Test[R-Z]' ./server/object; second=$$?; \
	wait $$first && exit $$second

lint: ## gofmt, vet, staticcheck, the import rule
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./... && $(GO) vet -tags e2e ./e2e/... ./server
	$(GO) tool staticcheck ./... && $(GO) tool staticcheck -tags e2e ./e2e/... ./server
	$(GO) test -run TestImportRule .

fuzz: ## every fuzz target for FUZZTIME each
	scripts/fuzz.sh $(FUZZTIME)

regions: ## whole regions in one process, with faults below each layer; RACE=-race for the race detector
	$(GO) test $(RACE) -tags e2e -count 1 -timeout 30m -run '^Test[A-L]' ./server & first=$$!; \
	$(GO) test $(RACE) -tags e2e -count 1 -timeout 30m -run '^Test[M-Z]' ./server; second=$$?; \
	wait $$first && exit $$second

fulldisks: deps ## the index and the raft log on a small file system that gets full; as root
	GO=$(GO) scripts/full_disks.sh

e2e: deps build regions fulldisks ## real servers, real clients, killed zones
	BIVALVE_E2E_STRICT=1 $(GO) test -tags e2e -count 1 -timeout 35m -p 1 -skip '^(TestChaos|TestZoneAway|TestBadLines|TestFlapping|TestPausedLeader)$$' -v ./e2e/ ./e2e/chaos/ 2>&1 | grep --line-buffered -vE '^=== (RUN|PAUSE|CONT)'; exit $${PIPESTATUS[0]}

proofs: deps build ## the tests of faults that take minutes: a zone away, flapping nodes, bad lines, paused leaders
	BIVALVE_E2E_STRICT=1 $(GO) test -tags e2e -count 1 -timeout 35m -p 1 -run '^(TestZoneAway|TestBadLines|TestFlapping|TestPausedLeader)$$' -v ./e2e/chaos/

chaos: deps ## clients in both zones and a seeded schedule of faults, in network namespaces: CHAOS_TIME=3m CHAOS_SEED=n
	BIVALVE_E2E_STRICT=1 $(GO) test -tags e2e -count 1 -timeout 0 -v -run '^TestChaos$$' ./e2e/chaos/ \
		-chaos.time $(CHAOS_TIME) -chaos.seed $(CHAOS_SEED) -chaos.faults "$(CHAOS_FAULTS)" -chaos.tags "$(CHAOS_TAGS)"

chaoscheckers: deps ## the thrasher aims at programs that leave a check out: it must notice; minutes, as root
	GO=$(GO) scripts/chaos_checkers.sh

bench: build ## load a demo of 5 nodes per zone and write docs/benchmarks.md
	scripts/bench.sh

image: build ## a container image with the static binary and nothing else
	docker build -t bivalve .

clean: ## remove what was built and the demo's data
	rm -rf bin $(DEMO_DIR)
