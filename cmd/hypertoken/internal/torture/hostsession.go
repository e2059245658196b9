package torture

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// hostSession is a process of the host, from its start to its death.
type hostSession struct {
	number int
	doom   doom
	cmd    *exec.Cmd
	began  time.Time
	// firstAnswer is closed once there is an answer. gone is closed when the process has ended,
	// and everything that it wrote was read.
	firstAnswer, gone chan struct{}
	complaint         tail // the end of what it wrote to standard error

	writing sync.Mutex // guards the fields below
	input   io.WriteCloser
	out     *bufio.Writer
	encoder *json.Encoder
	isShut  bool // the input is closed: the host shuts down

	mu      sync.Mutex // guards the fields below
	next    uint64
	waiting map[uint64]chan reply
	// opened are the engines that the host was told how to open.
	opened  map[string]bool
	answers int64
	workers map[int]bool
	// atDeath is how many questions had no answer when the process ended.
	atDeath int
}

// mostAnswers is how many answers a host gives at most. Then it is killed, though its moment has
// not come.
const mostAnswers = 600

// startHost starts a process for the host.
func startHost(number int, order hostOrder, stderr io.Writer) (*hostSession, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &hostSession{number: number, doom: order.Doom, cmd: exec.Command(program), began: time.Now(),
		firstAnswer: make(chan struct{}), gone: make(chan struct{}),
		waiting: map[uint64]chan reply{}, opened: map[string]bool{}, workers: map[int]bool{}}
	s.cmd.Env = append(os.Environ(), hostVariable+"=1")
	s.cmd.Stderr = io.MultiWriter(&s.complaint, stderr)
	// If a worker outlived the host, it could hold the pipe.
	s.cmd.WaitDelay = 10 * time.Second
	if s.input, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	output, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.out = bufio.NewWriter(s.input)
	s.encoder = json.NewEncoder(s.out)
	s.send(order)
	go s.read(output)
	return s, nil
}

// read takes in the replies until the process has ended.
func (s *hostSession) read(output io.Reader) {
	replies := json.NewDecoder(bufio.NewReader(output))
	for {
		var r reply
		if err := replies.Decode(&r); err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) { // a death cuts the last reply off
				_, _ = fmt.Fprintf(&s.complaint, "its output is no JSON: %v\n", err)
				_ = s.cmd.Process.Kill()
			}
			break
		}
		s.mu.Lock()
		s.answers++
		n := s.answers
		answer := s.waiting[r.ID]
		delete(s.waiting, r.ID)
		for _, pid := range r.Workers {
			s.workers[pid] = true
		}
		s.mu.Unlock()
		if n == 1 {
			close(s.firstAnswer)
		}
		answer <- r
		switch {
		case s.doom.Moment == AtAnswer && n == s.doom.Count, s.doom.Moment != "" && n == mostAnswers:
			_ = s.cmd.Process.Kill()
		case s.doom.Moment == AtShutdown && n == s.doom.Count:
			s.shutDown()
		}
	}
	_ = s.cmd.Wait()
	s.mu.Lock()
	s.atDeath = len(s.waiting)
	s.mu.Unlock()
	close(s.gone)
}

// send writes a line. If the process has gone, nothing is written.
func (s *hostSession) send(v any) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if !s.isShut && s.encoder.Encode(v) == nil {
		_ = s.out.Flush()
	}
}

// shutDown makes the host shut down.
func (s *hostSession) shutDown() {
	s.writing.Lock()
	defer s.writing.Unlock()
	if !s.isShut {
		s.isShut = true
		_ = s.input.Close()
	}
}

// ask asks a question. opening says how the engine is opened if no earlier question has said it.
// It returns false if there is no answer any more.
func (s *hostSession) ask(q question, opening func() *hostOpening) (reply, bool) {
	answer := make(chan reply, 1)
	s.mu.Lock()
	s.next++
	q.ID = s.next
	s.waiting[q.ID] = answer
	opens := q.What != askClose && q.What != askDelete
	if opens && !s.opened[q.Engine] {
		q.Opening = opening()
	}
	s.opened[q.Engine] = opens
	// The lines keep the order of the questions, so that the opening comes first.
	s.writing.Lock()
	s.mu.Unlock()
	if !s.isShut && s.encoder.Encode(q) == nil {
		_ = s.out.Flush()
	}
	s.writing.Unlock()
	select {
	case r := <-answer:
		return r, true
	case <-s.gone:
	}
	select {
	case r := <-answer: // it came before the death
		return r, true
	default:
		return reply{}, false
	}
}

// end says how the process has ended, once gone is closed: whether it was killed, and an error if
// it was neither killed nor shut down.
func (s *hostSession) end() (wasKilled bool, err error) {
	switch code := s.cmd.ProcessState.ExitCode(); {
	case code == -1 || code == 1: // by a signal; or as Windows says it
		return true, nil
	case code == hostEnded && s.isShut:
		return false, nil
	case code == hostEnded:
		return false, errors.New("the host's process has ended by itself")
	default:
		return false, fmt.Errorf("the host's process has ended with %d: %s", code, s.complaint.String())
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu sync.Mutex // guards b
	b  []byte
}

const tailSize = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	t.b = t.b[max(0, len(t.b)-tailSize):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
