package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Fabric is what carries the frames between the hosts.
type Fabric int

const (
	// Bridge is the kernel's own bridge: fast (some 10^6 frames/s), can only
	// cut links. The default.
	Bridge Fabric = iota
	// Switch is a switch in this process over TAP devices. It can do all that
	// a [Link] says, and carries some 10^5 frames/s.
	Switch
)

// Config describes a lab. The zero value is two managers, a witness and one
// device on a kernel bridge.
type Config struct {
	// Hosts names the hosts, at most 200. Default: a, b, w, d1.
	Hosts  []string
	Fabric Fabric
	// Seed fixes which frames a Switch loses, doubles and reorders: the n-th
	// frame of a link has the same fate in every run. 0 is a seed like others.
	Seed uint64
	// Logger hears of faults and of processes that start and end. Default: discard.
	Logger *slog.Logger
}

// Lab is a running network of hosts. All methods may be called at any time
// from any goroutine.
type Lab struct {
	log    *slog.Logger
	dir    string // scratch, its name carries the owner
	hosts  []*Host
	byName map[string]*Host
	fabric fabric

	mu     sync.Mutex // guards what is below
	procs  []*Process
	disks  []disk
	off    map[string]bool
	closed bool
}

// fabric joins the hosts. Links are directed.
type fabric interface {
	attach(h *Host) error
	// start is called when all hosts are attached.
	start(hosts []*Host) error
	set(from, to *Host, l Link) error
	stats(from, to *Host) LinkStats
	close() error
}

// Link is the state of the way from one host to another. The zero value is a
// healthy link. Everything but Cut needs the [Switch].
type Link struct {
	// Cut drops every frame, silently, as a pulled cable does.
	Cut bool
	// Loss, Duplicate and Reorder are the shares of frames, 0 to 1, that are
	// lost, sent twice, and sent at once in spite of Delay (so that they
	// overtake others).
	Loss, Duplicate, Reorder float64
	// Delay holds each frame back; Jitter adds 0 to Jitter, evenly spread.
	// The order is kept but for Reorder.
	Delay, Jitter time.Duration
}

func (l Link) shaped() bool {
	l.Cut = false
	return l != Link{}
}

func (l Link) validate() error {
	for _, p := range []float64{l.Loss, l.Duplicate, l.Reorder} {
		if p < 0 || p > 1 {
			return fmt.Errorf("a share of %v is not within 0 and 1", p)
		}
	}
	if l.Delay < 0 || l.Jitter < 0 {
		return errors.New("a delay is negative")
	}
	return nil
}

// LinkStats counts what a link did with frames to one host (no group frames)
// since the lab was built. The Bridge counts only Cut, group frames included.
type LinkStats struct {
	Passed, Cut, Lost, Duplicated, Reordered, Overflowed uint64
}

// ErrUnsupported is the cause of what this machine, or this fabric, cannot do.
var ErrUnsupported = errors.New("not supported")

// New builds a lab for one test and closes it at the end of the test. It skips
// the test where labs cannot be built, and says why.
func New(t testing.TB, cfg Config) *Lab {
	t.Helper()
	if err := Supported(); err != nil {
		t.Skipf("no lab on this machine: %v", err)
	}
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	return l
}

// Open builds a lab. It first removes what labs of dead processes left behind.
func Open(cfg Config) (_ *Lab, err error) {
	if len(cfg.Hosts) == 0 {
		cfg.Hosts = []string{"a", "b", "w", "d1"}
	}
	if len(cfg.Hosts) > 200 {
		return nil, fmt.Errorf("%d hosts are too many; use at most 200", len(cfg.Hosts))
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := Sweep(); err != nil {
		return nil, fmt.Errorf("sweep up after dead labs: %w", err)
	}
	l := &Lab{
		log:    cfg.Logger.With("component", "lab"),
		byName: make(map[string]*Host),
		off:    make(map[string]bool),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if l.dir, err = makeScratch(); err != nil {
		return nil, err
	}
	switch cfg.Fabric {
	case Bridge:
		l.fabric, err = newBridge()
	case Switch:
		l.fabric = newSwitch(cfg.Seed)
	default:
		err = fmt.Errorf("fabric %d is unknown", cfg.Fabric)
	}
	if err != nil {
		return nil, err
	}
	for i, name := range cfg.Hosts {
		if name == "" || filepath.Base(name) != name || l.byName[name] != nil {
			return nil, fmt.Errorf("host name %q is empty, doubled or no file name", name)
		}
		h, err := newHost(l, name, i)
		if err != nil {
			return nil, fmt.Errorf("host %s: %w", name, err)
		}
		l.hosts = append(l.hosts, h)
		l.byName[name] = h
		if err := l.fabric.attach(h); err != nil {
			return nil, fmt.Errorf("attach host %s: %w", name, err)
		}
	}
	if err := l.fabric.start(l.hosts); err != nil {
		return nil, err
	}
	for _, h := range l.hosts {
		if err := h.addNeighbours(l.hosts); err != nil {
			return nil, fmt.Errorf("neighbours of host %s: %w", h.name, err)
		}
		if err := h.withNetlink(func(nl *netlink.Handle) error { return waitUp(nl, linkName) }); err != nil {
			return nil, fmt.Errorf("host %s: %w", h.name, err)
		}
	}
	return l, nil
}

// waitUp waits until a device carries frames: the kernel notices a new carrier
// somewhat later than it is there, and drops frames until then.
func waitUp(nl *netlink.Handle, name string) error {
	for range 5000 {
		link, err := nl.LinkByName(name)
		if err != nil {
			return err
		}
		if s := link.Attrs().OperState; s == netlink.OperUp || s == netlink.OperUnknown {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("device %s does not come up", name)
}

// Dir is a scratch directory on the machine's own disk. It is removed by Close.
func (l *Lab) Dir() string { return l.dir }

// Hosts lists the hosts in the order of the configuration.
func (l *Lab) Hosts() []*Host { return slices.Clone(l.hosts) }

// Host returns a host by name. It panics when there is none, which is a fault
// of the test.
func (l *Lab) Host(name string) *Host {
	h := l.byName[name]
	if h == nil {
		panic(fmt.Sprintf("lab: no host %q", name))
	}
	return h
}

// Shape sets the way from one host to another to exactly link. It returns
// when every frame sent from now on is treated so.
func (l *Lab) Shape(from, to string, link Link) error {
	if err := link.validate(); err != nil {
		return fmt.Errorf("link %s to %s: %w", from, to, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shapeLocked(l.Host(from), l.Host(to), link)
}

func (l *Lab) shapeLocked(from, to *Host, link Link) error {
	if l.closed {
		return errClosed
	}
	if from == to {
		return fmt.Errorf("host %s has no link to itself", from.name)
	}
	from.links[to.index] = link
	if l.off[from.name] || l.off[to.name] {
		link.Cut = true
	}
	l.log.Info("link set", "from", from.name, "to", to.name, "link", fmt.Sprintf("%+v", link))
	if err := l.fabric.set(from, to, link); err != nil {
		return fmt.Errorf("link %s to %s: %w", from.name, to.name, err)
	}
	return nil
}

// change applies f to the present state of one direction.
func (l *Lab) change(from, to string, f func(*Link)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, p := l.Host(from), l.Host(to)
	link := h.links[p.index]
	f(&link)
	if err := link.validate(); err != nil {
		return fmt.Errorf("link %s to %s: %w", from, to, err)
	}
	return l.shapeLocked(h, p, link)
}

// Cut pulls the cable between two hosts: frames are dropped in both
// directions, those of connections that exist included; nobody is told.
func (l *Lab) Cut(a, b string) error {
	return errors.Join(l.CutOneWay(a, b), l.CutOneWay(b, a))
}

// CutOneWay drops the frames from one host to another, not those that come back.
func (l *Lab) CutOneWay(from, to string) error {
	return l.change(from, to, func(k *Link) { k.Cut = true })
}

// Heal makes the link between two hosts whole in both directions and takes
// every shaping from it.
func (l *Lab) Heal(a, b string) error {
	return errors.Join(l.Shape(a, b, Link{}), l.Shape(b, a, Link{}))
}

// HealAll heals every link. Hosts that are powered off stay cut off.
func (l *Lab) HealAll() error {
	var errs []error
	for _, a := range l.hosts {
		for _, b := range l.hosts {
			l.mu.Lock()
			if a != b && a.links[b.index] != (Link{}) {
				errs = append(errs, l.shapeLocked(a, b, Link{}))
			}
			l.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}

// Isolate cuts a host from all others.
func (l *Lab) Isolate(name string) error {
	var errs []error
	for _, h := range l.hosts {
		if h.name != name {
			errs = append(errs, l.Cut(name, h.name))
		}
	}
	return errors.Join(errs...)
}

// Rejoin heals all links of a host.
func (l *Lab) Rejoin(name string) error {
	var errs []error
	for _, h := range l.hosts {
		if h.name != name {
			errs = append(errs, l.Heal(name, h.name))
		}
	}
	return errors.Join(errs...)
}

// Loss makes one direction lose a share (0 to 1) of its frames. It needs the
// [Switch].
func (l *Lab) Loss(from, to string, share float64) error {
	return l.change(from, to, func(k *Link) { k.Loss = share })
}

// Delay holds the frames of one direction back by d and 0 to jitter more. It
// needs the [Switch].
func (l *Lab) Delay(from, to string, d, jitter time.Duration) error {
	return l.change(from, to, func(k *Link) { k.Delay, k.Jitter = d, jitter })
}

// Stats tells what the link from one host to another did.
func (l *Lab) Stats(from, to string) LinkStats {
	return l.fabric.stats(l.Host(from), l.Host(to))
}

// Addr is the IPv4 address of a host inside the lab.
func (l *Lab) Addr(name string) netip.Addr { return l.Host(name).Addr() }

// Close kills every process of the lab and removes all that it made. It may be
// called twice.
func (l *Lab) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	procs, disks := l.procs, l.disks
	l.mu.Unlock()

	var errs []error
	for _, d := range disks {
		d.release() // a process stuck on a hanging disk cannot die
	}
	for _, p := range procs {
		p.kill()
	}
	for _, h := range l.hosts {
		errs = append(errs, h.killAll())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, p := range procs {
		select {
		case <-p.done:
		case <-ctx.Done():
			errs = append(errs, fmt.Errorf("process %d (%s) does not die", p.PID(), p.name))
		}
	}
	for _, d := range slices.Backward(disks) {
		errs = append(errs, d.unmount())
	}
	if l.fabric != nil {
		errs = append(errs, l.fabric.close())
	}
	for _, h := range l.hosts {
		h.ns.close()
	}
	if l.dir != "" {
		errs = append(errs, os.RemoveAll(l.dir))
	}
	return errors.Join(errs...)
}

// Supported tells why a lab cannot be built here, or returns nil.
func Supported() error {
	ns, err := newNamespace()
	if err != nil {
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("%w: the right to make network namespaces is missing; run as root: %w", ErrUnsupported, err)
		}
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	ns.close()
	return nil
}
