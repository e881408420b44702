package rules

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/futago/futago"
	"github.com/futago/futago/raftfsm/thirdvote/register"
)

var (
	idA = register.Identity{0xa}
	idB = register.Identity{0xb}
	idX = register.Identity{0xc}
)

func rec(version, term uint64, vote futago.MemberID, h register.Holders) register.Record {
	return register.Record{
		Version: version, Nonce: register.Nonce{byte(version)}, Term: term, VotedFor: vote,
		Holders: h, IdentityA: idA, IdentityB: idB,
	}
}

func leaderA(term uint64) Local {
	return Local{Self: futago.MemberA, Identity: idA, Term: term, Leader: true, Admitted: true}
}

func with(l Local, f func(*Local)) Local { f(&l); return l }

func TestAnswer_R1_R5(t *testing.T) {
	read := func(term uint64) Proof { return Proof{Read: true, Term: term} }
	for name, c := range map[string]struct {
		sw    Switches
		l     Local
		kind  Request
		term  uint64
		index uint64
		p     Proof
		want  Act
	}{
		"committed":                {l: with(leaderA(3), func(l *Local) { l.Commit = 9 }), kind: Append, term: 3, index: 9, p: read(3), want: ActGood},
		"not committed":            {l: with(leaderA(3), func(l *Local) { l.Commit = 8 }), kind: Append, term: 3, index: 9, p: read(3), want: ActWait},
		"R1 off":                   {sw: Switches{R1NoCondition: true}, l: leaderA(3), kind: Append, term: 3, index: 9, p: read(3), want: ActGood},
		"snapshot not committed":   {l: with(leaderA(3), func(l *Local) { l.Commit = 8 }), kind: Snapshot, term: 3, index: 9, p: read(3), want: ActWait},
		"solo":                     {l: with(leaderA(3), func(l *Local) { l.Solo = 3 }), kind: Append, term: 3, index: 9, want: ActGood},
		"solo of an earlier term":  {l: with(leaderA(3), func(l *Local) { l.Solo = 1 }), kind: Append, term: 3, index: 9, p: read(3), want: ActWait},
		"solo not bound":           {sw: Switches{R2NotBound: true}, l: with(leaderA(3), func(l *Local) { l.Solo = 1 }), kind: Append, term: 3, index: 9, want: ActGood},
		"solo, register above":     {l: with(leaderA(3), func(l *Local) { l.Solo = 3 }), kind: Append, term: 3, index: 9, p: read(4), want: ActDepose},
		"request of an old term":   {l: with(leaderA(3), func(l *Local) { l.Solo = 3; l.Commit = 9 }), kind: Append, term: 2, index: 9, p: read(2), want: ActError},
		"follower":                 {l: with(leaderA(3), func(l *Local) { l.Leader = false; l.Commit = 9 }), kind: Append, term: 3, index: 9, p: read(3), want: ActError},
		"register above":           {l: with(leaderA(3), func(l *Local) { l.Commit = 9 }), kind: Append, term: 3, index: 9, p: read(4), want: ActDepose},
		"register above, blocked":  {l: leaderA(3), kind: Append, term: 3, index: 9, p: read(4), want: ActDepose},
		"register above, R5 off":   {sw: Switches{R5NoEvidence: true}, l: with(leaderA(3), func(l *Local) { l.Commit = 9 }), kind: Append, term: 3, index: 9, p: read(4), want: ActGood},
		"heartbeat above":          {l: leaderA(3), kind: Heartbeat, term: 3, p: read(4), want: ActError},
		"heartbeat above, R5 off":  {sw: Switches{R5NoEvidence: true}, l: leaderA(3), kind: Heartbeat, term: 3, p: read(4), want: ActGood},
		"heartbeat":                {l: leaderA(3), kind: Heartbeat, term: 3, p: read(3), want: ActGood},
		"heartbeat, solo":          {l: with(leaderA(3), func(l *Local) { l.Solo = 3 }), kind: Heartbeat, term: 3, p: Proof{Failed: true}, want: ActGood},
		"heartbeat, not read yet":  {l: leaderA(3), kind: Heartbeat, term: 3, want: ActWait},
		"heartbeat, register away": {l: leaderA(3), kind: Heartbeat, term: 3, p: Proof{Failed: true}, want: ActError},
		"append, register away":    {l: with(leaderA(3), func(l *Local) { l.Commit = 9 }), kind: Append, term: 3, index: 9, p: Proof{Failed: true}, want: ActWait},
	} {
		if got := Answer(c.sw, c.l, c.kind, c.term, c.index, c.p); got.Act != c.want || got.Reason == "" {
			t.Errorf("%s: got %+v, want act %d", name, got, c.want)
		} else if got.Act == ActDepose && got.Term <= c.term {
			t.Errorf("%s: deposes with term %d", name, got.Term)
		}
	}
}

func TestPrepareSolo_R2_TermAndVote(t *testing.T) {
	for name, c := range map[string]struct {
		r    register.Record
		want bool
	}{
		"lower term":           {rec(4, 2, futago.MemberB, register.Both), true},
		"lower term, not mine": {rec(4, 2, futago.MemberB, register.HolderB), true},
		"own vote":             {rec(4, 3, futago.MemberA, register.Both), true},
		"no vote":              {rec(4, 3, "", register.Both), true},
		"peer's vote":          {rec(4, 3, futago.MemberB, register.Both), false},
		"higher term":          {rec(4, 4, "", register.Both), false},
	} {
		ch, _, ok := PrepareSolo(Switches{}, leaderA(3), c.r)
		if ok != c.want {
			t.Errorf("%s: %v", name, ok)
			continue
		}
		if _, _, ok := PrepareSolo(Switches{R2NoTermCondition: true}, leaderA(3), c.r); !ok {
			t.Errorf("%s: refused with the condition off", name)
		}
		if ok && (ch.Next.Holders != register.HolderA || ch.Next.Term != 3 || ch.Next.VotedFor != futago.MemberA ||
			ch.Next.IdentityA != idA || ch.Next.IdentityB != idB || !ch.Old.Same(c.r) || ch.Blind) {
			t.Errorf("%s: writes %v on %v", name, ch.Next, ch.Old)
		}
	}
	if _, _, ok := PrepareSolo(Switches{}, with(leaderA(3), func(l *Local) { l.Leader = false }), rec(1, 0, "", register.Both)); ok {
		t.Error("a follower asked")
	}
}

func TestGrantSolo_R2_OnlyAnsweredInThisLeadership(t *testing.T) {
	solo, _, _ := PrepareSolo(Switches{}, leaderA(3), rec(4, 2, "", register.Both))
	vote := Vote(Switches{}, with(leaderA(3), func(l *Local) { l.Leader = false }), rec(4, 2, "", register.HolderA), 3).Change
	voteBoth := Vote(Switches{}, with(leaderA(3), func(l *Local) { l.Leader = false }), rec(4, 2, "", register.Both), 3).Change
	for name, c := range map[string]struct {
		l    Local
		ch   Change
		res  Result
		want uint64
	}{
		"done":                      {leaderA(3), solo, Done, 3},
		"refused":                   {leaderA(3), solo, Refused, 0},
		"not answered":              {leaderA(3), solo, Unknown, 0},
		"follower by now":           {with(leaderA(3), func(l *Local) { l.Leader = false }), solo, Done, 0},
		"leader of the next term":   {leaderA(4), solo, Done, 0},
		"vote, before winning":      {with(leaderA(3), func(l *Local) { l.Leader = false }), vote, Done, 3},
		"vote, both hold":           {leaderA(3), voteBoth, Done, 0},
		"vote, term over":           {leaderA(4), vote, Done, 0},
		"vote, not answered":        {leaderA(3), vote, Unknown, 0},
		"vote, after a readmission": {with(leaderA(3), func(l *Local) { l.Barred = 3 }), vote, Done, 0},
		"solo, after a readmission": {with(leaderA(3), func(l *Local) { l.Barred = 3 }), solo, Done, 3},
	} {
		if got, _ := GrantSolo(Switches{}, c.l, c.ch, c.res); got != c.want {
			t.Errorf("%s: solo %d, want %d", name, got, c.want)
		}
	}
	mine := rec(5, 3, futago.MemberA, register.HolderA)
	if LearnByReading(Switches{}, leaderA(3), mine) != 0 {
		t.Error("learned by reading")
	}
	if LearnByReading(Switches{R2ByReading: true}, leaderA(3), mine) != 3 {
		t.Error("the switch does nothing")
	}
}

func TestWantSolo_R2_Lazy(t *testing.T) {
	for name, c := range map[string]struct {
		l           Local
		entry, idx  uint64
		takes, want bool
	}{
		"waits":              {leaderA(3), 3, 9, false, true},
		"peer takes":         {leaderA(3), 3, 9, true, false},
		"of an earlier term": {leaderA(3), 2, 9, false, false},
		"committed":          {with(leaderA(3), func(l *Local) { l.Commit = 9 }), 3, 9, false, false},
		"solo already":       {with(leaderA(3), func(l *Local) { l.Solo = 3 }), 3, 9, false, false},
		"follower":           {with(leaderA(3), func(l *Local) { l.Leader = false }), 3, 9, false, false},
	} {
		if got, why := WantSolo(Switches{}, c.l, c.entry, c.idx, c.takes); got != c.want {
			t.Errorf("%s: %v (%s)", name, got, why)
		}
	}
}

func TestReadmission_R3_Order(t *testing.T) {
	on := rec(7, 3, futago.MemberA, register.HolderA)
	l := with(leaderA(3), func(l *Local) { l.Solo = 3 })
	m, l := BeginReadmission(Switches{}, l)
	if HoldsSolo(Switches{}, l, 3) || l.Barred != 3 {
		t.Fatal("solo is kept")
	}
	var seen []Phase
	outcomes := map[Phase]Outcome{
		PhaseRead:          {OK: true, Record: on},
		PhaseIdentity:      {OK: true, Identity: idX},
		PhaseBarrier:       {OK: true},
		PhaseIdentityAgain: {OK: true, Identity: idX},
	}
	for m.Phase != PhaseWrite {
		seen = append(seen, m.Phase)
		if _, _, ok := m.Change(l); ok {
			t.Fatalf("writes in phase %v", m.Phase)
		}
		var ok bool
		if m, _, ok = m.Advance(Switches{}, l, outcomes[m.Phase]); !ok {
			t.Fatalf("stopped after %v", seen)
		}
	}
	if len(seen) != 4 {
		t.Errorf("phases %v", seen)
	}
	ch, _, ok := m.Change(l)
	if !ok || !ch.Old.Same(on) || ch.Next.Holders != register.Both || ch.Next.IdentityB != idX || ch.Next.Term != 3 {
		t.Errorf("writes %v on %v", ch.Next, ch.Old)
	}
	if got, _ := GrantSolo(Switches{}, l, ch, Done); got != 0 {
		t.Error("the write grants solo")
	}
	if HoldsSolo(Switches{}, Abandon(Switches{}, l, m, Unknown), 3) {
		t.Error("thawed")
	}
	if !HoldsSolo(Switches{}, Abandon(Switches{R3Thaw: true}, l, m, Unknown), 3) {
		t.Error("the switch does nothing")
	}
}

func TestReadmission_R3_GivenUp(t *testing.T) {
	good := map[Phase]Outcome{
		PhaseRead:          {OK: true, Record: rec(7, 3, futago.MemberA, register.HolderA)},
		PhaseIdentity:      {OK: true, Identity: idB},
		PhaseBarrier:       {OK: true},
		PhaseIdentityAgain: {OK: true, Identity: idB},
	}
	for name, c := range map[string]struct {
		at Phase
		o  Outcome
		l  Local
	}{
		"unreadable":       {PhaseRead, Outcome{}, leaderA(3)},
		"term above":       {PhaseRead, Outcome{OK: true, Record: rec(7, 4, "", register.Both)}, leaderA(3)},
		"vote elsewhere":   {PhaseRead, Outcome{OK: true, Record: rec(7, 3, futago.MemberB, register.Both)}, leaderA(3)},
		"no identity":      {PhaseIdentity, Outcome{OK: true}, leaderA(3)},
		"no barrier":       {PhaseBarrier, Outcome{}, leaderA(3)},
		"identity changed": {PhaseIdentityAgain, Outcome{OK: true, Identity: idX}, leaderA(3)},
		"peer gone":        {PhaseIdentityAgain, Outcome{}, leaderA(3)},
		"term over":        {PhaseBarrier, Outcome{OK: true}, leaderA(4)},
		"follower":         {PhaseIdentityAgain, good[PhaseIdentityAgain], with(leaderA(3), func(l *Local) { l.Leader = false })},
	} {
		m, _ := BeginReadmission(Switches{}, leaderA(3))
		for m.Phase != c.at {
			m, _, _ = m.Advance(Switches{}, leaderA(3), good[m.Phase])
		}
		if _, why, ok := m.Advance(Switches{}, c.l, c.o); ok || why == "" {
			t.Errorf("%s: goes on", name)
		}
	}
}

func TestReadmission_Switches(t *testing.T) {
	walk := func(sw Switches) (phases []Phase) {
		m, l := BeginReadmission(sw, leaderA(3))
		for m.Phase != PhaseWrite {
			phases = append(phases, m.Phase)
			var ok bool
			m, _, ok = m.Advance(sw, l, Outcome{OK: true, Record: rec(7, 3, "", register.HolderA), Identity: idB})
			if !ok {
				t.Fatalf("%+v stops after %v", sw, phases)
			}
		}
		return phases
	}
	if got := walk(Switches{R3NoBarrier: true}); len(got) != 3 {
		t.Errorf("no barrier: %v", got)
	}
	if got := walk(Switches{R3NoFirstIdentity: true}); len(got) != 3 {
		t.Errorf("no first identity: %v", got)
	}
	if got := walk(Switches{R3NoSecondIdentity: true}); len(got) != 3 {
		t.Errorf("no second identity: %v", got)
	}
	_, l := BeginReadmission(Switches{R3KeepSolo: true}, with(leaderA(3), func(l *Local) { l.Solo = 3 }))
	if !HoldsSolo(Switches{}, l, 3) {
		t.Error("solo dropped in spite of the switch")
	}
}

func TestNeedsReadmission(t *testing.T) {
	for name, c := range map[string]struct {
		r    register.Record
		peer register.Identity
		want bool
	}{
		"complete":         {rec(7, 3, "", register.Both), idB, false},
		"peer missing":     {rec(7, 3, "", register.HolderA), idB, true},
		"leader missing":   {rec(7, 3, "", register.HolderB), idB, true},
		"peer's new disk":  {rec(7, 3, "", register.Both), idX, true},
		"peer not reached": {rec(7, 3, "", register.HolderA), register.Identity{}, false},
		"higher term":      {rec(7, 4, "", register.HolderA), idB, false},
	} {
		if got, why := NeedsReadmission(leaderA(3), c.r, c.peer); got != c.want {
			t.Errorf("%s: %v (%s)", name, got, why)
		}
	}
}

func TestVote_R4(t *testing.T) {
	cand := with(leaderA(3), func(l *Local) { l.Leader = false })
	for name, c := range map[string]struct {
		sw     Switches
		l      Local
		r      register.Record
		want   VoteReply // Granted, Write, Term compared
		whenOn string
	}{
		"lower term":        {l: cand, r: rec(4, 2, futago.MemberB, register.Both), want: VoteReply{Write: true, Term: 3}},
		"only holder":       {l: cand, r: rec(4, 2, futago.MemberB, register.HolderA), want: VoteReply{Write: true, Term: 3}},
		"no vote yet":       {l: cand, r: rec(4, 3, "", register.Both), want: VoteReply{Write: true, Term: 3}},
		"given already":     {l: cand, r: rec(4, 3, futago.MemberA, register.Both), want: VoteReply{Granted: true, Term: 3}},
		"given to the peer": {l: cand, r: rec(4, 3, futago.MemberB, register.Both), want: VoteReply{Term: 3}},
		"twice":             {sw: Switches{R4VoteTwice: true}, l: cand, r: rec(4, 3, futago.MemberB, register.Both), want: VoteReply{Write: true, Term: 3}},
		"term above":        {l: cand, r: rec(4, 5, "", register.Both), want: VoteReply{Term: 5}},
		"no holder":         {l: cand, r: rec(4, 2, "", register.HolderB), want: VoteReply{Term: 3}},
		"any candidate":     {sw: Switches{R4AnyCandidate: true}, l: cand, r: rec(4, 2, "", register.HolderB), want: VoteReply{Write: true, Term: 3}},
		"other disk":        {l: with(cand, func(l *Local) { l.Identity = idX }), r: rec(4, 2, "", register.Both), want: VoteReply{Term: 3}},
		"any disk":          {sw: Switches{R4AnyIdentity: true}, l: with(cand, func(l *Local) { l.Identity = idX }), r: rec(4, 2, "", register.Both), want: VoteReply{Write: true, Term: 3}},
		"unadmitted":        {l: with(cand, func(l *Local) { l.Admitted = false }), r: rec(4, 2, "", register.Both), want: VoteReply{Term: 3}},
		"unadmitted, off":   {sw: Switches{R6Campaign: true}, l: with(cand, func(l *Local) { l.Admitted = false }), r: rec(4, 2, "", register.Both), want: VoteReply{Write: true, Term: 3}},
	} {
		got := Vote(c.sw, c.l, c.r, 3)
		if got.Granted != c.want.Granted || got.Write != c.want.Write || got.Term != c.want.Term || got.Reason == "" {
			t.Errorf("%s: got %+v", name, got)
		}
		if got.Write && (got.Change.Next.Holders != c.r.Holders || got.Change.Next.IdentityA != c.r.IdentityA ||
			got.Change.Next.IdentityB != c.r.IdentityB || got.Change.Next.Term != 3 || got.Change.Next.VotedFor != futago.MemberA) {
			t.Errorf("%s: writes %v", name, got.Change.Next)
		}
	}
	if !Vote(Switches{R4Blind: true}, cand, rec(4, 2, "", register.Both), 3).Change.Blind {
		t.Error("R4Blind does nothing")
	}
}

func TestAdmission_R6(t *testing.T) {
	r := rec(4, 5, "", register.HolderA)
	if FirstTerm(Switches{}, 2, r) != 5 || FirstTerm(Switches{}, 7, r) != 7 || FirstTerm(Switches{R6KeepTerm: true}, 2, r) != 2 {
		t.Error("first term")
	}
	if !Admits(futago.MemberA, idA, r) || Admits(futago.MemberA, idX, r) || Admits(futago.MemberB, idB, r) {
		t.Error("admits")
	}
	if Replaced(futago.MemberA, idA, r) || !Replaced(futago.MemberB, idX, r) || Replaced(futago.MemberB, idX, register.Record{}) {
		t.Error("replaced")
	}
	if MayVote(Switches{}, false) || MayCampaign(Switches{}, false) || !MayVote(Switches{}, true) || !MayCampaign(Switches{}, true) ||
		!MayVote(Switches{R6Vote: true}, false) || !MayCampaign(Switches{R6Campaign: true}, false) {
		t.Error("may")
	}
}

func TestJudgeWritten_R7(t *testing.T) {
	seen := Mark{Version: 7, Nonce: register.NewNonce()}
	for name, c := range map[string]struct {
		rec register.Record
		ok  bool
		why Reason
	}{
		"newer":         {register.Record{Version: 8, Nonce: register.NewNonce()}, true, ReasonNewer},
		"the same":      {register.Record{Version: 7, Nonce: seen.Nonce}, true, ReasonSame},
		"overtaken":     {register.Record{Version: 6, Nonce: register.NewNonce()}, false, ReasonOvertaken},
		"other history": {register.Record{Version: 7, Nonce: register.NewNonce()}, false, ReasonOtherHistory},
	} {
		m, why, ok := JudgeWritten(Switches{}, seen, c.rec)
		if ok != c.ok || why != c.why || m.Version != max(seen.Version, c.rec.Version) {
			t.Errorf("%s: %v, %s, %v", name, m, why, ok)
		}
		if _, _, ok := JudgeWritten(Switches{R7Overtaken: true}, seen, c.rec); ok == (c.why == ReasonOtherHistory) {
			t.Errorf("%s, switched off: %v", name, ok)
		}
	}
}

func TestJudge_R7(t *testing.T) {
	seen := MarkOf(rec(4, 2, "", register.Both))
	other := rec(4, 2, "", register.Both)
	other.Nonce = register.Nonce{99}
	for name, c := range map[string]struct {
		r    register.Record
		want Reason
		ok   bool
	}{
		"same":  {rec(4, 2, "", register.Both), ReasonSame, true},
		"newer": {rec(5, 2, "", register.Both), ReasonNewer, true},
		"older": {rec(3, 2, "", register.Both), ReasonWentBack, false},
		"other": {other, ReasonOtherHistory, false},
	} {
		m, why, ok := Judge(Switches{}, seen, c.r)
		if why != c.want || ok != c.ok || seen.Above(m) {
			t.Errorf("%s: %v %s %v", name, m, why, ok)
		}
		if _, _, ok := Judge(Switches{R7NoMark: true}, seen, c.r); !ok {
			t.Errorf("%s: refused with the rule off", name)
		}
	}
	if _, ok := Missing(seen); ok {
		t.Error("a missing record after one was seen")
	}
	if _, ok := Missing(Mark{}); !ok {
		t.Error("a register that never had a record")
	}
}

func TestMayServeRead_R8(t *testing.T) {
	own := func(e ReadEvidence) ReadEvidence { e.OwnTermCommitted = true; return e }
	solo := with(leaderA(3), func(l *Local) { l.Solo = 3 })
	for name, c := range map[string]struct {
		sw   Switches
		l    Local
		e    ReadEvidence
		want bool
	}{
		"nothing":                {l: leaderA(3), e: own(ReadEvidence{})},
		"leader is enough":       {sw: Switches{R8LeaderIsEnough: true}, l: leaderA(3), e: own(ReadEvidence{}), want: true},
		"alpha":                  {l: leaderA(3), e: own(ReadEvidence{Register: true, RegisterTerm: 3}), want: true},
		"alpha above":            {l: leaderA(3), e: own(ReadEvidence{Register: true, RegisterTerm: 4})},
		"alpha above, beta":      {l: leaderA(3), e: own(ReadEvidence{Register: true, RegisterTerm: 4, Peer: true, PeerTerm: 3})},
		"beta":                   {l: leaderA(3), e: own(ReadEvidence{Peer: true, PeerTerm: 3}), want: true},
		"beta above":             {l: leaderA(3), e: own(ReadEvidence{Peer: true, PeerTerm: 4})},
		"beta below":             {l: leaderA(3), e: own(ReadEvidence{Peer: true, PeerTerm: 2})},
		"gamma":                  {l: solo, e: own(ReadEvidence{}), want: true},
		"gamma, lost meanwhile":  {l: with(solo, func(l *Local) { l.Leader = false }), e: own(ReadEvidence{})},
		"gamma, dropped":         {l: leaderA(3), e: own(ReadEvidence{})},
		"nothing of the own":     {l: solo, e: ReadEvidence{Register: true, RegisterTerm: 3}},
		"nothing of the own,off": {sw: Switches{R8NoOwnTerm: true}, l: solo, e: ReadEvidence{}, want: true},
	} {
		if got, why := MayServeRead(c.sw, c.l, 3, c.e); got != c.want || why == "" {
			t.Errorf("%s: %v (%s)", name, got, why)
		}
	}
}

// What R1 and R2 promise, over arbitrary inputs: no acknowledgement for w
// unless committed or under a permission of that very term.
func TestAnswer_Property_NeverBeyondCommitWithoutSolo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := func(name string) uint64 { return rapid.Uint64Range(0, 4).Draw(t, name) }
		l := leaderA(u("term"))
		l.Leader = rapid.Bool().Draw(t, "leader")
		l.Commit, l.Solo = u("commit"), u("solo")
		kind := rapid.SampledFrom([]Request{Append, Snapshot}).Draw(t, "kind")
		term, index := u("reqTerm"), u("index")
		p := Proof{Read: rapid.Bool().Draw(t, "read"), Failed: rapid.Bool().Draw(t, "failed"), Term: u("proofTerm")}
		got := Answer(Switches{}, l, kind, term, index, p)
		if got.Act != ActGood {
			return
		}
		solo := l.Solo == term
		if !l.Leads(term) || !solo && l.Commit < index || !solo && !p.Read || p.Read && p.Term > term {
			t.Fatalf("%+v acknowledges %d of term %d with %+v", l, index, term, p)
		}
	})
}
