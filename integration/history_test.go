package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/futago/futago"
	"github.com/futago/futago/client"
	"github.com/futago/futago/integration/rig"
)

// history records what clients asked each manager and what it answered: strong
// reads of the settings, and changes of them on the revision last read. The
// settings are a compare-and-set register; the value is an address in a rule
// for a sender that does not exist.
type history struct {
	r       *rig.Rig
	clients map[string]*client.Client
	next    atomic.Uint32

	mu  sync.Mutex
	ops []porcupine.Operation
	n   map[string]int
}

var errNoOrder = errors.New("the clients' reads and writes have no single order: two managers acknowledged, or a stale read was served")

const settingsPath = "/api/v1/settings/intake"

type regInput struct {
	read     bool
	revision uint64 // that a change was made on
	value    string
}

type regOutput struct {
	revision uint64
	value    string
	refused  bool // a conflict: certainly not done
	unknown  bool
}

func newHistory(r *rig.Rig) *history {
	h := &history{r: r, clients: map[string]*client.Client{}, n: map[string]int{}}
	local := r.Client("a")
	defer local.Close()
	var tok struct{ Token string }
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := local.Do(r.TB.Context(), http.MethodPost, "/api/v1/tokens", "", map[string]string{"name": "history", "role": "operator"}, &tok)
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			r.TB.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	for _, host := range []string{"a", "b"} {
		c, err := client.New(client.Config{
			Addresses: []string{r.Lab.Host(host).AddrPort(7700).String()}, CA: r.CA(), Token: tok.Token,
			Timeout: 4 * time.Second, Dial: r.Lab.Host("d1").DialContext, StayPut: true,
		})
		if err != nil {
			r.TB.Fatal(err)
		}
		r.TB.Cleanup(c.Close)
		h.clients[host] = c
	}
	return h
}

// start runs two clients at each manager until ctx ends.
func (h *history) start(ctx context.Context, wg *sync.WaitGroup) {
	id := 0
	for _, host := range []string{"a", "b"} {
		for range 2 {
			me := id
			id++
			wg.Go(func() { h.client(ctx, me, h.clients[host]) })
		}
	}
}

func (h *history) client(ctx context.Context, id int, c *client.Client) {
	for ctx.Err() == nil {
		doc, ok := h.read(id, c)
		if ok {
			h.change(id, c, doc)
		}
		select {
		case <-ctx.Done():
		case <-time.After(40 * time.Millisecond):
		}
	}
}

// operations outlive the end of the faults, so they have the test's context.
func (h *history) read(id int, c *client.Client) (doc map[string]json.RawMessage, ok bool) {
	call := time.Now()
	err := c.Get(h.r.TB.Context(), settingsPath, url.Values{"consistency": {"strong"}}, &doc)
	if err != nil {
		h.count("reads refused")
		return nil, false
	}
	rev, value := registerOf(doc)
	h.add(id, call, regInput{read: true}, regOutput{revision: rev, value: value})
	h.count("reads")
	return doc, true
}

func registerOf(doc map[string]json.RawMessage) (rev uint64, value string) {
	_ = json.Unmarshal(doc["revision"], &rev)
	var rules []futago.SourceRule
	_ = json.Unmarshal(doc["sources"], &rules)
	if len(rules) > 0 {
		value = rules[0].Source.String()
	}
	return rev, value
}

func (h *history) change(id int, c *client.Client, doc map[string]json.RawMessage) {
	n := h.next.Add(1)
	value := netip.PrefixFrom(netip.AddrFrom4([4]byte{240, byte(n >> 16), byte(n >> 8), byte(n)}), 32)
	in := regInput{value: value.String()}
	in.revision, _ = registerOf(doc)
	doc["sources"], _ = json.Marshal([]futago.SourceRule{{Source: value, Charset: "euc-jp"}})
	call := time.Now()
	err := c.Do(h.r.TB.Context(), http.MethodPut, settingsPath, "", doc, nil)
	switch futago.CodeOf(err) {
	case "":
		h.add(id, call, in, regOutput{revision: in.revision + 1})
		h.count("changes")
	case futago.CodeConflict:
		h.add(id, call, in, regOutput{refused: true})
		h.count("conflicts")
	case futago.CodeNotLeader:
		h.count("changes refused")
	default:
		// A client that got no answer cannot know.
		h.add(id, call, in, regOutput{unknown: true})
		h.count("changes unknown")
	}
}

func (h *history) count(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n[what]++
}

func (h *history) add(id int, call time.Time, in regInput, out regOutput) {
	op := porcupine.Operation{ClientId: id, Input: in, Call: call.UnixNano(), Output: out, Return: time.Now().UnixNano()}
	if out.unknown {
		op.Return = 1 << 62 // it may take effect at any later time
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
}

func (h *history) summary() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprint(h.n)
}

// check looks for one order of all operations that explains all answers.
func (h *history) check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n["changes"] == 0 || h.n["reads"] == 0 {
		return fmt.Errorf("the clients got nothing done: %v", h.n)
	}
	type state struct {
		known    bool // false before the first operation
		revision uint64
		value    string
	}
	model := porcupine.Model{
		Init: func() any { return state{} },
		Step: func(s, in, out any) (bool, any) {
			st, i, o := s.(state), in.(regInput), out.(regOutput)
			switch {
			case i.read:
				next := state{true, o.revision, o.value}
				return !st.known || st == next, next
			case o.unknown:
				// Done if it could be, and otherwise without effect.
				if st.known && st.revision == i.revision {
					return true, state{true, i.revision + 1, i.value}
				}
				return true, st
			case o.refused:
				return !st.known || st.revision != i.revision, st
			default:
				return !st.known || st.revision == i.revision, state{true, i.revision + 1, i.value}
			}
		},
		Equal: func(a, b any) bool { return a.(state) == b.(state) },
	}
	switch porcupine.CheckOperationsTimeout(model, h.ops, 2*time.Minute) {
	case porcupine.Illegal:
		return errNoOrder
	case porcupine.Unknown:
		return errors.New("the history was too hard to check in two minutes")
	default:
		return nil
	}
}
