package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
)

const headOf = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"

var ends = map[string]string{"LF": "\n", "CRLF": "\r\n", "CR": "\r"}

// events are n events with characters of two, three and four bytes, comments and a block without data between them.
func events(n int, end string) []string {
	var blocks []string
	for i := range n {
		lines := fmt.Sprintf("id: %d|data: é سلام 🎈 %d|data: €||", i, i)
		if i%2 == 1 {
			lines = ": ping||retry: 9||" + lines
		}
		blocks = append(blocks, strings.ReplaceAll(lines, "|", end))
	}
	return blocks
}

// framed is an answer, and where in it each payload byte lies.
func framed(body []byte, how string) (wire []byte, places []int) {
	put := func(payload []byte) {
		for _, b := range payload {
			places = append(places, len(wire))
			wire = append(wire, b)
		}
	}
	switch how {
	case "length":
		wire = fmt.Appendf(nil, "%sContent-Length: %d\r\n\r\n", headOf, len(body))
		put(body)
	case "close":
		wire = []byte(headOf + "Connection: close\r\n\r\n")
		put(body)
	case "chunks":
		wire = []byte(headOf + "Transfer-Encoding: chunked\r\n\r\n")
		for len(body) > 0 {
			size := min(7, len(body)) // events and characters lie across chunks
			wire = fmt.Appendf(wire, "%X;x=\"é\"\r\n", size)
			put(body[:size])
			wire, body = append(wire, "\r\n"...), body[size:]
		}
		wire = append(wire, "0\r\nTrailer: é\r\n\r\n"...)
	}
	return wire, places
}

// rig is one connection through the toxic.
type rig struct {
	toxic *SSEToxic
	input chan *stream.StreamChunk
	out   chan *stream.StreamChunk
	stub  *toxics.ToxicStub
}

func rigged(settings Settings) *rig {
	r := &rig{
		toxic: &SSEToxic{},
		input: make(chan *stream.StreamChunk),
		out:   make(chan *stream.StreamChunk),
	}
	r.toxic.settings.Store(&settings)
	r.stub = toxics.NewToxicStub(r.input, r.out)
	r.stub.State = r.toxic.NewState()
	return r
}

func (r *rig) run() {
	r.stub.Run(&toxics.ToxicWrapper{Toxic: r.toxic, Toxicity: 1})
}

// pass sends the wire in reads of that size and gives what came out, piece by piece.
func (r *rig) pass(wire []byte, size int) [][]byte {
	go r.run()
	go func() {
		for len(wire) > 0 {
			n := min(size, len(wire))
			r.input <- &stream.StreamChunk{Data: bytes.Clone(wire[:n]), Timestamp: time.Now()}
			wire = wire[n:]
		}
		close(r.input)
	}()
	var pieces [][]byte
	for c := range r.out {
		pieces = append(pieces, c.Data)
	}
	return pieces
}

func joined(pieces [][]byte) []byte { return bytes.Join(pieces, nil) }

func eachWay(t *testing.T, do func(t *testing.T, end, how string, size int)) {
	for name, end := range ends {
		for _, how := range []string{"length", "close", "chunks"} {
			for _, size := range []int{1, 2, 3, 11, 1 << 20} {
				t.Run(fmt.Sprintf("%s/%s/%d", name, how, size), func(t *testing.T) { do(t, end, how, size) })
			}
		}
	}
}

func TestCutsAfterSoManyEvents(t *testing.T) {
	eachWay(t, func(t *testing.T, end, how string, size int) {
		blocks := events(5, end)
		wire, places := framed([]byte(strings.Join(blocks, "")), how)
		for n := 1; n <= 4; n++ {
			r := rigged(Settings{Action: "cut", At: "boundary", AfterEvents: int64(n), Times: 1})
			whole := len(strings.Join(blocks[:n], ""))
			want := wire[:places[whole-1]+1]
			got := joined(r.pass(wire, size))
			// The LF of a last CRLF goes with the event only where it came with it.
			if !bytes.Equal(got, want) && !(end == "\r\n" && bytes.Equal(got, wire[:places[whole-2]+1])) {
				t.Fatalf("after %d events: %q instead of %q", n, got, want)
			}
			if r.toxic.fired.Load() != 1 {
				t.Fatalf("fired %d times", r.toxic.fired.Load())
			}
		}
	})
}

func TestCutsBehindTheHead(t *testing.T) {
	wire, places := framed([]byte("data: x\n\n"), "length")
	got := joined(rigged(Settings{Action: "cut", At: "boundary", Times: 1}).pass(wire, 5))
	if !bytes.Equal(got, wire[:places[0]]) {
		t.Fatalf("%q", got)
	}
}

func TestCutsInsideAnEvent(t *testing.T) {
	eachWay(t, func(t *testing.T, end, how string, size int) {
		blocks := events(4, end)
		wire, places := framed([]byte(strings.Join(blocks, "")), how)
		for n := range 3 {
			// Comments and the block without data before the event are passed over with what they are worth: nothing
			// for the comment, its bytes for the block.
			offset := 5
			r := rigged(Settings{Action: "cut", At: "event", AfterEvents: int64(n), Offset: int64(offset), Times: 1})
			start := len(strings.Join(blocks[:n], "")) + strings.IndexAny(blocks[n], "ir")
			if strings.HasPrefix(blocks[n], ":") {
				start = len(strings.Join(blocks[:n], "")) + strings.Index(blocks[n], "retry")
			}
			want := wire[:places[start+offset-1]+1]
			if got := joined(r.pass(wire, size)); !bytes.Equal(got, want) {
				t.Fatalf("in event %d: %q instead of %q", n, got, want)
			}
		}
	})
}

func TestCutsInsideACharacter(t *testing.T) {
	eachWay(t, func(t *testing.T, end, how string, size int) {
		blocks := events(4, end)
		wire, places := framed([]byte(strings.Join(blocks, "")), how)
		r := rigged(Settings{Action: "cut", At: "character", AfterEvents: 2, Times: 1})
		lead := len(strings.Join(blocks[:2], "")) + strings.Index(blocks[2], "é")
		if got := joined(r.pass(wire, size)); !bytes.Equal(got, wire[:places[lead]+1]) {
			t.Fatalf("%q", got)
		}
	})
}

func TestSplitsEveryCharacterAndChangesNoByte(t *testing.T) {
	eachWay(t, func(t *testing.T, end, how string, size int) {
		body := []byte("\uFEFF" + strings.Join(events(3, end), ""))
		wire, places := framed(body, how)
		r := rigged(Settings{Action: "split", At: "character"})
		pieces := r.pass(wire, size)
		if !bytes.Equal(joined(pieces), wire) {
			t.Fatalf("%q instead of %q", joined(pieces), wire)
		}
		bounds := map[int]bool{}
		at := 0
		for _, piece := range pieces {
			at += len(piece)
			bounds[at] = true
		}
		characters := int64(0)
		for i, b := range body {
			if b >= 0xC2 {
				characters++
				if !bounds[places[i]+1] {
					t.Fatalf("the character at %d is whole", i)
				}
			}
		}
		if r.toxic.fired.Load() != characters || characters < 20 {
			t.Fatalf("fired %d times for %d characters", r.toxic.fired.Load(), characters)
		}
	})
}

func TestStallsAndLosesNothing(t *testing.T) {
	blocks := events(3, "\n")
	wire, places := framed([]byte(strings.Join(blocks, "")), "chunks")
	r := rigged(Settings{Action: "stall", At: "event", AfterEvents: 1, Offset: 2, DelayMs: 80, Times: 1})
	begun := time.Now()
	pieces := r.pass(wire, 1<<20)
	if time.Since(begun) < 80*time.Millisecond {
		t.Fatal("no stall")
	}
	start := len(blocks[0]) + strings.Index(blocks[1], "retry")
	if len(pieces) != 2 || len(pieces[0]) != places[start+1]+1 || !bytes.Equal(joined(pieces), wire) {
		t.Fatalf("%q", pieces)
	}
}

func TestStallsAgainAtEveryEvent(t *testing.T) {
	wire, _ := framed([]byte(strings.Join(events(4, "\n"), "")), "length")
	r := rigged(Settings{Action: "stall", At: "boundary", AfterEvents: 2})
	if got := joined(r.pass(wire, 1<<20)); !bytes.Equal(got, wire) || r.toxic.fired.Load() != 3 {
		t.Fatalf("fired %d times: %q", r.toxic.fired.Load(), got)
	}
}

func TestEachAnswerOfAConnectionCountsFromTheStart(t *testing.T) {
	one, _ := framed([]byte("data: é\n\n"), "chunks")
	two, _ := framed([]byte("data: ü\r\n\r\ndata: ü\r\n\r\n"), "length")
	error503 := []byte("HTTP/1.1 503 No\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n\"é\"\n")
	bare := []byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
	all := bytes.Join([][]byte{one, error503, bare, two, one}, nil)
	for size := 1; size < 40; size++ {
		r := rigged(Settings{Action: "cut", At: "boundary", AfterEvents: 2, Times: 1})
		got := joined(r.pass(all, size))
		want := len(one) + len(error503) + len(bare) + len(two)
		if len(got) != want && len(got) != want-1 { // the last LF, where it came apart
			t.Fatalf("reads of %d: %q", size, got[len(one):])
		}
		split := rigged(Settings{Action: "split", At: "character", Times: 1})
		if got := joined(split.pass(all, size)); !bytes.Equal(got, all) || split.toxic.fired.Load() != 3 {
			t.Fatalf("reads of %d: fired %d times", size, split.toxic.fired.Load())
		}
	}
}

func TestWhatCannotBeReadPasses(t *testing.T) {
	body := "data: é\n\ndata: é\n\n"
	for name, wire := range map[string]string{
		"gzip":            headOf + "Content-Encoding: gzip\r\n\r\n" + body,
		"no event stream": "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + body,
		"no HTTP":         "\x16\x03\x01" + body,
		"not yet HTTP":    "HTT",
		"upgraded":        "HTTP/1.1 101 Switching Protocols\r\nContent-Type: text/event-stream\r\n\r\n" + body,
		"no status":       "HTTP/1.1\r\nContent-Type: text/event-stream\r\n\r\n" + body,
		"bad chunk":       headOf + "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + body,
		"negative chunk":  headOf + "Transfer-Encoding: chunked\r\n\r\n-9\r\n" + body,
		"endless head":    "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", longestHead) + "\r\n" + headOf + "\r\n" + body,
		"endless chunk":   headOf + "Transfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("x", longestLine) + "\r\n" + body,
	} {
		for _, at := range []string{"boundary", "event", "character"} {
			r := rigged(Settings{Action: "cut", At: at, AfterEvents: 1, Offset: 1, Times: 1})
			if got := string(joined(r.pass([]byte(wire), 1000))); got != wire || r.toxic.fired.Load() != 0 {
				t.Errorf("%s, %s: fired %d times, %d of %d bytes", name, at, r.toxic.fired.Load(), len(got), len(wire))
			}
		}
	}
}

func TestCutsAfterATimeWhateverPasses(t *testing.T) {
	r := rigged(Settings{Action: "cut", At: "time", AfterMs: 200, Times: 1})
	go r.run()
	begun := time.Now()
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case r.input <- &stream.StreamChunk{Data: []byte("\x17opaque")}:
				time.Sleep(time.Millisecond)
			case <-stop:
				close(r.input)
				return
			}
		}
	}()
	passed := 0
	for range r.out {
		passed++
	}
	close(stop)
	if took := time.Since(begun); took < 200*time.Millisecond || passed < 2 || r.toxic.fired.Load() != 1 {
		t.Fatalf("%v, %d pieces, fired %d times", took, passed, r.toxic.fired.Load())
	}
}

// interrupts ends Pipe as a call of the API does, and fails when that takes longer than such a call may.
func (r *rig) interrupts(t *testing.T) {
	t.Helper()
	done := make(chan bool, 1)
	go func() { done <- r.stub.InterruptToxic() }()
	select {
	case open := <-done:
		if !open {
			t.Fatal("the connection is closed")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("an interrupt waits")
	}
}

func TestAnInterruptIsAnsweredAtOnceAndLosesNothing(t *testing.T) {
	wire, places := framed([]byte("data: one\n\ndata: two\n\n"), "length")
	r := rigged(Settings{Action: "stall", At: "boundary", AfterEvents: 1, DelayMs: 150, Times: 1})
	go r.run()
	r.input <- &stream.StreamChunk{Data: wire}
	r.interrupts(t) // nobody reads: what is ready stays
	go r.run()
	begun := time.Now()
	first := <-r.out
	r.interrupts(t) // it stalls
	go r.run()
	second := <-r.out
	if time.Since(begun) < 150*time.Millisecond {
		t.Fatal("the stall was forgotten")
	}
	if len(first.Data) != places[10]+1 || string(second.Data) != "data: two\n\n" {
		t.Fatalf("%q, %q", first.Data, second.Data)
	}
	r.interrupts(t)
	go r.run()
	close(r.input)
	if _, open := <-r.out; open {
		t.Fatal("not closed")
	}
}

func TestTakenAwayItSendsWhatItHolds(t *testing.T) {
	wire, _ := framed([]byte("data: one\n\ndata: two\n\n"), "length")
	r := rigged(Settings{Action: "stall", At: "boundary", AfterEvents: 1, DelayMs: longestMs, Times: 1})
	go r.run()
	r.input <- &stream.StreamChunk{Data: wire}
	<-r.out
	r.interrupts(t)
	go r.toxic.Cleanup(r.stub)
	if last := <-r.out; string(last.Data) != "data: two\n\n" || r.stub.Closed() {
		t.Fatalf("%q", last.Data)
	}
}

func TestTakenAwayBeforeABlockedClientItEndsTheConnection(t *testing.T) {
	wire, _ := framed([]byte("data: one\n\n"), "length")
	r := rigged(Settings{Action: "split", At: "character"})
	go r.run()
	r.input <- &stream.StreamChunk{Data: wire}
	r.interrupts(t)
	begun := time.Now()
	r.toxic.Cleanup(r.stub)
	if !r.stub.Closed() || time.Since(begun) > 50*flushLimit {
		t.Fatalf("closed %v after %v", r.stub.Closed(), time.Since(begun))
	}
	r.input <- &stream.StreamChunk{Data: wire} // still taken, so that the reader ends
	close(r.input)
}

func TestAfterACutTheSourceIsReadToItsEnd(t *testing.T) {
	wire, _ := framed([]byte(strings.Repeat("data: x\n\n", 9)), "chunks")
	r := rigged(Settings{Action: "cut", At: "boundary", AfterEvents: 1, Times: 1})
	go r.run()
	go func() {
		for range r.out {
		}
	}()
	for range 20 {
		select {
		case r.input <- &stream.StreamChunk{Data: wire}:
		case <-time.After(20 * time.Second):
			t.Fatal("the reader is left blocked")
		}
	}
	close(r.input)
	if r.stub.InterruptToxic() {
		t.Fatal("not closed")
	}
}

func TestAttributesAreStrictAndSayHowOftenItFired(t *testing.T) {
	toxic := new(SSEToxic)
	good := `{"action":"stall","at":"event","after_events":3,"offset":2,"after_ms":0,"delay_ms":5,"times":1}`
	if err := json.Unmarshal([]byte(good), toxic); err != nil {
		t.Fatal(err)
	}
	toxic.fired.Add(7)
	if err := json.Unmarshal([]byte(`{"delay_ms":9,"fired":1}`), toxic); err != nil {
		t.Fatal(err)
	}
	said, err := json.Marshal(&toxics.ToxicWrapper{Toxic: toxic, Name: "x"})
	if err != nil || !strings.Contains(string(said), `"delay_ms":9,"times":1,"fired":7}`) {
		t.Fatalf("%s, %v", said, err)
	}
	for _, bad := range []string{
		`{"actoin":"cut"}`, `{"action":"cuts"}`, `{"at":"noon"}`, `{"after_events":-1}`, `{"delay_ms":-1}`, `{"times":-1}`,
		`{"after_ms":99999999999}`, `{"at":"byte"}`, `{"offset":0}`, `{"offset":"2"}`, `{`, `[]`,
	} {
		if json.Unmarshal([]byte(bad), toxic) == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	if *toxic.now() != (Settings{"stall", "event", 3, 2, 0, 0, 9, 1}) {
		t.Fatalf("changed to %+v", toxic.now())
	}
}

func TestCutsAfterSoManyBytes(t *testing.T) {
	wire := bytes.Repeat([]byte("whatever they are\r\n"), 9)
	for _, size := range []int{1, 7, 1 << 20} {
		for _, place := range []int{1, 18, len(wire) - 1, len(wire)} {
			r := rigged(Settings{Action: "cut", At: "byte", AfterBytes: int64(place), Times: 1})
			if got := joined(r.pass(wire, size)); !bytes.Equal(got, wire[:place]) || r.toxic.fired.Load() != 1 {
				t.Fatalf("%d by %d: %d bytes, fired %d times", place, size, len(got), r.toxic.fired.Load())
			}
		}
		r := rigged(Settings{Action: "cut", At: "byte", AfterBytes: int64(len(wire)) + 1, Times: 1})
		if got := joined(r.pass(wire, size)); !bytes.Equal(got, wire) || r.toxic.fired.Load() != 0 {
			t.Fatalf("%d bytes of a shorter connection", len(got))
		}
	}
}

// change is what a call of the API does on a live connection.
func (r *rig) change(t *testing.T, action string) {
	t.Helper()
	next := *r.toxic.now()
	next.Action = action
	r.toxic.settings.Store(&next)
	r.interrupts(t)
	go r.run()
}

func TestAPlacePassedAtRestIsBehindForGood(t *testing.T) {
	wire, places := framed([]byte(strings.Repeat("data: é\n\n", 6)), "length")
	half := places[3*10-1] + 1 // three events of ten bytes
	for name, each := range map[string]struct {
		settings Settings
		passes   bool // the place lies in the first half
	}{
		"events":         {Settings{At: "boundary", AfterEvents: 2, Times: 1}, true},
		"event":          {Settings{At: "event", AfterEvents: 1, Offset: 3, Times: 1}, true},
		"character":      {Settings{At: "character", AfterEvents: 1, Times: 1}, true},
		"bytes":          {Settings{At: "byte", AfterBytes: int64(half) - 5, Times: 1}, true},
		"later events":   {Settings{At: "boundary", AfterEvents: 5, Times: 1}, false},
		"later event":    {Settings{At: "event", AfterEvents: 4, Offset: 3, Times: 1}, false},
		"later bytes":    {Settings{At: "byte", AfterBytes: int64(half) + 5, Times: 1}, false},
		"later moment":   {Settings{At: "time", AfterMs: 200, Times: 1}, false},
		"moment already": {Settings{At: "time", AfterMs: 0, Times: 1}, true},
	} {
		t.Run(name, func(t *testing.T) {
			each.settings.Action = "rest"
			r := rigged(each.settings)
			go r.run()
			r.input <- &stream.StreamChunk{Data: wire[:half]}
			got := (<-r.out).Data
			if !bytes.Equal(got, wire[:half]) || r.toxic.fired.Load() != 0 {
				t.Fatalf("%q at rest", got)
			}
			if name == "moment already" {
				time.Sleep(20 * time.Millisecond)
			}
			r.change(t, "cut")
			go func() {
				if name == "later moment" {
					time.Sleep(400 * time.Millisecond)
				}
				r.input <- &stream.StreamChunk{Data: wire[half:]}
				close(r.input)
			}()
			for c := range r.out {
				got = append(bytes.Clone(got), c.Data...)
			}
			if each.passes != bytes.Equal(got, wire) || each.passes != (r.toxic.fired.Load() == 0) {
				t.Fatalf("%d of %d bytes, fired %d times", len(got), len(wire), r.toxic.fired.Load())
			}
		})
	}
}

func TestAtRestAStallLetsGo(t *testing.T) {
	wire, _ := framed([]byte("data: one\n\ndata: two\n\n"), "length")
	r := rigged(Settings{Action: "stall", At: "boundary", AfterEvents: 1, DelayMs: longestMs, Times: 1})
	go r.run()
	r.input <- &stream.StreamChunk{Data: wire}
	<-r.out
	r.change(t, "rest")
	select {
	case last := <-r.out:
		if string(last.Data) != "data: two\n\n" {
			t.Fatalf("%q", last.Data)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it stalls on")
	}
	r.interrupts(t)
}
