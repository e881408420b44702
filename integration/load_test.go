package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/futago/futago"
)

// load sends numbered traps to both managers while something else happens:
// one syslog message over UDP and one custom trap, 20 times a second.
type load struct {
	s    *site
	stop func()
	wg   sync.WaitGroup
	http *http.Client

	mu    sync.Mutex
	sent  int            // numbers 1 to sent
	acked map[int]string // custom traps, with who acknowledged first
	not   int            // custom traps that a manager did not acknowledge
}

func (s *site) load() *load {
	over := make(chan struct{})
	l := &load{
		s: s, stop: sync.OnceFunc(func() { close(over) }), acked: map[int]string{},
		http: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: s.Lab.Host("d1").DialContext, MaxIdleConnsPerHost: 50}},
	}
	l.wg.Go(func() {
		t := time.NewTicker(50 * time.Millisecond)
		defer t.Stop()
		for {
			l.step()
			select {
			case <-over:
				return
			case <-t.C:
			}
		}
	})
	s.t.Cleanup(l.end)
	return l
}

func (l *load) step() {
	l.mu.Lock()
	l.sent++
	n := l.sent
	l.mu.Unlock()
	for _, host := range []string{"a", "b"} {
		l.s.datagram(host, 514, fmt.Appendf(nil, "<29>Nov 22 04:05:06 device app[7]: syslog of the load, number %d.", n))
		l.wg.Go(func() { l.post(host, n) })
	}
}

func (l *load) post(host string, n int) {
	body := fmt.Sprintf(`{"DATA":[{"TYPE":"STRING","KEY":"load","MSG":"custom of the load, number %d."}]}`, n)
	q, err := http.NewRequestWithContext(context.WithoutCancel(l.s.t.Context()), http.MethodPost, "http://"+l.s.Lab.Host(host).AddrPort(8082).String()+"/", strings.NewReader(body))
	if err != nil {
		l.s.t.Error(err)
		return
	}
	res, err := l.http.Do(q)
	if err == nil {
		res.Body.Close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil || res.StatusCode != http.StatusOK {
		l.not++
		return
	}
	if _, ok := l.acked[n]; !ok {
		l.acked[n] = host
	}
}

// more waits until so many more numbers were sent.
func (l *load) more(n int) {
	l.mu.Lock()
	goal := l.sent + n
	l.mu.Unlock()
	l.s.Await(time.Minute, "load", func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.sent < goal {
			return fmt.Errorf("%d sent", l.sent)
		}
		return nil
	})
}

func (l *load) end() {
	l.stop()
	l.wg.Wait()
	l.http.CloseIdleConnections()
}

// check ends the load, waits until nothing is missing, and looks for each trap
// on both managers: what was acknowledged must be there, what went to a manager
// that never failed to keep it as well, and nothing twice.
func (l *load) check(limit time.Duration) {
	l.s.t.Helper()
	l.end()
	l.s.AwaitFull(limit)
	for _, host := range []string{"a", "b"} {
		seen := map[string]int{}
		for e, err := range l.s.Events(host) {
			if err != nil {
				l.s.t.Fatal(err)
			}
			if e.Trap.Kind == futago.KindInternal {
				continue
			}
			seen[e.Trap.Message] += int(e.Count)
		}
		for n := 1; n <= l.sent; n++ {
			if c := seen[fmt.Sprintf("syslog of the load, number %d.", n)]; c != 1 {
				l.s.t.Errorf("%s: syslog message %d is counted %d times", host, n, c)
			}
			c := seen[fmt.Sprintf("load=custom of the load, number %d.", n)]
			if by, ok := l.acked[n]; ok && c == 0 || c > 1 {
				l.s.t.Errorf("%s: custom trap %d, acknowledged by %q, is counted %d times", host, n, by, c)
			}
		}
	}
	l.s.t.Logf("%d traps of each kind, %d custom traps acknowledged, %d answers missing", l.sent, len(l.acked), l.not)
	if len(l.acked) == 0 {
		l.s.t.Error("no custom trap was acknowledged")
	}
}
