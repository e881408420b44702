package spool

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/futago/futago"
)

// tally collects reports.
type tally struct {
	mu  sync.Mutex
	got []string
}

func (r *tally) report(_ context.Context, topic string, _ futago.Severity, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, topic+": "+message)
}

func (r *tally) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.got...)
}

func (r *tally) topics() string {
	var ts []string
	for _, m := range r.all() {
		topic, _, _ := strings.Cut(m, ":")
		ts = append(ts, topic)
	}
	return strings.Join(ts, " ")
}

func TestOverflow_LimitAndReports(t *testing.T) {
	dir := memDir(t)
	synctest.Test(t, func(t *testing.T) {
		var r tally
		s, err := Open(Options{Dir: dir, MaxBytes: 64 << 10, Report: r.report})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		p := s.Producer("p", true)
		n, refused := 0, uint64(0)
		for range 1100 { // a minute and fifty seconds
			rs := recs(n+1, n+20)
			last, err := p.Append(rs)
			switch futago.CodeOf(err) {
			case "":
				n = int(last)
			case futago.CodeStorageFull:
				refused += 20
				if rs[0].Seq != 0 {
					t.Fatal("a refused record has a position")
				}
			default:
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		st := s.Status()
		if st.Bytes > st.LimitBytes || st.Bytes < st.LimitBytes/2 {
			t.Errorf("%d bytes of %d", st.Bytes, st.LimitBytes)
		}
		if refused == 0 || st.Overflowed != refused || !st.Overflowing {
			t.Errorf("refused %d, status %+v", refused, st)
		}
		if got := r.topics(); got != "spool-overflow spool-overflow" {
			t.Fatalf("reports: %q", r.all())
		}
		if _, err := p.TryAppend(recs(n+1, n+20)); futago.CodeOf(err) != futago.CodeStorageFull {
			t.Errorf("TryAppend: %v", err)
		}
		if got := s.Status().Overflowed; got != refused {
			t.Errorf("TryAppend counted: %d, want %d", got, refused)
		}
		if err := s.Ack(uint64(n)); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if _, err := p.Append(recs(n+1, n+1)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if got := r.topics(); got != "spool-overflow spool-overflow spool-recovered" {
			t.Fatalf("reports: %q", r.all())
		}
		if m := r.all()[2]; !strings.Contains(m, " "+itoa(refused)+" ") {
			t.Errorf("%q does not name %d", m, refused)
		}
		if s.Status().Overflowing {
			t.Error("still overflowing")
		}
	})
}

func itoa(n uint64) string { return string(appendUint(nil, n)) }

func appendUint(b []byte, n uint64) []byte {
	if n >= 10 {
		b = appendUint(b, n/10)
	}
	return append(b, byte('0'+n%10))
}

// tmpfs mounts a file system of a given size.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("futago-test", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("no small file system can be mounted: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 4096)
	for err == nil {
		_, err = f.Write(b)
	}
	if !isFull(err) {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDiskFull(t *testing.T) {
	mount := tmpfs(t, "2m")
	var r tally
	o := Options{Dir: filepath.Join(mount, "spool"), SegmentBytes: 64 << 10, Report: r.report}
	s := open(t, o)
	p := s.Producer("p", true)
	n := 0
	put := func(k int) error {
		last, err := p.Append(recs(n+1, n+k))
		if last > 0 {
			n = int(last)
		}
		return err
	}
	if err := put(100); err != nil {
		t.Fatal(err)
	}
	free := fill(t, mount)
	var err error
	for range 10000 { // what is reserved for the open file is still there
		if err = put(50); err != nil {
			break
		}
	}
	if futago.CodeOf(err) != futago.CodeStorageFull || !isFull(err) {
		t.Fatalf("got %v", err)
	}
	if s.Status().Overflowed == 0 {
		t.Error("nothing counted")
	}
	poll(t, "a report", func() bool { return r.topics() == "spool-overflow" })
	wantRecords(t, flatten(readAll(t, s, 1, 500)), numbered(recs(1, n), 1))

	// Started again while it is full: what is there can be read, and intake
	// comes back by itself.
	closeSpool(t, s)
	s = open(t, o)
	p = s.Producer("p", true)
	wantRecords(t, flatten(readAll(t, s, 1, 500)), numbered(recs(1, n), 1))
	if err := put(500); futago.CodeOf(err) != futago.CodeStorageFull {
		t.Fatalf("on a full disk: %v", err)
	}
	free()
	poll(t, "intake comes back", func() bool { return put(1) == nil })
	wantRecords(t, flatten(readAll(t, s, 1, 500)), numbered(recs(1, n), 1))
	closeSpool(t, s)
	s = open(t, o)
	wantRecords(t, flatten(readAll(t, s, 1, 500)), numbered(recs(1, n), 1))
}

func TestFlush_OnlyWhatTheLogDoesNotHold(t *testing.T) {
	dir := memDir(t)
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(Options{Dir: dir, FlushInterval: 20 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		p := s.Producer("p", true)
		for i := range 500 { // acknowledged after 3 ms each
			last, err := p.Append(recs(i+1, i+1))
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Millisecond)
			if err := s.Ack(last); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Millisecond)
		}
		if n := s.Status().Flushes; n != 0 {
			t.Errorf("%d flushes of what the log held", n)
		}
		before := s.Status().Flushes
		last, err := p.Append(recs(501, 501))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(31 * time.Millisecond)
		if n := s.Status().Flushes - before; n != 1 {
			t.Errorf("%d flushes for one record that waits", n)
		}
		s.mu.Lock()
		synced := s.synced
		s.mu.Unlock()
		if synced != last {
			t.Errorf("flushed up to %d, want %d", synced, last)
		}
		for i := range 1000 { // a second without acknowledgements
			if _, err := p.Append(recs(502+i, 502+i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		if n := s.Status().Flushes - before; n < 30 || n > 52 {
			t.Errorf("%d flushes in a second, want about 50", n)
		}
	})
}

func TestWatermark(t *testing.T) {
	dir := memDir(t)
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		at := func(sec int) int64 { return testBase.Add(time.Duration(sec) * time.Second).UnixNano() }
		one := func(sec int) []futago.Received {
			r := rec(0)
			r.At = at(sec)
			return []futago.Received{r}
		}
		a, b, stream := s.Producer("a", true), s.Producer("b", true), s.Producer("stream", false)
		read := func(from uint64) Batch {
			t.Helper()
			b, err := s.Read(t.Context(), from, 1, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		mustAppend := func(p *Producer, sec int) {
			t.Helper()
			if _, err := p.Append(one(sec)); err != nil {
				t.Fatal(err)
			}
		}
		a.Idle(time.Unix(0, at(10)))
		b.Idle(time.Unix(0, at(10)))
		mustAppend(a, 12) // 1: b holds at 10
		mustAppend(b, 11) // 2: b is at 11, a at 12
		mustAppend(stream, 50)
		// The process stands still for a minute. b's thread runs first
		// afterwards; a's socket still holds datagrams from second 13 on.
		b.Idle(time.Unix(0, at(75)))
		mustAppend(a, 13) // 4
		mustAppend(a, 14) // 5
		b.Idle(time.Unix(0, at(76)))
		for i, want := range []int{10, 11, 11, 13} {
			if got := read(uint64(i + 1)); got.Watermark != at(want) {
				t.Errorf("watermark after record %d is %v, want %v", i+1, time.Unix(0, got.Watermark).UTC(), want)
			}
		}
		got := read(5)
		if !got.AtEnd || got.Watermark != at(14) {
			t.Errorf("at the end: %+v", got)
		}
		a.Idle(time.Unix(0, at(77)))
		if got = read(6); !got.AtEnd || len(got.Records) != 0 || got.Watermark != at(76) || got.First != 6 {
			t.Errorf("empty batch: %+v", got)
		}
		// Overtaking packets do not move it back, a clock that was set does.
		a.advance(at(77) - 1000)
		if a.at.Load() != at(77) {
			t.Error("moved back by a microsecond")
		}
		a.advance(at(20))
		if a.at.Load() != at(20) {
			t.Error("did not follow the clock")
		}
		a.Close()
		b.Close()
		now := time.Now()
		if w := s.Status().Watermark; w.Sub(now) > -streamSlack || w.Sub(now) < -streamSlack-time.Second {
			if w.UnixNano() != s.watermark {
				t.Errorf("streams alone: %v at %v", w, now)
			}
		}
	})
}

// A block that is handed out in parts has the watermark from before it until
// its last part.
func TestWatermark_PartOfBlock(t *testing.T) {
	s := open(t, Options{Dir: memDir(t)})
	p := s.Producer("p", true)
	for i := range 2 {
		if _, err := p.Append(recs(i*10+1, i*10+10)); err != nil {
			t.Fatal(err)
		}
	}
	for _, cached := range []bool{true, false} {
		if !cached {
			s.mu.Lock()
			s.cache = nil
			s.mu.Unlock()
		}
		b, err := s.Read(t.Context(), 11, 4, 1<<20)
		if err != nil || len(b.Records) != 4 || b.Watermark != rec(10).At || b.Before != rec(10).At || b.AtEnd {
			t.Errorf("cached %v: %d records, watermark %d, %v", cached, len(b.Records), b.Watermark, err)
		}
		b, err = s.Read(t.Context(), 15, 100, 1<<20)
		if err != nil || len(b.Records) != 6 || b.Watermark != rec(20).At || b.Before != rec(10).At || !b.AtEnd {
			t.Errorf("cached %v: %d records, watermark %d, %v", cached, len(b.Records), b.Watermark, err)
		}
	}
}

func TestRead_WatermarkEverySecond(t *testing.T) {
	dir := memDir(t)
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		p := s.Producer("p", true)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			for ctx.Err() == nil {
				p.Idle(time.Now())
				time.Sleep(50 * time.Millisecond)
			}
		})
		n := 0
		for {
			b, err := s.Read(ctx, 1, 100, 1<<20)
			if err != nil {
				break
			}
			if len(b.Records) != 0 || !b.AtEnd || b.First != 1 {
				t.Fatalf("got %+v", b)
			}
			n++
		}
		if n < 5 || n > 11 {
			t.Errorf("%d batches without records in ten seconds", n)
		}
	})
}

// A flush that fails is said, once, and appending goes on in another file.
func TestFlush_Fails(t *testing.T) {
	var r tally
	s := open(t, Options{Dir: memDir(t), FlushInterval: time.Hour, Report: r.report})
	appendTo(t, s, recs(1, 5))
	pr, pw, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pr.Close()
	s.mu.Lock()
	good := s.active.file
	s.active.file = pw // fdatasync of a pipe is refused
	s.mu.Unlock()
	defer good.Close()
	for range 2 {
		if err := s.Sync(); futago.CodeOf(err) != futago.CodeInternal && err != nil {
			t.Fatal(err)
		}
	}
	if st := s.Status(); st.LastError == nil || !strings.Contains(st.LastError.Error(), s.o.Dir) {
		t.Fatalf("status %+v", st)
	}
	poll(t, "one report", func() bool { return r.topics() == "spool-damage" })
	appendTo(t, s, recs(6, 9))
	if n := len(segmentFiles(t, s.o.Dir, ".seg")); n != 2 {
		t.Errorf("%d files", n)
	}
	if err := s.Sync(); err != nil {
		t.Error(err)
	}
	wantRecords(t, flatten(readAll(t, s, 1, 100)), numbered(recs(1, 9), 1))
	s.mu.Lock()
	s.cache = nil
	s.mu.Unlock()
	wantRecords(t, flatten(readAll(t, s, 1, 100)), numbered(recs(1, 9), 1))
}

// A place that cannot be read at all is tried again, then passed over.
func TestDiskReader_ReadError(t *testing.T) {
	dir, err := os.Open(t.TempDir()) // reading a directory fails
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	d := diskReader{f: dir}
	for i := range 5 {
		b, err := d.read(0, 10000)
		if (err == nil) != (i == 4) || (i == 4 && len(b) != 10000) {
			t.Fatalf("attempt %d: %d bytes, %v", i, len(b), err)
		}
	}
}

// What is reserved for a file that has ended is given back.
func TestReservation(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, SegmentBytes: 8 << 20}
	s := open(t, o)
	appendTo(t, s, recs(1, 5))
	blocks := func() int64 {
		var st syscall.Stat_t
		if err := syscall.Stat(filepath.Join(dir, segmentName(1)), &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	if blocks() < 8<<20 {
		t.Skip("the file system reserves nothing")
	}
	closeSpool(t, s)
	if n := blocks(); n > 1<<20 {
		t.Errorf("%d bytes taken after Close", n)
	}
	s = open(t, o)
	appendTo(t, s, recs(6, 7))
	closeSpool(t, s)
	if err := syscall.Fallocate(openRW(t, filepath.Join(dir, segmentName(6))), fallocKeepSize, 0, 8<<20); err != nil {
		t.Fatal(err)
	}
	s = open(t, o) // as after a kill
	defer closeSpool(t, s)
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(dir, segmentName(6)), &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes taken after Open, %v", st.Blocks*512, err)
	}
}

func openRW(t *testing.T, name string) int {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return int(f.Fd())
}

// A file that cannot be written any more is left, with what it has.
func TestAppend_WriteError(t *testing.T) {
	s := open(t, Options{Dir: memDir(t)})
	appendTo(t, s, recs(1, 5))
	ro, err := os.Open(segmentFiles(t, s.o.Dir, ".seg")[0])
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	good := s.active.file
	s.active.file = ro
	s.mu.Unlock()
	defer good.Close()
	p := s.Producer("p", true)
	if _, err := p.Append(recs(6, 9)); futago.CodeOf(err) != futago.CodeInternal {
		t.Fatal(err)
	}
	if _, err := p.Append(recs(6, 9)); err != nil {
		t.Fatal(err)
	}
	if st := s.Status(); st.Overflowed != 4 || st.Segments != 2 {
		t.Errorf("status %+v", st)
	}
	wantRecords(t, flatten(readAll(t, s, 1, 100)), numbered(recs(1, 9), 1))
}
