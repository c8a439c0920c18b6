package slot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"seedmesh/kernels"
	"seedmesh/node/slot/slotpb"
	"seedmesh/transport"
)

const (
	protocolVersion = 1
	maxFrameBytes   = 1 << 20
	maxMessageBytes = 4 << 10 // of an error's text

	kindCommand byte = 1 // from the node
	kindReport  byte = 2 // from the executor
)

var errFrame = errors.New("malformed frame")

func writeMessage(w io.Writer, kind byte, m proto.Message) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > maxFrameBytes {
		return &transport.FrameTooLargeError{Size: int64(len(b)), Max: maxFrameBytes}
	}
	return transport.WriteFrame(w, kind, b)
}

func readMessage(r io.Reader, kind byte, m proto.Message) error {
	got, b, err := transport.ReadFrame(r, maxFrameBytes)
	if err != nil {
		return err
	}
	if got != kind {
		return fmt.Errorf("%w: kind %d instead of %d", errFrame, got, kind)
	}
	if err := proto.Unmarshal(b, m); err != nil {
		return fmt.Errorf("%w: %w", errFrame, err)
	}
	return nil
}

// isEnd tells the end of a pipe from bytes that make no sense.
func isEnd(err error) bool {
	var tooLarge *transport.FrameTooLargeError
	return !errors.Is(err, errFrame) && !errors.Is(err, transport.ErrChecksum) && !errors.As(err, &tooLarge)
}

func writeCommand(w io.Writer, c *slotpb.Command) error { return writeMessage(w, kindCommand, c) }

func readCommand(r io.Reader) (*slotpb.Command, error) {
	c := new(slotpb.Command)
	return c, readMessage(r, kindCommand, c)
}

func readReport(r io.Reader) (*slotpb.Report, error) {
	m := new(slotpb.Report)
	return m, readMessage(r, kindReport, m)
}

func searchCommand(id uint64, t Task) *slotpb.Command {
	return &slotpb.Command{Kind: &slotpb.Command_Search{Search: &slotpb.Search{
		Id: id, Spec: t.Spec, Generator: t.Generator, First: t.Range.First, Last: t.Range.Last,
	}}}
}

func stopCommand(id, last uint64) *slotpb.Command {
	return &slotpb.Command{Kind: &slotpb.Command_StopAt{StopAt: &slotpb.StopAt{Id: id, Last: last}}}
}

func cancelCommand(id uint64) *slotpb.Command {
	return &slotpb.Command{Kind: &slotpb.Command_Cancel{Cancel: &slotpb.Cancel{Id: id}}}
}

func quitCommand() *slotpb.Command {
	return &slotpb.Command{Kind: &slotpb.Command_Quit{Quit: &slotpb.Quit{}}}
}

func progressReport(id, done uint64) *slotpb.Report {
	return &slotpb.Report{Kind: &slotpb.Report_Progress{Progress: &slotpb.Progress{Id: id, Done: done}}}
}

func survivorsReport(id uint64, batch []kernels.Survivor) *slotpb.Report {
	m := &slotpb.Survivors{Id: id}
	for _, v := range batch {
		m.Seeds = append(m.Seeds, v.Seed)
		m.Matches = append(m.Matches, uint32(v.Matches))
		m.Skips = append(m.Skips, uint32(v.Skip))
		m.Offsets = append(m.Offsets, v.Offset)
		m.Figures = append(m.Figures, v.Figures...)
	}
	return &slotpb.Report{Kind: &slotpb.Report_Survivors{Survivors: m}}
}

func parseSurvivors(m *slotpb.Survivors) ([]kernels.Survivor, error) {
	n := len(m.Seeds)
	if n > maxBatch || len(m.Matches) != n || len(m.Skips) != n || len(m.Offsets) != n {
		return nil, fmt.Errorf("%w: %d seeds, %d matches, %d skips and %d offsets in one batch",
			errFrame, n, len(m.Matches), len(m.Skips), len(m.Offsets))
	}
	each := len(m.Figures) / max(n, 1)
	if each*n != len(m.Figures) {
		return nil, fmt.Errorf("%w: %d bytes of figures for %d survivors", errFrame, len(m.Figures), n)
	}
	batch := make([]kernels.Survivor, n)
	for i := range batch {
		if m.Matches[i] > math.MaxUint16 || m.Skips[i] > math.MaxUint16 {
			return nil, fmt.Errorf("%w: %d matches with skip %d", errFrame, m.Matches[i], m.Skips[i])
		}
		batch[i] = kernels.Survivor{
			Seed: m.Seeds[i], Matches: uint16(m.Matches[i]), Skip: uint16(m.Skips[i]), Offset: m.Offsets[i],
			Figures: string(m.Figures[i*each : (i+1)*each]),
		}
	}
	return batch, nil
}

func doneReport(id uint64, o outcome) *slotpb.Report {
	return &slotpb.Report{Kind: &slotpb.Report_Done{Done: &slotpb.Done{
		Id: id, Ok: o.ok, Last: o.last, SearchingNanos: uint64(o.searching),
		Account: &slotpb.Account{Count: o.account.Count, Sum: o.account.Sum, SumSq: o.account.SumSq},
	}}}
}

func parseDone(m *slotpb.Done) outcome {
	a := m.GetAccount()
	return outcome{
		ok: m.Ok, last: m.Last, searching: clampDuration(m.SearchingNanos),
		account: kernels.Account{Count: a.GetCount(), Sum: a.GetSum(), SumSq: a.GetSumSq()},
	}
}

func errorReport(id uint64, class Class, message string) *slotpb.Report {
	if len(message) > maxMessageBytes {
		message = message[:maxMessageBytes]
	}
	return &slotpb.Report{Kind: &slotpb.Report_Error{Error: &slotpb.Error{
		Id: id, Class: string(class), Message: validUTF8(message),
	}}}
}

// parseError gives the classes that leave the executor as it is.
func parseError(m *slotpb.Error) *Error {
	e := &Error{Class: Class(m.Class), Message: m.Message}
	switch e.Class {
	case BadTask, Unsupported, Failed, Stuck, cancelled:
	default:
		e.Class = Protocol
		e.Message = fmt.Sprintf("it reports %.40q: %s", m.Class, m.Message)
	}
	if len(e.Message) > maxMessageBytes {
		e.Message = e.Message[:maxMessageBytes]
	}
	return e
}

func clampDuration(nanos uint64) time.Duration {
	return time.Duration(min(nanos, math.MaxInt64))
}

func unmarshalStrict(text string, v any) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(v)
}
