// Command peer is the other side in the tests of edge-streams: Kubernetes' own code behind a few arguments.
//
//	peer exec spdy|websocket URL [tty]      client-go runs a command; standard streams are the command's, the exit code is its own
//	peer forward spdy|websocket URL PORT    client-go forwards a port; the first line is "listening ADDRESS"; ends with its input
//	peer runtime COMMAND...                 cri-streaming serves COMMAND as exec; the first line is "listening ADDRESS"; ends with its input
//	peer mirror                             spdystream echoes every stream; the first line is "listening ADDRESS"; ends with its input
//	peer frames ADDRESS                     spdystream, as a client, of a server that echoes every stream
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"k8s.io/client-go/util/exec"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		var exit exec.CodeExitError
		if errors.As(err, &exit) {
			os.Exit(exit.Code)
		}
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(125)
	}
}

func run(args []string) error {
	switch {
	case len(args) >= 3 && args[0] == "exec":
		return execute(args[1], args[2], len(args) > 3 && args[3] == "tty")
	case len(args) == 4 && args[0] == "forward":
		return forward(args[1], args[2], args[3])
	case len(args) >= 2 && args[0] == "runtime":
		return runtime(args[1:])
	case len(args) == 1 && args[0] == "mirror":
		return mirror()
	case len(args) == 2 && args[0] == "frames":
		return frames(args[1])
	}
	return fmt.Errorf("unknown arguments %q", args)
}

// listen returns a listener on a free port, whose address has been told.
func listen() (net.Listener, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		fmt.Println("listening", listener.Addr())
	}
	return listener, err
}

// untilInputEnds lets a test end the process by closing its input.
func untilInputEnds() {
	_, _ = io.Copy(io.Discard, os.Stdin)
}
