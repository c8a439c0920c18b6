//go:build !linux

package host

import "time"

// DefaultTimerSlack is the system's own.
const DefaultTimerSlack time.Duration = 0

// TimerSlack does nothing where there is no such thing.
func TimerSlack(time.Duration) error { return nil }
