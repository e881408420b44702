package httpapi

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options are what New needs. All fields are needed but Join and Now.
type Options struct {
	Backend Backend
	// Gatherer gives the manager's own metrics to /metrics.
	Gatherer prometheus.Gatherer
	// Join answers cluster.JoinPath; it has its own authentication. Nil serves
	// no joins.
	Join http.Handler
	// SessionKey signs the console's session cookies; it is the same on both
	// managers, so that a session outlives a switch. Tokens that are made under
	// an idempotency key are derived from it too.
	SessionKey [32]byte
	Version    string
	Logger     *slog.Logger
	// Now is the manager's clock; [time.Now] when nil.
	Now func() time.Time
}
