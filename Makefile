# Commands of the tree. `make test` is the whole check: it needs root, Rust and Go on Debian 12, and installs the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
TOOLS := $(TARGET)/tools/bin
# iproute2, iptables and nftables: CNI plugins and the check of what they leave; nginx: a program of the test images.
PACKAGES := busybox ca-certificates docker-registry gcc iproute2 iptables libc6-dev libseccomp-dev nftables nginx \
	pkg-config protobuf-compiler util-linux

# What a node and its first pod need; `make up IMAGE=…` takes that image instead of one from Debian's busybox.
UP_PACKAGES := busybox ca-certificates docker-registry gcc iproute2 iptables libc6-dev nftables runc util-linux
UP_FOLDER ?= /var/lib/orlop-up
IMAGE ?=

CRI_TOOLS := 1.36.0
RUNC := 1.5.2
CRI_VERSION := -s -w -X sigs.k8s.io/cri-tools/pkg/version.Version=$(CRI_TOOLS)
CONTAINERD := 2.4.2
CONTAINERD_VERSION := -s -w -X github.com/containerd/containerd/v2/version.Version=$(CONTAINERD)
CRI_PINS := $(wildcard e2e/tools/cri/*)
RUNC_PINS := $(wildcard e2e/tools/runc/*)
CNI_PINS := $(wildcard e2e/tools/cni/*)
CONTAINERD_PINS := $(wildcard e2e/tools/containerd/*)
CONTAINERD_TOOLS := $(addprefix $(TOOLS)/,containerd containerd-shim-runc-v2 ctr)
CNI := $(TARGET)/tools/cni
CNI_PLUGINS := $(addprefix $(CNI)/,bridge ptp host-local portmap loopback)

# Runs a suite and says how long it took: $(call suite,name,command)
suite = echo "== $(1)"; started=$$SECONDS; $(2); \
	took=$$((SECONDS - started)); printf '== %s: %d min %02d s\n' "$(1)" $$((took / 60)) $$((took % 60))

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: build
build: ## the daemon `orlop` (debug), the shim, the pod holder and the CNI plugins, in their places under target/
	cargo build --locked --workspace --bins
	@$(MAKE) --no-print-directory small

SMALL := $(addprefix $(TARGET)/shim/,containerd-shim-orlop-v1 orlop-pause orlop-cni)
# What is one process a pod or a call, built for size; apart, so that no feature of one grows the other.
.PHONY: small
small:
	cargo build --locked --profile shim -p runtime-shim -p orlop-pause --features orlop-pause/freestanding --bins
	cargo build --locked --profile shim -p orlop-cni --bins

.PHONY: release
release: ## what a node runs: daemon, shim, pod holder, CNI plugins and the tool behind `make up`
	cargo build --locked --release -p cri-server
	@$(MAKE) --no-print-directory small
	cargo build --locked -p e2e --bin orlop-up

PREFIX ?= /usr/local
STAGE := $(DESTDIR)$(PREFIX)
.PHONY: install
install: ## the release binaries, unit, man pages and completions under PREFIX (and DESTDIR); build them first
	install -D -m 755 -t '$(STAGE)/bin' '$(TARGET)/release/orlop' $(SMALL)
	install -d '$(STAGE)/lib/systemd/system' '$(STAGE)/share/man/man8'
	sed 's|/usr/local|$(PREFIX)|' kubeadm/orlop.service >'$(STAGE)/lib/systemd/system/orlop.service'
	'$(STAGE)/bin/orlop' man '$(STAGE)/share/man/man8'
	@$(call completion,bash,bash-completion/completions/orlop)
	@$(call completion,zsh,zsh/site-functions/_orlop)
	@$(call completion,fish,fish/vendor_completions.d/orlop.fish)

# $(call completion,shell,place under share/)
completion = install -d '$(STAGE)/share/$(dir $(2))'; '$(STAGE)/bin/orlop' completion $(1) >'$(STAGE)/share/$(2)'

.PHONY: up
up: ## a node on this machine with a first pod (root); IMAGE=… names another image
	@$(MAKE) --no-print-directory root packages PACKAGES='$(UP_PACKAGES)' NEEDS=cargo
	@$(MAKE) --no-print-directory release
	@$(TARGET)/debug/orlop-up up --folder '$(UP_FOLDER)' --binaries '$(TARGET)' --image '$(IMAGE)'

.PHONY: down
down: ## the end of that node, with nothing left
	@test ! -e '$(UP_FOLDER)' || cargo build --quiet --locked -p e2e --bin orlop-up
	@test ! -e '$(UP_FOLDER)' || $(TARGET)/debug/orlop-up down --folder '$(UP_FOLDER)'

.PHONY: tools
tools: packages $(TOOLS)/crictl $(TOOLS)/critest $(TOOLS)/runc $(CNI_PLUGINS) $(CONTAINERD_TOOLS) ## the pinned test tools: crictl, critest, runc, CNI plugins, containerd with ctr

.PHONY: test
test: root packages ## everything that is tested: tools, unit tests, end-to-end tests (root)
	@$(call suite,test tools,$(MAKE) --no-print-directory tools)
	@$(call suite,build,$(MAKE) --no-print-directory build)
	@$(call suite,unit tests,PATH="$(TOOLS):$$PATH" cargo test --locked --workspace --exclude e2e)
	@$(call suite,end-to-end tests,cargo test --locked -p e2e --no-fail-fast -- --test-threads=2)

.PHONY: e2e
e2e: root tools build ## the end-to-end tests alone; T=name picks some
	@$(call suite,end-to-end tests,cargo test --locked -p e2e --no-fail-fast -- --test-threads=2 $(T))

.PHONY: bench
bench: root tools release ## orlop beside containerd, in milliseconds and memory; B="--rounds 5 --pods 10" changes the run
	cargo build --locked -p e2e --bin bench
	@$(TARGET)/debug/bench $(B)

.PHONY: lint
lint: packages ## formatting and clippy, warnings denied
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

.PHONY: clean
clean: ## removes target/
	cargo clean

NEEDS := cargo go
.PHONY: root
root:
	@test "$$(id -u)" = 0 || { echo "this makes namespaces, mounts and cgroups: run it as root" >&2; exit 1; }
	@for tool in $(NEEDS); do command -v $$tool >/dev/null || { echo "$$tool is needed on PATH" >&2; exit 1; }; done

# Debian starts and enables the servers of these packages; ours are started by who needs them.
SERVERS := docker-registry nginx
KEEP_STOPPED := /usr/sbin/policy-rc.d

# Package lists are fetched only when something is missing, so that a second run needs no network.
.PHONY: packages
packages:
	@missing=; for name in $(PACKAGES); do \
		dpkg-query -W -f '$${Status}' $$name 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$name"; \
	done; \
	if [ -n "$$missing" ]; then \
		echo "installing Debian packages:$$missing"; \
		apt-get update -q; \
		test -e $(KEEP_STOPPED) || { \
			trap 'rm -f $(KEEP_STOPPED)' EXIT; \
			printf '#!/bin/sh\nexit 101\n' >$(KEEP_STOPPED); chmod 755 $(KEEP_STOPPED); \
		}; \
		DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; \
		for server in $(SERVERS); do \
			case "$$missing " in *" $$server "*) systemctl disable -q $$server 2>/dev/null || true;; esac; \
		done; \
	fi

# critest is a test package without other Go files: it builds with `go test -c` and inside the module only.
$(TOOLS)/crictl: $(CRI_PINS)
	@mkdir -p $(TOOLS)
	cd e2e/tools/cri && CGO_ENABLED=0 go build -trimpath -o $@ -ldflags '$(CRI_VERSION)' sigs.k8s.io/cri-tools/cmd/crictl
	@touch $@

$(TOOLS)/critest: $(CRI_PINS) | $(TOOLS)/crictl
	@mkdir -p $(TOOLS)
	cd e2e/tools/cri && CGO_ENABLED=0 go test -c -trimpath -o $@ -ldflags '$(CRI_VERSION)' sigs.k8s.io/cri-tools/cmd/critest
	@touch $@

$(TOOLS)/runc: $(RUNC_PINS)
	@mkdir -p $(TOOLS)
	cd e2e/tools/runc && CGO_ENABLED=1 go build -trimpath -tags seccomp -o $@ \
		-ldflags '-s -w -X main.version=$(RUNC)' github.com/opencontainers/runc
	@touch $@

$(CONTAINERD_TOOLS): $(CONTAINERD_PINS)
	@mkdir -p $(TOOLS)
	cd e2e/tools/containerd && CGO_ENABLED=0 go build -trimpath -o $@ \
		-ldflags '$(CONTAINERD_VERSION)' github.com/containerd/containerd/v2/cmd/$(@F)
	@touch $@

$(addprefix $(CNI)/,bridge ptp loopback): cni_kind := main
$(CNI)/host-local: cni_kind := ipam
$(CNI)/portmap: cni_kind := meta
$(CNI_PLUGINS): $(CNI_PINS)
	@mkdir -p $(CNI)
	cd e2e/tools/cni && CGO_ENABLED=0 go build -trimpath -o $@ -ldflags '-s -w' \
		github.com/containernetworking/plugins/plugins/$(cni_kind)/$(@F)
	@touch $@
