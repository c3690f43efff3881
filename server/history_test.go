//go:build e2e

package server_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bivalve/cluster"
	"bivalve/server/servertest"

	"github.com/anishathalye/porcupine"
)

var (
	historySeed = flag.Uint64("history.seed", 0, "seed of the history test; 0 draws one")
	historyOps  = flag.Int("history.ops", 60, "acknowledged writes of each phase of the history test")
)

// ask is one operation on one key.
type ask struct {
	key, verb string // PUT GET DELETE
	etag      string // what a PUT writes, as hex MD5
	absent    bool   // If-None-Match: *
	match     string // If-Match
}

// saw is its outcome.
type saw struct {
	unknown bool // it may have happened, now or later
	failed  bool // a condition did not hold
	etag    string
}

// keyModel is one key: its state is the ETag of what is there, "" when nothing is.
var keyModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		by := map[string][]porcupine.Operation{}
		for _, op := range history {
			k := op.Input.(ask).key
			by[k] = append(by[k], op)
		}
		var out [][]porcupine.Operation
		for _, ops := range by {
			out = append(out, ops)
		}
		return out
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		now, in, out := state.(string), input.(ask), output.(saw)
		holds := !(in.absent && now != "") && !(in.match != "" && in.match != now)
		switch {
		case in.verb == "GET":
			return out.etag == now, now
		case out.failed:
			return !holds, now
		case !holds:
			return out.unknown, now
		case in.verb == "DELETE":
			return true, ""
		}
		return true, in.etag
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// history is what clients did and saw.
type history struct {
	r     *servertest.Region
	keys  int
	start time.Time
	acked atomic.Int64
	wrong atomic.Int64

	mu   sync.Mutex
	ops  []porcupine.Operation
	dead map[cluster.NodeID]bool // where clients do not go
	last map[string]string       // an ETag that was once seen under a key
}

// client works until stop is closed.
func (h *history) client(t *testing.T, id int, rnd *rand.Rand, stop <-chan struct{}) {
	nodes := h.r.Nodes(servertest.ZoneA, servertest.ZoneB)
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		node := nodes[rnd.IntN(len(nodes))]
		h.mu.Lock()
		for h.dead[node] {
			node = nodes[rnd.IntN(len(nodes))]
		}
		in := ask{key: fmt.Sprintf("k%d", rnd.IntN(h.keys)), verb: "GET"}
		seen := h.last[in.key]
		h.mu.Unlock()
		var body []byte
		if rnd.IntN(2) == 0 {
			in.verb = "PUT"
			// Within the record, over several shards, and over two chunks.
			size := []int{50, 50, 50, 50, 50, 30_000, 30_000, 30_000, 30_000, 4<<20 + 10}[rnd.IntN(10)]
			body = bytes.Repeat(fmt.Appendf(nil, "client %d op %d ", id, n), size/14+1)[:size]
			sum := md5.Sum(body)
			in.etag = hex.EncodeToString(sum[:])
			switch rnd.IntN(4) {
			case 0:
				in.absent = true
			case 1:
				in.match = seen
			}
		} else if rnd.IntN(4) == 0 {
			in.verb = "DELETE"
		}
		if !h.do(t, id, node, in, body) {
			select { // as a client backs off
			case <-time.After(20 * time.Millisecond):
			case <-stop:
			}
		}
	}
}

// do sends one operation and records it, unless it certainly did nothing.
func (h *history) do(t *testing.T, id int, node cluster.NodeID, in ask, body []byte) bool {
	header := http.Header{}
	if in.absent {
		header.Set("If-None-Match", "*")
	}
	if in.match != "" {
		header.Set("If-Match", `"`+in.match+`"`)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var reader io.ReadSeeker
	if in.verb == "PUT" {
		reader = bytes.NewReader(body)
	}
	call := time.Since(h.start)
	resp, err := h.r.Do(ctx, node, in.verb, "/history/"+in.key, reader, header)
	out, counts := h.judge(t, in, resp, err)
	end := int64(time.Since(h.start))
	if !counts {
		return false
	}
	if out.unknown {
		end = math.MaxInt64
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: id, Input: in, Call: int64(call), Output: out, Return: end})
	switch {
	case in.verb == "GET" && out.etag != "":
		h.last[in.key] = out.etag
	case in.verb != "GET" && !out.unknown && !out.failed:
		h.acked.Add(1)
	}
	return true
}

// judge reads an answer; counts is false when it says that nothing happened.
func (h *history) judge(t *testing.T, in ask, resp *http.Response, err error) (out saw, counts bool) {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return out, false
	}
	if err != nil {
		return saw{unknown: true}, in.verb != "GET"
	}
	defer resp.Body.Close()
	body, rerr := io.ReadAll(resp.Body)
	etag := strings.Trim(resp.Header.Get("ETag"), `"`)
	switch resp.StatusCode {
	case http.StatusOK, http.StatusNoContent:
		if in.verb == "GET" {
			if rerr != nil {
				return out, false // broken off, which is honest
			}
			if sum := md5.Sum(body); hex.EncodeToString(sum[:]) != etag {
				h.wrong.Add(1)
				t.Errorf("%+v: %d wrong bytes", in, len(body))
			}
		}
		return saw{etag: etag}, true
	case http.StatusNotFound:
		if in.verb != "GET" { // If-Match where nothing is
			return saw{failed: true}, true
		}
		return saw{}, true
	case http.StatusPreconditionFailed:
		return saw{failed: true}, true
	case http.StatusServiceUnavailable, http.StatusConflict:
		return out, false
	case http.StatusInternalServerError:
		return saw{unknown: true}, in.verb != "GET"
	}
	t.Errorf("%+v: status %d: %s", in, resp.StatusCode, body)
	return out, false
}

// await waits for so many more acknowledged writes.
func (h *history) await(what string, n int) {
	want := h.acked.Load() + int64(n)
	h.r.Until(fmt.Sprintf("%d writes %s", n, what), func(context.Context) error {
		if got := h.acked.Load(); got < want {
			return fmt.Errorf("%d are missing", want-got)
		}
		return nil
	})
}

// TestHistory: clients work on a few keys through every node while a zone is
// killed and comes back; what each of them saw must fit one order of events.
func TestHistory(t *testing.T) {
	seed := *historySeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d (replay with -history.seed=%d)", seed, seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	r := servertest.Start(t, servertest.Options{})
	resp, err := r.Do(t.Context(), "a1", http.MethodPut, "/history", nil, nil)
	fatal(t, err)
	fatal(t, resp.Body.Close())
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("create bucket: %s", resp.Status)
	}
	h := &history{r: r, keys: 8, start: time.Now(), dead: map[cluster.NodeID]bool{}, last: map[string]string{}}
	stop := make(chan struct{})
	var clients sync.WaitGroup
	finish := sync.OnceFunc(func() { close(stop); clients.Wait() })
	t.Cleanup(finish) // also when a wait below fails
	for i := range 6 {
		mine := rand.New(rand.NewPCG(seed, uint64(i+2)))
		clients.Go(func() { h.client(t, i, mine, stop) })
	}
	h.await("in a whole region", *historyOps)
	zone := []cluster.Zone{servertest.ZoneA, servertest.ZoneB}[rnd.IntN(2)]
	lost := r.Nodes(zone)
	killed := time.Now()
	r.Kill(lost...)
	h.mu.Lock()
	for _, n := range lost {
		h.dead[n] = true
	}
	h.mu.Unlock()
	h.await("without zone "+string(zone), 1)
	t.Logf("zone %s killed; the first write after %v", zone, time.Since(killed))
	h.await("without zone "+string(zone), *historyOps)
	r.Start(lost...)
	r.WaitReady(lost...)
	h.mu.Lock()
	clear(h.dead)
	h.mu.Unlock()
	h.await("with the zone back", *historyOps)
	finish()
	for k := range h.keys { // every node must agree on the end
		for _, n := range r.Nodes(servertest.ZoneA, servertest.ZoneB) {
			h.do(t, 99, n, ask{key: fmt.Sprintf("k%d", k), verb: "GET"}, nil)
		}
	}
	unknown := 0
	for _, op := range h.ops {
		if op.Output.(saw).unknown {
			unknown++
		}
	}
	t.Logf("%d operations, %d of unknown outcome, %v", len(h.ops), unknown, time.Since(h.start))
	switch result := porcupine.CheckOperationsTimeout(keyModel, h.ops, 20*time.Second); result {
	case porcupine.Ok:
	case porcupine.Unknown:
		t.Log("the history is too tangled to be judged in time")
	default:
		t.Errorf("the history of seed %d is not linearizable", seed)
	}
}
