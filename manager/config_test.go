package manager

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
	"pgregory.net/rapid"

	"github.com/futago/futago"
)

func TestByteSize_RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := ByteSize(rapid.Int64Range(0, 1<<62).Draw(t, "bytes"))
		text, err := want.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var got ByteSize
		if err := got.UnmarshalText(text); err != nil || got != want {
			t.Fatalf("%d is written %s and read %d, %v", want, text, got, err)
		}
	})
}

func TestByteSize_UnmarshalText(t *testing.T) {
	for text, want := range map[string]ByteSize{"0": 0, "7": 7, "7B": 7, " 2 KiB ": 2048, "1MiB": 1 << 20, "3GiB": 3 << 30} {
		var got ByteSize
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q is %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "KiB", "-1", "1.5GiB", "1 2", "1kb", "9999999999GiB", "99999999999999999999", "0x10"} {
		var got ByteSize
		if err := got.UnmarshalText([]byte(text)); futago.CodeOf(err) != futago.CodeInvalid {
			t.Errorf("%q is %d, %v", text, got, err)
		}
	}
}

func TestLoadConfig(t *testing.T) {
	load := func(text string) (Config, error) {
		path := filepath.Join(t.TempDir(), "futago.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return LoadConfig(path)
	}
	b, err := toml.Marshal(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := load(string(b)); err != nil || !cmp.Equal(got, DefaultConfig()) {
		t.Errorf("the defaults written and read: %v\n%s", err, cmp.Diff(DefaultConfig(), got))
	}
	if got, err := load(""); err != nil || !cmp.Equal(got, DefaultConfig()) {
		t.Errorf("an empty file: %v", err)
	}
	for name, test := range map[string]struct{ text, want string }{
		"misspelt key":    {"data_dir = \"x\"\n[syslog]\nupd = \":514\"", `line 3: unknown key "syslog.upd"`},
		"misspelt table":  {"[sylog]\nudp = \":514\"", `unknown key "sylog`},
		"wrong type":      {"data_dir = 7", "line 1"},
		"no size":         {"\nmin_free = \"a lot\"", "line 2"},
		"no duration":     {"heartbeat = \"soon\"", "500ms"},
		"no TOML":         {"data_dir = \"x\"\nwhat", "line 2"},
		"no port":         {"api_listen = \"host\"", `api_listen = "host" is not host:port`},
		"no directory":    {"data_dir = \"\"", "data_dir is empty"},
		"no member link":  {"cluster_listen = \"\"", "cluster_listen is empty"},
		"message length":  {"[syslog]\nmax_message = \"2MiB\"", "use 1KiB to 1MiB"},
		"small spool":     {"[spool]\nmax_bytes = 5", "at least 1MiB"},
		"heartbeat range": {"heartbeat = \"1m\"", "use 50ms to 10s"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(test.text)
			if futago.CodeOf(err) != futago.CodeInvalid || !strings.Contains(err.Error(), test.want) {
				t.Errorf("want %q in: %v", test.want, err)
			}
		})
	}
}
