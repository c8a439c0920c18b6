package slot

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"seedmesh/kernels"
	"seedmesh/node/slot/slotpb"
	"seedmesh/transport"
)

// signal is a Progress that closes a channel the first time.
func signal(ch chan struct{}) func(uint64) {
	once := sync.OnceFunc(func() { close(ch) })
	return func(uint64) { once() }
}

// contract is what both executors promise. The simulated device is slow enough
// that its searches of 2^32 seeds are always cut short.
func contract(t *testing.T, make_ func(t *testing.T, rate float64) Executor) {
	run := func(name string, f func(t *testing.T)) { t.Run(name, f) }
	run("survivors", func(t *testing.T) {
		x := make_(t, 1e9)
		task := smallTask()
		task.Spec = allSpec()
		var got []uint64
		task.Emit = func(batch []kernels.Survivor) error {
			if len(batch) == 0 || len(batch) > maxBatch {
				t.Errorf("a batch of %d", len(batch))
			}
			for _, v := range batch {
				got = append(got, v.Seed)
			}
			return nil
		}
		res, err := x.Run(t.Context(), task)
		if err != nil {
			t.Fatal(err)
		}
		if !res.OK || res.Last != task.Range.Last || res.Account != kernels.AccountOf(task.Range) || res.Elapsed < res.Searching {
			t.Errorf("result %+v", res)
		}
		if uint64(len(got)) != task.Range.Count() || !slices.IsSorted(got) || got[0] != task.Range.First {
			t.Errorf("%d survivors", len(got))
		}
	})
	run("figures", func(t *testing.T) {
		x := make_(t, 1e9)
		spec := kernels.Spec{Generators: []string{"lcg32"}, Observe: "raw", Analysis: &kernels.Analysis{
			Type: kernels.TypeAnalysis, Samples: 6000, Seeds: 300, MaxP: 1, Lags: kernels.DefaultLags(6000), Bins: kernels.MaxBins,
		}}
		search, err := spec.Compile("lcg32")
		if err != nil {
			t.Fatal(err)
		}
		task := Task{Spec: spec.Encode(), Generator: "lcg32", Range: kernels.Range{First: 7, Last: 306}}
		next := task.Range.First
		task.Emit = func(batch []kernels.Survivor) error {
			if bytes := len(batch) * len(batch[0].Figures); bytes > maxFigures {
				t.Errorf("a batch with %d bytes of figures", bytes)
			}
			for _, v := range batch {
				if want, _ := search.Record(next); v != want {
					t.Errorf("seed %d: a record that is not the reference's", next)
				}
				next++
			}
			return nil
		}
		if res, err := x.Run(t.Context(), task); err != nil || res.Last != task.Range.Last || next != task.Range.Last+1 {
			t.Errorf("result %+v, %v, records up to seed %d", res, err, next-1)
		}
	})
	run("stop", func(t *testing.T) {
		x := make_(t, 1e5)
		task := longTask()
		stop := uint64(0)
		task.Progress = func(done uint64) {
			if stop == 0 && done > 0 {
				stop = done + 5000
				x.StopAt(math.MaxUint64) // out of the range
				x.StopAt(stop + 100)
				x.StopAt(stop)
				x.StopAt(stop + 1) // above an earlier one
			}
		}
		res, err := x.Run(t.Context(), task)
		if err != nil || !res.OK || res.Last != stop {
			t.Errorf("result %+v, %v, want the last seed %d", res, err, stop)
		}
		if want := kernels.AccountOf(kernels.Range{First: 0, Last: stop}); res.Account != want {
			t.Errorf("account %+v, want %+v", res.Account, want)
		}
	})
	run("stop behind", func(t *testing.T) {
		x := make_(t, 1e5)
		task := longTask()
		task.Range.First = 10
		task.Spec = allSpec()
		var got []uint64
		task.Progress = func(uint64) { x.StopAt(12) }
		task.Emit = func(batch []kernels.Survivor) error {
			for _, v := range batch {
				got = append(got, v.Seed)
			}
			return nil
		}
		res, err := x.Run(t.Context(), task)
		if err != nil || !res.OK || res.Last != 12 || res.Account != (kernels.Account{Count: 3, Sum: 33, SumSq: 365}) {
			t.Errorf("result %+v, %v", res, err)
		}
		if len(got) < 3 || !slices.Equal(got[:3], []uint64{10, 11, 12}) {
			t.Errorf("survivors %v", got[:min(len(got), 5)])
		}
	})
	run("cancel", func(t *testing.T) {
		x := make_(t, 1e5)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		task := longTask()
		task.Progress = func(uint64) { cancel() }
		if _, err := x.Run(ctx, task); !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
		pid := x.Pid()
		task.Range.Last = 1000
		task.Progress = nil
		if _, err := x.Run(t.Context(), task); err != nil || x.Pid() != pid || pid == 0 {
			t.Errorf("the next Run: %v, in %d after %d", err, x.Pid(), pid)
		}
		if _, err := x.Run(ctx, task); !errors.Is(err, context.Canceled) {
			t.Errorf("Run with an ended context = %v", err)
		}
	})
	run("emit fails", func(t *testing.T) {
		x := make_(t, 1e5)
		full := errors.New("the disk is full")
		task := longTask()
		task.Spec = allSpec()
		task.Emit = func([]kernels.Survivor) error { return full }
		if _, err := x.Run(t.Context(), task); !errors.Is(err, full) {
			t.Errorf("Run = %v", err)
		}
		task.Range.Last = 10
		task.Emit = nil
		if res, err := x.Run(t.Context(), task); err != nil || !res.OK {
			t.Errorf("the next Run: %+v, %v", res, err)
		}
	})
	run("bad tasks", func(t *testing.T) {
		x := make_(t, 1e9)
		for name, change := range map[string]func(*Task){
			"spec":        func(t *Task) { t.Spec = []byte("nonsense") },
			"generator":   func(t *Task) { t.Generator = "pcg32" },
			"seed space":  func(t *Task) { t.Range.Last = 1 << 32 },
			"empty range": func(t *Task) { t.Range = kernels.Range{First: 2, Last: 1} },
		} {
			task := smallTask()
			change(&task)
			_, err := x.Run(t.Context(), task)
			if e := wantClass(t, err, BadTask); e.Slot != 4 || e.Message == "" {
				t.Errorf("%s: %+v", name, e)
			}
		}
	})
	run("close", func(t *testing.T) {
		x := make_(t, 1e5)
		task := longTask()
		on := make(chan struct{})
		task.Progress = signal(on)
		done := make(chan error)
		go func() {
			_, err := x.Run(context.Background(), task)
			done <- err
		}()
		<-on
		for range 2 {
			if err := x.Close(); err != nil {
				t.Error(err)
			}
			if err := <-done; !errors.Is(err, ErrClosed) {
				t.Errorf("Run = %v", err)
			}
			go func() {
				_, err := x.Run(context.Background(), task)
				done <- err
			}()
		}
		<-done
	})
	run("one after the other", func(t *testing.T) {
		x := make_(t, 1e9)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if _, err := x.Run(t.Context(), smallTask()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	})
}

func TestProcessContract(t *testing.T) {
	contract(t, func(t *testing.T, rate float64) Executor {
		return newTestProcess(t, Config{Index: 4, Device: "sim", Sim: kernels.SimConfig{Rate: rate}}, defaultLimits)
	})
}

func TestInProcessContract(t *testing.T) {
	contract(t, func(t *testing.T, rate float64) Executor {
		x := NewInProcess(4, kernels.NewSim(kernels.SimConfig{Rate: rate}))
		t.Cleanup(func() { _ = x.Close() })
		return x
	})
}

func TestInProcessInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := NewInProcess(0, kernels.NewSim(kernels.SimConfig{Rate: 100}))
		task := smallTask()
		task.Range = kernels.Range{First: 0, Last: 99_999}
		beats := 0
		task.Progress = func(uint64) { beats++ }
		res, err := x.Run(t.Context(), task)
		if err != nil || res.Searching != 1000*time.Second {
			t.Errorf("result %+v, %v", res, err)
		}
		if beats < 4000 {
			t.Errorf("%d signs of life in 1000 s, want one every 250 ms", beats)
		}
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestInProcessFaults(t *testing.T) {
	at := uint64(20_000)
	for name, tt := range map[string]struct {
		sim   kernels.SimConfig
		class Class
	}{
		"fails":         {kernels.SimConfig{Rate: 1e9, FailAt: &at}, Failed},
		"wrong account": {kernels.SimConfig{Rate: 1e9, WrongAccount: true}, WrongAccount},
		"no rate":       {kernels.SimConfig{}, Failed},
	} {
		t.Run(name, func(t *testing.T) {
			x := NewInProcess(0, kernels.NewSim(tt.sim))
			defer x.Close()
			_, err := x.Run(t.Context(), smallTask())
			wantClass(t, err, tt.class)
		})
	}
}

// A scripted device finds what it is told to, in whatever order.
type scripted struct{ seeds []uint64 }

func (scripted) Name() string { return "scripted" }
func (scripted) Close() error { return nil }
func (s scripted) Prepare(context.Context, *kernels.Search) (kernels.Searcher, error) {
	return s, nil
}

func (s scripted) Search(_ context.Context, r kernels.Range, _ func(uint64) uint64, emit func(kernels.Survivor) error) (uint64, kernels.Account, bool, error) {
	for _, seed := range s.seeds {
		if err := emit(kernels.Survivor{Seed: seed}); err != nil {
			return 0, kernels.Account{}, false, err
		}
	}
	return r.Last, kernels.AccountOf(r), true, nil
}

func TestInProcessChecksTheOrder(t *testing.T) {
	for name, seeds := range map[string][]uint64{"falling": {12, 11}, "equal": {12, 12}, "below": {9}, "above": {50_001}} {
		x := NewInProcess(0, scripted{seeds})
		_, err := x.Run(t.Context(), smallTask())
		if e := (*Error)(nil); !errors.As(err, &e) || e.Class != WrongOrder {
			t.Errorf("%s: %v", name, err)
		}
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestMainRefuses(t *testing.T) {
	for name, args := range map[string][]string{
		"no lock":     nil,
		"closed lock": {"--lock-fd", "999"},
		"standard":    {"--lock-fd", "1"},
		"flag":        {"--nonsense"},
		"sim":         {"--sim", `{"speed":3}`},
	} {
		if err := Main(t.Context(), strings.NewReader(""), io.Discard, args); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// serveOver runs an executor in this process, and gives both ends of its pipes.
func serveOver(t *testing.T, device kernels.Device) (in io.WriteCloser, out io.Reader, done <-chan error) {
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := serve(t.Context(), inR, outW, device, 1, 0)
		_ = outW.Close()
		ended <- err
	}()
	if m, err := readReport(outR); err != nil || m.GetReady() == nil {
		t.Fatal(m, err)
	}
	return inW, outR, ended
}

func TestServeRefusesTwoSearches(t *testing.T) {
	in, out, done := serveOver(t, kernels.NewSim(kernels.SimConfig{Rate: 1000}))
	go func() { _, _ = io.Copy(io.Discard, out) }()
	for id := range uint64(2) {
		if err := writeCommand(in, searchCommand(id+1, longTask())); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err == nil {
		t.Error("no error")
	}
}

func TestServeIgnoresWhatIsOver(t *testing.T) {
	in, out, done := serveOver(t, kernels.NewCPU(1))
	for _, c := range []*slotpb.Command{stopCommand(1, 5), cancelCommand(1), searchCommand(2, smallTask())} {
		if err := writeCommand(in, c); err != nil {
			t.Fatal(err)
		}
	}
	for {
		m, err := readReport(out)
		if err != nil {
			t.Fatal(err)
		}
		if d := m.GetDone(); d != nil {
			if !d.Ok || d.Last != smallTask().Range.Last {
				t.Errorf("done %v", d)
			}
			break
		}
	}
	_ = in.Close() // the node is gone
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestServeEndsOnNonsense(t *testing.T) {
	for name, b := range map[string][]byte{
		"huge frame": {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, kindCommand},
		"text":       []byte("hello, is anybody there?\n"),
	} {
		in, _, done := serveOver(t, kernels.NewCPU(1))
		if _, err := in.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err == nil || isEnd(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEnvironment(t *testing.T) {
	got := allowed([]string{"PATH=/bin", "HOME=/root", "SECRET=1", "LC_ALL=C", "HSA_OVERRIDE_GFX_VERSION=10.3.0", "SEEDMESH_SIMD=off", "PATHS=/x"})
	want := []string{"PATH=/bin", "HOME=/root", "LC_ALL=C", "HSA_OVERRIDE_GFX_VERSION=10.3.0", "SEEDMESH_SIMD=off"}
	if !slices.Equal(got, want) {
		t.Errorf("allowed = %v, want %v", got, want)
	}
}

func TestTail(t *testing.T) {
	tl := &tail{log: slog.New(slog.DiscardHandler)}
	for range 1000 {
		tl.add([]byte("some noise\n"))
	}
	tl.add([]byte("the end\xff"))
	if text := tl.String(); len(text) > tailBytes || !strings.HasSuffix(text, "the end?") {
		t.Errorf("%d bytes, ending %q", len(text), text[len(text)-20:])
	}
}

func FuzzFrames(f *testing.F) {
	batch := []kernels.Survivor{{Seed: 5, Matches: 1, Skip: 2, Offset: 3}, {Seed: 6}}
	figures := []kernels.Survivor{{Seed: 5, Figures: "12345678"}, {Seed: 6, Figures: "abcdefgh"}}
	for _, m := range []proto.Message{
		survivorsReport(1, batch), survivorsReport(1, figures), doneReport(1, outcome{ok: true, last: 7}), errorReport(1, Failed, "x"),
		progressReport(1, 2), searchCommand(1, smallTask()),
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = readReport(bytes.NewReader(b))
		var framed bytes.Buffer
		if err := transport.WriteFrame(&framed, kindReport, b); err != nil {
			t.Fatal(err)
		}
		m, err := readReport(&framed)
		if err != nil {
			return
		}
		u := newRun(kernels.Range{First: 0, Last: 1000})
		if s := m.GetSurvivors(); s != nil {
			list, err := parseSurvivors(s)
			if err == nil && (len(list) > maxBatch || len(list) != len(s.Seeds)) {
				t.Fatalf("%d survivors", len(list))
			}
			if list, err = u.survivors(list); err == nil && !slices.IsSortedFunc(list, func(a, b kernels.Survivor) int {
				return int(int64(a.Seed) - int64(b.Seed))
			}) {
				t.Fatal("survivors out of order were let through")
			}
		}
		if d := m.GetDone(); d != nil {
			res, err := u.result(parseDone(d))
			if err == nil && res.OK && (res.Last > 1000 || res.Account != kernels.AccountOf(kernels.Range{First: 0, Last: res.Last})) {
				t.Fatalf("%+v was let through", res)
			}
		}
		if e := m.GetError(); e != nil {
			if len(parseError(e).Message) > maxMessageBytes {
				t.Fatal("an unbounded message")
			}
		}
	})
}
