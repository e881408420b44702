package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/futago/futago"
	"github.com/futago/futago/atomicfile"
	"github.com/futago/futago/cluster"
	"github.com/futago/futago/manager"
	"github.com/futago/futago/raftfsm/thirdvote"
	"github.com/futago/futago/raftfsm/thirdvote/httpregister"
	"github.com/futago/futago/raftfsm/thirdvote/register"
	"github.com/futago/futago/raftfsm/thirdvote/witness"
)

// placement is where a new member lives and is reached.
type placement struct {
	Config  string `help:"Configuration file; written when it does not exist." default:"${config}" type:"path"`
	Cluster string `help:"Address of this host for the other members." required:"" placeholder:"HOST:7701"`
	Address string `help:"Address of this host for clients of the API; default is the host of --cluster with the port of api_listen." placeholder:"HOST:7700"`
}

// config reads the configuration, writing a default one first where there is none.
func (p *placement) config(e *env) (manager.Config, error) {
	if _, err := os.Stat(p.Config); err == nil {
		return loadConfig(e, p.Config)
	}
	cfg := manager.DefaultConfig()
	cfg.DataDir = e.global.Dir
	b, err := toml.Marshal(cfg)
	if err != nil {
		return cfg, err
	}
	if err = os.MkdirAll(filepath.Dir(p.Config), 0o755); err == nil {
		err = atomicfile.Write(p.Config, b, 0o644)
	}
	if err != nil {
		return cfg, futago.Errorf(futago.CodeInvalid, "the configuration %s cannot be written", p.Config).
			WithAction("run this as root, or choose a place of your own (--config, --dir)").Wrap(err)
	}
	return cfg, nil
}

// loadConfig reads the configuration. Its data_dir counts, and another one on
// the command line is a mistake.
func loadConfig(e *env, path string) (manager.Config, error) {
	cfg, err := manager.LoadConfig(path)
	if err != nil {
		return cfg, err
	}
	if d := e.global.Dir; d != cfg.DataDir && d != manager.DefaultConfig().DataDir {
		return cfg, futago.Errorf(futago.CodeInvalid, "--dir is %s, data_dir in %s is %s", d, path, cfg.DataDir).
			WithAction("change one of them, or name another configuration with --config")
	}
	return cfg, nil
}

// addresses are where the new member is reached.
func (p *placement) addresses(cfg manager.Config) cluster.Addresses {
	a := cluster.Addresses{Cluster: p.Cluster, API: p.Address}
	if a.API == "" {
		host, _, err := net.SplitHostPort(p.Cluster)
		_, port, err2 := net.SplitHostPort(cfg.APIListen)
		if err == nil && err2 == nil {
			a.API = net.JoinHostPort(host, port)
		}
	}
	return a
}

// flag is how a later command names this configuration.
func (p *placement) flag() string {
	if p.Config == defaultConfig {
		return ""
	}
	return " --config " + p.Config
}

// dirFlag is how the operators' verbs name the data directory.
func dirFlag(cfg manager.Config) string {
	if cfg.DataDir == manager.DefaultConfig().DataDir {
		return ""
	}
	return " --dir " + cfg.DataDir
}

type initCmd struct {
	placement
	Name    string `help:"Name of the cluster." required:""`
	Witness string `help:"Invitation that futago witness invite printed: the third vote is a register." placeholder:"fgw1.…" xor:"vote" required:""`
	Third   bool   `help:"The third vote is a third manager, which joins later with futago join." xor:"vote" required:""`
}

// Help shows examples.
func (*initCmd) Help() string {
	return examples(
		"witness$  futago witness invite --cluster plant1 --url https://witness.example:7702",
		"hostA#    futago init --name plant1 --cluster hostA:7701 --witness fgw1.…",
		"hostA#    futago manager",
	)
}

// Run makes the directory, then the register's first record. Both can be
// repeated: an answer of the witness may have been lost.
func (c *initCmd) Run(e *env) error {
	cfg, err := c.config(e)
	if err != nil {
		return err
	}
	kind := cluster.ThirdVoteManager
	var inv witness.Invitation
	if c.Witness != "" {
		kind = cluster.ThirdVoteRegister
		if inv, err = witness.ParseInvitation(c.Witness); err != nil {
			return err
		}
	}
	d, err := c.directory(cfg, kind)
	if err != nil {
		return err
	}
	defer d.Close()
	if kind == cluster.ThirdVoteRegister {
		if err := createRecord(e, inv, d); err != nil {
			return fmt.Errorf("the directory is made, the witness's record is not (repeat the same command): %w", err)
		}
	}
	dir := dirFlag(cfg)
	fmt.Fprintf(e.out, `Manager a of cluster %q is made in %s (configuration: %s).

Next:
  futago manager%s
  futago user add NAME --role admin%s    the first user, from this host
  futago token join --member b%s         the token for futago join on the other host
`, c.Name, cfg.DataDir, c.Config, c.flag(), dir, dir)
	if kind == cluster.ThirdVoteManager {
		fmt.Fprintf(e.out, "  futago token join --member w%s         the token for the third host; nothing is written before b or w has joined\n", dir)
	}
	return nil
}

// directory makes the data directory, or opens the one that an interrupted
// init of the same cluster made and that no manager has started on yet.
func (c *initCmd) directory(cfg manager.Config, kind cluster.ThirdVote) (*cluster.Dir, error) {
	_, err := os.Stat(filepath.Join(cfg.DataDir, "raft.db"))
	if cluster.Exists(cfg.DataDir) && errors.Is(err, fs.ErrNotExist) {
		d, err := cluster.Open(cfg.DataDir)
		if err != nil {
			return nil, err
		}
		if n := d.Node(); n.Founder && n.ClusterName == c.Name && n.ThirdVote == kind {
			return d, nil
		}
		if err := d.Close(); err != nil {
			return nil, err
		}
	}
	return cluster.Init(cluster.InitOptions{
		Dir: cfg.DataDir, ClusterName: c.Name, ThirdVote: kind, Invitation: c.Witness,
		Addresses: c.addresses(cfg), Now: time.Now(),
	})
}

func createRecord(e *env, inv witness.Invitation, d *cluster.Dir) error {
	reg, err := httpregister.New(httpregister.Options{Invitation: inv})
	if err != nil {
		return err
	}
	defer reg.Close()
	id := register.Identity(d.Node().Identity())
	_, err = thirdvote.Create(e.ctx, reg, futago.MemberA, id)
	if errors.Is(err, register.ErrExists) {
		// Ours, if an earlier try got through and its answer was lost.
		if rec, rerr := reg.Read(e.ctx); rerr == nil && rec.Version == 1 && rec.Holds(futago.MemberA, id) {
			return nil
		}
	}
	return err
}

type joinCmd struct {
	placement
	Token string `arg:"" help:"What futago token join printed on a manager." placeholder:"fgj1.…"`
}

// Help shows an example.
func (*joinCmd) Help() string {
	return examples(
		"hostA#  futago token join --member b",
		"hostB#  futago join --cluster hostB:7701 fgj1.…",
		"hostB#  futago manager",
	)
}

// Run asks the token's issuer for admission.
func (c *joinCmd) Run(e *env) error {
	cfg, err := c.config(e)
	if err != nil {
		return err
	}
	d, err := cluster.Join(e.ctx, cluster.JoinOptions{
		Dir: cfg.DataDir, Token: c.Token, Addresses: c.addresses(cfg), Now: time.Now(),
	})
	if err != nil {
		return err
	}
	defer d.Close()
	fmt.Fprintf(e.out, "Member %s of cluster %q is made in %s.\n\nNext:\n  futago manager%s\n",
		d.Node().Member, d.Node().ClusterName, cfg.DataDir, c.flag())
	return nil
}

type managerCmd struct {
	Config string `help:"Configuration file." default:"${config}" type:"path"`
}

// Help shows the whole configuration.
func (*managerCmd) Help() string {
	b, err := toml.Marshal(manager.DefaultConfig())
	if err != nil {
		return ""
	}
	return "The configuration holds what is this host's alone; here with the defaults. An empty address closes that door.\n\n  " +
		strings.ReplaceAll(strings.TrimSpace(string(b)), "\n", "\n  ")
}

// Run serves until a signal ends it.
func (c *managerCmd) Run(e *env) error {
	cfg, err := loadConfig(e, c.Config)
	if err != nil {
		return err
	}
	manager.LimitMemory()
	m, err := manager.New(e.ctx, manager.Options{Config: cfg, Logger: e.global.logger()})
	if err != nil {
		return err
	}
	return errors.Join(m.Run(e.ctx), m.Close())
}
