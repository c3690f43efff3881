package transport

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"bivalve/cluster"
)

// Cause says why bytes cross between zones; it is a metric label.
type Cause uint8

const (
	CauseOther Cause = iota
	CausePut
	CauseGet
	CauseHeal
	CauseScrub
	CauseRebalance
	CauseResync
	CauseVault
	CauseMetadata
	CauseRaft
	causeCount
)

func (c Cause) String() string {
	if c >= causeCount {
		c = CauseOther
	}
	return [causeCount]string{"other", "put", "get", "heal", "scrub", "rebalance", "resync", "vault", "metadata", "raft"}[c]
}

type causeKey struct{}

// WithCause marks the calls made under the context.
func WithCause(ctx context.Context, c Cause) context.Context {
	return context.WithValue(ctx, causeKey{}, c)
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
	zones [causeCount][2]prometheus.Counter
}

const (
	kindClasses = 8
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
	kinds := [kindClasses]string{"append", "read", "delete", "list", "raft", "metadata", "other", "stream"}
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
	for c := range causeCount {
		for d, dir := range dirs {
			m.zones[c][d] = zones.WithLabelValues(c.String(), dir)
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

const classStream = 7

func (m *Metrics) traffic(s side, class, out, in int) {
	m.bytes[s][class][0].Add(float64(out))
	m.bytes[s][class][1].Add(float64(in))
}

// countBytes counts what this client moved, and whether it crossed zones.
func (c *Client) countBytes(ctx context.Context, to cluster.NodeID, class, out, in int) {
	c.cfg.Metrics.traffic(sideClient, class, out, in)
	if c.cfg.ZoneOf == nil {
		return
	}
	if z := c.cfg.ZoneOf(to); z == "" || z == c.cfg.Zone {
		return
	}
	cause, _ := ctx.Value(causeKey{}).(Cause)
	if cause == CauseOther {
		switch class {
		case 4:
			cause = CauseRaft
		case 5, classStream:
			cause = CauseMetadata
		}
	}
	c.cfg.Metrics.zones[min(cause, causeCount-1)][0].Add(float64(out))
	c.cfg.Metrics.zones[min(cause, causeCount-1)][1].Add(float64(in))
}
