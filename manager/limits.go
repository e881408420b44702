package manager

import (
	"golang.org/x/sys/unix"
)

// wantFiles is how many open files a member should be allowed: a thousand
// syslog connections, the databases, and room for more.
const wantFiles = 4096

// checkLimits warns of a limit on open files that a storm of connections would
// reach. The Go runtime has raised the soft limit to the hard one.
func (m *Manager) checkLimits() {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		m.log.Warn("read the limit of open files", "err", err)
		return
	}
	if l.Cur < wantFiles {
		m.log.Warn("the limit of open files is low: syslog over TCP may be refused in a storm",
			"limit", l.Cur, "wanted", wantFiles, "action", "set LimitNOFILE= in the unit, or ulimit -Hn")
	}
}
