package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"seedmesh/kernels"
)

// The libraries of two interfaces may not bear each other in one process, and any of
// them may hang or abort. So accelerators are measured by processes that do nothing else, one for each
// interface, which get one order after the other.

const (
	answerFD  = 3               // where such a process writes its rows: libraries print to 1 and 2
	rowSlack  = 5 * time.Minute // for a row, beside its samples: programs are compiled, and the device passes its test
	endLimit  = 5 * time.Second // for a process to end when nothing more is ordered
	maxSaid   = 1000            // lines of libraries that are passed on
	maxSaying = 1 << 10         // bytes of such a line
)

// An assignment is what such a process is told: the parts of its plan that it needs, and one order.
type assignment struct {
	Question            Question
	Time                time.Duration
	Repeats             int
	Programs, Libraries string
	Order               order
}

// A result is its answer.
type result struct {
	Row   Row
	Error string // what ends everything, or empty
}

// Serve is such a process: it measures what comes from in, one JSON value after the
// other, until that ends.
func Serve(ctx context.Context, in io.Reader) error {
	out := os.NewFile(answerFD, "answer")
	orders, rows := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var a assignment
		if err := orders.Decode(&a); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return errors.Join(err, out.Close())
		}
		p := Plan{Question: a.Question, Time: a.Time, Repeats: a.Repeats, Programs: a.Programs, Libraries: a.Libraries}
		row, err := p.row(ctx, a.Order)
		answer := result{Row: row}
		if err != nil {
			answer.Error = err.Error()
		}
		if err := rows.Encode(answer); err != nil {
			return err
		}
	}
}

// A crew is the processes of a plan, and this one, which measures the CPU.
type crew struct {
	plan    Plan
	said    said
	helpers map[string]*helper // by interface
}

func newCrew(p Plan) *crew {
	return &crew{plan: p, said: said{to: p.Words, known: map[string]bool{}}, helpers: map[string]*helper{}}
}

// row carries out an order. A process that ended leaves a row that says so, and the next
// order is for another one.
func (c *crew) row(ctx context.Context, o order) (Row, error) {
	kind := o.Device.Kind
	if kind == "cpu" || len(c.plan.Command) == 0 {
		return c.plan.row(ctx, o)
	}
	h := c.helpers[kind]
	if h == nil {
		var err error
		if h, err = startHelper(c.plan.Command, kernels.AcceleratorEnv(kind, c.plan.GFX, os.Environ()), &c.said); err != nil {
			return Row{}, fmt.Errorf("bench: start a process for %s: %w", kind, err)
		}
		c.helpers[kind] = h
	}
	p := c.plan
	limit := rowSlack + 2*time.Duration(p.Repeats+2)*p.Time
	answer, err := h.ask(ctx, assignment{p.Question, p.Time, p.Repeats, p.Programs, p.Libraries, o}, limit)
	switch {
	case ctx.Err() != nil:
		return Row{}, ctx.Err()
	case err != nil:
		delete(c.helpers, kind)
		row := o.row()
		if how := h.kill(); how != nil && !errors.Is(err, errSilent) {
			err = how
		}
		row.Error = fmt.Sprintf("the process that measured it ended: %v", err)
		return row, nil
	case answer.Error != "":
		return Row{}, errors.New(answer.Error)
	}
	return answer.Row, nil
}

// close ends the processes.
func (c *crew) close() error {
	var errs []error
	for _, h := range c.helpers {
		errs = append(errs, h.close())
	}
	return errors.Join(errs...)
}

// A helper is one process.
type helper struct {
	cmd    *exec.Cmd
	orders io.WriteCloser
	answer *os.File
	rows   *json.Decoder
	words  *sayings
}

func startHelper(command, env []string, all *said) (*helper, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), env...)
	words := &sayings{said: all}
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles, cmd.WaitDelay = words, words, []*os.File{w}, endLimit
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	orders, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	_ = w.Close() // the process has its own
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return &helper{cmd, orders, r, json.NewDecoder(r), words}, nil
}

// errSilent says that a process took too long.
var errSilent = errors.New("it gave no answer")

// ask has one order carried out within the limit.
func (h *helper) ask(ctx context.Context, a assignment, limit time.Duration) (answer result, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w within %v", errSilent, limit))
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = h.signal() })()
	if err = json.NewEncoder(h.orders).Encode(a); err == nil {
		err = h.rows.Decode(&answer)
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return answer, err
}

func (h *helper) signal() error { return syscall.Kill(-h.cmd.Process.Pid, syscall.SIGKILL) }

// kill ends a process that does not answer, and says how it ended.
func (h *helper) kill() error {
	_ = h.signal() // it may be gone
	err := errors.Join(h.cmd.Wait(), h.answer.Close())
	if h.words.crash != "" { // nobody writes it any more
		err = fmt.Errorf("%w: %s", err, h.words.crash)
	}
	return err
}

// close ends a process that has nothing more to do. Whatever libraries do when they are unloaded
// counts for nothing: all rows are there.
func (h *helper) close() error {
	err := h.orders.Close()
	timer := time.AfterFunc(endLimit, func() { _ = h.signal() })
	defer timer.Stop()
	_ = h.cmd.Wait()
	return errors.Join(err, h.answer.Close())
}

// said is what libraries have printed, in all processes.
type said struct {
	mu    sync.Mutex
	to    io.Writer // or nil
	known map[string]bool
}

// sayings passes on what one process prints, each line once, up to a crash, of which it keeps
// the first line.
type sayings struct {
	*said
	rest  string // of a line that has not ended
	crash string
}

func (s *sayings) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest += string(b)
	for {
		line, rest, ended := strings.Cut(s.rest, "\n")
		if !ended && len(s.rest) < maxSaying {
			return len(b), nil
		}
		if !ended {
			line, rest = s.rest, ""
		}
		s.rest = rest
		s.pass(line[:min(len(line), maxSaying)])
	}
}

// crashes begin what Go prints of a process that crashes.
var crashes = []string{"SIG", "fatal error: ", "panic: "}

func (s *sayings) pass(line string) {
	switch {
	case s.crash != "":
	case slices.ContainsFunc(crashes, func(c string) bool { return strings.HasPrefix(line, c) }):
		s.crash = line
	case s.to != nil && !s.known[line] && len(s.known) < maxSaid:
		s.known[line] = true
		_, _ = fmt.Fprintln(s.to, line) // it is only for a person
	}
}
