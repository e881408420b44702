package manager

import (
	"os"
	"runtime/debug"
)

// What a manager's process asks of the collector. Under full load some 70 MiB
// are alive: open events of the de-duplication, messages decoded lately, the
// newest log entries. A garbage share of half of that costs a few per cent of
// the processor time and keeps the process, SQLite's caches beside the heap
// included, under 200 MiB.
const (
	gcPercent   = 50
	memoryLimit = 136 << 20 // soft; of the Go heap, stacks and runtime
)

// LimitMemory sets the collector for a process that is a manager and nothing
// else. The environment variables GOGC and GOMEMLIMIT go before it.
func LimitMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}
