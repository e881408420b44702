package spool

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/futago/futago"
)

// childAppend is the other process of the kill tests: it appends numbered
// records without end and says on standard output how far it is.
func childAppend(dir string) {
	s, err := Open(Options{Dir: dir, SegmentBytes: 16 << 10})
	if err != nil {
		fmt.Fprintln(os.Stdout, "error", err)
		os.Exit(1)
	}
	p := s.Producer("child", true)
	n := int(s.Last())
	for {
		batch := recs(n+1, n+1+rand.IntN(40))
		last, err := p.Append(batch)
		if err != nil {
			fmt.Fprintln(os.Stdout, "error", err)
			os.Exit(1)
		}
		n = int(last)
		fmt.Fprintln(os.Stdout, n)
	}
}

func TestKill9(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	dir := t.TempDir()
	for round := range rounds {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), "SPOOL_TEST_CHILD="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var said uint64
		sc := bufio.NewScanner(out)
		stop := 20 + rand.IntN(200)
		for lines := 0; sc.Scan(); lines++ {
			if strings.HasPrefix(sc.Text(), "error") {
				t.Fatal(sc.Text())
			}
			_, _ = fmt.Sscan(sc.Text(), &said)
			if lines == stop {
				_ = cmd.Process.Kill() // keep reading what it still said
			}
		}
		_ = cmd.Wait()
		cancel()
		s := open(t, Options{Dir: dir, SegmentBytes: 16 << 10})
		if s.Last() < said {
			t.Fatalf("round %d: appended %d, found %d", round, said, s.Last())
		}
		if st := s.Status(); st.Damaged != 0 {
			t.Fatalf("round %d: damage: %v", round, st.LastError)
		}
		wantRecords(t, flatten(readAll(t, s, s.Acked()+1, 500)), numbered(recs(int(s.Acked())+1, int(s.Last())), s.Acked()+1))
		if round%3 == 2 {
			if err := s.Ack(s.Acked() + (s.Last()-s.Acked())*3/4); err != nil {
				t.Fatal(err)
			}
		}
		closeSpool(t, s)
	}
}

// memDir is a directory where flushing costs nothing, for tests with thousands of Opens.
func memDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "spool-test-") //nolint:usetesting // in memory
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// copyDir copies a spool as another machine, or a restart, would find it.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := memDir(t)
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		in, err := os.Open(filepath.Join(from, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out, err := os.Create(filepath.Join(to, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = io.Copy(out, in); err == nil {
			err = out.Close()
		}
		_ = in.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func TestTornTail_EveryByte(t *testing.T) {
	src := t.TempDir()
	s := open(t, Options{Dir: src})
	old := s.ID()
	for i := range 5 {
		appendTo(t, s, recs(i*3+1, i*3+3))
	}
	closeSpool(t, s)
	seg := filepath.Base(segmentFiles(t, src, ".seg")[0])
	whole, err := os.ReadFile(filepath.Join(src, seg))
	if err != nil {
		t.Fatal(err)
	}
	var ends []int // of the blocks
	for off := segmentHeaderLen; off < len(whole); {
		h, _ := parseSegmentHeader(whole)
		_, n, ok := parseBlock(whole[off:], h.nonce)
		if !ok {
			t.Fatal("no block")
		}
		off += int(n)
		ends = append(ends, off)
	}
	dir := copyDir(t, src)
	for _, tail := range []string{"cut", "zeros", "noise"} {
		for size := range len(whole) + 1 {
			b := whole[:size:size]
			for i := size; i < len(whole)+200 && tail != "cut"; i++ {
				c := byte(0)
				if tail == "noise" {
					c = byte(i*7 + size)
				}
				b = append(b, c)
			}
			for _, f := range append(segmentFiles(t, dir, ".seg"), segmentFiles(t, dir, ".corrupt")...) {
				_ = os.Remove(f)
			}
			if err := os.WriteFile(filepath.Join(dir, seg), b, 0o600); err != nil {
				t.Fatal(err)
			}
			idf, err := os.ReadFile(filepath.Join(src, identityName))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, identityName), idf, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			_ = os.Remove(filepath.Join(dir, ackName))
			want := 0
			for _, e := range ends {
				if e <= size {
					want += 3
				}
			}
			s, err := Open(Options{Dir: dir, SegmentBytes: 64 << 10})
			if err != nil {
				t.Fatalf("%s at %d: %v", tail, size, err)
			}
			if s.Last() != uint64(want) {
				t.Fatalf("%s at %d: last %d, want %d", tail, size, s.Last(), want)
			}
			p := s.Producer("p", true)
			if _, err := p.Append(recs(want+1, want+2)); err != nil {
				t.Fatal(err)
			}
			s.mu.Lock()
			s.cache = nil
			s.mu.Unlock()
			bs := readAll(t, s, 1, 100)
			wantRecords(t, flatten(bs), numbered(recs(1, want+2), 1))
			newest := bs[len(bs)-1]
			if newest.Spool == old || newest.Base != uint64(want) {
				t.Fatalf("%s at %d: new records stand under %v from %d", tail, size, newest.Spool, newest.Base)
			}
			if st := s.Status(); st.Damaged != 0 {
				t.Fatalf("%s at %d: torn end counted as damage: %v", tail, size, st.LastError)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// blockOf returns which block of five an offset is in, -1 for the header.
func blockOf(ends []int, off int) int {
	if off < segmentHeaderLen {
		return -1
	}
	for i, e := range ends {
		if off < e {
			return i
		}
	}
	return len(ends)
}

// Any one byte of an older file may be wrong: what stands in other blocks is
// still read, what stands in that block is missing as a whole, never wrong.
func TestBitFlips(t *testing.T) {
	src := t.TempDir()
	s := open(t, Options{Dir: src})
	for i := range 5 {
		appendTo(t, s, recs(i*3+1, i*3+3))
	}
	closeSpool(t, s)
	s = open(t, Options{Dir: src}) // a second file, so that the first one is not the newest
	appendTo(t, s, recs(16, 18))
	closeSpool(t, s)
	files := segmentFiles(t, src, ".seg")
	seg := filepath.Base(files[0])
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	h, err := parseSegmentHeader(whole)
	if err != nil {
		t.Fatal(err)
	}
	var ends []int
	for off := segmentHeaderLen; off < len(whole); {
		_, n, _ := parseBlock(whole[off:], h.nonce)
		off += int(n)
		ends = append(ends, off)
	}
	dir := copyDir(t, src)
	idf, err := os.ReadFile(filepath.Join(src, identityName))
	if err != nil {
		t.Fatal(err)
	}
	for off := range whole {
		b := append([]byte(nil), whole...)
		b[off] ^= 1 << (off % 8)
		if err := os.WriteFile(filepath.Join(dir, seg), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, identityName), idf, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(Options{Dir: dir, SegmentBytes: 64 << 10})
		if err != nil {
			t.Fatalf("offset %d: %v", off, err)
		}
		bad := blockOf(ends, off)
		if off >= 8 && off < 12 && bad == -1 { // the version: may be read as a newer one
			_, err := s.Read(t.Context(), 1, 100, 1<<20)
			if futago.CodeOf(err) != futago.CodeIncompatible && err != nil {
				t.Fatalf("offset %d: %v", off, err)
			}
			_ = s.Close()
			continue
		}
		got := map[uint64]futago.Received{}
		for _, r := range flatten(readAll(t, s, 1, 100)) {
			got[r.Seq] = r
		}
		for n := 1; n <= 18; n++ {
			r, ok := got[uint64(n)]
			if wantOK := (n-1)/3 != bad; ok != wantOK {
				t.Fatalf("offset %d in block %d: record %d read: %v", off, bad, n, ok)
			}
			if want := rec(n); ok && (string(r.Raw) != string(want.Raw) || r.At != want.At || r.Source != want.Source) {
				t.Fatalf("offset %d: record %d is wrong: %q", off, n, r.Raw)
			}
		}
		st := s.Status()
		if st.Damaged != 1 || futago.CodeOf(st.LastError) != futago.CodeCorrupt {
			t.Fatalf("offset %d: damaged %d, %v", off, st.Damaged, st.LastError)
		}
		if err := s.Ack(18); err != nil {
			t.Fatal(err)
		}
		s.deleteAcked()
		if k := filepath.Join(dir, seg+corruptSuffix); os.Remove(k) != nil {
			t.Fatalf("offset %d: the damaged file was not kept", off)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(filepath.Join(dir, ackName))
	}
}
