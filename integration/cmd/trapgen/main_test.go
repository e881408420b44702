package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/futago/futago/integration/generate"
)

func TestRunWritesJournal(t *testing.T) {
	name := filepath.Join(t.TempDir(), "journal")
	o := &options{
		A: "127.0.0.1", B: "127.0.0.2", SyslogPort: 9, SNMPPort: 9, Rate: 1000, Count: 50, Burst: 0.5, Again: 0.1,
		After: 10 * time.Millisecond, Journal: name, Run: 77,
	}
	var out bytes.Buffer
	if err := run(t.Context(), o, &out); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	j, err := generate.ReadJournal(f)
	if err != nil {
		t.Fatal(err)
	}
	if j.Run != 77 || j.Len() < 100 || j.Summary()[generate.Sent] != j.Len() {
		t.Errorf("run %d, %d copies: %v", j.Run, j.Len(), j.Summary())
	}
}

func TestRunBlast(t *testing.T) {
	f := generate.SNMPv2c
	var out bytes.Buffer
	err := run(t.Context(), &options{A: "127.0.0.1", SNMPPort: 9, Blast: &f, Count: 1000, Senders: 2}, &out)
	if err != nil {
		t.Fatal(err)
	}
	var r struct{ Occurrences, Datagrams int }
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || r.Occurrences != 1000 || r.Datagrams != 1000 {
		t.Errorf("%s, %v", out.String(), err)
	}
}

func TestRunRefuses(t *testing.T) {
	for name, o := range map[string]*options{
		"name":  {A: "localhost", Rate: 1, Count: 1},
		"user":  {A: "127.0.0.1", SNMPPort: 9, Rate: 1, Count: 1, Flavours: []generate.Flavour{generate.SNMPv3}},
		"no CA": {A: "127.0.0.1", Rate: 1, Count: 1, CA: "/nonexistent"},
	} {
		if err := run(t.Context(), o, new(bytes.Buffer)); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
