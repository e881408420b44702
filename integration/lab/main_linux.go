package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inUserNS tells the second run of a test binary that it is one.
const inUserNS = "FUTAGO_LAB_USERNS"

// mainVar holds the process id of a process that called Main.
const mainVar = "FUTAGO_LAB_MAIN"

// diskSeparator stands between the two paths in diskVar.
const diskSeparator = "//"

func mainCalled() bool { return os.Getenv(mainVar) == strconv.Itoa(os.Getpid()) }

// Main is a TestMain for packages that use labs. Without the rights of root it
// runs the test binary again in a user namespace of its own, where the kernel
// grants those rights over new namespaces; where that is forbidden too, the
// tests run as they are and those that need a lab are skipped. After the tests
// it runs the checks, for leaks say, and fails when one fails.
func Main[O any](m *testing.M, checks ...func(...O) error) {
	if backing, path, ok := strings.Cut(os.Getenv(diskVar), diskSeparator); ok {
		if err := serveDisk(backing, path, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Geteuid() != 0 && os.Getenv(inUserNS) == "" {
		if code, ok := again(); ok {
			os.Exit(code)
		}
	}
	if err := os.Setenv(mainVar, strconv.Itoa(os.Getpid())); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	for _, check := range checks {
		if err := check(); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// again runs this binary as root of a new user namespace.
func again() (code int, ok bool) {
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inUserNS+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   unix.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return 0, false
	}
	err := cmd.Wait()
	if e, isExit := errors.AsType[*exec.ExitError](err); isExit {
		return max(e.ExitCode(), 1), true
	}
	return 0, err == nil
}
