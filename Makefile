# Bare `make` prints the targets.
SHELL := /bin/bash
BIN := bin/bivalve
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1.0)
GO := go
FUZZTIME ?= 5s
DEMO_DIR ?= .demo
DEMO_ARGS ?=

.PHONY: help build demo test deps unit checkers race lint fuzz e2e bench image clean

help: ## print this
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-8s %s\n", $$1, $$2}'

build: ## build the static binary into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X bivalve/server.Version=$(VERSION)" -o $(BIN) ./cmd/bivalve

demo: build ## build, start a two-zone region on loopback, print how to use it
	exec $(BIN) demo --dir $(DEMO_DIR) $(DEMO_ARGS)

test: deps unit checkers race e2e ## everything: unit tests, race detector, real clients and faults

deps: ## install what the tests need, with apt-get
	sh e2e/install.sh

unit: ## fast tests: no root, no network, about a minute
	$(GO) test ./...

checkers: ## leave out syncs and checks on purpose: the tests must notice
	GO=$(GO) scripts/checkers.sh

race: ## the same under the race detector, the long simulations shortened
	$(GO) test -race -short ./...

lint: ## gofmt, vet, staticcheck, the import rule
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./... && $(GO) vet -tags e2e ./e2e/
	$(GO) tool staticcheck ./...
	$(GO) test -run TestImportRule .

fuzz: ## every fuzz target for FUZZTIME each
	scripts/fuzz.sh $(FUZZTIME)

e2e: deps build ## real servers, real clients, killed zones
	BIVALVE_E2E_STRICT=1 $(GO) test -tags e2e -count 1 -timeout 35m -v ./e2e/ 2>&1 | grep --line-buffered -vE '^=== (RUN|PAUSE|CONT)'; exit $${PIPESTATUS[0]}

bench: build ## load a demo of 5 nodes per zone and write docs/benchmarks.md
	scripts/bench.sh

image: build ## a container image with the static binary and nothing else
	docker build -t bivalve .

clean: ## remove what was built and the demo's data
	rm -rf bin $(DEMO_DIR)
