// Package bench measures the figures that the design holds, on this machine:
// "make bench" runs them. They are reported, never asserted.
package bench
