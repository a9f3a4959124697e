//go:build tools

// Package tools pins the containerd that the benchmark measures beside orlop. `make bench-tools` builds it by module
// name.
package tools

import (
	_ "github.com/containerd/containerd/v2/cmd/containerd"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"
	_ "github.com/containerd/containerd/v2/cmd/ctr"
)
