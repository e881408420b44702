package manager

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/futago/futago"
)

func TestStopCode(t *testing.T) {
	for _, test := range []struct {
		err  error
		want futago.Code
	}{
		{errors.New("anything"), futago.CodeInternal},
		{&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, futago.CodeStorageFull},
		{fmt.Errorf("save: %w", syscall.EDQUOT), futago.CodeStorageFull},
		{futago.Errorf(futago.CodeCorrupt, "x").Wrap(errors.New("y")), futago.CodeCorrupt},
		// Of two reasons, the room decides: damage shows itself again afterwards.
		{errors.Join(futago.Errorf(futago.CodeInternal, "x"), syscall.ENOSPC), futago.CodeStorageFull},
	} {
		if got := stopCode(test.err); got != test.want {
			t.Errorf("%v: %s, want %s", test.err, got, test.want)
		}
	}
}

func TestManager_ResumeAt(t *testing.T) {
	for least, want := range map[ByteSize]uint64{0: 16 << 20, 32 << 20: 48 << 20, 256 << 20: 320 << 20} {
		m := &Manager{cfg: Config{MinFree: least}}
		if got := m.resumeAt(); got != want {
			t.Errorf("min_free %d goes on at %d, want %d", least, got, want)
		}
	}
}
