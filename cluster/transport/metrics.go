package transport

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"bivalve/cluster"
)

// Cause says why bytes cross between zones; it is a metric label. It is fixed
// where a client of the transport is made (Shards.Cause, Call.Cause).
type Cause uint8

const (
	// CauseAuto is what the kind of the call suggests: an append is a put, a read
	// a get, a delete reclaims.
	CauseAuto Cause = iota
	CausePut
	CauseGet
	CauseHeal      // rebuilding what is damaged or missing
	CauseResync    // bringing back a zone or a disk that was away
	CauseRebalance // moving to where the layout says
	CauseScrub
	CauseReclaim // deletes
	CauseVault
	CauseMetadata
	CauseRaft
	CauseOther
	causeCount
)

func (c Cause) String() string {
	if c >= causeCount || c == CauseAuto {
		c = CauseOther
	}
	return [causeCount]string{"", "put", "get", "heal", "resync", "rebalance", "scrub", "reclaim", "vault", "metadata", "raft", "other"}[c]
}

// causeOf settles what CauseAuto leaves open.
func causeOf(c Cause, class int) Cause {
	if c != CauseAuto && c < causeCount {
		return c
	}
	return [kindClasses]Cause{CausePut, CauseGet, CauseReclaim, CauseOther, CauseRaft, CauseMetadata, CauseOther, CauseMetadata, CausePut}[class]
}

type side int

const (
	sideClient side = iota
	sideServer
)

// Metrics of the transport, shared by the client and the server of a node. All
// labels are bounded. Counters are looked up once, not per call.
type Metrics struct {
	calls [2][kindClasses][outcomes]prometheus.Counter
	bytes [2][kindClasses][2]prometheus.Counter // out, in
	zones [causeCount]crossing
}

// crossing counts the bytes of one cause between zones.
type crossing struct {
	shown   [2]prometheus.Counter // out, in
	out, in atomic.Int64
}

// Crossed is how many bytes this node's calls have moved between zones for one
// cause: out to other zones, in from them. Only the caller's side counts, so that
// the sum over all nodes counts every byte once.
type Crossed struct {
	Out int64 `json:"out"`
	In  int64 `json:"in"`
}

// Crossed tells the bytes between zones so far by the name of their cause.
func (m *Metrics) Crossed() map[string]Crossed {
	out := make(map[string]Crossed, causeCount)
	for c := CausePut; c < causeCount; c++ {
		out[c.String()] = Crossed{Out: m.zones[c].out.Load(), In: m.zones[c].in.Load()}
	}
	return out
}

const (
	kindClasses = 9
	outcomes    = 4
)

func classOf(k Kind) int {
	switch {
	case k == kindAppend:
		return 0
	case k == kindRead:
		return 1
	case k == kindDelete:
		return 2
	case k == kindList:
		return 3
	case k == kindRelay:
		return classRelay
	case k == kindRaft:
		return 4
	case k.isMeta():
		return 5
	}
	return 6
}

// NewMetrics registers with reg; nil makes counters that nobody sees. A second
// registration with the same registry panics, as prometheus.MustRegister does.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	calls := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "bivalve_transport_calls_total", Help: "Calls between nodes by side, kind and outcome.",
	}, []string{"side", "kind", "outcome"})
	bytes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "bivalve_transport_bytes_total", Help: "Bytes of frames by side, kind and direction.",
	}, []string{"side", "kind", "direction"})
	zones := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "bivalve_zone_traffic_bytes_total",
		Help: "Bytes to and from other zones, counted by the node that called, by cause and direction.",
	}, []string{"cause", "direction"})
	if reg != nil {
		reg.MustRegister(calls, bytes, zones)
	}
	m := &Metrics{}
	kinds := [kindClasses]string{"append", "read", "delete", "list", "raft", "metadata", "other", "stream", "relay"}
	dirs := [2]string{"out", "in"}
	for s, sideName := range [2]string{"client", "server"} {
		for k, kind := range kinds {
			for o, outcome := range [outcomes]string{"ok", "error", "unreachable", "cancelled"} {
				m.calls[s][k][o] = calls.WithLabelValues(sideName, kind, outcome)
			}
			for d, dir := range dirs {
				m.bytes[s][k][d] = bytes.WithLabelValues(sideName, kind, dir)
			}
		}
	}
	for c := CausePut; c < causeCount; c++ {
		for d, dir := range dirs {
			m.zones[c].shown[d] = zones.WithLabelValues(c.String(), dir)
		}
	}
	return m
}

func (m *Metrics) call(s side, k Kind, err error) { m.callClass(s, classOf(k), err) }

func (m *Metrics) callClass(s side, class int, err error) {
	o := 0
	var remote *RemoteError
	switch {
	case err == nil:
	case errors.As(err, &remote):
		o = 1
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		o = 3
	case errors.Is(err, cluster.ErrUnreachable):
		o = 2
	default:
		o = 1
	}
	m.calls[s][class][o].Inc()
}

const (
	classStream = 7
	classRelay  = 8
)

func (m *Metrics) traffic(s side, class, out, in int) {
	m.bytes[s][class][0].Add(float64(out))
	m.bytes[s][class][1].Add(float64(in))
}

// countBytes counts what this client moved, and whether it crossed zones.
func (c *Client) countBytes(to cluster.NodeID, cause Cause, class, out, in int) {
	c.cfg.Metrics.traffic(sideClient, class, out, in)
	if c.cfg.ZoneOf == nil {
		return
	}
	if z := c.cfg.ZoneOf(to); z == "" || z == c.cfg.Zone {
		return
	}
	x := &c.cfg.Metrics.zones[causeOf(cause, class)]
	x.out.Add(int64(out))
	x.in.Add(int64(in))
	x.shown[0].Add(float64(out))
	x.shown[1].Add(float64(in))
}
