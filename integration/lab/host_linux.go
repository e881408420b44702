package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Host is one machine of the lab: a network namespace with an interface eth0
// that has one IPv4 and one IPv6 address, and a loopback.
type Host struct {
	lab   *Lab
	name  string
	index int
	ns    *namespace
	mac   net.HardwareAddr
	links map[int]Link // outgoing, by the index of the peer; guarded by Lab.mu
}

const linkName = "eth0"

func newHost(l *Lab, name string, index int) (*Host, error) {
	ns, err := newNamespace()
	if err != nil {
		return nil, err
	}
	h := &Host{
		lab: l, name: name, index: index, ns: ns, links: make(map[int]Link),
		mac: net.HardwareAddr{0x02, 0x77, 0, 0, 0, byte(index + 10)},
	}
	err = ns.do(func() error {
		// Addresses are there at once and no router is looked for.
		for _, key := range []string{"all", "default"} {
			for k, v := range map[string]string{"accept_dad": "0", "accept_ra": "0"} {
				path := "/proc/sys/net/ipv6/conf/" + key + "/" + k
				if err := os.WriteFile(path, []byte(v), 0o644); err != nil && !errors.Is(err, os.ErrNotExist) {
					return err
				}
			}
		}
		// Receivers take the usual ports without being root.
		return os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0o644)
	})
	if err == nil {
		err = h.withNetlink(func(nl *netlink.Handle) error {
			lo, err := nl.LinkByName("lo")
			if err != nil {
				return err
			}
			return nl.LinkSetUp(lo)
		})
	}
	if err != nil {
		ns.close()
		return nil, err
	}
	return h, nil
}

// Name is the host's name in the lab.
func (h *Host) Name() string { return h.name }

// Scratch is the lab's scratch directory.
func (h *Host) Scratch() string { return h.lab.dir }

// Addr is the host's IPv4 address, 10.77.0.10 for the first host and so on.
func (h *Host) Addr() netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, byte(h.index + 10)}) }

// Addr6 is the host's IPv6 address, fd77::a for the first host and so on.
func (h *Host) Addr6() netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x77, 15: byte(h.index + 10)})
}

// AddrPort is Addr with a port.
func (h *Host) AddrPort(port uint16) netip.AddrPort { return netip.AddrPortFrom(h.Addr(), port) }

// withNetlink lends fn a netlink socket inside the host.
func (h *Host) withNetlink(fn func(*netlink.Handle) error) error {
	nl, err := netlink.NewHandleAt(netns.NsHandle(h.ns.file.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer nl.Close()
	return fn(nl)
}

// configure gives the interface its addresses and takes it up.
func (h *Host) configure() error {
	return h.withNetlink(func(nl *netlink.Handle) error {
		link, err := nl.LinkByName(linkName)
		if err != nil {
			return err
		}
		for _, p := range []netip.Prefix{netip.PrefixFrom(h.Addr(), 24), netip.PrefixFrom(h.Addr6(), 64)} {
			addr := &netlink.Addr{
				IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
				Flags: unix.IFA_F_NODAD,
			}
			err := nl.AddrAdd(link, addr)
			if err != nil && (p.Addr().Is4() || !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EACCES)) {
				return fmt.Errorf("address %s: %w", p, err) // machines without IPv6 do without
			}
		}
		return nl.LinkSetUp(link)
	})
}

// addNeighbours enters the other hosts' hardware addresses for good, so that a
// healed link works at once: a neighbour entry that failed during a cut would
// hold traffic back for a second more. Addresses added later are resolved as usual.
func (h *Host) addNeighbours(all []*Host) error {
	return h.withNetlink(func(nl *netlink.Handle) error {
		link, err := nl.LinkByName(linkName)
		if err != nil {
			return err
		}
		for _, p := range all {
			if p == h {
				continue
			}
			for _, a := range []netip.Addr{p.Addr(), p.Addr6()} {
				err := nl.NeighSet(&netlink.Neigh{
					LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT,
					IP: a.AsSlice(), HardwareAddr: p.mac,
				})
				if err != nil && (a.Is4() || !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EACCES)) {
					return fmt.Errorf("%s: %w", a, err)
				}
			}
		}
		return nil
	})
}

// Do runs fn on a thread inside the host's network namespace: sockets that fn
// makes on the same goroutine belong to the host, also after fn. Goroutines
// that fn starts are not inside.
func (h *Host) Do(fn func() error) error { return h.ns.enter(fn) }

// DialContext connects from the host. The address must be a literal, for name
// resolution would take place outside. It fits http.Transport.DialContext.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if err := literal(address); err != nil {
		return nil, err
	}
	var c net.Conn
	err := h.ns.enter(func() (err error) {
		var d net.Dialer
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Listen opens a listening stream socket on the host.
func (h *Host) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	if err := literal(address); err != nil {
		return nil, err
	}
	var l net.Listener
	err := h.ns.enter(func() (err error) {
		var lc net.ListenConfig
		l, err = lc.Listen(ctx, network, address)
		return err
	})
	return l, err
}

// ListenPacket opens a datagram socket on the host.
func (h *Host) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	if err := literal(address); err != nil {
		return nil, err
	}
	var c net.PacketConn
	err := h.ns.enter(func() (err error) {
		var lc net.ListenConfig
		c, err = lc.ListenPacket(ctx, network, address)
		return err
	})
	return c, err
}

func literal(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("port of %q is no number", address)
	}
	if host == "" {
		return nil
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return fmt.Errorf("host of %q is no address", address)
	}
	return nil
}

// PowerOff does to the host what a power cut does as far as others can see:
// its links go dead first, so that no socket says good-bye, and then every
// process on it is killed. What its processes wrote without a flush survives,
// unlike in a true power cut, which takes a virtual machine.
func (h *Host) PowerOff() error {
	if err := h.setPower(true); err != nil {
		return err
	}
	return h.killAll()
}

// PowerOn puts the links back into the state they had, or were given
// meanwhile. Processes are started anew by the caller.
func (h *Host) PowerOn() error { return h.setPower(false) }

func (h *Host) setPower(off bool) error {
	l := h.lab
	l.mu.Lock()
	defer l.mu.Unlock()
	l.off[h.name] = off
	var errs []error
	for _, p := range l.hosts {
		if p != h {
			errs = append(errs, l.shapeLocked(h, p, h.links[p.index]), l.shapeLocked(p, h, p.links[h.index]))
		}
	}
	return errors.Join(errs...)
}

// killAll kills every process whose network namespace is the host's, started
// by the lab or by one of its processes, and waits until they are gone.
func (h *Host) killAll() error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		pids := h.pids()
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v of host %s do not die", pids, h.name)
		}
		// Stop all before killing any: none may see another one die.
		for _, sig := range []unix.Signal{unix.SIGSTOP, unix.SIGKILL} {
			for _, pid := range pids {
				_ = unix.Kill(pid, sig) // it may be gone by now
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// pids finds the live processes inside the host.
func (h *Host) pids() []int {
	self := os.Getpid()
	var pids []int
	for pid := range allProcesses() {
		if pid == self {
			continue
		}
		var st unix.Stat_t
		if unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &st) == nil && st.Ino == h.ns.inode {
			pids = append(pids, pid)
		}
	}
	return pids
}

// ClockJump would move the host's wall clock. The kernel's time namespaces
// cover the monotonic and the boot clock only, and receive time stamps come from
// the one wall clock that all namespaces share; so it always returns an error
// that is [ErrUnsupported]. Jumps of the clock are tested in virtual machines.
func (h *Host) ClockJump(time.Duration) error {
	return fmt.Errorf("%w: hosts of a lab share the machine's wall clock; use a virtual machine", ErrUnsupported)
}
