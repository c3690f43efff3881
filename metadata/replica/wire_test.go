package replica

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

func sampleMessage() *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), From: proto.Uint64(1), To: proto.Uint64(2), Term: proto.Uint64(3),
		Entries: entriesAt(3, 4, 2),
	}
}

func FuzzParseMessages(f *testing.F) {
	one, err := appendMessage(nil, 5, 6, sampleMessage())
	if err != nil {
		f.Fatal(err)
	}
	two, err := appendMessage(bytes.Clone(one), 7, 0, sampleMessage())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(one)
	f.Add(two)
	f.Add([]byte{packVersion, 0, 0, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		msgs, err := parseMessages(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		// What was understood survives another trip.
		var again []byte
		for _, m := range msgs {
			if again, err = appendMessage(again, m.group, m.epoch, m.msg); err != nil {
				t.Fatal(err)
			}
		}
		if len(msgs) == 0 {
			return
		}
		back, err := parseMessages(again)
		if err != nil || len(back) != len(msgs) {
			t.Fatalf("%d messages became %d: %v", len(msgs), len(back), err)
		}
		for i := range back {
			if back[i].group != msgs[i].group || back[i].epoch != msgs[i].epoch || !proto.Equal(back[i].msg, msgs[i].msg) {
				t.Fatalf("message %d changed", i)
			}
		}
	})
}

func FuzzDecodeEntry(f *testing.F) {
	f.Add(encodeEntry(3, 4, []byte("x")))
	f.Add([]byte{entryVersion + 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		by, seq, command, err := decodeEntry(b)
		if err != nil {
			return
		}
		if !bytes.Equal(encodeEntry(by, seq, command), b) {
			t.Fatal("entry changed")
		}
	})
}

func FuzzLogRecords(f *testing.F) {
	f.Add(uint32(1), uint64(2), encodeLogEntry(1, entriesAt(3, 2, 1)[0]))
	f.Add(uint32(1), uint64(0), encodeHardState(1, hardState(1, 2, 3)))
	f.Add(uint32(1), uint64(0), encodeMark(1, Mark{1, 2, 3, 4}))
	f.Fuzz(func(t *testing.T, g uint32, index uint64, b []byte) {
		if e, err := decodeLogEntry(GroupID(g), index, b); err == nil && !bytes.Equal(encodeLogEntry(GroupID(g), e), b) {
			t.Fatal("entry changed")
		}
		if hs, err := decodeHardState(GroupID(g), b); err == nil && !bytes.Equal(encodeHardState(GroupID(g), hs), b) {
			t.Fatal("hard state changed")
		}
		if m, err := decodeMark(GroupID(g), b); err == nil && !bytes.Equal(encodeMark(GroupID(g), m), b) {
			t.Fatal("mark changed")
		}
	})
}

func FuzzHeadAndCalls(f *testing.F) {
	head, err := encodeHead(1, 2, &raftpb.Message{Type: raftpb.MsgSnap.Enum(), Snapshot: &raftpb.Snapshot{
		Metadata: &raftpb.SnapshotMetadata{Index: proto.Uint64(9), Term: proto.Uint64(1)},
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(head)
	f.Add(encodeRequest(3, []byte("x")))
	f.Add(encodeResponse(response{kind: outcomeNotLeader, leader: 4}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := decodeHead(b); err == nil && m.msg.GetSnapshot().GetMetadata().GetIndex() == 0 {
			t.Fatal("snapshot of nothing")
		}
		if g, data, err := decodeRequest(b); err == nil && !bytes.Equal(encodeRequest(g, data), b) {
			t.Fatal("request changed")
		}
		if o, err := decodeResponse(b); err == nil && !bytes.Equal(encodeResponse(o), b) {
			t.Fatal("response changed")
		}
	})
}

func FuzzStreamReader(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 'x', 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		out, err := io.ReadAll(newStreamReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		if len(out)+4+16 > len(b) {
			t.Fatal("more came out than went in")
		}
	})
}

func TestStreamIsWholeOrAnError(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		data := bytes.Repeat([]byte("0123456789abcdef"), rapid.IntRange(0, 3*streamChunk/16).Draw(rt, "n"))
		var wire bytes.Buffer
		w := newStreamWriter(&wire)
		for rest := data; len(rest) > 0; {
			n := min(len(rest), rapid.IntRange(1, streamChunk+5).Draw(rt, "write"))
			if _, err := w.Write(rest[:n]); err != nil {
				rt.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.end(); err != nil {
			rt.Fatal(err)
		}
		sent := wire.Bytes()
		if got, err := io.ReadAll(newStreamReader(bytes.NewReader(sent))); err != nil || !bytes.Equal(got, data) {
			rt.Fatalf("%d bytes came, %d were sent: %v", len(got), len(data), err)
		}
		cutAt := rapid.IntRange(0, len(sent)-1).Draw(rt, "cut")
		if _, err := io.ReadAll(newStreamReader(bytes.NewReader(sent[:cutAt]))); err == nil {
			rt.Fatalf("%d of %d bytes passed for a whole stream", cutAt, len(sent))
		}
		bad := bytes.Clone(sent)
		bad[rapid.IntRange(0, len(sent)-1).Draw(rt, "flip")] ^= 1
		if _, err := io.ReadAll(newStreamReader(bytes.NewReader(bad))); err == nil {
			rt.Fatal("damage passed")
		}
	})
}

func TestVersionBytes(t *testing.T) {
	packed, err := appendMessage(nil, 1, 0, sampleMessage())
	if err != nil {
		t.Fatal(err)
	}
	packed[0]++
	if _, err := parseMessages(packed); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
	entry := encodeEntry(1, 2, nil)
	entry[0]++
	if _, _, _, err := decodeEntry(entry); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
	for name, b := range map[string][]byte{"request": encodeRequest(1, nil), "response": encodeResponse(response{kind: outcomeOK})} {
		b[0]++
		_, _, err1 := decodeRequest(b)
		_, err2 := decodeResponse(b)
		if err1 == nil || err2 == nil {
			t.Error(name, "of another version was taken")
		}
	}
}
