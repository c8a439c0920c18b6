//go:build !amd64

package kernels

// vectorUnits are none here.
func vectorUnits() []*vectorUnit { return nil }
