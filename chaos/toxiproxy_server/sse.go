package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
)

// The toxic `sse`: cuts, stalls or splits an HTTP/1 answer at a place in its event stream.
//
// Rules:
//   - Bytes are never changed, dropped or moved: what passes is a prefix of what came, or all of it.
//   - Events are those of the HTML Standard: blocks with a data field, lines ended by LF, CRLF or CR. Comments and blocks
//     without data count for nothing. An event is over with the byte that ends its blank line; of a CRLF the LF goes with
//     it where it is there already.
//   - Only the payload of an answer of type text/event-stream without content coding is looked at, in chunks, by length
//     or to the end of the connection; each answer of a connection kept alive counts from the start. Whatever can't be
//     read so passes untouched, and `fired` stays where it was.
//   - A call of the API is answered at once, whatever this toxic is doing: what it holds lies in the connection's state,
//     which outlives an interrupt. If it is taken away while its client does not read, it ends that connection rather than
//     leave a hole in it.
//   - At rest it counts and passes everything on: a place that a connection passes meanwhile is behind it for good, and what
//     was held is let go.
//   - It can't send a reset: stand a reset_peer with toxicity 0 beside it, which makes every close one.

const (
	atBoundary  = "boundary"  // after that many events, at the end of one; 0 is the end of the head
	atEvent     = "event"     // offset bytes into an event that follows that many
	atCharacter = "character" // behind the first byte of a character of several bytes, after that many events
	atTime      = "time"      // after_ms after the connection began, whatever passes on it
	atByte      = "byte"      // after after_bytes of the connection, whatever they are

	actionCut   = "cut"   // the connection ends
	actionStall = "stall" // nothing passes for delay_ms
	actionSplit = "split" // the same, meant as a pause that makes two reads of one
	actionRest  = "rest"  // nothing, until the attributes say otherwise

	longestHead = 64 << 10
	longestLine = 4 << 10
	longestMs   = 7_200_000

	// How long what is held may take to leave when the toxic is taken away.
	flushLimit = 200 * time.Millisecond
)

// Settings are the toxic's attributes.
type Settings struct {
	Action      string `json:"action"`
	At          string `json:"at"`
	AfterEvents int64  `json:"after_events"`
	Offset      int64  `json:"offset"`
	AfterMs     int64  `json:"after_ms"`
	AfterBytes  int64  `json:"after_bytes"`
	DelayMs     int64  `json:"delay_ms"`
	Times       int64  `json:"times"` // in one answer; 0 is every time
}

// SSEToxic is one toxic on one proxy, shared by its connections.
type SSEToxic struct {
	settings atomic.Pointer[Settings] // replaced whole: connections read them while the API changes them
	fired    atomic.Int64
}

func (t *SSEToxic) now() *Settings {
	if settings := t.settings.Load(); settings != nil {
		return settings
	}
	return &Settings{}
}

// MarshalJSON adds how often the toxic fired, on all connections.
func (t *SSEToxic) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Settings
		Fired int64 `json:"fired"`
	}{*t.now(), t.fired.Load()})
}

// UnmarshalJSON refuses what a stock toxic would take in silence: unknown attributes and values without a meaning.
func (t *SSEToxic) UnmarshalJSON(data []byte) error {
	next := struct {
		Settings
		Fired json.RawMessage `json:"fired"` // ours to count: what is sent back is ignored
	}{Settings: *t.now()}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&next); err != nil {
		return err
	}
	if err := next.Settings.check(); err != nil {
		return err
	}
	t.settings.Store(&next.Settings)
	return nil
}

func (s *Settings) check() error {
	switch s.Action {
	case actionCut, actionStall, actionSplit, actionRest:
	default:
		return fmt.Errorf("action is cut, stall, split or rest, not %q", s.Action)
	}
	switch s.At {
	case atBoundary, atEvent, atCharacter, atTime, atByte:
	default:
		return fmt.Errorf("at is boundary, event, character, time or byte, not %q", s.At)
	}
	if s.AfterEvents < 0 || s.Times < 0 || s.AfterMs < 0 || s.AfterMs > longestMs || s.DelayMs < 0 || s.DelayMs > longestMs {
		return fmt.Errorf("after_events and times are 0 or more, after_ms and delay_ms from 0 to %d", longestMs)
	}
	if s.At == atEvent && s.Offset < 1 {
		return fmt.Errorf("offset is 1 or more, not %d", s.Offset)
	}
	if s.At == atByte && s.AfterBytes < 1 {
		return fmt.Errorf("after_bytes is 1 or more, not %d", s.AfterBytes)
	}
	return nil
}

type phase int

const (
	inHead phase = iota
	inLength
	inChunkSize
	inChunk
	inChunkEnd
	inTrailers
	untilClose
	opaque
)

// answer is where a connection stands: in its HTTP framing and, within, in its events.
type answer struct {
	phase phase
	line  []byte // of a head, a chunk size or a trailer
	left  int64  // payload bytes until the chunk or the body ends

	readable bool  // an event stream in plain text
	events   int64 // complete ones in this answer
	fired    int64 // in this answer
	inEvent  int64 // bytes since the block's first line that is no comment
	inBlock  bool
	hasData  bool
	afterCR  bool
	lineLen  int
	prefix   [5]byte
	bom      int // bytes of a byte order mark matched so far; -1 once the start is over
}

// unsent is what a connection's toxic has received and not yet sent.
type unsent struct {
	pending []byte
	stamp   time.Time
	ended   bool // the source has closed
}

// state is one connection's, and outlives interrupts.
type state struct {
	answer
	unsent
	begun time.Time
	timed bool // the place in time is behind us
	held  time.Time
	sent  int64 // bytes of the connection
	ready int   // so many pending ones are free to go
	fires bool  // the place lies behind those
}

// NewState begins a connection.
func (t *SSEToxic) NewState() interface{} { return &state{begun: time.Now()} }

// Pipe passes bytes on until the connection ends or somebody interrupts.
func (t *SSEToxic) Pipe(stub *toxics.ToxicStub) {
	s := stub.State.(*state)
	for {
		now := t.now()
		if now.Action == actionRest {
			s.held = time.Time{}
		}
		due, stop := due(now, s)
		again, over := t.step(now, s, stub, due)
		stop()
		if over {
			drain(stub)
		}
		if !again {
			return
		}
	}
}

// due is the next moment at which something happens without any byte: the end of a stall, or the place in time.
func due(now *Settings, s *state) (<-chan time.Time, func()) {
	at := s.held
	if at.IsZero() && now.At == atTime && !s.timed {
		at = s.begun.Add(time.Duration(now.AfterMs) * time.Millisecond)
	}
	if at.IsZero() {
		return nil, func() {}
	}
	timer := time.NewTimer(time.Until(at))
	return timer.C, func() { timer.Stop() }
}

// step waits for one thing and does it. again is false when Pipe must return, over is true when it ended the connection.
func (t *SSEToxic) step(now *Settings, s *state, stub *toxics.ToxicStub, due <-chan time.Time) (again, over bool) {
	if s.held.IsZero() && s.ready == 0 {
		now.scan(s)
	}
	var input <-chan *stream.StreamChunk
	var output chan<- *stream.StreamChunk
	var piece *stream.StreamChunk
	switch {
	case !s.held.IsZero():
	case s.ready > 0:
		output, piece = stub.Output, &stream.StreamChunk{Data: s.pending[:s.ready], Timestamp: s.stamp}
	case s.ended:
		stub.Close()
		return false, false
	default:
		input = stub.Input
	}
	select {
	case <-stub.Interrupt:
		return false, false
	case <-due:
		if !s.held.IsZero() {
			s.held = time.Time{}
			return true, false
		}
		s.timed = true
		return t.act(now, s, stub)
	case output <- piece:
		s.sent += int64(s.ready)
		s.pending, s.ready = s.pending[s.ready:], 0
		if !s.fires {
			return true, false
		}
		s.fires = false
		return t.act(now, s, stub)
	case c := <-input:
		if c == nil {
			s.ended = true
			return true, false
		}
		s.pending, s.stamp = c.Data, c.Timestamp
		return true, false
	}
}

// act fires, unless it has come to rest since the place was found.
func (t *SSEToxic) act(now *Settings, s *state, stub *toxics.ToxicStub) (again, over bool) {
	if now.Action == actionRest {
		return true, false
	}
	t.fired.Add(1)
	if now.Action == actionCut {
		stub.Close()
		return false, true
	}
	s.held = time.Now().Add(time.Duration(now.DelayMs) * time.Millisecond)
	return true, false
}

// drain takes what still comes on a connection that is over, so that its reader ends with its source. A closed stub is
// never interrupted.
func drain(stub *toxics.ToxicStub) {
	for range stub.Input {
	}
}

// Cleanup is called before the toxic is taken away.
func (t *SSEToxic) Cleanup(stub *toxics.ToxicStub) { stub.State.(*state).flush(stub) }

// flush sends what is held, or ends the connection where that can't be sent.
func (u *unsent) flush(stub *toxics.ToxicStub) {
	if len(u.pending) > 0 {
		held := &stream.StreamChunk{Data: u.pending, Timestamp: u.stamp}
		if stub.WriteOutput(held, flushLimit) != nil {
			stub.Close()
			go drain(stub)
			return
		}
		u.pending = nil
	}
	if u.ended {
		stub.Close()
	}
}

// scan frees the pending bytes up to the next place, or all of them.
func (now *Settings) scan(s *state) {
	if now.At == atByte {
		s.ready = len(s.pending)
		if left := now.AfterBytes - s.sent; left > 0 && left <= int64(s.ready) && now.Action != actionRest {
			s.ready, s.fires = int(left), true
		}
		return
	}
	if now.At == atTime || s.phase == opaque {
		s.ready = len(s.pending)
		return
	}
	for i, b := range s.pending {
		payload, headEnded := s.frame(b)
		hit := headEnded && now.At == atBoundary && now.AfterEvents == 0
		if payload && s.readable {
			completed := s.event(b)
			hit = now.hits(s, b, completed)
		}
		if !hit || !s.readable || (now.Times > 0 && s.fired >= now.Times) {
			continue
		}
		s.fired++
		if now.Action == actionRest {
			continue
		}
		s.ready, s.fires = i+1, true
		if s.afterCR && now.At == atBoundary && i+1 < len(s.pending) && s.pending[i+1] == '\n' && s.inPayload() {
			s.frame('\n')
			s.event('\n')
			s.ready++
		}
		return
	}
	s.ready = len(s.pending)
}

// hits says whether the place lies behind the payload byte b.
func (now *Settings) hits(s *state, b byte, completed bool) bool {
	if s.events < now.AfterEvents {
		return false
	}
	switch now.At {
	case atBoundary:
		return completed
	case atEvent:
		return s.inEvent == now.Offset
	default:
		return b >= 0xC2 && b <= 0xF4 // leads a character of two to four bytes
	}
}

func (a *answer) inPayload() bool {
	return a.phase == inLength || a.phase == inChunk || a.phase == untilClose
}

// frame advances over one byte of the connection: whether it is payload, and whether it ended the head of an answer
// with a body.
func (a *answer) frame(b byte) (payload, headEnded bool) {
	switch a.phase {
	case inHead:
		a.line = append(a.line, b)
		if b == '\n' && (bytes.HasSuffix(a.line, []byte("\n\r\n")) || bytes.HasSuffix(a.line, []byte("\n\n"))) {
			a.head(string(a.line))
			a.line = a.line[:0]
			return false, a.phase != inHead
		}
		if len(a.line) > longestHead || (len(a.line) == 5 && string(a.line) != "HTTP/") {
			a.giveUp()
		}
	case inLength:
		if a.left--; a.left == 0 {
			a.phase = inHead
		}
		return true, false
	case inChunk:
		if a.left--; a.left == 0 {
			a.phase = inChunkEnd
		}
		return true, false
	case untilClose:
		return true, false
	case inChunkEnd:
		if b == '\n' {
			a.phase = inChunkSize
		}
	case inChunkSize:
		if a.whole(b) {
			a.chunk()
		}
	case inTrailers:
		if a.whole(b) {
			if len(bytes.TrimSpace(a.line)) == 0 {
				a.phase = inHead
			}
			a.line = a.line[:0]
		}
	case opaque:
	}
	return false, false
}

// whole collects a line and says whether it is complete.
func (a *answer) whole(b byte) bool {
	a.line = append(a.line, b)
	if len(a.line) > longestLine {
		a.giveUp()
		return false
	}
	return b == '\n'
}

func (a *answer) chunk() {
	size, _, _ := strings.Cut(string(a.line), ";")
	a.line = a.line[:0]
	left, err := strconv.ParseInt(strings.TrimSpace(size), 16, 64)
	switch {
	case err != nil || left < 0:
		a.giveUp()
	case left == 0:
		a.phase = inTrailers
	default:
		a.phase, a.left = inChunk, left
	}
}

// head reads status and framing of an answer that begins.
func (a *answer) head(text string) {
	*a = answer{line: a.line}
	lines := strings.Split(text, "\n")
	words := strings.Fields(lines[0])
	if len(words) < 2 {
		a.giveUp()
		return
	}
	status := words[1]
	if status == "101" {
		a.giveUp()
		return
	}
	if strings.HasPrefix(status, "1") || status == "204" || status == "304" {
		return // no body: another head follows
	}
	a.phase, a.left = untilClose, -1
	plain, events, chunked := true, false, false
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		value = strings.ToLower(strings.TrimSpace(value))
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "transfer-encoding":
			chunked = strings.HasSuffix(value, "chunked")
		case "content-length":
			if length, err := strconv.ParseInt(value, 10, 64); err == nil && length >= 0 {
				a.left = length
			}
		case "content-type":
			events = strings.HasPrefix(value, "text/event-stream")
		case "content-encoding":
			plain = value == "" || value == "identity"
		}
	}
	a.readable = plain && events
	switch {
	case chunked:
		a.phase = inChunkSize
	case a.left == 0:
		a.phase = inHead
	case a.left > 0:
		a.phase = inLength
	}
}

func (a *answer) giveUp() {
	a.phase, a.readable, a.line = opaque, false, nil
}

var byteOrderMark = [3]byte{0xEF, 0xBB, 0xBF}

// event advances over one payload byte and says whether it completed an event.
func (a *answer) event(b byte) bool {
	if a.bom >= 0 {
		if a.bom < len(byteOrderMark) && b == byteOrderMark[a.bom] {
			a.bom++
			return false
		}
		if a.bom < len(byteOrderMark) {
			a.lineLen = a.bom // no mark after all: the line begins with those bytes
		}
		a.bom = -1
	}
	if a.afterCR {
		a.afterCR = false
		if b == '\n' {
			if a.inBlock {
				a.inEvent++
			}
			return false
		}
	}
	if b != '\n' && b != '\r' {
		if a.lineLen == 0 && b != ':' {
			a.inBlock = true
		}
		if a.lineLen < len(a.prefix) {
			a.prefix[a.lineLen] = b
		}
		a.lineLen++
		if a.inBlock {
			a.inEvent++
		}
		return false
	}
	a.afterCR = b == '\r'
	if a.lineLen > 0 {
		a.hasData = a.hasData || a.isData()
		a.lineLen = 0
		if a.inBlock {
			a.inEvent++
		}
		return false
	}
	completed := a.hasData
	if completed {
		a.events++
	}
	a.inEvent, a.inBlock, a.hasData = 0, false, false
	return completed
}

func (a *answer) isData() bool {
	return a.lineLen >= 4 && string(a.prefix[:4]) == "data" && (a.lineLen == 4 || a.prefix[4] == ':')
}

func init() { toxics.Register("sse", new(SSEToxic)) }
