package knative

// A service watched once a second: what passes the activator, what Knative makes of it, which pods there are.

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// moment is a line of the picture's CSV.
type moment struct {
	seconds        float64
	rate, inFlight float64
	stable, panic  float64
	panicking      bool
	desired        int32
	ready          int
}

type timeline struct {
	mutex   sync.Mutex
	moments []moment
	end     context.CancelFunc
	ended   chan struct{}
}

// watch looks at the service every second until it is ended.
func watch(s *knativeService) *timeline {
	ctx, cancel := context.WithCancel(context.Background())
	w := &timeline{end: cancel, ended: make(chan struct{})}
	begin := time.Now()
	s.passing.Report(begin)
	go func() {
		defer close(w.ended)
		for tick := time.NewTicker(time.Second); ; {
			w.look(s, begin)
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	}()
	return w
}

func (w *timeline) look(s *knativeService, begin time.Time) {
	now := time.Now()
	passed := s.passing.Report(now)
	one := moment{seconds: now.Sub(begin).Seconds(), inFlight: passed.AverageConcurrency, ready: len(s.pods.ready())}
	if decisions := s.scaler.since(time.Time{}); len(decisions) > 0 {
		last := decisions[len(decisions)-1]
		// Knative rounds to a negative zero at times.
		one.stable, one.panic = math.Abs(last.stable), math.Abs(last.panicked)
		one.panicking, one.desired = last.panicking, last.desired
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if count := len(w.moments); count > 0 {
		one.rate = passed.RequestCount / max(one.seconds-w.moments[count-1].seconds, 0.001)
	}
	w.moments = append(w.moments, one)
}

func (w *timeline) stop() []moment {
	w.end()
	<-w.ended
	return w.moments
}

func csv(moments []moment) string {
	text := &strings.Builder{}
	fmt.Fprintln(text, "seconds,rate,in_flight,stable,panic,panicking,desired,ready")
	for _, one := range moments {
		panicking := 0
		if one.panicking {
			panicking = 1
		}
		fmt.Fprintf(text, "%.2f,%.2f,%.3f,%.3f,%.3f,%d,%d,%d\n", one.seconds, one.rate, one.inFlight, one.stable, one.panic,
			panicking, one.desired, one.ready)
	}
	return text.String()
}

// changes is a table of the moments at which something became different.
func changes(moments []moment) string {
	text := &strings.Builder{}
	fmt.Fprintf(text, "%9s %8s %7s  %-6s %10s %8s %8s\n", "second", "wanted", "ready", "mode", "in flight", "stable", "panic")
	var before moment
	for i, one := range moments {
		if i > 0 && one.desired == before.desired && one.ready == before.ready && one.panicking == before.panicking {
			continue
		}
		before = one
		mode := "stable"
		if one.panicking {
			mode = "panic"
		}
		fmt.Fprintf(text, "%9.0f %8d %7d  %-6s %10.2f %8.2f %8.2f\n", one.seconds, one.desired, one.ready, mode, one.inFlight,
			one.stable, one.panic)
	}
	return text.String()
}

// draw writes name.csv, name.svg and name.png; the drawing is that of `corymb tune`.
func draw(t *testing.T, title, name string, moments []moment) {
	t.Helper()
	content := csv(moments)
	if err := os.WriteFile(name+".csv", []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(binary(t, "CORYMB_SCALING_PICTURE", "examples/scaling_picture"), title, name+".svg", name+".png")
	command.Stdin = strings.NewReader(content)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("the picture: %v\n%s", err, output)
	}
}
