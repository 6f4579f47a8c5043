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

// serveFlag as the first argument makes this program the server of a run. A
// serverTask as JSON follows.
const serveFlag = "-serve"

// serverTask says what a server is to do.
type serverTask struct {
	Participant string        `json:"participant"`
	Delay       time.Duration `json:"delay,omitempty"`   // of each echo
	Held        bool          `json:"held,omitempty"`    // echoes wait for doRelease
	Profile     string        `json:"profile,omitempty"` // file of a CPU profile
}

// serveRole runs this process as a server: it writes its address in a line, and
// then does what each line of its input says, until that ends. So it does not
// outlive the process that started it.
func serveRole(known registry, arg string) error {
	signal.Ignore(os.Interrupt) // the parent decides
	out := os.Stdout
	os.Stdout = os.Stderr // for participants that log to it
	var task serverTask
	if err := json.Unmarshal([]byte(arg), &task); err != nil {
		return err
	}
	p, err := known.participant(task.Participant)
	if err != nil {
		return err
	}
	stop, err := startProfile(task.Profile)
	if err != nil {
		return err
	}
	return errors.Join(serve(p, newWork(task.Delay, task.Held), os.Stdin, out), stop())
}

func serve(p Participant, work *Work, in io.Reader, out io.Writer) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	served, controlled := make(chan error, 1), make(chan error, 1)
	go func() { served <- p.Serve(ctx, ln, work) }()
	go func() { controlled <- control(ctx, work, ln.Addr().String(), in, out) }()
	select {
	case err := <-served: // the process ends, and with it whoever reads the input
		return fmt.Errorf("server of %s ended by itself: %w", p.Name(), err)
	case err := <-controlled:
		cancel()
		<-served
		return err
	}
}

func control(ctx context.Context, work *Work, addr string, in io.Reader, out io.Writer) error {
	if _, err := fmt.Fprintln(out, addr); err != nil {
		return err
	}
	caster := newCaster(work)
	defer caster.stop()
	lines := bufio.NewScanner(in)
	encoder := json.NewEncoder(out)
	for lines.Scan() {
		var c command
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return err
		}
		switch c.Do {
		case doRelease:
			work.release()
		case doBroadcast:
			caster.allow(c.Until, c.Size)
		case doSettle, doState:
			if c.Do == doSettle {
				settle()
			}
			s := state{Usage: ownUsage()}
			work.state(&s)
			if err := encoder.Encode(s); err != nil {
				return err
			}
		default:
			return fmt.Errorf("unknown command %q", c.Do)
		}
	}
	return lines.Err()
}

// server is a server's process as its parent sees it.
type server struct {
	remote
	cmd *exec.Cmd
}

// startServer runs this program again as a server. It is killed when ctx ends;
// whoever starts it stops it.
func startServer(ctx context.Context, task serverTask) (*server, error) {
	cmd, err := again(ctx, serveFlag, task)
	if err != nil {
		return nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{remote: remote{in: in, out: bufio.NewReader(out)}, cmd: cmd}
	line, err := s.out.ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the server of %s does not start: %w", task.Participant, err), s.stop())
	}
	s.addr = strings.TrimSpace(line)
	return s, nil
}

// again prepares this program in a role, with a task as JSON.
func again(ctx context.Context, role string, task any) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(task)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, exe, role, string(text))
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = time.Second
	return cmd, nil
}

// stop ends the server and waits for its process.
func (s *server) stop() error {
	s.in.Close()
	kill := time.AfterFunc(patience, func() { s.cmd.Process.Kill() })
	defer kill.Stop()
	return s.cmd.Wait()
}
