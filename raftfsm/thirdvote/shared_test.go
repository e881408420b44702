package thirdvote

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Whoever comes while a call runs gets the result of a later one, and all of
// them the same.
func TestShared_Do_BegunAfterTheCallerCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		s := newShared(time.Minute, func(context.Context) (int, error) {
			n++
			v := n
			time.Sleep(time.Second)
			return v, nil
		})
		defer s.close()
		got := make([]int, 11)
		var wg sync.WaitGroup
		wg.Go(func() { got[0], _ = s.do(t.Context()) })
		synctest.Wait() // the first call runs
		for i := 1; i < len(got); i++ {
			wg.Go(func() { got[i], _ = s.do(t.Context()) })
		}
		wg.Wait()
		for i, v := range got {
			if want := min(i, 1) + 1; v != want {
				t.Errorf("caller %d got call %d, not %d", i, v, want)
			}
		}
		if s.last() != 2 {
			t.Errorf("%d calls for two groups of callers", s.last())
		}
	})
}

func TestShared_Want_WaitsForOneThatCannot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		s := newShared(time.Minute, func(context.Context) (int, error) { at = append(at, time.Now()); return 0, nil })
		defer s.close()
		begin := time.Now()
		lazy := s.want(time.Second)
		time.Sleep(100 * time.Millisecond)
		urgent := s.want(0)
		<-urgent.done
		<-lazy.done
		if len(at) != 1 || at[0].Sub(begin) != 100*time.Millisecond {
			t.Errorf("calls at %v", at)
		}
		alone := s.want(time.Second)
		<-alone.done
		if len(at) != 2 || at[1].Sub(begin) != 1100*time.Millisecond {
			t.Errorf("calls at %v", at)
		}
	})
}

func TestShared_Close_EndsCallsAndCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShared(time.Hour, func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() })
		running, next := s.want(0), s.want(0)
		later := s.want(time.Minute)
		synctest.Wait()
		s.close()
		<-running.done
		<-next.done
		<-later.done
		if !errors.Is(running.err, context.Canceled) || !errors.Is(next.err, errClosed) {
			t.Errorf("%v, %v", running.err, next.err)
		}
		if _, err := s.do(t.Context()); !errors.Is(err, errClosed) {
			t.Errorf("after close: %v", err)
		}
	})
}

func TestShared_TimeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShared(time.Second, func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() })
		defer s.close()
		if _, err := s.do(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := s.do(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
