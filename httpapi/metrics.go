package httpapi

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the API itself, in a registry of their own that /metrics adds to
// the manager's.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	streams  prometheus.Gauge
	ended    *prometheus.CounterVec
	refused  *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "futago_http_requests_total", Help: "Requests answered, by method, route and status.",
		}, []string{"method", "route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "futago_http_request_seconds", Help: "Time to answer; streams are not in it.",
			Buckets: []float64{.001, .005, .025, .1, .5, 1, 5, 30},
		}, []string{"route"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "futago_http_streams", Help: "Live streams open now.",
		}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "futago_http_streams_ended_total", Help: "Live streams that ended, by reason.",
		}, []string{"reason"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "futago_http_credentials_refused_total", Help: "Wrong credentials, by kind, and clients that had to wait.",
		}, []string{"kind"}),
	}
	m.registry.MustRegister(m.requests, m.seconds, m.streams, m.ended, m.refused)
	return m
}

// request counts one answer. Labels are from closed sets: the routes that there
// are and the methods that they take.
func (m *metrics) request(method, route string, status int, took time.Duration) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete:
	default:
		method = "other"
	}
	if route == "" {
		route = "none"
	}
	if status == 0 {
		status = http.StatusOK
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
	if route != streamPath && route != consoleLive {
		m.seconds.WithLabelValues(route).Observe(took.Seconds())
	}
}
