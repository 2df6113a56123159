package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
)

// The toxic `pace`: so many bytes a second, with a rate that can be changed while streams run.
//
// The stock toxic `bandwidth` does the same at a rate that stays. Changed on a live connection it can end the server: it
// may cut the piece it waits with by the new rate, which is longer than the piece. As there, a larger piece than goes in
// 100 ms is sent in parts, each behind its own time. Rules as of `sse`: no byte is changed, dropped or moved, a call of the
// API is answered at once, and what can't be sent when it is taken away ends the connection.

const (
	fastest = 10_000_000 // KB/s
	part    = 100        // ms
)

// PaceToxic is one toxic on one proxy, shared by its connections.
type PaceToxic struct {
	rate atomic.Int64 // KB (1000 bytes) a second; 0 is as it comes
}

type paceSettings struct {
	Rate int64 `json:"rate"`
}

// MarshalJSON says the rate.
func (t *PaceToxic) MarshalJSON() ([]byte, error) {
	return json.Marshal(paceSettings{t.rate.Load()})
}

// UnmarshalJSON refuses unknown attributes and rates that can't be.
func (t *PaceToxic) UnmarshalJSON(data []byte) error {
	next := paceSettings{t.rate.Load()}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&next); err != nil {
		return err
	}
	if next.Rate < 0 || next.Rate > fastest {
		return fmt.Errorf("rate is from 0 to %d, not %d", fastest, next.Rate)
	}
	t.rate.Store(next.Rate)
	return nil
}

// pace is one connection's, and outlives interrupts.
type pace struct {
	unsent
	rate int64     // that the times below were made with
	at   time.Time // when the next part may leave; zero is not known yet
	last time.Time // when the one before it might
}

// NewState begins a connection.
func (t *PaceToxic) NewState() interface{} { return new(pace) }

// Pipe passes bytes on until the connection ends or somebody interrupts.
func (t *PaceToxic) Pipe(stub *toxics.ToxicStub) {
	s := stub.State.(*pace)
	for {
		ready, wait := s.next(t.rate.Load(), time.Now())
		var input <-chan *stream.StreamChunk
		var output chan<- *stream.StreamChunk
		var piece *stream.StreamChunk
		var due <-chan time.Time
		switch {
		case ready == 0 && s.ended:
			stub.Close()
			return
		case ready == 0:
			input = stub.Input
		case wait > 0:
			due = time.After(wait)
		default:
			output, piece = stub.Output, &stream.StreamChunk{Data: s.pending[:ready], Timestamp: s.stamp}
		}
		select {
		case <-stub.Interrupt:
			return
		case <-due:
		case output <- piece:
			s.pending, s.last, s.at = s.pending[ready:], s.at, time.Time{}
		case c := <-input:
			if c == nil {
				s.ended = true
			} else {
				s.pending, s.stamp = c.Data, c.Timestamp
			}
		}
	}
}

// next is how many of the pending bytes go next, and how long they have to wait.
func (s *pace) next(rate int64, now time.Time) (ready int, wait time.Duration) {
	if rate != s.rate {
		s.rate, s.at, s.last = rate, time.Time{}, time.Time{}
	}
	ready = len(s.pending)
	if rate == 0 || ready == 0 {
		return ready, 0
	}
	ready = int(min(int64(ready), rate*part))
	if s.at.IsZero() {
		if s.last.Before(now) {
			s.last = now
		}
		s.at = s.last.Add(time.Duration(ready) * time.Millisecond / time.Duration(rate))
	}
	return ready, s.at.Sub(now)
}

// Cleanup is called before the toxic is taken away.
func (t *PaceToxic) Cleanup(stub *toxics.ToxicStub) { stub.State.(*pace).flush(stub) }

func init() { toxics.Register("pace", new(PaceToxic)) }
