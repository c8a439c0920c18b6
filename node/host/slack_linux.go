package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"
)

// DefaultTimerSlack is how late Linux lets a timer be unless told otherwise.
const DefaultTimerSlack = 50 * time.Microsecond

// TimerSlack lets this process's timers be late by up to d, so that the processor wakes up
// once for several of them (proc(5), timerslack_ns). It holds for the threads of the moment
// and those that they start, and for processes that they start as well.
func TimerSlack(d time.Duration) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("timer slack: %w", err)
	}
	for _, t := range threads {
		err := os.WriteFile("/proc/"+t.Name()+"/timerslack_ns", strconv.AppendInt(nil, d.Nanoseconds(), 10), 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // a thread may have ended
			return fmt.Errorf("timer slack: %w", err)
		}
	}
	return nil
}
