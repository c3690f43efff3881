package object

import "github.com/prometheus/client_golang/prometheus"

// metrics of the engine; labels are bounded.
type metrics struct {
	chunksWritten *prometheus.CounterVec // whole / short
	chunksRead    *prometheus.CounterVec // direct / decoded
	shardErrors   *prometheus.CounterVec // append / read / corrupt
	hedges        prometheus.Counter
	budgetUsed    prometheus.Gauge

	relayed        prometheus.Counter
	relayFallbacks *prometheus.CounterVec // failed / late
}

func newMetrics(r prometheus.Registerer, budget int64) *metrics {
	m := &metrics{
		chunksWritten: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bivalve_chunks_written_total", Help: "Chunks made durable, by whether all shards were written.",
		}, []string{"shards"}),
		chunksRead: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bivalve_chunks_read_total", Help: "Chunks read, by whether they had to be decoded.",
		}, []string{"way"}),
		shardErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bivalve_shard_errors_total", Help: "Shard operations that failed, as seen by the node that serves the client.",
		}, []string{"op"}),
		hedges: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "bivalve_hedged_reads_total", Help: "Second requests sent because a shard was slow.",
		}),
		budgetUsed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "bivalve_budget_used_bytes", Help: "Bytes of the chunk memory budget in use.",
		}),
	}
	m.relayed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "bivalve_chunks_relayed_total", Help: "Chunks of the other zone's nodes that this node encoded and stored for its own.",
	})
	m.relayFallbacks = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "bivalve_relay_fallbacks_total", Help: "Chunks sent shard by shard because a relay failed or was late.",
	}, []string{"why"})
	size := prometheus.NewGauge(prometheus.GaugeOpts{Name: "bivalve_budget_bytes", Help: "The chunk memory budget."})
	size.Set(float64(budget))
	if r != nil {
		r.MustRegister(m.chunksWritten, m.chunksRead, m.shardErrors, m.hedges, m.budgetUsed, size, m.relayed, m.relayFallbacks)
	}
	return m
}

func (m *metrics) chunkWritten(short bool) {
	label := "whole"
	if short {
		label = "short"
	}
	m.chunksWritten.WithLabelValues(label).Inc()
}

func (m *metrics) shardFailed(op string) { m.shardErrors.WithLabelValues(op).Inc() }
