package main

import (
	"log/slog"
	"os"
	"runtime"
	"time"

	"seedmesh/node/host"
)

// restSlack is by how much the timers of a resting node may be late, so that the processor
// wakes up once for several of them.
const restSlack = 12 * time.Millisecond

// saver gives what makes a resting node's process wake up less: timers that may wait for
// each other, and one processor for Go's scheduler, which otherwise wakes a second for
// nearly every event.
func saver(log *slog.Logger) (rest func(bool)) {
	wake := runtime.SetDefaultGOMAXPROCS
	if os.Getenv("GOMAXPROCS") != "" {
		chosen := runtime.GOMAXPROCS(0)
		wake = func() { runtime.GOMAXPROCS(chosen) }
	}
	return func(resting bool) {
		slack := host.DefaultTimerSlack
		if resting {
			slack = restSlack
			runtime.GOMAXPROCS(1)
		} else {
			wake()
		}
		if err := host.TimerSlack(slack); err != nil {
			log.Debug("the timers' slack stays as it is", "err", err)
		}
	}
}
