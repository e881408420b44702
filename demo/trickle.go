package demo

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gosnmp/gosnmp"
)

// Sample lines, in the shapes that devices really send.
var samples = []string{
	"<30>%s web1 nginx[812]: upstream timed out (110: Connection timed out) while connecting to upstream",
	"<38>%s gate sshd[4711]: Failed password for invalid user admin from 203.0.113.9 port 40022 ssh2",
	"<189>%[2]d: *%[1]s: %%LINEPROTO-5-UPDOWN: Line protocol on Interface GigabitEthernet0/1, changed state to up",
	"<131>%s db2 postgres[99]: could not write to file \"pg_wal/000000010000\": No space left on device",
	"<46>%s core1 rpd[1532]: bgp_recv: peer 192.0.2.7: received unexpected EOF",
}

// trickle sends sample traps to both managers, the same bytes to each.
func (d *demo) trickle(ctx context.Context) error {
	rate := d.o.Rate
	if rate <= 0 {
		return nil
	}
	rate = min(rate, 1000)
	t := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer t.Stop()
	hc := &http.Client{Timeout: 5 * time.Second}
	defer hc.CloseIdleConnections()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		// A receiver that is down shall not stop the others: errors are what
		// the demonstration is about.
		switch {
		case n%7 == 3:
			d.sendTrap(n)
		case n%11 == 5:
			d.sendCustom(ctx, hc, n)
		default:
			s := samples[rand.IntN(len(samples))]
			args := []any{time.Now().Format(time.Stamp), n}
			if !strings.Contains(s, "%[2]d") {
				args = args[:1]
			}
			d.send(portSyslog, fmt.Appendf(nil, s, args...))
		}
	}
}

// send gives one datagram to each manager.
func (d *demo) send(port string, b []byte) {
	for _, host := range []string{d.hostA, d.hostB} {
		c, err := net.Dial("udp", net.JoinHostPort(host, port)) //nolint:noctx // a datagram socket does not wait
		if err != nil {
			continue
		}
		_, _ = c.Write(b)
		_ = c.Close()
	}
}

// sendTrap sends linkDown or linkUp of an interface.
func (d *demo) sendTrap(n int) {
	p := &gosnmp.SnmpPacket{
		Version: gosnmp.Version2c, Community: "public", PDUType: gosnmp.SNMPv2Trap, RequestID: uint32(n) + 1,
		Variables: []gosnmp.SnmpPDU{
			{Name: ".1.3.6.1.2.1.1.3.0", Type: gosnmp.TimeTicks, Value: uint32(n * 100)},
			{Name: ".1.3.6.1.6.3.1.1.4.1.0", Type: gosnmp.ObjectIdentifier, Value: fmt.Sprintf(".1.3.6.1.6.3.1.1.5.%d", 3+n%2)},
			{Name: ".1.3.6.1.2.1.2.2.1.1.7", Type: gosnmp.Integer, Value: n % 48},
		},
	}
	if b, err := p.MarshalMsg(); err == nil {
		d.send(portSNMP, b)
	}
}

func (d *demo) sendCustom(ctx context.Context, hc *http.Client, n int) {
	body := fmt.Appendf(nil, `{"FacilityID":"PLANT1","DATA":[{"DATE":%q,"TYPE":"NUM","KEY":"temperature","MSG":"%d"}]}`,
		time.Now().UTC().Format(time.DateTime), 18+n%9)
	var wg sync.WaitGroup
	for _, host := range []string{d.hostA, d.hostB} {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+net.JoinHostPort(host, portCustom)+"/", bytes.NewReader(body))
		if err != nil {
			return
		}
		// Each by itself: a host that is down must not delay the other's copy.
		wg.Go(func() {
			if res, err := hc.Do(req); err == nil {
				_ = res.Body.Close()
			}
		})
	}
	wg.Wait()
}
