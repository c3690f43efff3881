package index

import (
	"errors"
	"fmt"
	"time"

	"bivalve/metadata"
)

// How long answers are kept for those who ask again.
const (
	requestsKept    = 1 << 16 // answers to request ids, by count
	requestsKeptFor = 10 * time.Minute
	finishedKeptFor = 7 * 24 * time.Hour
	maxBuckets      = 10_000
)

// ApplyBatch applies committed entries in order and returns one result each;
// all are visible to Query on return and durable after the next Flush. conf is
// the new ConfState if the batch changed it. An error means that this replica
// cannot go on.
func (ix *Index) ApplyBatch(entries []Entry, conf []byte) (_ [][]byte, err error) {
	defer ix.guard(&err)()
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if ix.closed {
		return nil, fmt.Errorf("index %s: closed", ix.path)
	}
	if err := ix.failure(); err != nil {
		return nil, err
	}
	results := make([][]byte, len(entries))
	for i, e := range entries {
		if e.Index <= ix.applied.Index {
			continue // replayed after a restart; its waiter is gone
		}
		if e.Data != nil {
			r, err := ix.apply(e.Data)
			if err != nil {
				return nil, fmt.Errorf("index %s: entry %d: %w", ix.path, e.Index, err)
			}
			results[i] = r
		}
		ix.applied.Index, ix.applied.Term = e.Index, e.Term
		ix.dirty = true
	}
	if conf != nil {
		ix.applied.ConfState = conf
		ix.dirty = true
	}
	return results, nil
}

// apply runs one command once. Errors that are answers become the result.
func (ix *Index) apply(raw []byte) ([]byte, error) {
	c, err := metadata.ParseCommand(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNewer, err)
	}
	if at, ok := ix.requests[c.Request]; ok {
		return append([]byte(nil), ix.t.requests.Get(timeKey(at, c.Request[:]))...), nil
	}
	ix.lastTime, ix.proposed = max(c.Time, ix.lastTime+1), c.Time
	payload, err := ix.dispatch(c)
	if err != nil && !metadata.IsAnswer(err) {
		return nil, err
	}
	result := metadata.EncodeResult(payload, err)
	return result, ix.remember(c.Request, result)
}

func (ix *Index) dispatch(c metadata.Command) ([]byte, error) {
	switch c.Kind {
	case metadata.CmdCreateBucket:
		return run(c, ix.createBucket)
	case metadata.CmdMarkBucket:
		return run(c, ix.markBucket)
	case metadata.CmdDropBucket:
		return run(c, ix.dropBucket)
	case metadata.CmdPutConfig:
		return run(c, ix.putConfig)
	case metadata.CmdConfigureBucket:
		return run(c, ix.configureBucket)
	case metadata.CmdSpreadBucket:
		return run(c, ix.spreadBucket)
	case metadata.CmdForgetBucket:
		return run(c, ix.forgetBucket)
	case metadata.CmdReportClock:
		return run(c, ix.reportClock)
	case metadata.CmdPutVersion:
		return run(c, ix.putVersion)
	case metadata.CmdDeleteKey:
		return run(c, ix.deleteKey)
	case metadata.CmdCreateUpload:
		return run(c, ix.createUpload)
	case metadata.CmdPutPart:
		return run(c, ix.putPart)
	case metadata.CmdCompleteUpload:
		return run(c, ix.completeUpload)
	case metadata.CmdAbortUpload:
		return run(c, ix.abortUpload)
	case metadata.CmdFenceBucket:
		return run(c, ix.fenceBucket)
	case metadata.CmdExpireVersions:
		return run(c, ix.expireVersions)
	case metadata.CmdAmendVersion:
		return run(c, ix.amendVersion)
	case metadata.CmdSetRules:
		return run(c, ix.setRules)
	case metadata.CmdDropGarbage:
		return run(c, ix.dropGarbage)
	case metadata.CmdMarkShards:
		return run(c, ix.markShards)
	case metadata.CmdAddReference:
		return run(c, ix.addReference)
	case metadata.CmdDropReferences:
		return run(c, ix.dropReferences)
	case metadata.CmdConfirmReferences:
		return run(c, ix.confirmReferences)
	case metadata.CmdJudgeReferences:
		return run(c, ix.judgeReferences)
	case metadata.CmdDropReleases:
		return run(c, ix.dropReleases)
	case metadata.CmdRecovered:
		return run(c, ix.recovered)
	case metadata.CmdAssertReferences:
		return run(c, ix.assertReferences)
	case metadata.CmdDoubtReferences:
		return run(c, ix.doubtReferences)
	case metadata.CmdFenceHome:
		return run(c, ix.fenceHome)
	case metadata.CmdToldHome:
		return run(c, ix.toldHome)
	}
	return nil, fmt.Errorf("%w: command kind %d", ErrNewer, c.Kind)
}

// run decodes the body of a command and encodes the answer of its handler.
func run[B any](c metadata.Command, handle func(B) (any, error)) ([]byte, error) {
	var body B
	if err := c.Decode(&body); errors.Is(err, metadata.ErrUnsupportedCommand) {
		return nil, fmt.Errorf("%w: %v", ErrNewer, err) // no answer: others may know it
	} else if err != nil {
		return nil, err
	}
	answer, err := handle(body)
	if err != nil || answer == nil {
		return nil, err
	}
	return metadata.EncodeBody(answer)
}

// remember keeps the result of a request and forgets old ones, two at most for
// each new one so that the work is spread.
func (ix *Index) remember(id metadata.RequestID, result []byte) error {
	if err := ix.t.requests.Put(timeKey(ix.lastTime, id[:]), result); err != nil {
		return err
	}
	ix.requests[id] = ix.lastTime
	cur := ix.t.requests.Cursor()
	for range 2 {
		k, _ := cur.First()
		at, old, err := parseRequestKey(k)
		if err != nil {
			return err
		}
		if len(ix.requests) <= requestsKept && ix.lastTime-at < int64(requestsKeptFor) {
			return nil
		}
		if err := ix.t.requests.Delete(k); err != nil {
			return err
		}
		delete(ix.requests, old)
	}
	return nil
}
