package knative

// Processes that end with the test, however it ends.

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// limit bounds every wait: only a broken server reaches it.
const limit = 60 * time.Second

type start struct {
	command *exec.Cmd
	done    chan error
}

// The kernel kills a child when the THREAD that made it ends, so one thread that never ends makes them all.
var starts = func() chan<- start {
	requests := make(chan start)
	go func() {
		runtime.LockOSThread()
		for request := range requests {
			request.done <- request.command.Start()
		}
	}()
	return requests
}()

func spawn(command *exec.Cmd) error {
	if command.SysProcAttr == nil {
		command.SysProcAttr = &syscall.SysProcAttr{}
	}
	command.SysProcAttr.Pdeathsig = syscall.SIGKILL
	command.SysProcAttr.Setpgid = true
	done := make(chan error)
	starts <- start{command, done}
	return <-done
}

// ended waits for the end of a process; false when it had to be killed for it.
func ended(command *exec.Cmd, within time.Duration) bool {
	done := make(chan struct{})
	go func() {
		_ = command.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(within):
		end(command)
		<-done
		return false
	}
}

// end ends a process that was spawned, with all of its group.
func end(command *exec.Cmd) { _ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }

// listening is Knative's default readiness probe: a connection is accepted.
func listening(address string) bool {
	connection, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
	if err != nil {
		return false
	}
	connection.Close()
	return true
}

var errLate = errors.New("it did not happen in time")

func until(what func() bool) error {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if what() {
			return nil
		}
	}
	return errLate
}

// logFile is where a process writes; shown when the test fails.
func logFile(t *testing.T, name string) *os.File {
	t.Helper()
	file, err := os.CreateTemp(t.TempDir(), name+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(file.Name())
			t.Logf("the end of %s's log:\n%s", name, text[max(0, len(text)-4000):])
		}
		file.Close()
	})
	return file
}
