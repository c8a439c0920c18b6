package kernels

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func simSearch(t *testing.T) *Search {
	return mustCompile(t, Spec{Generators: []string{"xorshift32"}, Observe: "mod:10", MinMatches: 2, Draws: drawsFrom(1, 2)})
}

func TestSimRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := simSearch(t)
		r := Range{10, 100_009}
		start := time.Now()
		f, err := searchOn(t.Context(), NewSim(SimConfig{Rate: 5000}), s, r, toEnd(r))
		if took := time.Since(start); took < 20*time.Second || took > 20*time.Second+time.Millisecond || err != nil {
			t.Errorf("100000 seeds at 5000/s took %v, %v; want 20s", took, err)
		}
		if err := f.difference(mustSearch(t, s, r), s, r); err != nil {
			t.Error(err)
		}
	})
}

func TestSimFaults(t *testing.T) {
	at := uint64(5000)
	r := Range{0, 10_000}
	for name, tt := range map[string]struct {
		config SimConfig
		want   error
		after  time.Duration
	}{
		"fail": {SimConfig{FailAt: &at}, ErrSimFault, 5 * time.Second},
		"hang": {SimConfig{HangAt: &at}, context.DeadlineExceeded, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				tt.config.Rate = 1000
				start := time.Now()
				f, err := searchOn(ctx, NewSim(tt.config), simSearch(t), r, toEnd(r))
				if !errors.Is(err, tt.want) || time.Since(start) != tt.after || f.ok {
					t.Errorf("Search = %v, ok %t after %v; want %v after %v", err, f.ok, time.Since(start), tt.want, tt.after)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		crashes := 0
		sim := NewSim(SimConfig{Rate: 1000, CrashAt: &at, Crash: func() { crashes++ }, WrongAccount: true})
		f, err := searchOn(t.Context(), sim, simSearch(t), r, toEnd(r))
		if crashes != 1 || f.acct == AccountOf(r) || err != nil {
			t.Errorf("crashes %d, account %v, %v; want one crash and not %v", crashes, f.acct, err, AccountOf(r))
		}
	})
}

func TestSimStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := Range{0, 1 << 40}
		f, err := searchOn(t.Context(), NewSim(SimConfig{Rate: 0.5}), simSearch(t), r, func(done uint64) uint64 {
			if time.Since(start) > 5*time.Second {
				return done // the seeds before this one, and it
			}
			return r.Last
		})
		if f.last != 2 || f.acct != AccountOf(Range{0, 2}) || err != nil {
			t.Errorf("stopped at seed %d with %v, %v; want seed 2", f.last, f.acct, err)
		}
	})
}
