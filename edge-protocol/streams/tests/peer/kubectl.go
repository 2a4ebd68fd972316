package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
)

// sizes tells two sizes of a terminal, then no more.
type sizes struct{ told int }

func (s *sizes) Next() *remotecommand.TerminalSize {
	s.told++
	switch s.told {
	case 1:
		return &remotecommand.TerminalSize{Width: 80, Height: 24}
	case 2:
		return &remotecommand.TerminalSize{Width: 120, Height: 40}
	}
	return nil
}

func execute(transport, address string, tty bool) error {
	target, err := url.Parse(address)
	if err != nil {
		return err
	}
	var executor remotecommand.Executor
	if transport == "websocket" {
		executor, err = remotecommand.NewWebSocketExecutor(&rest.Config{}, http.MethodGet, address)
	} else {
		executor, err = remotecommand.NewSPDYExecutor(&rest.Config{}, http.MethodPost, target)
	}
	if err != nil {
		return err
	}
	options := remotecommand.StreamOptions{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Tty: tty}
	if tty {
		options.Stderr = nil
		options.TerminalSizeQueue = &sizes{}
	}
	return executor.StreamWithContext(context.Background(), options)
}

func forward(transport, address, port string) error {
	target, err := url.Parse(address)
	if err != nil {
		return err
	}
	config := &rest.Config{}
	roundTripper, upgrader, err := spdy.RoundTripperFor(config)
	if err != nil {
		return err
	}
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: roundTripper}, http.MethodPost, target)
	if transport == "websocket" {
		if dialer, err = portforward.NewSPDYOverWebsocketDialer(target, config); err != nil {
			return err
		}
	}
	stop, ready := make(chan struct{}), make(chan struct{})
	ports := []string{"0:" + port}
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, ports, stop, ready, nil, os.Stderr)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- forwarder.ForwardPorts() }()
	select {
	case err := <-ended:
		return err
	case <-ready:
	}
	forwarded, err := forwarder.GetPorts()
	if err != nil {
		return err
	}
	fmt.Printf("listening 127.0.0.1:%d\n", forwarded[0].Local)
	untilInputEnds()
	close(stop)
	return <-ended
}
