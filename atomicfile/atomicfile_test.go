package atomicfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
)

func TestSummed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if _, err := atomicfile.ReadSummed(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("missing file: %v", err)
	}
	for _, content := range []string{"", "one", "two\nlines\nsha256:no\n"} {
		if err := atomicfile.WriteSummed(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := atomicfile.ReadSummed(path)
		if err != nil || string(got) != content {
			t.Fatalf("read %q, %v; want %q", got, err, content)
		}
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		for _, damaged := range [][]byte{whole[:i], flipped(whole, i)} {
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := atomicfile.ReadSummed(path)
			// The one change that is none: the newline at the end.
			if err == nil && i < len(whole)-1 {
				t.Fatalf("damage at byte %d went unseen, read %q", i, got)
			}
			if err != nil && futago.CodeOf(err) != futago.CodeCorrupt {
				t.Fatalf("damage at byte %d: %v", i, err)
			}
		}
	}
	names, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if err != nil || len(names) != 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

func flipped(b []byte, i int) []byte {
	out := append([]byte(nil), b...)
	out[i] ^= 1
	return out
}

func TestCreate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for i, want := range []error{nil, fs.ErrExist} {
		if err := atomicfile.OS().Create(path, []byte{'0' + byte(i)}, 0o640); !errors.Is(err, want) {
			t.Errorf("try %d: %v", i, err)
		}
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "0" {
		t.Errorf("%q, %v", b, err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}

// Which content stands after a failure is said, and nothing is left behind.
func TestReplace_Failures(t *testing.T) {
	sick := errors.New("sick")
	for name, c := range map[string]struct {
		make func(d *atomicfile.Disk)
		want string
	}{
		"write":   {func(d *atomicfile.Disk) { d.Write = func(*os.File, []byte) error { return sick } }, "old"},
		"sync":    {func(d *atomicfile.Disk) { d.Sync = func(*os.File) error { return sick } }, "old"},
		"rename":  {func(d *atomicfile.Disk) { d.Rename = func(string, string) error { return sick } }, "old"},
		"syncdir": {func(d *atomicfile.Disk) { d.SyncDir = func(string) error { return sick } }, "new"},
	} {
		path := filepath.Join(t.TempDir(), "f")
		d := atomicfile.OS()
		if err := d.Replace(path, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		c.make(d)
		err := d.Replace(path, []byte("new"), 0o600)
		if !errors.Is(err, sick) || errors.Is(err, atomicfile.ErrUnsettled) != (c.want == "new") {
			t.Errorf("%s: %v", name, err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != c.want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
	}
}
