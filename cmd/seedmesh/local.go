package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"strconv"
	"time"

	"seedmesh/kernels"
)

// A localRun is a search on this machine alone, in this process.
type localRun struct {
	search    *search
	threads   int
	meter     *meter
	out       *bufio.Writer
	began     time.Time
	expected  float64
	finished  float64 // seeds of the generators that are through
	stepsDone float64 // of them
	survivors uint64
	line      []byte
}

// run searches and writes the survivors as JSON Lines, in order.
func (l *localRun) run(ctx context.Context, w io.Writer) error {
	l.out = bufio.NewWriterSize(w, 1<<16)
	l.began = time.Now()
	l.expected = l.search.expected()
	device := kernels.NewCPU(l.threads)
	err := l.all(ctx, device)
	return errors.Join(err, l.out.Flush(), device.Close())
}

func (l *localRun) all(ctx context.Context, device kernels.Device) error {
	for _, s := range l.search.searches {
		if err := l.one(ctx, device, s); err != nil {
			return err
		}
		seeds := s.Over(l.search.seeds).Size()
		l.finished += seeds
		l.stepsDone += seeds * float64(s.StepsPerSeed())
	}
	return nil
}

// one searches the range under one generator.
func (l *localRun) one(ctx context.Context, device kernels.Device, s *kernels.Search) error {
	seeds := s.Over(l.search.seeds)
	searcher, err := device.Prepare(ctx, s)
	if err != nil {
		return err
	}
	watch := func(done uint64) uint64 {
		if l.meter.due() {
			l.flush()
			l.meter.show(l.progress("running", float64(done), float64(s.StepsPerSeed())))
		}
		return seeds.Last
	}
	emit := func(v kernels.Survivor) error {
		l.survivors++
		l.line = s.AppendJSON(l.line[:0], v)
		if _, err := l.out.Write(l.line); err != nil {
			return &exitError{code: exitFailure, err: err}
		}
		return nil
	}
	last, account, ok, err := searcher.Search(ctx, seeds, watch, emit)
	if err == nil && (!ok || last != seeds.Last || account != kernels.AccountOf(seeds)) {
		err = errors.New("the search did not visit every seed exactly once; this is a bug")
	}
	return errors.Join(err, searcher.Close())
}

// flush shows a reader of a pipe what has been found. A failure is kept by the
// writer and comes up with its next use.
func (l *localRun) flush() {
	l.meter.clear()
	_ = l.out.Flush()
}

// progress after so many seeds of the generator at hand.
func (l *localRun) progress(state string, done, stepsPerSeed float64) progress {
	elapsed := time.Since(l.began).Seconds()
	total, all := l.search.total(), l.finished+done
	p := progress{
		State: state, Done: decimal(all), Total: decimal(total), ETA: -1, Slots: 1,
		Survivors: l.survivors, Expected: l.expected, Elapsed: elapsed, share: all / total,
	}
	if elapsed > 0 && all > 0 {
		p.Rate = math.Round(all / elapsed)
		p.StepsRate = math.Round((l.stepsDone + done*stepsPerSeed) / elapsed)
		p.ETA = (total - all) * elapsed / all
	}
	return p
}

// end shows the final figures.
func (l *localRun) end() {
	l.meter.finish(l.progress("done", 0, 0))
	if l.search.selects() {
		warnChance(l.meter.w, l.expected, l.survivors, l.search.spec.Analysis != nil)
	}
}

// decimal writes a count of seeds.
func decimal(v float64) string { return strconv.FormatFloat(v, 'f', 0, 64) }
