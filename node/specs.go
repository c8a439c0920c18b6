package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"seedmesh/jobs"
	"seedmesh/kernels"
)

// A specification that the log has no room for is a blob, on as many disks as a
// result, and the ledger has its name: this, the digits of its digest, and behind a
// space the type of the job.
const specName = "blob:"

// specBlob is the blob that a specification in the ledger names, if it names one.
func specBlob(spec []byte) (d jobs.Digest, ok bool) {
	digits, _, _ := strings.Cut(string(spec), " ")
	digits, named := strings.CutPrefix(digits, specName)
	b, err := hex.DecodeString(digits)
	return d, named && err == nil && copy(d[:], b) == len(b) && len(b) == len(d)
}

// searchType is the type of a search whose specification the ledger has, or names.
func searchType(spec []byte) string {
	if _, named := specBlob(spec); named {
		_, name, _ := strings.Cut(string(spec), " ")
		return name
	}
	return kernels.TypeOf(spec)
}

// A beyondError says that this program cannot read a job's specification. The node that
// took the job could, so that its program is a newer one. Nobody is charged for it.
type beyondError struct {
	job jobs.JobID
	err error
}

func (e *beyondError) Error() string {
	return fmt.Sprintf("it cannot work on job %s, which was made by a newer seedmesh: upgrade this node (%v)", e.job, e.err)
}

func (e *beyondError) Unwrap() error { return e.err }

func isBeyond(err error) bool {
	var beyond *beyondError
	return errors.As(err, &beyond)
}

// storeSpec gives what the ledger keeps of a specification. done is to be called
// when the job is submitted: until then the blob is kept for it.
func (n *Node) storeSpec(ctx context.Context, spec []byte) (kept []byte, done func(), err error) {
	if len(spec) <= jobs.MaxSpecBytes {
		return spec, func() {}, nil
	}
	spool, err := n.store.Create()
	if err != nil {
		return nil, nil, err
	}
	_, _ = spool.Write(spec) // Commit says what went wrong
	d, _, err := spool.Commit()
	if err != nil {
		return nil, nil, err
	}
	n.pinned.add(d)
	n.replicate(ctx, d, []jobs.NodeID{n.id})
	return []byte(specName + d.String() + " " + kernels.TypeOf(spec)), func() { n.pinned.remove(d) }, nil
}

// specOf gives the specification that the ledger has, or names.
func (n *Node) specOf(ctx context.Context, kept []byte) ([]byte, error) {
	d, named := specBlob(kept)
	if !named {
		return kept, nil
	}
	var sources []jobs.NodeID
	n.log.View(func(st *jobs.State) {
		for _, m := range st.Nodes() {
			if m.Alive && m.ID != n.id {
				sources = append(sources, m.ID)
			}
		}
	})
	if err := n.fetch(ctx, d, sources); err != nil {
		return nil, fmt.Errorf("the job's specification: %w", err)
	}
	f, _, err := n.store.Open(d)
	if err != nil {
		return nil, fmt.Errorf("the job's specification: %w", err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, kernels.MaxSpecBytes+1)) // a longer one is refused where it is decoded
}
