package store

import (
	"context"
	"encoding/binary"
	"hash/crc32"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/command"
	"github.com/futago/futago/store/internal/litedb"
)

// SpoolMark says how far a spool has been applied.
type SpoolMark struct {
	Member futago.MemberID
	Spool  command.ID
	// Seq is the last record applied.
	Seq uint64
	// Watermark: everything that the member received up to this time is
	// applied. Nanoseconds since 1970.
	Watermark int64
	// Current marks the spool in use; a member's older ones are kept, so that
	// late entries of theirs are recognised.
	Current bool
}

func (m *SpoolMark) current() int64 {
	if m.Current {
		return 1
	}
	return 0
}

func (m *SpoolMark) sum() int64 {
	b := make([]byte, 0, 64)
	b = append(append(b, m.Member...), 0)
	b = append(b, m.Spool[:]...)
	b = binary.LittleEndian.AppendUint64(b, m.Seq)
	b = binary.LittleEndian.AppendUint64(b, uint64(m.Watermark))
	return int64(crc32.Checksum(append(b, byte(m.current())), castagnoli))
}

func listMarks(ctx context.Context, c *litedb.Conn) (list []SpoolMark, err error) {
	err = c.Query(ctx, func(r litedb.Row) error {
		m := SpoolMark{
			Member: futago.MemberID(r.Text(0)), Seq: uint64(r.Int(2)), Watermark: r.Int(3), Current: r.Int(4) == 1,
		}
		if copy(m.Spool[:], r.Bytes(1)) != len(m.Spool) || m.sum() != r.Int(5) {
			return litedb.Corrupt(c.Path(), "a spool mark of member %s in %s fails its checksum", m.Member, c.Path())
		}
		list = append(list, m)
		return nil
	}, "SELECT member, spool, seq, watermark, current, sum FROM spool_marks ORDER BY member, spool")
	return list, err
}

// SpoolMarks returns the marks of all spools, in the order of member and spool.
func (s *Store) SpoolMarks(ctx context.Context) (list []SpoolMark, err error) {
	err = s.read(ctx, func(ctx context.Context, c *litedb.Conn) error {
		list, err = listMarks(ctx, c)
		return err
	})
	return list, err
}

// SpoolMarks is [Store.SpoolMarks] as the transaction sees it.
func (tx *Tx) SpoolMarks() ([]SpoolMark, error) { return listMarks(context.Background(), tx.c) }

// PutSpoolMark creates or replaces a mark.
func (tx *Tx) PutSpoolMark(m SpoolMark) error {
	_, err := tx.c.Exec(`INSERT OR REPLACE INTO spool_marks
		(member, spool, seq, watermark, current, sum) VALUES (?, ?, ?, ?, ?, ?)`,
		string(m.Member), m.Spool[:], m.Seq, m.Watermark, m.current(), m.sum())
	return err
}

// DeleteSpoolMark forgets a spool.
func (tx *Tx) DeleteSpoolMark(member futago.MemberID, spool command.ID) error {
	_, err := tx.c.Exec("DELETE FROM spool_marks WHERE member = ? AND spool = ?", string(member), spool[:])
	return err
}

// Proposal returns the result stored for a proposal and whether there is one.
func (tx *Tx) Proposal(id command.ID) (result []byte, found bool, err error) {
	found, err = tx.c.One(context.Background(), func(r litedb.Row) error {
		if result = r.Bytes(0); docSum("proposal", string(id[:]), result) != r.Int(1) {
			return litedb.Corrupt(tx.c.Path(), "the result of proposal %x in %s fails its checksum", id, tx.c.Path())
		}
		return nil
	}, "SELECT result, sum FROM proposals WHERE id = ?", id[:])
	return result, found, err
}

// PutProposal stores the result, which must not be empty, of a proposal made
// at a log time.
func (tx *Tx) PutProposal(id command.ID, at int64, result []byte) error {
	_, err := tx.c.Exec("INSERT OR REPLACE INTO proposals (id, at, result, sum) VALUES (?, ?, ?, ?)",
		id[:], at, result, docSum("proposal", string(id[:]), result))
	return err
}

// PruneProposals forgets the proposals made before a log time and returns how
// many there were.
func (tx *Tx) PruneProposals(before int64) (int, error) {
	n, err := tx.c.Exec("DELETE FROM proposals WHERE at < ?", before)
	return int(n), err
}
