package witness

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// The closed sets of label values.
const (
	opRead   = "read"
	opCAS    = "cas"
	opCreate = "create"
	opOther  = "other"

	outDone      = "done"
	outConflict  = "conflict"
	outMissing   = "missing"
	outDenied    = "denied"
	outInvalid   = "invalid"
	outFull      = "disk-full"
	outCorrupt   = "corrupt"
	outUnknown   = "unknown" // written, not certainly flushed
	outAbandoned = "abandoned"
	outError     = "error"
)

// metrics are of one server; each server registers its own.
type metrics struct {
	requests *prometheus.CounterVec
	flush    prometheus.Histogram
	conns    prometheus.Gauge
	refused  prometheus.Counter
	clusters prometheus.GaugeFunc
}

func newMetrics(clusters func() int) *metrics {
	return &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "futago_witness_requests_total", Help: "Requests answered, by operation and outcome.",
		}, []string{"operation", "outcome"}),
		flush: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "futago_witness_flush_seconds", Help: "Time to write a record and flush it to the disk.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		conns: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "futago_witness_connections", Help: "Open connections.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "futago_witness_connections_refused_total", Help: "Connections closed at once because too many were open.",
		}),
		clusters: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "futago_witness_clusters", Help: "Clusters known to this witness.",
		}, func() float64 { return float64(clusters()) }),
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	for _, c := range m.collectors() {
		if err := r.Register(c); err != nil {
			m.unregister(r)
			return err
		}
	}
	return nil
}

func (m *metrics) unregister(r prometheus.Registerer) {
	for _, c := range m.collectors() {
		r.Unregister(c)
	}
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.requests, m.flush, m.conns, m.refused, m.clusters}
}

func (m *metrics) observeFlush(d time.Duration) { m.flush.Observe(d.Seconds()) }

// metricsHandler serves /metrics alone: counts and times, no name of a cluster.
func metricsHandler(g prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: requestTimeout}))
	return mux
}
