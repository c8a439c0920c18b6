# seedmesh: one binary, no cgo. "make help" lists the targets.

GO      ?= go
PREFIX  ?= /usr/local
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X seedmesh/node.Version=$(VERSION)

# How long each fuzz target runs.
FUZZTIME ?= 30s
# More arguments for the tests of a target, such as ARGS='-run Simulation -v'.
ARGS ?=

LINT := $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
VULN := $(GO) run golang.org/x/vuln/cmd/govulncheck@v1.9.0

export CGO_ENABLED = 0

# recorded runs the tests $(1) with an account of the faults that they inject, and
# prints it as tables in the end, which must have as many as $(2) says.
recorded = records=$$(mktemp) && trap 'rm -f "$$records"' EXIT && export SEEDMESH_FAULTS="$$records" && code=0; \
	{ $(1); } || code=1; $(GO) run ./tests/faults/report $(2) "$$records" || code=1; exit $$code

# What a whole run, without ARGS, must have injected and seen to land.
LEAST := $(if $(ARGS),,-bubble 2000 -process 60)

.PHONY: help build test check lint vet race tidy generate generated vuln fuzz planted sim bench faults chaos demo install clean toolchain drivers check-gpu

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: toolchain ## bin/seedmesh, stamped with the version
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/seedmesh ./cmd/seedmesh

# The tests of real processes have the machine for themselves: their elections take 0.15 s.
test: build drivers ## every test that needs no GPU, and the table of the faults they inject
	@$(call recorded,$(GO) test -timeout 30m $(ARGS) $$($(GO) list ./... | grep -v '/tests/chaos$$') && $(GO) test -timeout 30m $(ARGS) ./tests/chaos,$(LEAST))

# What tests the devices' code on a machine without them: an OpenCL driver that runs on the
# CPU, and the compilers of AMD and, as clang has one, for NVIDIA.
drivers:
	@.ci/need /etc/OpenCL/vendors/pocl.icd pocl-opencl-icd ocl-icd-libopencl1 || echo "left out: the tests of OpenCL, for want of its driver"
	@.ci/need '/usr/lib/*/libhiprtc-builtins.so.5' libamdhip64-5 libhiprtc-builtins5 || echo "left out: the compilation of kernels for AMD, for want of hipRTC"
	@.ci/need clang-16 clang-16 || echo "left out: the compilation of kernels for NVIDIA, and CUDA and HIP on the CPU, for want of clang"

# bin/check-gpu needs nothing beside it: it can be carried to a machine with a GPU.
check-gpu: toolchain ## every GPU of this machine passes its suite and is measured; bin/check-gpu does it elsewhere
	@$(GO) test -c -trimpath -o bin/check-gpu ./kernels && bin/check-gpu

check: lint vet race tidy generated vuln ## lint, vet, the race detector on the fast tests, tidy, generated code, known vulnerabilities

lint: toolchain
	$(LINT) run ./...

vet: toolchain
	$(GO) vet ./...

tidy: toolchain
	$(GO) mod tidy -diff

race: toolchain ## the fast tests under the race detector, which needs a C compiler
	@.ci/need cc gcc libc6-dev || { echo "left out: the race detector, for want of a C compiler"; exit 0; }; \
	echo "$(GO) test -race -short ./..."; CGO_ENABLED=1 $(GO) test -race -short $(ARGS) ./...

generate: toolchain ## the assembly in kernels/, from the Go program that makes it, and the PTX, from its source
	@.ci/need clang-16 clang-16
	$(GO) generate ./kernels ./kernels/src

generated: toolchain
	cd kernels/internal/asmgen && $(GO) vet . && $(GO) run . | diff -q - ../../simd_amd64.s
	@.ci/need clang-16 clang-16 || { echo "left out: the comparison of the PTX with its source, for want of clang"; exit 0; }; \
	echo "kernels/src/ptx/generate"; made=$$(mktemp -d) && trap 'rm -rf "$$made"' EXIT && \
	kernels/src/ptx/generate "$$made" && diff -rq -x generate "$$made" kernels/src/ptx

vuln: toolchain
	@echo "$(VULN) ./..."; out=$$($(VULN) ./... 2>&1); code=$$?; echo "$$out"; \
	case "$$code $$out" in \
	  0*) ;; \
	  *"fetching vulnerabilities"*) echo "left out: the search for known vulnerabilities, its database cannot be reached" ;; \
	  *) exit $$code ;; \
	esac

fuzz: toolchain ## every fuzz target for FUZZTIME
	@for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; \
	done

planted: toolchain ## plant every bug of tests/planted: its test must catch it
	$(GO) test -count=1 -timeout 60m -v ./tests/planted -args -all $(ARGS)

sim: toolchain ## the simulation of the ledger under faults
	$(GO) test -count=1 -v $(ARGS) -run 'UnderFaults|Sim' ./jobs

bench: toolchain ## measure on this machine
	$(GO) test -run '^$$' -bench . -benchmem $(ARGS) ./...

faults: build ## meshes in fake time and of real processes under faults, and their table
	@$(call recorded,$(GO) test -count=1 -timeout 30m $(ARGS) ./tests/bubble && $(GO) test -count=1 -timeout 30m $(ARGS) ./tests/chaos,$(LEAST))

# Distributions of outages have 200 samples at least, over real processes and fake time together.
chaos: build ## real processes at full size: 40 rounds, 50 leader kills, every standstill; outages in fake time, too
	@$(call recorded,$(if $(ARGS),,$(GO) test -count=1 -timeout 60m -v -run TestRecovery ./tests/bubble -bubble.recoveries 5 &&) \
	$(GO) test -count=1 -timeout 120m -v $(ARGS) ./tests/chaos -chaos.rounds 30 -chaos.kills 50,$(if $(ARGS),,-process 200))

demo: build ## a mesh of three processes here cracks an example while its leader is killed
	bin/seedmesh demo

install: build ## to PREFIX/bin
	install -d '$(DESTDIR)$(PREFIX)/bin'
	install -m 0755 bin/seedmesh '$(DESTDIR)$(PREFIX)/bin/seedmesh'

clean:
	rm -rf bin

toolchain:
	@.ci/need $(GO) golang-go
