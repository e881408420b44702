package manager

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm"
)

// Config is the content of futago.toml: facts of this host that must be known
// before there is a leader. Everything that operators change at run time is in
// the replicated log instead. Listen addresses that are empty are not opened.
type Config struct {
	DataDir string `toml:"data_dir"`
	// APIListen serves the REST API and the console (HTTPS).
	APIListen string `toml:"api_listen"`
	// ClusterListen is the member link (mutual TLS).
	ClusterListen string `toml:"cluster_listen"`
	// Heartbeat is the time-out that failure detection rests on, the same on all members.
	Heartbeat futago.Duration `toml:"heartbeat"`
	// MinFree is the room in bytes on the data directory's file system below
	// which the member steps down cleanly, before writes fail.
	MinFree ByteSize `toml:"min_free"`

	Syslog     SyslogConfig     `toml:"syslog"`
	SNMPTrap   SNMPTrapConfig   `toml:"snmptrap"`
	CustomTrap CustomTrapConfig `toml:"customtrap"`
	Spool      SpoolConfig      `toml:"spool"`
	Log        LogConfig        `toml:"log"`
}

// SyslogConfig holds the syslog receivers' addresses.
type SyslogConfig struct {
	UDP string `toml:"udp"`
	TCP string `toml:"tcp"`
	TLS string `toml:"tls"`
	// MaxMessage is the longest message kept whole, in bytes: 1 KiB to 1 MiB.
	MaxMessage ByteSize `toml:"max_message"`
}

// SNMPTrapConfig holds the SNMP receiver's address.
type SNMPTrapConfig struct {
	UDP string `toml:"udp"`
}

// CustomTrapConfig holds the custom trap receivers' addresses.
type CustomTrapConfig struct {
	HTTP  string `toml:"http"`
	HTTPS string `toml:"https"`
}

// SpoolConfig limits the trap spool.
type SpoolConfig struct {
	MaxBytes ByteSize `toml:"max_bytes"`
}

// LogConfig limits the replicated log.
type LogConfig struct {
	// Keep is how much log stays behind a snapshot: a member that was away for
	// no more traffic than that catches up by it, and gets a copy of the
	// database otherwise. 1 MiB to 1 TiB, and never less than 1024 entries.
	Keep ByteSize `toml:"keep"`
}

// ByteSize is a number of bytes, written like "256MiB" or as a plain number.
type ByteSize int64

// byteUnits are tried from the longest suffix down.
var byteUnits = []struct {
	suffix string
	factor int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}, {"", 1}}

// UnmarshalText implements [encoding.TextUnmarshaler].
func (b *ByteSize) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	for _, u := range byteUnits {
		num, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(num), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.factor {
			break
		}
		*b = ByteSize(n * u.factor)
		return nil
	}
	return futago.Errorf(futago.CodeInvalid, "%q is no size", s).WithAction("write it like 512KiB, 64MiB or 1GiB")
}

// MarshalText implements [encoding.TextMarshaler].
func (b ByteSize) MarshalText() ([]byte, error) {
	for _, u := range byteUnits[:3] {
		if b > 0 && int64(b)%u.factor == 0 {
			return fmt.Appendf(nil, "%d%s", int64(b)/u.factor, u.suffix), nil
		}
	}
	return fmt.Appendf(nil, "%d", int64(b)), nil
}

// DefaultConfig has the standard ports of each protocol; the custom trap port
// is that of Hinemos, so that senders need no change.
func DefaultConfig() Config {
	return Config{
		DataDir: "/var/lib/futago", APIListen: ":7700", ClusterListen: ":7701",
		Heartbeat: futago.Duration(raftfsm.DefaultTiming().Heartbeat), MinFree: 256 << 20,
		Syslog:     SyslogConfig{UDP: ":514", TCP: ":514", TLS: ":6514", MaxMessage: 64 << 10},
		SNMPTrap:   SNMPTrapConfig{UDP: ":162"},
		CustomTrap: CustomTrapConfig{HTTP: ":8082", HTTPS: ":8083"},
		Spool:      SpoolConfig{MaxBytes: 1 << 30},
		Log:        LogConfig{Keep: raftfsm.DefaultKeepLog},
	}
}

// LoadConfig reads a TOML file over the defaults. A key that does not exist is
// an error that names the line, for a misspelt key is a setting that is
// silently not in force.
func LoadConfig(path string) (Config, error) {
	c := DefaultConfig()
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, futago.Errorf(futago.CodeNotFound, "no configuration at %s", path).
			WithAction("make one with futago init or futago join, or name it with --config").Wrap(err)
	}
	if err != nil {
		return c, err
	}
	dec := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok {
			row, _ := strict.Errors[0].Position()
			return c, futago.Errorf(futago.CodeInvalid, "%s line %d: unknown key %q", path, row, strings.Join(strict.Errors[0].Key(), ".")).
				WithAction("correct or remove it; futago manager --help lists the keys")
		}
		if de, ok := errors.AsType[*toml.DecodeError](err); ok {
			row, col := de.Position()
			return c, futago.Errorf(futago.CodeInvalid, "%s line %d column %d: %s", path, row, col, strings.TrimPrefix(de.Error(), "toml: "))
		}
		return c, futago.Errorf(futago.CodeInvalid, "%s: %v", path, err)
	}
	return c, c.Validate()
}

// Validate names the first wrong value by its key.
func (c Config) Validate() error {
	if c.DataDir == "" {
		return futago.Errorf(futago.CodeInvalid, "data_dir is empty")
	}
	for _, l := range []struct{ key, addr string }{
		{"api_listen", c.APIListen},
		{"cluster_listen", c.ClusterListen},
		{"syslog.udp", c.Syslog.UDP},
		{"syslog.tcp", c.Syslog.TCP},
		{"syslog.tls", c.Syslog.TLS},
		{"snmptrap.udp", c.SNMPTrap.UDP},
		{"customtrap.http", c.CustomTrap.HTTP},
		{"customtrap.https", c.CustomTrap.HTTPS},
	} {
		if l.addr == "" {
			continue
		}
		if _, port, err := net.SplitHostPort(l.addr); err != nil || port == "" {
			return futago.Errorf(futago.CodeInvalid, "%s = %q is not host:port", l.key, l.addr).WithAction(`write it like ":514" or "192.0.2.1:514"`)
		}
	}
	if c.ClusterListen == "" {
		return futago.Errorf(futago.CodeInvalid, "cluster_listen is empty")
	}
	if c.Syslog.MaxMessage < 1<<10 || c.Syslog.MaxMessage > 1<<20 {
		return futago.Errorf(futago.CodeInvalid, "syslog.max_message = %d is out of range", c.Syslog.MaxMessage).WithAction("use 1KiB to 1MiB")
	}
	if c.Spool.MaxBytes < 1<<20 {
		return futago.Errorf(futago.CodeInvalid, "spool.max_bytes = %d is too small", c.Spool.MaxBytes).WithAction("use at least 1MiB")
	}
	if c.Log.Keep < 1<<20 || c.Log.Keep > 1<<40 {
		return futago.Errorf(futago.CodeInvalid, "log.keep = %d is out of range", c.Log.Keep).WithAction("use 1MiB to 1024GiB")
	}
	return c.Timing().Validate()
}

// Timing is the Raft pace that the configuration asks for.
func (c Config) Timing() raftfsm.Timing {
	return raftfsm.Timing{Heartbeat: time.Duration(c.Heartbeat)}
}
