package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// processes runs commands as processes of this machine.
type processes struct{}

func (processes) ExecInContainer(ctx context.Context, _, _, _ string, command []string, in io.Reader, out, errOut io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	if tty {
		for range 2 {
			size := <-resize
			fmt.Fprintf(out, "%dx%d\n", size.Width, size.Height)
		}
	}
	process := exec.CommandContext(ctx, command[0], command[1:]...)
	process.Stdout = out
	if errOut != nil {
		process.Stderr = errOut
	}
	// Not process.Stdin: its Wait would go on until the client ended its input.
	stdin, err := process.StdinPipe()
	if err != nil {
		return err
	}
	if err := process.Start(); err != nil {
		return err
	}
	go func() {
		if in != nil {
			_, _ = io.Copy(stdin, in)
		}
		_ = stdin.Close()
	}()
	err = process.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &utilexec.ExitErrorWrapper{ExitError: exit}
	}
	return err
}

func runtime(command []string) error {
	listener, err := listen()
	if err != nil {
		return err
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		options, err := remotecommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		protocols := remotecommand.SupportedStreamingProtocols
		remotecommand.ServeExec(w, r, processes{}, "", "", "", command, options, time.Hour, 30*time.Second, protocols)
	})
	go func() { _ = http.Serve(listener, handler) }()
	untilInputEnds()
	return nil
}
