package raftfsm

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"

	"github.com/futago/futago"
)

// Absent answers on the member link while this member has no Node, until ctx
// ends: hello says why, so that the others can tell an operator. Raft and trap
// connections are closed at once, for nobody would ever serve them. It may run on
// while a Node opens, and must end then: each takes what comes from the other.
func (l *Link) Absent(ctx context.Context, hello func() Hello) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+helloPath, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, hello()) })
	mux.HandleFunc("POST "+proposePath, func(w http.ResponseWriter, _ *http.Request) {
		// Certainly not taken, which the sender may rely on.
		writeJSON(w, proposeResponse{Error: toRPCError(futago.Errorf(futago.CodeUnavailable, "member %s does not take part now", l.node.Member))})
	})
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	wg.Go(func() { turnAway(ctx, l.raft) })
	wg.Go(func() { turnAway(ctx, l.traps) })
	return l.serveHTTP(ctx, mux)
}

// turnAway closes what comes until ctx ends.
func turnAway(ctx context.Context, from <-chan net.Conn) {
	for {
		select {
		case c := <-from:
			_ = c.Close()
		case <-ctx.Done():
			return
		}
	}
}

// Ask gets another member's Hello without a Node of this one's.
func (l *Link) Ask(ctx context.Context, m futago.MemberID) (Hello, error) {
	p := &peer{member: m, client: l.httpClient(m)}
	defer p.client.CloseIdleConnections()
	var h Hello
	err := p.call(ctx, http.MethodGet, helloPath, nil, &h)
	return h, err
}

// serveHTTP answers peers' requests until ctx ends. On return nothing is answered
// any more, on no connection: whoever comes next speaks for this member, and an
// answer of the past would be taken for evidence of the present (R8).
func (l *Link) serveHTTP(ctx context.Context, h http.Handler) error {
	var running sync.RWMutex // held while a request is answered
	over := false
	srv := &http.Server{ReadHeaderTimeout: handshakeTimeout, IdleTimeout: rpcIdleTimeout}
	srv.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		running.RLock()
		defer running.RUnlock()
		if over {
			w.Header().Set("Connection", "close")
			http.Error(w, "this session of the member is over", http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(w, r)
	})
	defer func() {
		_ = srv.Close() // closes the connections, which ends what is being answered
		running.Lock()
		defer running.Unlock()
		over = true
	}()
	// Serve returns when rpcListener sees the end of ctx.
	err := srv.Serve(&rpcListener{sublistener{l, l.rpc}, ctx})
	if errors.Is(err, http.ErrServerClosed) || ctx.Err() != nil {
		return nil
	}
	return err
}
