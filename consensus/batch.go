package consensus

import (
	"context"
	"sync"

	"seedmesh/jobs"
)

// Limits of a batch.
const (
	maxPending      = 16384    // requests that wait for a batch
	batchBytes      = 64 << 10 // bytes after which a batch is closed
	batchRequests   = 1024     // requests after which a batch is closed
	batchesInFlight = 2        // batches that are not yet answered; with more of them each is smaller, and a command costs more
)

// proposal is a request on its way into the log.
type proposal struct {
	request jobs.Request
	encoded []byte      // of the request
	done    chan result // buffered: whoever has the answer does not wait
}

func newProposal(r jobs.Request, encoded []byte) *proposal {
	return &proposal{r, encoded, make(chan result, 1)}
}

type result struct {
	outcome jobs.Outcome
	index   uint64
	err     error
}

// await waits for a proposal's answer.
func (p *proposal) await(ctx context.Context) result {
	select {
	case r := <-p.done:
		return r
	case <-ctx.Done():
		return result{err: ctx.Err()}
	}
}

// fail answers proposals with an error.
func fail(batch []*proposal, err error) {
	for _, p := range batch {
		p.done <- result{err: err}
	}
}

// A batcher packs waiting proposals into batches. While batchesInFlight of them
// wait for their answers, proposals gather, so that batches grow under load.
type batcher struct {
	pending chan *proposal
	slots   chan struct{} // one token for each batch in flight
	send    func([]*proposal)
}

// newBatcher makes a batcher; send answers every proposal of a batch.
func newBatcher(send func([]*proposal)) *batcher {
	return &batcher{make(chan *proposal, maxPending), make(chan struct{}, batchesInFlight), send}
}

// put hands a proposal over.
func (b *batcher) put(ctx context.Context, p *proposal) error {
	select {
	case b.pending <- p:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run sends batches until ctx ends, and returns after the last answer.
func (b *batcher) run(ctx context.Context) {
	var sends sync.WaitGroup
	defer sends.Wait()
	for {
		var first *proposal
		select {
		case <-ctx.Done():
			return
		case first = <-b.pending:
		}
		select {
		case <-ctx.Done():
			return
		case b.slots <- struct{}{}:
		}
		batch := b.gather(first)
		sends.Go(func() {
			defer func() { <-b.slots }()
			b.send(batch)
		})
	}
}

// alone tells, within send, whether no other batch is on its way or waits.
func (b *batcher) alone() bool { return len(b.slots) == 1 && len(b.pending) == 0 }

func (b *batcher) gather(first *proposal) []*proposal {
	batch := []*proposal{first}
	size := len(first.encoded)
	for len(batch) < batchRequests && size < batchBytes {
		select {
		case p := <-b.pending:
			batch = append(batch, p)
			size += len(p.encoded)
		default:
			return batch
		}
	}
	return batch
}
