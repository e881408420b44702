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
