package scripts

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestWatchEnds ends the watch over a task while it looks: it looks no more.
func TestWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks, goOn := 0, make(chan struct{})
		stop := new(process).watch(func() (Class, string) {
			looks++
			<-goOn
			return OK, ""
		})
		time.Sleep(watchEvery)
		synctest.Wait()
		go stop()
		synctest.Wait()
		close(goOn)
		time.Sleep(10 * watchEvery)
		if looks != 1 {
			t.Errorf("it looked %d times", looks)
		}
	})
}
