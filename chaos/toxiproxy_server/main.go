// The fault engine of sseproof: Shopify/toxiproxy 2.12.0, unchanged, with a toxic that reads event streams (sse.go) and a
// front door that can be trusted.
//
// What differs from the stock server, and why:
//   - It ends with an error when its API port is taken. The stock server stays alive without an API, so its owner would
//     talk to somebody else's Toxiproxy.
//   - It says where it listens, on standard output and only once it does: the line can come from no other process.
//   - It ends when its standard input closes, so it never outlives its owner, however that one ends.
//   - It knows its version from the build itself (a plain build of the stock server calls itself "git").
//   - It logs errors only, to standard error: the stock server writes 2.4 kB a connection and freezes on a full pipe.
//
// Toxics of our own register themselves in the init function of a file of their own beside this one.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/rs/zerolog/log"
)

const (
	// build counts what this folder changes about the stock server; toxics of our own raise it.
	build  = "sseproof-3"
	engine = "github.com/Shopify/toxiproxy/v2"

	// Those of the stock server.
	readTimeout  = 15 * time.Second
	writeTimeout = 30 * time.Second
	idleTimeout  = 60 * time.Second
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "error: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	host := flag.String("host", "127.0.0.1", "address the API listens on; it has no authentication, so keep it on loopback")
	port := flag.String("port", "8474", "port the API listens on; 0 takes a free one and says which")
	version := flag.Bool("version", false, "print the version and exit")
	flag.Parse()

	toxiproxy.Version = fmt.Sprintf("%s %s", engineVersion(), build)
	if *version {
		fmt.Printf("toxiproxy %s\n", toxiproxy.Version)
		return nil
	}

	logger, err := newLogger(os.Getenv("LOG_LEVEL"))
	if err != nil {
		return err
	}
	log.Logger = logger

	listener, err := net.Listen("tcp", net.JoinHostPort(*host, *port))
	if err != nil {
		return fmt.Errorf("the API can't listen: %w", err)
	}
	// The metrics container is required and stays empty: a live stream has no metrics before it ends.
	api := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), logger)
	server := &http.Server{
		Handler:      api.Routes(),
		ReadTimeout:  readTimeout,
		WriteTimeout: writeTimeout,
		IdleTimeout:  idleTimeout,
	}

	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	go untilClosed(os.Stdin, ended)
	// Before the line below: whoever reads it may signal at once.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go untilSignal(signals, ended)

	fmt.Printf("listening %s\n", listener.Addr())
	return <-ended
}

// untilClosed reports an orderly end when the owner's side of standard input is gone.
func untilClosed(input io.Reader, ended chan<- error) {
	_, _ = io.Copy(io.Discard, input)
	ended <- nil
}

// untilSignal reports an orderly end. Nothing is drained: live connections are part of what an experiment breaks.
func untilSignal(signals <-chan os.Signal, ended chan<- error) {
	<-signals
	ended <- nil
}

// engineVersion is the version of Toxiproxy that was linked in, as go.sum pinned it.
func engineVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, dependency := range info.Deps {
		if dependency.Path == engine {
			return strings.TrimPrefix(dependency.Version, "v")
		}
	}
	return "unknown"
}

func newLogger(level string) (zerolog.Logger, error) {
	if level == "" {
		level = "error"
	}
	parsed, err := zerolog.ParseLevel(level)
	if err != nil {
		return zerolog.Logger{}, errors.New("LOG_LEVEL is none of trace, debug, info, warn, error, fatal, panic, disabled")
	}
	return zerolog.New(os.Stderr).Level(parsed).With().Timestamp().Logger(), nil
}
