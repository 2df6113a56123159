package main

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2/stream"
	"github.com/Shopify/toxiproxy/v2/toxics"
)

// paced is one connection through the toxic, and what leaves it.
func paced(rate int64) (*PaceToxic, *toxics.ToxicStub, chan *stream.StreamChunk, chan *stream.StreamChunk) {
	toxic := new(PaceToxic)
	toxic.rate.Store(rate)
	input, out := make(chan *stream.StreamChunk), make(chan *stream.StreamChunk)
	stub := toxics.NewToxicStub(input, out)
	stub.State = toxic.NewState()
	go stub.Run(&toxics.ToxicWrapper{Toxic: toxic, Toxicity: 1})
	return toxic, stub, input, out
}

func TestPacesWithoutLosingAByte(t *testing.T) {
	wire := bytes.Repeat([]byte("0123456789"), 300)
	for _, size := range []int{50, 3_000} {
		_, _, input, out := paced(10) // 3,000 bytes in 300 ms
		begun := time.Now()
		go func() {
			for at := 0; at < len(wire); at += size {
				input <- &stream.StreamChunk{Data: wire[at : at+size]}
			}
			close(input)
		}()
		var got []byte
		for c := range out {
			got = append(got, c.Data...)
			if len(c.Data) > 1_000 {
				t.Fatalf("%d bytes at once", len(c.Data))
			}
			if fastest := time.Duration(len(got)) * time.Millisecond / 10; time.Since(begun) < fastest {
				t.Fatalf("%d bytes after %v", len(got), time.Since(begun))
			}
		}
		if !bytes.Equal(got, wire) || time.Since(begun) > 3*time.Second {
			t.Fatalf("%d bytes in %v", len(got), time.Since(begun))
		}
	}
}

func TestAChangedRateHoldsAtOnce(t *testing.T) {
	wire := bytes.Repeat([]byte("x"), 20_000)
	toxic, stub, input, out := paced(0)
	run := func(rate int64) {
		toxic.rate.Store(rate)
		if !stub.InterruptToxic() {
			t.Fatal("the connection is closed")
		}
		go stub.Run(&toxics.ToxicWrapper{Toxic: toxic, Toxicity: 1})
	}
	input <- &stream.StreamChunk{Data: wire}
	if c := <-out; len(c.Data) != len(wire) {
		t.Fatalf("%d bytes at rest", len(c.Data))
	}
	run(1)
	input <- &stream.StreamChunk{Data: wire} // 20 s of it
	if c := <-out; len(c.Data) != 100 {
		t.Fatalf("%d bytes", len(c.Data))
	}
	run(0)
	select {
	case c := <-out:
		if len(c.Data) != len(wire)-100 {
			t.Fatalf("%d bytes", len(c.Data))
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on at the old rate")
	}
	run(1)
	input <- &stream.StreamChunk{Data: wire}
	if !stub.InterruptToxic() {
		t.Fatal("the connection is closed")
	}
	go toxic.Cleanup(stub)
	if c := <-out; len(c.Data) != len(wire) {
		t.Fatalf("%d bytes when it was taken away", len(c.Data))
	}
}

func TestTheRateIsStrict(t *testing.T) {
	toxic := new(PaceToxic)
	if err := json.Unmarshal([]byte(`{"rate":7}`), toxic); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{`{"rate":-1}`, `{"rate":10000001}`, `{"rates":1}`, `{"rate":"1"}`, `[]`} {
		if json.Unmarshal([]byte(bad), toxic) == nil {
			t.Errorf("%s was taken", bad)
		}
	}
	said, err := json.Marshal(&toxics.ToxicWrapper{Toxic: toxic, Name: "x"})
	if err != nil || !bytes.Contains(said, []byte(`"rate":7`)) {
		t.Fatalf("%s, %v", said, err)
	}
}
