//go:build tools

// Package tools pins the OCI runtime that the end-to-end tests drive. `make tools` builds it by module name.
package tools

import _ "github.com/opencontainers/runc"
