package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A library that a vendor wrote may hang, abort or write where it should not. So
// it is opened in a process that does nothing else, lives for one question, and
// is killed when it takes too long.

const (
	probeLimit = 10 * time.Second // for an answer
	probeReap  = 2 * time.Second  // for a process to end when it was killed
	maxAnswer  = 1 << 20          // bytes
	maxWords   = 2 << 10          // bytes that are kept of what a process prints
	answerFD   = 3                // where the process writes its answer: libraries print to 1 and 2
)

// probeEnv are the variables, and beginnings of names, that the process inherits.
var probeEnv = []string{"PATH=", "HOME=", "TMPDIR=", "LD_LIBRARY_PATH=", "XDG_CACHE_HOME=", "OCL_", "OPENCL_", "POCL_"}

// selfProbe is the command of this binary's hidden verb.
func selfProbe() []string { return []string{"/proc/self/exe", "probe"} }

// An answer is what the process found out.
type answer struct {
	NVML         nvmlAnswer
	Accelerators Accelerators
	Error        string // empty when all went well
}

// ProbeMain is the process: what the hidden command of the binary runs, with the
// question and what it is about: a library's file name, or a kind of accelerator. It ends with its standard input, because
// then whoever asked is gone.
func ProbeMain(stdin io.Reader, args []string) error {
	if len(args) != 2 {
		return errors.New("probe: it is started by a node, with a question and what it is about")
	}
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, stdin)
		os.Exit(1)
	}()
	var a answer
	var err error
	switch args[0] {
	case "nvml":
		a.NVML, err = askNVML(args[1])
	case "accelerators":
		a.Accelerators, err = listAccelerators(args[1])
	default:
		err = fmt.Errorf("probe: there is no question %q", args[0])
	}
	if err != nil {
		a.Error = err.Error()
	}
	out := os.NewFile(answerFD, "answer")
	return errors.Join(json.NewEncoder(out).Encode(a), out.Close())
}

// A prober asks such processes, one at a time. It is used by one goroutine at a time.
type prober struct {
	command []string
	limit   time.Duration

	failures int
	failed   error         // of the last question
	again    time.Time     // before which a failed question is not repeated
	living   chan struct{} // closed when the process has ended; nil before the first
}

// ask gives the answer to one question. A question that failed is answered with
// the same error for a while.
func (p *prober) ask(what, about string) (answer, error) {
	if p.failures > 0 && time.Now().Before(p.again) {
		return answer{}, p.failed
	}
	a, err := p.once(what, about)
	if p.failed = err; err == nil {
		p.failures = 0
		return a, nil
	}
	p.again = time.Now().Add(min(askAfterFail<<min(p.failures, 10), askAtLeast))
	p.failures++
	return answer{}, err
}

// once starts a process and waits for its answer.
func (p *prober) once(what, about string) (answer, error) {
	if p.living != nil {
		select {
		case <-p.living:
		default:
			return answer{}, fmt.Errorf("an earlier process that asked %s does not end: reboot the machine", about)
		}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return answer{}, err
	}
	defer r.Close()
	words := new(limited)
	cmd := &exec.Cmd{
		Path: p.command[0], Args: append(slices.Clone(p.command), what, about), Env: inherited(os.Environ()),
		Stdout: words, Stderr: words, ExtraFiles: []*os.File{w}, SysProcAttr: &syscall.SysProcAttr{Setpgid: true}, WaitDelay: probeReap,
	}
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	_ = w.Close() // the process has its own
	if err != nil {
		return answer{}, fmt.Errorf("asking %s: %w", about, err)
	}
	defer stdin.Close()
	ended := make(chan struct{})
	var how error // valid once ended is closed
	go func() {   // ends with the process
		defer close(ended)
		how = cmd.Wait()
	}()
	p.living = ended
	return p.await(about, cmd.Process.Pid, r, ended, func() string { return strings.TrimSpace(fmt.Sprintf("%v %s", how, words.first())) })
}

// await reads the answer of a process, and ends the process.
func (p *prober) await(about string, pid int, r *os.File, ended <-chan struct{}, how func() string) (a answer, err error) {
	if err := r.SetReadDeadline(time.Now().Add(p.limit)); err != nil {
		return a, err
	}
	b, readErr := io.ReadAll(io.LimitReader(r, maxAnswer))
	if readErr == nil && len(b) > 0 {
		if err = json.Unmarshal(b, &a); err == nil && a.Error != "" {
			err = errors.New(a.Error)
		}
	}
	timer := time.NewTimer(probeReap)
	defer timer.Stop()
	if readErr != nil || len(b) == maxAnswer {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
	select {
	case <-ended:
	case <-timer.C:
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
	switch {
	case errors.Is(readErr, os.ErrDeadlineExceeded):
		return answer{}, fmt.Errorf("%s gave no answer within %v", about, p.limit)
	case readErr != nil:
		return answer{}, fmt.Errorf("asking %s: %w", about, readErr)
	case len(b) == 0:
		select {
		case <-ended:
			return answer{}, fmt.Errorf("%s ended the process that asked it: %s", about, how())
		default:
			return answer{}, fmt.Errorf("%s closed the answer of the process that asked it", about)
		}
	}
	return a, err
}

func inherited(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(kv string) bool {
		return !slices.ContainsFunc(probeEnv, func(name string) bool { return strings.HasPrefix(kv, name) })
	})
}

// limited keeps the first part of what is written to it. It is used by one
// goroutine at a time: os/exec sees to that for a process' two outputs.
type limited struct{ text bytes.Buffer }

func (l *limited) Write(b []byte) (int, error) {
	l.text.Write(b[:min(len(b), maxWords-l.text.Len())])
	return len(b), nil
}

// first is the first line that was written.
func (l *limited) first() string {
	line, _, _ := strings.Cut(strings.TrimSpace(l.text.String()), "\n")
	return strings.ToValidUTF8(line, "?")
}
