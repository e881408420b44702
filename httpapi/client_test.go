package httpapi_test

import (
	"context"
	"encoding/pem"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/futago/futago"
	"github.com/futago/futago/client"
	"github.com/futago/futago/httpapi"
)

func (s *server) client(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{
		Addresses: []string{strings.TrimPrefix(s.URL, "https://")}, Token: s.tokens[futago.RoleAdmin],
		CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestClient: what the API writes, the project's own client reads, and the
// other way round.
func TestClient(t *testing.T) {
	s := newServer(t)
	e := trap(futago.KindSyslog, "link down\x00 障害")
	e.Key = futago.Key{1, 2, 3}
	s.fake.add(e)
	c := s.client(t)
	page, err := c.Events(t.Context(), futago.EventQuery{Kinds: []futago.Kind{futago.KindSyslog, futago.KindSNMPTrap}, Limit: 7})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.fake.events, page.Events, cmpopts.EquateComparable(e.Trap.Source)); diff != "" {
		t.Error(diff)
	}
	st, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.fake.status, st); diff != "" {
		t.Error(diff)
	}
	var tok httpapi.CreatedToken
	if err := c.Do(t.Context(), http.MethodPost, "/api/v1/tokens", aKey, map[string]string{"name": "x", "role": "viewer"}, &tok); err != nil || tok.Token == "" {
		t.Errorf("got %+v, %v", tok, err)
	}
	err = c.Do(t.Context(), http.MethodPost, "/api/v1/users", "", map[string]string{"name": "x"}, nil)
	if futago.CodeOf(err) != futago.CodeInvalid {
		t.Errorf("got %v", err)
	}
	var got []string
	errEnough := errors.New("enough")
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		waitFor(t, "subscription", func() bool {
			s.fake.mu.Lock()
			defer s.fake.mu.Unlock()
			return s.fake.subs > 0
		})
		s.fake.add(trap(futago.KindSNMPTrap, "second"), trap(futago.KindSyslog, "third"))
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err = c.Follow(ctx, futago.EventQuery{Limit: 50}, func(e futago.Event) error {
		if got = append(got, e.Trap.Message); len(got) == 2 {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"second", "third"}, got); diff != "" {
		t.Error(diff)
	}
}
