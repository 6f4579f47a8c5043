package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"
)

// serveFlag as the first argument makes this program the server of a run. The
// participant's name and the file of a CPU profile, which may be empty, follow.
const serveFlag = "-serve"

// The server writes its address in a line. From then on it answers each line
// "usage" with its Usage as JSON in a line, until its input ends: it does not
// outlive the process that started it.
const usageLine = "usage"

// serveRole runs this process as a server if the arguments say so, and returns
// the code to exit with.
func serveRole(list []Participant, args []string) (code int, ok bool) {
	if len(args) != 3 || args[0] != serveFlag {
		return 0, false
	}
	signal.Ignore(os.Interrupt) // the parent decides
	out := os.Stdout
	os.Stdout = os.Stderr // for participants that log to it
	p := find(list, args[1])
	if p == nil {
		fmt.Fprintf(os.Stderr, "bench: no participant %q\n", args[1])
		return 2, true
	}
	if err := serveProfiled(p, args[2], os.Stdin, out); err != nil {
		fmt.Fprintf(os.Stderr, "bench: server of %s: %v\n", p.Name(), err)
		return 1, true
	}
	return 0, true
}

func serveProfiled(p Participant, profile string, in io.Reader, out io.Writer) error {
	stop, err := startProfile(profile)
	if err != nil {
		return err
	}
	defer stop()
	return serve(p, in, out)
}

func serve(p Participant, in io.Reader, out io.Writer) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	served, controlled := make(chan error, 1), make(chan error, 1)
	go func() { served <- p.Serve(ctx, ln) }()
	go func() { controlled <- control(ln.Addr().String(), in, out) }()
	select {
	case err := <-served: // the process ends, and with it whoever reads the input
		return fmt.Errorf("ended by itself: %w", err)
	case err := <-controlled:
		cancel()
		<-served
		return err
	}
}

func control(addr string, in io.Reader, out io.Writer) error {
	if _, err := fmt.Fprintln(out, addr); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	encoder := json.NewEncoder(out)
	for lines.Scan() {
		if lines.Text() != usageLine {
			return fmt.Errorf("unknown command %q", lines.Text())
		}
		if err := encoder.Encode(ownUsage()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// server is a server's process as its parent sees it.
type server struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	addr string
}

// startServer runs this program again as a server of p. The server is killed
// when ctx ends; whoever starts it stops it.
func startServer(ctx context.Context, p Participant, profile string) (*server, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &server{cmd: exec.CommandContext(ctx, exe, serveFlag, p.Name(), profile)}
	s.cmd.Stderr = os.Stderr
	s.cmd.WaitDelay = time.Second
	in, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.in, s.out = in, bufio.NewReader(out)
	line, err := s.out.ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the server of %s does not start: %w", p.Name(), err), s.stop())
	}
	s.addr = strings.TrimSpace(line)
	return s, nil
}

func (s *server) usage() (u Usage, err error) {
	if _, err = fmt.Fprintln(s.in, usageLine); err != nil {
		return u, fmt.Errorf("ask the server for its usage: %w", err)
	}
	line, err := s.out.ReadBytes('\n')
	if err != nil {
		return u, fmt.Errorf("read the server's usage: %w", err)
	}
	return u, json.Unmarshal(line, &u)
}

// stop ends the server and waits for its process.
func (s *server) stop() error {
	s.in.Close()
	kill := time.AfterFunc(patience, func() { s.cmd.Process.Kill() })
	defer kill.Stop()
	return s.cmd.Wait()
}
