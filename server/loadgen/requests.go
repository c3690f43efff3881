package loadgen

import (
	"net/http"
	"net/url"
	"strconv"
)

// listPage is how many keys one LIST asks for.
const listPage = 100

// mixedShares is the per cent of each operation in Mixed.
var mixedShares = []struct {
	op      Op
	percent int
}{{Get, 55}, {Put, 20}, {Head, 15}, {List, 5}, {Delete, 5}}

// next is the request that a worker sends now; false when nothing is left.
func (w *worker) next() (Op, request, bool) {
	op := w.run.cfg.Op
	if op == Mixed {
		op = w.draw()
	}
	switch op {
	case Put:
		w.puts++
		return op, w.run.put(w.run.newKey(w.id, w.puts-1)), true
	case Copy:
		w.puts++
		return op, w.run.copy(w.anyKey(), w.run.newKey(w.id, w.puts-1)), true
	case Delete:
		key, ok := w.victim()
		return op, w.run.remove(key), ok
	case Get:
		return op, w.run.get(w.anyKey()), true
	case Head:
		return op, w.run.head(w.anyKey()), true
	default:
		return op, w.run.list(w.anyKey()), true
	}
}

// draw picks an operation of Mixed. What has nothing to delete puts.
func (w *worker) draw() Op {
	n := w.rnd.IntN(100)
	for _, s := range mixedShares {
		if n -= s.percent; n < 0 {
			if s.op == Delete && w.deleted == w.puts {
				return Put
			}
			return s.op
		}
	}
	return Get
}

// victim is the key to delete next: of the working set if that is the whole
// run, else of what this client has put.
func (w *worker) victim() (string, bool) {
	if w.run.cfg.Op == Mixed {
		w.deleted++
		return w.run.newKey(w.id, w.deleted-1), true
	}
	i := w.run.nextDel.Add(1) - 1
	return w.run.setKey(int(i)), i < int64(w.run.cfg.Objects)
}

func (w *worker) anyKey() string { return w.run.setKey(w.rnd.IntN(w.run.cfg.Objects)) }

func (r *run) path(key string) string { return r.cfg.Bucket + "/" + key }

func (r *run) put(key string) request {
	return request{method: http.MethodPut, path: r.path(key), body: r.body(key), ok: http.StatusOK, length: 0}
}

func (r *run) copy(from, to string) request {
	return request{method: http.MethodPut, path: r.path(to), header: map[string]string{"X-Amz-Copy-Source": escape(r.path(from))}, ok: http.StatusOK, length: -1}
}

func (r *run) get(key string) request {
	req := request{method: http.MethodGet, path: r.path(key), ok: http.StatusOK, length: r.cfg.Size}
	if r.cfg.Verify {
		req.want = r.body(key)
	}
	return req
}

func (r *run) head(key string) request {
	return request{method: http.MethodHead, path: r.path(key), ok: http.StatusOK, length: 0}
}

func (r *run) list(after string) request {
	q := url.Values{"list-type": {"2"}, "prefix": {r.setPrefix()}, "start-after": {after}, "max-keys": {strconv.Itoa(listPage)}}
	return request{method: http.MethodGet, path: r.cfg.Bucket, query: q, ok: http.StatusOK, length: -1}
}

func (r *run) remove(key string) request {
	return request{method: http.MethodDelete, path: r.path(key), ok: http.StatusNoContent, length: 0}
}
