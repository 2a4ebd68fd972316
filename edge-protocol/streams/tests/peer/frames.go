package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/moby/spdystream"
)

func mirror() error {
	listener, err := listen()
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			connection, err := spdystream.NewConnection(conn, true)
			if err != nil {
				return
			}
			go connection.Serve(spdystream.MirrorStreamHandler)
		}
	}()
	untilInputEnds()
	return nil
}

// frames says what client-go never does: one data frame of 12 MB, header frames, pings, resets, twenty streams at once.
func frames(address string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	connection, err := spdystream.NewConnection(conn, false)
	if err != nil {
		return err
	}
	go connection.Serve(spdystream.NoOpStreamHandler)
	var group sync.WaitGroup
	failures := make(chan error, 20)
	for i := range 20 {
		group.Go(func() {
			length := 100_000 + i
			if i == 0 {
				length = 12_000_000
			}
			if err := echoed(connection, length); err != nil {
				failures <- fmt.Errorf("stream %d: %w", i, err)
			}
		})
	}
	group.Wait()
	select {
	case err := <-failures:
		return err
	default:
	}
	if _, err := connection.Ping(); err != nil {
		return err
	}
	if err := abandoned(connection); err != nil {
		return err
	}
	if err := echoed(connection, 10); err != nil {
		return fmt.Errorf("after a reset: %w", err)
	}
	return connection.CloseWait()
}

func create(connection *spdystream.Connection) (*spdystream.Stream, error) {
	stream, err := connection.CreateStream(http.Header{"Streamtype": {"data"}, "Port": {"8080", "8081"}}, nil, false)
	if err != nil {
		return nil, err
	}
	return stream, stream.WaitTimeout(30 * time.Second)
}

func echoed(connection *spdystream.Connection, length int) error {
	stream, err := create(connection)
	if err != nil {
		return err
	}
	if err := stream.SendHeader(http.Header{"Ignored": {"yes"}}, false); err != nil {
		return err
	}
	sent := make([]byte, length)
	for i := range sent {
		sent[i] = byte(i * 7 / 3)
	}
	written := make(chan error, 1)
	go func() { written <- stream.WriteData(sent, true) }()
	received, err := io.ReadAll(stream)
	if err != nil {
		return err
	}
	if err := <-written; err != nil {
		return err
	}
	if !bytes.Equal(sent, received) {
		return fmt.Errorf("%d bytes came back of %d, or others", len(received), len(sent))
	}
	return nil
}

func abandoned(connection *spdystream.Connection) error {
	stream, err := create(connection)
	if err != nil {
		return err
	}
	if _, err := stream.Write([]byte("half of it")); err != nil {
		return err
	}
	if err := stream.Reset(); err != nil {
		return err
	}
	if _, err := stream.Write([]byte("x")); err == nil && !stream.IsFinished() {
		return errors.New("a stream that was reset goes on")
	}
	return nil
}
