// A service on r3labs/sse: one topic that never ends, an event every 12 ms.
//
//	GET /stream?stream=steady   events without a pause
//	GET /stream?stream=quiet    an event every 7 s
//
// It prints its port, and ends when its standard input does.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/r3labs/sse/v2"
)

func publish(server *sse.Server, topic string, every time.Duration) {
	text := strings.Repeat("x", 380)
	for number := 1; ; number++ {
		server.Publish(topic, &sse.Event{Data: []byte(fmt.Sprintf(`{"n":%d,"text":"%s"}`, number, text))})
		time.Sleep(every)
	}
}

func main() {
	server := sse.New()
	// Its log keeps every event for ever and sends all of them to whoever comes: not for a topic without an end.
	server.AutoReplay = false
	for topic, every := range map[string]time.Duration{"steady": 12 * time.Millisecond, "quiet": 7 * time.Second} {
		server.CreateStream(topic)
		go publish(server, topic, every)
	}
	http.HandleFunc("/stream", server.ServeHTTP)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	panic(http.Serve(listener, nil))
}
