package httpapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/futago/futago"
)

// BenchmarkPages measures what a page of events costs beside the database.
func BenchmarkPages(b *testing.B) {
	f := newFake()
	for i := range 100 {
		f.add(trap(futago.KindSyslog, fmt.Sprintf("kernel: eth%d: link is down, carrier lost \x1b[0m データベース接続", i)))
	}
	h := newAPI(b, f, time.Now).LocalHandler()
	for _, path := range []string{"/api/v1/events", "/part/events", "/part/status"} {
		b.Run(path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), http.MethodGet, path, http.NoBody))
				if w.Code != http.StatusOK {
					b.Fatal(w.Body)
				}
			}
		})
	}
}
